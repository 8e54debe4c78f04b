#!/usr/bin/env python3
"""Builds, checks and times Suture on this machine's GPU, against PyTorch in the same run.

    python3 bench/gpu/run.py                    base, batch 1,024: everything within eight minutes
    python3 bench/gpu/run.py --model large --batch 512 --micro 256 --only train,image,text
    python3 bench/gpu/run.py --model giant --batch 256 --checkpointing auto --only train
    python3 bench/gpu/run.py --sanitize         instead of the timing: the checks again under compute-sanitizer

Needs the CUDA toolkit, CMake and a compiler for C and C++; Python for this script alone. Where PyTorch is missing, or a setting of it
runs out of memory or of time, the table says so. On a machine without a GPU it builds, and says that nothing was run.

1. build   bench/gpu/CMakeLists.txt: the engine, the CUDA device, the tests of its operations, what is timed
2. check   ctest -L gpu: every operation in bf16 and float32 against the CPU in float64; later two trainings, whose digits must be the same
3. time    train, image, text   a training step, embedding of images, embedding of texts; host memory to host memory
           loss                 InfoNCE + L_CU over N pairs, forward and backward
           search               the ten best of 10 million rows, exactly; some of the queries on the CPU too, whose answers must be the same
           caption, decode      captions by beam search, none of which ends early: from pixels, from image tokens
           Each first round is a warm-up, medians count. PyTorch (and for captions transformers' generate()) does the same as eager,
           torch.compile and torch.compile(mode="max-autotune"), as far as the time reaches; the fastest is the other side of the ratio.

With --checkpointing auto Suture's step keeps as many activations as fit (nn/stack.h); PyTorch's keeps what its setting keeps. The batch
is halved until Suture's step fits the GPU. Peak memory is what nvidia-smi sees at most, less what was used before. "of peak" is
the share of the data sheet's bf16 figure; "of limit" that of what PyTorch's copy and 8192^3 product reach in the same run, whichever binds.
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
PEAK = {"H100 PCIe": 756, "H100 NVL": 835, "H200": 989, "H100": 989, "A100": 312, "L40S": 362, "B200": 2250}  # dense bf16 TFLOP/s, NVIDIA's data sheets
# width, depth, mlp, tokens, inputs of the patch projection
TOWERS = {"base": ((768, 12, 3072, 197, 768), (768, 12, 3072, 77, 0)), "large": ((1024, 24, 4096, 257, 588), (768, 12, 3072, 256, 0)),
          "giant": ((1408, 40, 6144, 257, 588), (768, 12, 3072, 128, 0)), "small": ((64, 2, 128, 17, 768), (64, 2, 128, 16, 0))}
DIM, BEAMS = 512, 3
LEVELS = ["none", "selective", "full"]


def flops(tower):
    """Of a forward pass of one sample, as Suture does it: products and attention; norms and activations not counted. Of the last block's tokens but the
    class token only keys and values are formed: nothing else of them is read. PyTorch's side, as ViT and BERT are written there, forms all: whole_flops."""
    width, depth, mlp, tokens, patch = tower
    last = tokens * 4 * width * width + 4 * width * width + 4 * width * mlp + 4 * tokens * width
    return tokens * (depth - 1) * (8 * width * width + 4 * width * mlp + 4 * tokens * width) + last + 2 * tokens * patch * width


def whole_flops(tower):
    width, depth, mlp, tokens, patch = tower
    return tokens * depth * (8 * width * width + 4 * width * mlp + 4 * tokens * width) + 2 * tokens * patch * width


class Row:
    """One line of the table. ours: arguments of bench_gpu, without the rounds; theirs: what pytorch.py is asked for, by setting; units: samples of a round, or
    0 where the time is told; work: operations of matrix products; read: bytes that must be read; whole: operations if every block formed all tokens."""

    def __init__(self, what, ours, theirs, units=0, work=0, read=0, whole=0):
        self.what, self.ours, self.theirs, self.units, self.work, self.read, self.whole = what, ours, theirs, units, work, read, whole

    def rate(self, seconds):
        return f"{self.units / seconds:,.0f}/s" if self.units else f"{1000 * seconds:,.2f} ms"


def rows_of(a, batch, level):
    image, text = map(flops, TOWERS[a.model])
    all_image, all_text = map(whole_flops, TOWERS[a.model])
    only, rows = a.only.split(","), []
    for what, work, whole in (("train", 3 * (image + text), 3 * (all_image + all_text)), ("image", image, all_image), ("text", text, all_text)):
        spec = f"{what}:{a.model}:{batch}"
        rows.append(Row(what, [a.device, a.model, batch, a.micro or batch, level], {k: [spec] for k in ("eager", "compile", "max-autotune")},
                        batch, work * batch, 0, whole * batch))
    for n in a.loss:  # 8 N^2 D of InfoNCE, whose scores are formed twice, and 3 N^2 D of L_CU, whose are symmetric
        both = [f"loss:{n}:high", f"loss:{n}:bf16"]
        rows.append(Row(f"loss {n}", [a.device, n], {"eager": both, "compile": both if n == min(a.loss) else []}, 0, 11 * n * n * DIM))
    queries, n = a.search
    rows.append(Row("search", [a.device, queries, n, a.checked], {"eager": [f"search:{queries}:{n}"]}, 0, 2 * queries * n * DIM,
                    2 * n * DIM))
    for what in ("caption", "decode"):
        rows.append(Row(what, [a.device, a.model, a.captions, BEAMS, a.tokens],
                        {"eager": [f"{what}:{a.model}:{a.captions}:{BEAMS}:{a.tokens}"]}, a.captions))
    return [r for r in rows if r.what.split()[0] in only]


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


def parsed(lines):
    rounds = [line.split()[1:] for line in lines if line.startswith("round")]
    plan = [int(line.split()[1]) for line in lines if line.startswith("plan")]
    return {"seconds": [float(x[0]) for x in rounds], "digits": [x[1:] for x in rounds], "plan_mb": plan[0] >> 20 if plan else 0}


def median(result):
    return statistics.median(result["seconds"][1:])


def suture(command, seconds):
    """{"seconds": [of each round], "digits": [...], "plan_mb", "peak_mb"} or {"failed": why}."""
    watch = Memory()
    watch.start()
    try:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=max(1, seconds))
    except subprocess.TimeoutExpired:
        return {"failed": "out of time", "peak_mb": watch.stop()}
    peak = watch.stop()
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        return {"failed": "out of memory" if done.returncode == 3 else last[:70], "peak_mb": peak}
    return {**parsed(done.stdout.splitlines()), "peak_mb": peak}


def pytorch(a, setting, specs, seconds):
    """{spec: the same}. One process does all of them; what it has done when its time is over counts."""
    results, spec, lines = {}, None, []
    with tempfile.TemporaryFile("w+") as errors:
        p = subprocess.Popen([a.python, str(HERE / "pytorch.py"), setting, str(a.rounds), *specs], stdout=subprocess.PIPE, stderr=errors, text=True,
                             start_new_session=True)
        timer = threading.Timer(max(1, seconds), lambda: os.killpg(p.pid, signal.SIGKILL))  # with the compiler's own processes
        timer.start()
        for line in p.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "what":
                spec, lines = rest, []
            elif word == "failed":
                results[spec] = {"failed": rest}
            elif word == "plan":
                results[spec] = {**parsed(lines + [line]), "limit": [float(x) for k in lines if k.startswith("limit") for x in k.split()[1:]]}
                results[spec]["peak_mb"] = results[spec]["plan_mb"]
            else:
                lines.append(line)
        p.wait()
        timer.cancel()
        errors.seek(0)
        last = (errors.read().strip().splitlines() or ["no message"])[-1][:70]
    for spec in specs:
        results.setdefault(spec, {"failed": "out of time" if p.returncode == -9 else last})
    return results


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
                                                                      "train", "cuda", "small", 10, 4, "full", 2])
        step(f"compute-sanitizer {what}: operations in bf16", [tool, "--tool", what, "--error-exitcode", 9, folder / "test_cuda_ops", "cuda,bf16"])
    print("nothing found")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", type=pathlib.Path, default=HERE.parents[1] / "build-gpu", help="where it is built (build-gpu)")
    p.add_argument("--model", default="base", choices=list(TOWERS))
    p.add_argument("--batch", type=int, default=1024)
    p.add_argument("--micro", type=int, default=0, help="samples that go through the towers at a time, for Suture alone (the batch)")
    p.add_argument("--checkpointing", default="none", choices=["auto", *LEVELS], help="of activations, for Suture alone (none)")
    p.add_argument("--rounds", type=int, default=8, help="timed rounds, of which the first is a warm-up (8)")
    p.add_argument("--only", default="train,image,text,loss,search,caption,decode", help="what is timed, of these (all)")
    p.add_argument("--loss", type=int, nargs="*", default=[65536, 32768], help="pairs (65536 32768)")
    p.add_argument("--search", type=int, nargs=2, default=[1000, 10_000_000], metavar=("QUERIES", "ROWS"))
    p.add_argument("--checked", type=int, default=8, help="queries that the CPU answers as well (8)")
    p.add_argument("--captions", type=int, default=256, help="at a time (256)")
    p.add_argument("--tokens", type=int, default=40, help="of a caption (40)")
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

    def left():
        return end - time.monotonic()

    def ours(row, rounds=a.rounds):
        result = suture([a.build / "bench_gpu", row.what.split()[0], *row.ours, rounds], left())
        print(f"   {row.what:12} Suture        {row.rate(median(result)) if 'seconds' in result else result['failed']}", flush=True)
        return result

    figures = {"gpu": smi("name") or "an emulated device", "driver": smi("driver_version"), "options": vars(a), "suture": {}, "pytorch": {}}

    def keep():
        if a.json:
            a.json.write_text(json.dumps(figures, indent=1, default=str))

    print("== time", flush=True)
    batch, mine, theirs = a.batch, figures["suture"], figures["pytorch"]
    levels = list(LEVELS) if a.checkpointing == "auto" else [a.checkpointing]
    rows = rows_of(a, batch, levels[0])
    for i in range(len(rows)):
        mine[rows[i].what] = ours(rows[i])
        while rows[i].what == "train" and mine["train"].get("failed") == "out of memory" and (len(levels) > 1 or batch > 16):
            if len(levels) > 1:
                del levels[0]
            else:
                batch //= 2
            rows = rows_of(a, batch, levels[0])
            mine["train"] = ours(rows[i])
        figures["checkpointing"] = levels[0]
        keep()
    if "seconds" in mine.get("train", {}):
        again = ours(rows[0], min(3, a.rounds)).get("digits", [])
        figures["repeats"] = bool(again) and again == mine["train"]["digits"][:len(again)]
        print(f"== repeated: {'the same digits of loss and gradient norm' if figures['repeats'] else 'NOT the same digits'} in {len(again)} steps", flush=True)
    if subprocess.run([a.python, "-c", "import torch"], capture_output=True).returncode == 0:
        for setting in ("eager", "compile", "max-autotune"):
            specs = ["limits"] * (setting == "eager") + [s for row in rows for s in row.theirs.get(setting, [])]
            if not specs or left() < 10:
                continue
            theirs[setting] = pytorch(a, setting, specs, left() - 5)
            for spec, result in theirs[setting].items():
                print(f"   {spec:28} {setting:12} " + (f"{1000 * median(result):,.2f} ms" if result.get("seconds") else result.get("failed", "")), flush=True)
            keep()
    report(a, figures, rows, batch)


def report(a, figures, rows, batch):
    name = figures["gpu"]
    peak = next((PEAK[k] for k in PEAK if k.lower() in name.lower()), None)
    limit = figures["pytorch"].get("eager", {}).get("limits", {}).get("limit")
    print(f"== {name}, driver {figures['driver']}; {a.model}, batch {batch}" + (f" in pieces of {a.micro}" if a.micro else "")
          + f", checkpointing {figures['checkpointing']}"
          + (f"; PyTorch copies {limit[0] / 1e12:.2f} TB/s and multiplies {limit[1] / 1e12:.0f} TFLOP/s" if limit else ""))
    print(f"{'':12} {'Suture':>12} {'PyTorch':>12} {'ratio':>6} {'TFLOP/s':>8} {'of peak':>8} {'of limit':>8} {'MB':>8} {'PyTorch MB':>11}  its settings")
    for row in rows:
        own = figures["suture"][row.what]
        others = {setting + (" bf16" if spec.endswith(":bf16") else ""): figures["pytorch"][setting][spec]
                  for setting in figures["pytorch"] for spec in row.theirs.get(setting, [])}
        if not own.get("seconds"):
            print(f"{row.what:12} failed: {own['failed']}")
            continue
        seconds = median(own)
        times = {k: median(r) for k, r in others.items() if r.get("seconds")}
        best = min(times, key=times.get, default=None)
        rate = row.work / seconds
        bound = max(row.work / limit[1], row.read / limit[0]) if limit else 0
        notes = [f"{k} {row.rate(times[k])}" if k in times else f"{k}: {r['failed']}" for k, r in others.items()]
        if row.whole and peak:
            notes.insert(0, f"{row.whole / seconds / peak / 1e10:.1f} % of peak, all tokens of the last blocks counted")
        if row.what == "search":
            notes.insert(0, "as the CPU's: {} of {:.0f} queries".format(own["digits"][-1][0], float(own["digits"][-1][1])))
        if row.what.startswith("loss"):
            notes.insert(0, f"{own['digits'][-1][0]}, PyTorch {others[best]['digits'][-1][0] if best else '-'}")
        print(f"{row.what:12} {row.rate(seconds):>12} {row.rate(times[best]) if best else '-':>12} {f'{times[best] / seconds:.2f}' if best else '-':>6} "
              f"{f'{rate / 1e12:.0f}' if row.work else '-':>8} {f'{rate / peak / 1e10:.0f} %' if peak and row.work else '-':>8} "
              f"{f'{100 * bound / seconds:.0f} %' if bound else '-':>8} {own['peak_mb']:8,} {others[best]['peak_mb'] if best else 0:11,}  "
              f"{'; '.join(notes) or 'PyTorch is not here'}", flush=True)


if __name__ == "__main__":
    main()
