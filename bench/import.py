#!/usr/bin/env python3
"""Importing images: Suture against Pillow + NumPy, one core, the same JPEG files, in turns, in one run.

    cmake -B build -DSUTURE_BENCH=ON && ninja -C build bench_import suture
    python3 bench/import.py build/bench/bench_import --suture build/suture --shared ../shared   (needs Pillow and NumPy)

Every contender reads the files, makes 224 x 224 x 3 squares (the whole image, antialiased bicubic, centred on black),
packs them into one uint8 array and writes that to disk with an fsync:

    pack      our decoder, resampler and safetensors writer, nothing else       (bench_import)
    import    `suture data import csv`: the same, and hashes of every image, records, splits, manifest, start-up
    Pillow    Image.open, convert, ImageOps.pad into one preallocated array, numpy.save

Rates are images a second by the clock, and by processor time, which a busy machine disturbs less. The pixels of the two
are compared: Pillow 13 resamples the columns of tall pictures first, Pillow 9.4 and we the rows, so a few differ.
"""

import argparse
import csv
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

SIZE = 224


def cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        return next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.machine())


def pillow_pass(files, out):
    """Runs in a process of its own, which stays for all rounds: the start of Python is not counted."""
    import numpy as np
    from PIL import Image, ImageOps

    pixels = np.empty((len(files), SIZE, SIZE, 3), np.uint8)
    for i, path in enumerate(files):
        with Image.open(path) as im:
            pixels[i] = np.asarray(ImageOps.pad(im.convert("RGB"), (SIZE, SIZE), Image.Resampling.BICUBIC))
    with open(out, "wb") as f:
        np.save(f, pixels)
        f.flush()
        os.fsync(f.fileno())


def pillow_side(list_file, out):
    with open(list_file, encoding="utf-8") as f:
        files = f.read().splitlines()
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        pillow_pass(files, out)
        print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu,
                          "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}), flush=True)


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def import_side(program, table, folder):
    shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    process = subprocess.Popen([program, "data", "import", "csv", table, "--out", folder, "--size", str(SIZE)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{program} data import csv: exit code {process.returncode}")
    return {"wall": time.perf_counter() - start, "cpu": usage.ru_utime + usage.ru_stime, "peak_kib": usage.ru_maxrss}


def read_pixels(path, count):
    import numpy as np

    with open(path, "rb") as f:
        start = 8 + int.from_bytes(f.read(8), "little")
    return np.memmap(path, np.uint8, "r", offset=start, shape=(count, SIZE, SIZE, 3))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="bench_import")
    parser.add_argument("--suture", help="the suture command, to time `data import csv` too")
    parser.add_argument("--shared", default="../shared", help="folder that holds data/roco")
    parser.add_argument("--python", default=sys.executable, help="a Python with Pillow and NumPy for the other side")
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pillow-side", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()

    cpu = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    roco = os.path.abspath(f"{args.shared}/data/roco")
    with open(f"{roco}/pairs.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))[: args.images]
    versions = subprocess.run([args.python, "-c", "import PIL, numpy; from PIL import features; print('Pillow', "
                               "PIL.__version__, 'libjpeg-turbo', features.version('libjpeg_turbo'), 'NumPy', "
                               "numpy.__version__)"], check=True, capture_output=True, text=True).stdout.strip()
    print(f"{cpu_name()}, one core ({cpu}); {versions}; {len(rows)} ROCO figures to {SIZE} x {SIZE} x 3")
    with tempfile.TemporaryDirectory() as work:
        listing, table = f"{work}/list", f"{work}/pairs.csv"
        with open(listing, "w", encoding="utf-8") as f:
            f.writelines(f"{roco}/{row['image']}\n" for row in rows)
        with open(table, "w", encoding="utf-8", newline="") as f:
            out = csv.DictWriter(f, rows[0])
            out.writeheader()
            out.writerows(rows)
        os.symlink(f"{roco}/images", f"{work}/images")
        ours_out, pillow_out = f"{work}/ours.safetensors", f"{work}/pillow.npy"
        start = lambda command: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with start([args.program, listing, ours_out, str(SIZE)]) as ours, \
                start([args.python, __file__, args.program, "--pillow-side", listing, pillow_out]) as pillow:
            rounds = []
            for _ in range(args.rounds + 1):
                now = {"pack": go(ours)}
                if args.suture:
                    now["import"] = import_side(args.suture, table, f"{work}/ds")
                now["Pillow"] = go(pillow)
                rounds.append(now)
            ours.stdin.close()
            pillow.stdin.close()
        import numpy as np
        a, b = read_pixels(ours_out, len(rows)), np.load(pillow_out, mmap_mode="r")
        apart = [int(np.abs(x.astype(int) - y.astype(int)).max()) for x, y in zip(a, b)]
    rounds = rounds[1:]  # the first one warms all
    for side in rounds[0]:
        wall = [len(rows) / r[side]["wall"] for r in rounds]
        used = [len(rows) / r[side]["cpu"] for r in rounds]
        print(f"  {side:<7} {statistics.median(wall):7.0f} images/s ({min(wall):.0f} to {max(wall):.0f}), "
              f"{statistics.median(used):7.0f} a processor second, peak {rounds[-1][side]['peak_kib'] / 1024:.0f} MiB")
    for side in rounds[0]:
        if side != "Pillow":
            wall = statistics.median(r["Pillow"]["wall"] / r[side]["wall"] for r in rounds)
            used = statistics.median(r["Pillow"]["cpu"] / r[side]["cpu"] for r in rounds)
            print(f"  {side} over Pillow: {wall:.2f} by the clock, {used:.2f} by processor time")
    print(f"  pixels: {sum(d == 0 for d in apart)} of {len(rows)} images equal, the others within {max(apart)} levels")


if __name__ == "__main__":
    if "--pillow-side" in sys.argv:
        pillow_side(*sys.argv[-2:])
    else:
        main()
