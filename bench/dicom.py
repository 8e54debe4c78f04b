#!/usr/bin/env python3
"""DICOM files to 224 x 224 x 3: Suture against pydicom + NumPy + Pillow, one core, the same files, in turns, in one run.

    cmake -B build -DSUTURE_BENCH=ON && ninja -C build bench_import
    python3 bench/dicom.py build/bench/bench_import --shared ../shared
        (needs pydicom, pylibjpeg with its plugins, python-gdcm, pyjpegls, Pillow, NumPy; dcmcjpeg and dcmcjpls of dcmtk)

CT and MR slices and radiographs of the shared corpus, written natively and compressed without loss as JPEG Lossless,
JPEG-LS and JPEG 2000. Both sides read from disk, decode, apply the Modality LUT, the VOI LUT or window and MONOCHROME1, and
make the padded square by antialiased bicubic:

    Suture    su_image_load and su_image_to_recipe, as every import and search does      (bench_import)
    pydicom   dcmread, pixel_array, apply_modality_lut, apply_voi_lut, scaled to 8 bits, ImageOps.pad; of the decoders that
              are installed for a syntax the fastest is taken, and named

Both processes stay for all rounds, and so do the workers in which Suture decodes compressed frames; their processor time
counts. What starting costs is shown apart. Rates are files a second by processor time, which a busy machine disturbs less,
and by the clock.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

SIZE = 224
SOURCES = {
    "slices": ["CTImage.dcm", "01.dcm", "02.dcm", "03.dcm", "693_J2KR.dcm", "explicit_VR-UN.dcm", "CT1_JLSN.dcm",
               "TOSHIBA_J2K_SIZ0_PixRep1.dcm", "MR2_J2KR.dcm"],
    "radiographs": ["RG1_J2KI.dcm", "RG2_JLSN.dcm", "RG3_J2KR.dcm"],
}
SYNTAXES = ["native", "JPEG Lossless", "JPEG-LS", "JPEG 2000"]
PLUGINS = {"native": [""], "JPEG Lossless": ["pylibjpeg", "gdcm"], "JPEG-LS": ["pyjpegls", "gdcm"], "JPEG 2000": ["pylibjpeg", "gdcm"]}


def picture(path, plugin):
    import numpy as np
    import pydicom
    from PIL import Image, ImageOps
    from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

    ds = pydicom.dcmread(path)
    values = pixel_array(ds, decoding_plugin=plugin)
    values = apply_voi_lut(apply_modality_lut(values, ds), ds)
    low, high = float(values.min()), float(values.max())
    levels = ((values - low) / ((high - low) or 1) * 255).astype(np.uint8)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        levels = 255 - levels
    return np.asarray(ImageOps.pad(Image.fromarray(levels).convert("RGB"), (SIZE, SIZE), Image.Resampling.BICUBIC))


def pydicom_side(list_file, plugin):
    import numpy as np

    warnings.simplefilter("ignore")
    with open(list_file, encoding="utf-8") as f:
        files = f.read().splitlines()
    pixels = np.empty((len(files), SIZE, SIZE, 3), np.uint8)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        for i, path in enumerate(files):
            pixels[i] = picture(path, plugin)
        print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}), flush=True)


def make_files(root, work):
    """{(kind, syntax): [paths]}; every file's pixels are those of its native form."""
    import numpy as np
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

    warnings.simplefilter("ignore")
    found = {p.name: p for p in sorted(root.rglob("*")) if p.is_file()}
    made = {}
    for kind, names in SOURCES.items():
        for name in names:
            ds = pydicom.dcmread(found[name])
            values = ds.pixel_array
            if ds.file_meta.TransferSyntaxUID.is_compressed:
                ds.decompress()
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            native = work / f"{name}.native.dcm"
            ds.save_as(native, implicit_vr=False, little_endian=True)
            paths = {"native": native}
            for syntax, tool in (("JPEG Lossless", ["dcmcjpeg", "+e1"]), ("JPEG-LS", ["dcmcjpls"])):
                paths[syntax] = work / f"{name}.{syntax.replace(' ', '')}.dcm"
                subprocess.run([*tool, str(native), str(paths[syntax])], check=True, capture_output=True)
            paths["JPEG 2000"] = work / f"{name}.j2k.dcm"
            packed = pydicom.dcmread(native)
            packed.compress(JPEG2000Lossless)
            packed.save_as(paths["JPEG 2000"])
            for syntax, path in paths.items():
                if not np.array_equal(pydicom.dcmread(path).pixel_array, values):
                    raise SystemExit(f"{path}: other pixels than its source")
                made.setdefault((kind, syntax), []).append(str(path))
    return made


def children_cpu(pid):
    """Seconds of processor time of the worker processes that a process keeps."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        children = f.read().split()
    total = 0
    for child in children:
        with open(f"/proc/{child}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total / 1e9


def go(process):
    before = children_cpu(process.pid)
    process.stdin.write("\n")
    process.stdin.flush()
    took = json.loads(process.stdout.readline())
    took["workers"] = children_cpu(process.pid) - before
    took["cpu"] += took["workers"]
    return took


def start_time(command):
    start = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        go(process)
        took = time.perf_counter() - start
        again = go(process)["wall"]
        process.stdin.close()
    return took - again


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="bench_import")
    parser.add_argument("--shared", default="../shared", help="folder that holds data/dicom")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    os.environ.setdefault("SUTURE_DECODE", str(pathlib.Path(args.program).resolve().parent.parent / "suture-decode"))
    cpu = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        name = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.machine())
    versions = subprocess.run([sys.executable, "-c", "import pydicom, numpy, PIL, gdcm, openjpeg, libjpeg, jpeg_ls\n"
                               "from importlib.metadata import version as v\n"
                               "print(*(f'{p} {v(p)}' for p in ('pydicom', 'numpy', 'pillow', 'python-gdcm', 'pylibjpeg-openjpeg', "
                               "'pylibjpeg-libjpeg', 'pyjpegls')), sep=', ')"], capture_output=True, text=True).stdout.strip()
    print(f"{name}, one core ({cpu}), load {os.getloadavg()[0]:.1f}; {versions}")
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        files = make_files(pathlib.Path(args.shared) / "data/dicom", work)
        listing, out = work / "list", work / "out.safetensors"
        listing.write_text(files["slices", "native"][0] + "\n")
        ours = [args.program, str(listing), str(out), str(SIZE)]
        theirs = [sys.executable, __file__, args.program, "--pydicom-side", str(listing), ""]
        print(f"start, first file included: Suture {start_time(ours) * 1000:.0f} ms, pydicom {start_time(theirs) * 1000:.0f} ms\n")
        print(f"{'':13} {'syntax':14} {'Suture':>9} {'pydicom':>9}  ratio by processor (range)   by clock  decoder of the other side")
        for (kind, syntax), paths in files.items():
            listing.write_text("".join(p + "\n" for p in paths))
            start = lambda command: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes = {"ours": start(ours)}
            for plugin in PLUGINS[syntax]:
                processes[plugin] = start([*theirs[:-1], plugin])
            rounds = [{side: go(p) for side, p in processes.items()} for _ in range(args.rounds + 1)][1:]
            for p in processes.values():
                p.stdin.close()
                p.wait()
            best = min(PLUGINS[syntax], key=lambda plugin: statistics.median(r[plugin]["cpu"] for r in rounds))
            ratio = [r[best]["cpu"] / r["ours"]["cpu"] for r in rounds]
            clock = statistics.median(r[best]["wall"] / r["ours"]["wall"] for r in rounds)
            rate = lambda side: len(paths) / statistics.median(r[side]["cpu"] for r in rounds)
            print(f"{kind:13} {syntax:14} {rate('ours'):7.1f}/s {rate(best):7.1f}/s  {statistics.median(ratio):5.2f} "
                  f"({min(ratio):.2f} to {max(ratio):.2f})       {clock:5.2f}     {best or 'NumPy'}")


if __name__ == "__main__":
    if "--pydicom-side" in sys.argv:
        pydicom_side(*sys.argv[-2:])
    else:
        main()
