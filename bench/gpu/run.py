#!/usr/bin/env python3
"""Builds, checks and times Suture on this machine's GPU, against PyTorch in the same run.

    python3 bench/gpu/run.py                    base, batch 1,024: everything within eight minutes
    python3 bench/gpu/run.py --model large --batch 512 --micro 256
    python3 bench/gpu/run.py --sanitize         instead of the timing: the checks again under compute-sanitizer

Needs the CUDA toolkit, CMake and a compiler for C and C++; Python for this script alone. Where PyTorch is missing, or a setting of it
runs out of memory or of time, the table says so. On a machine without a GPU it builds, and says that nothing was run.

1. build   bench/gpu/CMakeLists.txt: the engine, the CUDA device, the tests of its operations, the timed step
2. check   ctest -L gpu: every operation in bf16 and float32 against the CPU in float64; then two trainings, whose digits must be the same
3. time    a training step, embedding of images, embedding of texts; each first round is a warm-up, medians count. PyTorch as eager,
           torch.compile and torch.compile(mode="max-autotune"), as far as the time reaches; the fastest of them is the other side of
           the ratio.

The batch is halved until Suture's step fits the GPU. Peak memory is what nvidia-smi sees at most, less what was used before.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
PEAK = {"H100 PCIe": 756, "H100 NVL": 835, "H200": 989, "H100": 989, "A100": 312, "L40S": 362, "B200": 2250}  # dense bf16 TFLOP/s, NVIDIA's data sheets
# width, depth, mlp, tokens, inputs of the patch projection
TOWERS = {"base": ((768, 12, 3072, 197, 768), (768, 12, 3072, 77, 0)), "large": ((1024, 24, 4096, 257, 588), (768, 12, 3072, 256, 0)),
          "giant": ((1408, 40, 6144, 257, 588), (768, 12, 3072, 128, 0)), "small": ((64, 2, 128, 17, 768), (64, 2, 128, 16, 0))}


def flops(tower):
    """Of a forward pass of one sample: products and attention; norms and activations not counted."""
    width, depth, mlp, tokens, patch = tower
    return tokens * depth * (8 * width * width + 4 * width * mlp + 4 * tokens * width) + 2 * tokens * patch * width


def work(model, what):
    image, text = map(flops, TOWERS[model])
    return {"train": 3 * (image + text), "image": image, "text": text}[what]


class Memory(threading.Thread):
    """Peak of the GPU's used memory, asked every fifth of a second while it runs."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ended, self.start_mb, self.peak_mb = False, used_mb(), 0

    def run(self):
        while not self.ended:
            self.peak_mb = max(self.peak_mb, used_mb())
            time.sleep(0.2)

    def stop(self):
        self.ended = True
        self.join()
        return max(0, self.peak_mb - self.start_mb)


def used_mb():
    return int(smi("memory.used") or 0)


def smi(what):
    try:
        out = subprocess.run(["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits", "-i", "0"], capture_output=True, text=True)
    except OSError:
        return ""
    return out.stdout.strip() if out.returncode == 0 else ""


def timed(command, seconds):
    """{"rounds": [seconds...], "digits": [...], "plan", "peak_mb"} or {"failed": why}."""
    watch = Memory()
    watch.start()
    try:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=max(1, seconds))
    except subprocess.TimeoutExpired:
        return {"failed": "out of time", "peak_mb": watch.stop()}
    peak = watch.stop()
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"failed": "out of memory" if done.returncode == 3 else last[:70], "peak_mb": peak}
    rounds = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("round")]
    plan = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("plan")]
    return {"rounds": [float(r[0]) for r in rounds], "digits": [r[1:] for r in rounds], "plan": plan[0], "peak_mb": peak}


def step(title, command, **options):
    print(f"== {title}", flush=True)
    done = subprocess.run([*map(str, command)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if done.returncode:
        sys.exit(f"{done.stdout[-4000:]}\n{title} failed: {' '.join(map(str, command))}")
    return done.stdout


def build(folder, generator):
    step("configure", ["cmake", "-S", HERE, "-B", folder, *generator, "-DCMAKE_BUILD_TYPE=Release"])
    step("build", ["cmake", "--build", folder, "-j", os.cpu_count()])


def check(folder, timeout):
    out = step("check: ctest -L gpu", ["ctest", "--test-dir", folder, "-L", "gpu", "--output-on-failure", "--timeout", timeout])
    print("\n".join(line for line in out.splitlines() if "Test #" in line))
    return "Skipped" not in out


def sanitize(folder):
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    for what in ("memcheck", "racecheck", "initcheck", "synccheck"):
        step(f"compute-sanitizer {what}: training of the small model", [tool, "--tool", what, "--error-exitcode", 9, folder / "bench_gpu",
                                                                      "cuda", "small", "train", 10, 4, 2])
        step(f"compute-sanitizer {what}: operations in bf16", [tool, "--tool", what, "--error-exitcode", 9, folder / "test_cuda_ops", "cuda,bf16"])
    print("nothing found")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", type=pathlib.Path, default=HERE.parents[1] / "build-gpu", help="where it is built (build-gpu)")
    p.add_argument("--model", default="base", choices=list(TOWERS))
    p.add_argument("--batch", type=int, default=1024)
    p.add_argument("--micro", type=int, default=0, help="samples that go through the towers at a time, for Suture alone (the batch)")
    p.add_argument("--rounds", type=int, default=8, help="timed rounds, of which the first is a warm-up (8)")
    p.add_argument("--minutes", type=float, default=8, help="for all of it (8)")
    p.add_argument("--device", default="cuda")
    p.add_argument("--python", default=sys.executable, help="a Python that has PyTorch (this one)")
    p.add_argument("--json", type=pathlib.Path, help="also write the figures here")
    p.add_argument("--sanitize", action="store_true", help="run the checks under compute-sanitizer; no timing")
    p.add_argument("--dry", action="store_true", help="no timing")
    a = p.parse_args()
    end = time.monotonic() + 60 * a.minutes
    build(a.build, ["-G", "Ninja"] if shutil.which("ninja") else [])
    there = check(a.build, 240)
    if not there:
        print("No GPU here, or none that can be used: it builds, and nothing was run. What the program says:")
        print(subprocess.run([a.build / "test_cuda_ops"], capture_output=True, text=True).stdout.strip())
        return
    if a.sanitize:
        sanitize(a.build)
    if a.sanitize or a.dry:
        return

    def ours(what, batch, rounds=a.rounds):
        return timed([a.build / "bench_gpu", a.device, a.model, what, batch, a.micro or batch, rounds], end - time.monotonic())

    batch = a.batch
    trained = ours("train", batch)
    while trained.get("failed") == "out of memory" and batch > 16:
        batch //= 2
        trained = ours("train", batch)
    if "failed" in trained:
        sys.exit(f"the training step failed: {trained['failed']}")
    again = ours("train", batch, min(3, a.rounds))
    same = again.get("digits") == trained["digits"][:len(again.get("digits", []))]
    print(f"== repeated: {'the same digits of loss and gradient norm' if same else 'NOT the same digits'} in {len(again.get('digits', []))} steps")

    name = smi("name") or "an emulated device"
    peak = next((PEAK[k] for k in PEAK if k.lower() in name.lower()), None)
    print(f"== {name}, driver {smi('driver_version')}; {a.model}, batch {batch}" + (f" in pieces of {a.micro}" if a.micro else ""))
    figures = {"gpu": name, "model": a.model, "batch": batch, "micro": a.micro or batch, "repeats": same, "rows": {}}
    print(f"{'':8} {'Suture':>11} {'PyTorch':>11} {'ratio':>6} {'TFLOP/s':>8} {'of peak':>8} {'peak MB':>9} {'PyTorch MB':>11}  its settings")
    has_torch = subprocess.run([a.python, "-c", "import torch"], capture_output=True).returncode == 0
    for what in ("train", "image", "text"):
        mine = trained if what == "train" else ours(what, batch)
        others = {}
        for setting in ("eager", "compile", "max-autotune") if has_torch else ():
            left = end - time.monotonic() - (0 if what == "text" else 20)  # the embeddings' rows need a little
            others[setting] = timed([a.python, HERE / "pytorch.py", a.model, what, batch, a.rounds, setting],
                                    min(left, 200 if what == "train" else 45))
        median = {k: statistics.median(r["rounds"][1:]) for k, r in {"": mine, **others}.items() if "rounds" in r}
        best = min((k for k in median if k), key=median.get, default=None)
        if "" not in median:
            print(f"{what:8} failed: {mine['failed']}")
            continue
        tflops = work(a.model, what) * batch / median[""] / 1e12
        states = ", ".join(f"{k} {batch / median[k]:,.0f}/s" if k in median else f"{k}: {r['failed']}" for k, r in others.items())
        theirs, ratio = (f"{batch / median[best]:,.0f}/s", f"{median[best] / median['']:.2f}") if best else ("-", "-")
        print(f"{what:8} {batch / median['']:9,.0f}/s {theirs:>11} {ratio:>6} {tflops:8.0f} {f'{100 * tflops / peak:.0f} %' if peak else '-':>8} "
              f"{mine['peak_mb']:9,} {others[best]['peak_mb'] if best else '-':>11}  {states or 'PyTorch is not here'}", flush=True)
        figures["rows"][what] = {"suture": mine, "pytorch": others, "tflops": tflops, "peak_tflops": peak}
    if a.json:
        a.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
