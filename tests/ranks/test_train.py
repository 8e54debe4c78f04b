"""`suture train` on several CPU ranks: what one rank gives, to rounding; the same bits every time; killed, resumed,
resumed with another number of ranks; failures of one rank that end all of them with one message.

    python3 test_train.py build/suture build/libsuture_mpi.so mpirun
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import common  # noqa: E402
import numpy  # noqa: E402

MPIRUN = sys.argv.pop(3)
LIBRARY = sys.argv.pop(2)
# Root, in a container, with fewer cores than ranks; LeakSanitizer has much to say of MPI itself.
ENVIRONMENT = dict(common.ENVIRONMENT, SUTURE_MPI_LIBRARY=LIBRARY, OMPI_ALLOW_RUN_AS_ROOT="1",
                   OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_rmaps_base_oversubscribe="1",
                   OMPI_MCA_hwloc_base_binding_policy="none", OMPI_MCA_mpi_yield_when_idle="1",
                   OMPI_MCA_btl_vader_single_copy_mechanism="none", ASAN_OPTIONS="abort_on_error=1:detect_leaks=0")
RANK = '"${OMPI_COMM_WORLD_RANK:-$PMI_RANK}"'

# 40 training samples; 12 divides among 2, 3 and 4 ranks, and every rank's first sample draws what it draws on one.
CONFIG = dict(common.SMALL, batch=12, epochs=15, checkpoint_steps=2, holdout=0.2)


def tensors(path):
    """Name -> float32 values of a safetensors file."""
    data = common.read(path)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: numpy.frombuffer(data[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]], "<f4")
            for name, t in header.items() if t["dtype"] == "F32"}


class Ranks(common.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = cls.path("data")
        source = common.make_source(cls.path("source"))
        cls.vocabulary = common.make_vocabulary(cls.path("vocab.txt"))
        cls.settings = common.write(cls.path("config.json"), json.dumps(CONFIG))
        subprocess.run([common.SUTURE, "data", "import", "csv", source, "--out", cls.data, "--group-column", "patient",
                        "--split-column", "split"], check=True, capture_output=True, env=ENVIRONMENT)

    def words(self, run, *more, settings=None):
        return [str(w) for w in ("train", "--data", self.data, "--out", run, "--config", settings or self.settings, "--vocab",
                                 self.vocabulary, "--threads", "1", *more)]

    def start(self, ranks, words, **options):
        if ranks == 1:
            return subprocess.Popen([common.SUTURE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                    env=ENVIRONMENT, **options)
        return subprocess.Popen([MPIRUN, "-n", str(ranks), common.SUTURE, *words], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, **options)

    def finish(self, process, code):
        """Ends by itself, and with this exit code."""
        try:
            out, err = process.communicate(timeout=common.SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            self.fail("hangs")
        self.assertNotIn("Sanitizer", err)
        self.assertEqual(process.returncode, code, err[-3000:])
        return out, err

    def train(self, ranks, name, *more, code=0, **options):
        run = self.path(name)
        return run, *self.finish(self.start(ranks, self.words(run, *more, **options)), code)

    @classmethod
    def one(cls):
        """The run on one rank, made once."""
        run = cls.path("one")
        if not os.path.exists(f"{run}/run.json"):
            case = cls("one")
            case.train(1, "one")
        return run

    def assert_close(self, run, other, tolerance=1e-3):
        """tests/tolerance.h's align.f32.train: after AdamW steps in float32."""
        ours, theirs = tensors(f"{run}/checkpoint.safetensors"), tensors(f"{other}/checkpoint.safetensors")
        self.assertEqual(ours.keys(), theirs.keys())
        for name in ours:
            scale = max(1e-3, float(numpy.abs(theirs[name]).max()))
            self.assertLess(float(numpy.abs(ours[name] - theirs[name]).max()) / scale, tolerance, name)
        lines, others = (common.json_lines(f"{r}/log.jsonl") for r in (run, other))
        self.assertEqual(len(lines), len(others))
        for a, b in zip(lines, others):
            self.assertEqual(a["step"], b["step"])
            if "loss" in a:
                self.assertLess(abs(a["loss"] - b["loss"]), tolerance * abs(b["loss"]), a)
            else:
                self.assertLess(abs(a["val"]["mrr"] - b["val"]["mrr"]), 0.1)

    def same_bytes(self, run, other):
        """All but run.json, which tells the time, and eval.json, which names the command."""
        self.assertEqual([n for n in common.same_files(run, other) if n not in ("run.json", "eval.json")], [])

    def test_two_and_three_ranks_equal_one_and_themselves_to_the_bit(self):
        one = self.one()
        for ranks in (2, 3):
            run, out, err = self.train(ranks, f"ranks-{ranks}")
            self.assertIn(f"{ranks} ranks over MPI", err)
            self.assertEqual(err.count("memory planned"), 1, err)
            self.assertEqual(out.count("steps over"), 1, out)
            self.assert_close(run, one)
            again, _, _ = self.train(ranks, f"again-{ranks}")
            self.same_bytes(run, again)

    def killed(self, name, ranks, victim):
        """A run of so many ranks that was killed, when it had a checkpoint, before it could end: its folder. victim: the rank that
        is killed; None: whatever was started. How it was seen to end."""
        for attempt in range(20):
            run = self.path(f"{name}-{attempt}")
            process, rank = self.start(ranks, self.words(run)), None
            while process.poll() is None and (rank is None or not os.path.exists(f"{run}/checkpoint.safetensors")):
                rank = rank or (process.pid if victim is None else self.find_rank(run, victim))
                time.sleep(0.001)
            if rank and process.poll() is None:
                os.kill(rank, signal.SIGKILL)
            process.communicate(timeout=common.SECONDS)
            while any(self.find_rank(run, r) for r in range(ranks)):  # mpirun's ranks go with it
                time.sleep(0.01)
            if not os.path.exists(f"{run}/run.json"):
                return run, process.returncode
        self.fail("always ended before it could be killed")

    def test_a_rank_killed_ends_the_others_and_the_run_goes_on(self):
        whole, _, _ = self.train(2, "whole")
        run, code = self.killed("killed", 2, 1)
        self.assertNotEqual(code, 0)
        resumed, _, _ = self.train(2, os.path.basename(run), "--resume")
        self.same_bytes(resumed, whole)

    def test_a_run_goes_on_with_another_number_of_ranks(self):
        for first, then in ((2, 3), (3, 1), (1, 2)):
            run, _ = self.killed(f"from-{first}-to-{then}", first, None)
            self.train(then, os.path.basename(run), "--resume")
            self.assert_close(run, self.one())

    def test_a_signal_to_one_rank_stops_all_with_a_checkpoint(self):
        run, settings = self.path("stopped"), common.write(self.path("long.json"), json.dumps(dict(CONFIG, epochs=100000)))
        process, rank = self.start(2, self.words(run, settings=settings)), None
        while rank is None or not os.path.exists(f"{run}/checkpoint.safetensors"):
            self.assertIsNone(process.poll(), "ended before it could be stopped")
            rank = rank or self.find_rank(run, 1)
            time.sleep(0.001)
        os.kill(rank, signal.SIGTERM)
        _, err = self.finish(process, 130)
        self.assertEqual(err.count("suture train: stopped after step "), 1, err)
        step = int(err.split("stopped after step ")[1].split()[0])
        size = int.from_bytes(common.read(f"{run}/checkpoint.safetensors")[:8], "little")
        header = json.loads(common.read(f"{run}/checkpoint.safetensors")[8:8 + size])
        self.assertEqual(int(header["__metadata__"]["step"]), step)

    @staticmethod
    def find_rank(run, rank):
        for entry in os.listdir("/proc"):
            try:
                words = common.read(f"/proc/{entry}/cmdline").split(b"\0") if entry.isdigit() else []
                variables = common.read(f"/proc/{entry}/environ").split(b"\0") if run.encode() in words else []
            except OSError:
                continue
            if variables and os.path.basename(words[0]) == b"suture":
                for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK"):
                    if f"{name}={rank}".encode() in variables:
                        return int(entry)
        return None

    def wrapped(self, script, code=1, ranks=2):
        """Every rank runs a line of shell, in which $RANK is its own."""
        process = subprocess.Popen([MPIRUN, "-n", str(ranks), "sh", "-c", f"RANK={RANK}; exec \"$0\" {script}", common.SUTURE],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        return self.finish(process, code)

    def test_a_failure_of_one_rank_ends_all_with_its_message(self):
        common.write(self.path("c0.json"), json.dumps(CONFIG))
        common.write(self.path("c1.json"), json.dumps(dict(CONFIG, lr=0.5)))
        words = " ".join(self.words(self.path("refused")))
        _, err = self.wrapped(words.replace(self.settings, self.path("c$RANK.json")))
        self.assertEqual(err.count("suture train: "), 1, err)
        self.assertIn("suture train: rank 1: its configuration differs from rank 0's", err)
        os.symlink(self.data, self.path("data0"))
        _, err = self.wrapped(words.replace(self.data, self.path("data$RANK")))
        self.assertEqual(err.count("suture train: "), 1, err)
        self.assertIn("suture train: rank 1: ", err)
        self.assertIn(self.path("data1"), err)
        self.assertFalse(os.path.exists(self.path("refused")))
        _, _, err = self.train(2, "odd", "--batch", "13", code=2)
        self.assertEqual(err.count("suture train: a batch of 13 cannot be divided among 2 ranks: use --batch 12 or 14"), 1, err)

    # A decoder whose blocks are worth a sum over the ranks each: it begins before the step (nn/params.h).
    CAPTION = {"max_tokens": 12, "warm": False, "decoder": {"width": 256, "depth": 2, "heads": 4, "mlp": 1536}}

    def test_captions_on_two_ranks_equal_those_on_one(self):
        self.captions("captions", {"caption": dict(self.CAPTION, evidence=1)})

    def test_captions_learnt_jointly_on_two_ranks_equal_those_on_one(self):
        self.captions("jointly", {"caption": dict(self.CAPTION, joint=True)})

    def captions(self, what, config):
        config = dict(config, epochs=2, batch=12, micro_batch=3, holdout=0.2)
        settings = common.write(self.path(f"{what}.json"), json.dumps(config))
        runs = []
        for name, ranks in ((f"{what}-1", 1), (f"{what}-2", 2), (f"{what}-2-again", 2)):
            words = ["train", "--caption", "--from", self.one(), "--data", self.data, "--out", self.path(name), "--config",
                     settings, "--threads", "1"]
            self.finish(self.start(ranks, words), 0)
            runs.append(self.path(name))
        self.same_bytes(runs[1], runs[2])
        one, two = (tensors(f"{r}/checkpoint.safetensors") for r in runs[:2])
        for name in one:
            scale = max(1e-3, float(numpy.abs(one[name]).max()))
            self.assertLess(float(numpy.abs(two[name] - one[name]).max()) / scale, 1e-3, name)
        for a, b in zip(*(common.json_lines(f"{r}/log.jsonl") for r in runs[:2])):
            self.assertLess(abs(a.get("loss", 0) - b.get("loss", 0)), 1e-4 * abs(a.get("loss", 1)), a)


if __name__ == "__main__":
    common.main()
