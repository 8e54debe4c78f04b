"""A training as a whole on the CUDA device, against the same on the CPU.

    test_train.py SUTURE        with SUTURE_CUDA_LIBRARY: on the emulated device; without: on a GPU, or exits with 77

The model is the end-to-end tests' small one, dropout and augmentation on: their random numbers are functions of (seed, step, layer,
element), so that both devices drop the same.
"""
import json
import os
import re
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from common import ENVIRONMENT, SECONDS, SMALL, SUTURE, Case, json_lines, main, make_source, make_vocabulary, read, write  # noqa: E402

import numpy  # noqa: E402

CONFIG = dict(SMALL, epochs=2, checkpoint_steps=1)
STEPS = 10  # 40 pairs, 8 a batch, twice
TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tolerance.h")


def tolerance(device):
    """Of losses and weights, from the tests' one table."""
    row = "cuda.f32.run" if device.endswith("f32") else "cuda.bf16.run"
    return float(re.search(rf'"{re.escape(row)}", ([^}}]+)}}', read(TABLE).decode())[1])


def tensors(path):
    """A safetensors file of float32, by name."""
    blob = read(path)
    size = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8:8 + size])
    header.pop("__metadata__", None)
    return {name: numpy.frombuffer(blob[8 + size:][slice(*t["data_offsets"])], numpy.float32)
            for name, t in header.items() if t["dtype"] == "F32"}


def distance(a, b):
    """|a - b| / |b| over all tensors together."""
    assert a.keys() == b.keys()
    off = sum(float(((a[k].astype(float) - b[k]) ** 2).sum()) for k in a)
    return (off / sum(float((b[k].astype(float) ** 2).sum()) for k in b)) ** 0.5


class Training(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        p = cls.path
        make_source(p("source"), 60)
        make_vocabulary(p("vocab.txt"))
        write(p("config.json"), json.dumps(CONFIG))
        subprocess.run([SUTURE, "data", "import", "csv", p("source/pairs.csv"), "--out", p("data"), "--size", "32"], check=True,
                       capture_output=True)
        cls.train("cpu", "cpu")

    @classmethod
    def words(cls, run, device, *more):
        return [SUTURE, "train", "--data", cls.path("data"), "--out", cls.path(run), "--config", cls.path("config.json"), "--vocab",
                cls.path("vocab.txt"), "--evaluate", "none", "--device", device, *more]

    @classmethod
    def train(cls, run, device, *more):
        done = subprocess.run(cls.words(run, device, *more), capture_output=True, text=True, timeout=SECONDS, env=ENVIRONMENT)
        assert done.returncode == 0, done.stderr
        return cls.path(run)

    def stop_after(self, step, run, device, *more):
        """Ctrl-C as soon as the log has `step` lines; the run saves and ends with 130. Returns the steps that it made."""
        with subprocess.Popen(self.words(run, device, *more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              env=ENVIRONMENT) as process:
            log = self.path(run, "log.jsonl")
            while process.poll() is None and not (os.path.exists(log) and read(log).count(b"\n") >= step):
                time.sleep(0.002)
            process.send_signal(signal.SIGINT)
            complaint = process.stderr.read()
        self.assertIn(process.returncode, (0, 130), complaint)
        return len(json_lines(log))

    def assert_near(self, run, device):
        mine, theirs = ([line["loss"] for line in json_lines(self.path(r, "log.jsonl")) if "loss" in line] for r in (run, "cpu"))
        self.assertEqual(len(mine), STEPS)
        numpy.testing.assert_allclose(mine, theirs, rtol=tolerance(device))
        off = distance(*(tensors(self.path(r, "model.safetensors")) for r in (run, "cpu")))
        print(f"{run}: weights off by {off:.2g}, losses by {max(abs(a / b - 1) for a, b in zip(mine, theirs)):.2g}")
        self.assertLess(off, tolerance(device))

    def test_a_training_in_float32_is_the_cpus(self):
        self.train("f32", "cuda,f32")
        self.assert_near("f32", "cuda,f32")

    def test_a_training_in_bf16_is_near_the_cpus_repeats_its_bits_and_resumes_to_them(self):
        whole = self.train("bf16", "cuda")
        self.assert_near("bf16", "cuda")
        # Weights and moments are float32 in files, whatever the device computes in.
        names = {t.split("/")[0] for t in tensors(f"{whole}/checkpoint.safetensors") if "/" in t}
        self.assertEqual(names, {"adam.m", "adam.v"})
        self.assertIn("bf16", json.loads(read(f"{whole}/run.json"))["device"])
        done = 0
        while done < STEPS:
            done = self.stop_after(done + 3, "pieces", "cuda", *(["--resume"] if done else []))
        self.train("pieces", "cuda", "--resume")
        for name in ("model.safetensors", "checkpoint.safetensors", "log.jsonl"):
            self.assertEqual(read(self.path("pieces", name)), read(f"{whole}/{name}"), name)

    def test_a_checkpoint_goes_on_from_the_cpu_to_the_gpu_and_back(self):
        for attempt in range(50):  # until the CPU was caught before its last step
            run, done = f"there{attempt}", self.stop_after(1, f"there{attempt}", "cpu")
            if done < STEPS:
                break
        self.assertLess(done, STEPS)
        self.stop_after(done + 1, run, "cuda,f32", "--resume")
        self.train(run, "cpu", "--resume")
        self.assert_near(run, "cuda,f32")
        # Where nothing but the CPU had worked on it, it would have the CPU's bits.
        self.assertNotEqual(read(self.path(run, "model.safetensors")), read(self.path("cpu", "model.safetensors")))

    def test_embeddings_are_the_cpus(self):
        kept = {}
        for device in ("cpu", "cuda,f32", "cuda"):
            out = self.path(f"{device}.safetensors")
            self.suture("embed", "--model", self.path("cpu"), "--data", self.path("data"), "--split", "val", "--device", device,
                        "--out", out)
            kept[device] = tensors(out)
        for device in ("cuda,f32", "cuda"):
            self.assertLess(distance(kept[device], kept["cpu"]), tolerance(device))


class Memory(Case):
    """Only emulated: a GPU of a few megabytes."""

    @unittest.skipUnless(os.environ.get("SUTURE_CUDA_LIBRARY"), "needs the emulated device")
    def test_a_model_that_does_not_fit_is_refused_with_what_it_needs_and_how_it_needs_less(self):
        p = self.path
        make_source(p("source"), 48)
        self.suture("data", "import", "csv", p("source/pairs.csv"), "--out", p("data"), "--size", 32)
        ENVIRONMENT["SUTURE_EMULATE_MEMORY"] = "1300000"
        self.addCleanup(ENVIRONMENT.pop, "SUTURE_EMULATE_MEMORY")
        done = self.make_run(p("data"), p("run"), "--device", "cuda", "--batch", "16", "--checkpointing", "none", code=1)
        self.assertIn("memory planned", done.stderr)
        complaint = [line for line in done.stderr.splitlines() if self.is_complaint(line)]
        self.assertEqual(len(complaint), 1, done.stderr)
        self.assertRegex(complaint[0], r"activations .* need [\d.]+ MB \(a smaller --micro-batch needs less\): cuda:0 .* has no [\d.]+ MB left")

    @unittest.skipUnless(os.environ.get("SUTURE_CUDA_LIBRARY"), "needs the emulated device")
    def test_where_activations_do_not_fit_fewer_are_kept_and_the_bits_are_the_same(self):
        p = self.path
        image, text = (dict(s, depth=8) for s in SMALL["model"]["streams"])
        config = dict(SMALL, epochs=1, model=dict(SMALL["model"], streams=[dict(image, patch=4), text]))
        make_source(p("few"), 24)
        self.suture("data", "import", "csv", p("few/pairs.csv"), "--out", p("data2"), "--size", 32)
        plan = self.make_run(p("data2"), p("none"), "--device", "cuda", "--checkpointing", "selective", "--memory", 1e-6, config=config, code=1)
        megabytes = float(re.search(r"([\d.]+) MB are planned with --checkpointing selective", plan.stderr)[1])
        self.make_run(p("data2"), p("whole"), "--device", "cuda", "--evaluate", "none", config=config)
        ENVIRONMENT["SUTURE_EMULATE_MEMORY"] = str(int(megabytes * 1e6))  # that much, and nothing for working buffers
        self.addCleanup(ENVIRONMENT.pop, "SUTURE_EMULATE_MEMORY")
        done = self.make_run(p("data2"), p("less"), "--device", "cuda", "--evaluate", "none", config=config)
        self.assertIn("checkpointing full", done.stderr)
        for name in ("model.safetensors", "log.jsonl"):
            self.assertEqual(read(p("less", name)), read(p("whole", name)), name)


if __name__ == "__main__":
    opened = subprocess.run([SUTURE, "doctor"], capture_output=True, text=True, env=ENVIRONMENT).stdout
    if "usable as --device cuda" not in opened:
        print("skipped:", *(line for line in opened.splitlines() if line.startswith("GPU")))
        sys.exit(77)
    main()
