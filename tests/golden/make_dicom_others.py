#!/usr/bin/env python3
"""What DCMTK's tools and GDCM make of the shared collection, beside Suture: tests/golden/dicom_others.csv, for the table of
docs/dicom.md that tests/dicom/test_corpus.py prints.

    python3 make_dicom_others.py SUTURE SHARED/data/dicom     (needs dcmtk, python-gdcm, NumPy)

Each file goes to a process of its own. DCMTK: dcmdjpeg, dcmdjpls, dcmdrle or dcmconv to Explicit VR Little Endian, without
colour conversion, whose values are then read like any native file. GDCM: ImageReader's buffer, by pixel, bits as bytes. Outcomes: "same"
values as ours or as in the manifest, "other" values, "refused", "crashed" (a signal, or a minute without an end).
"""
import csv
import hashlib
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
GDCM = """
import sys, gdcm, numpy as np
r = gdcm.ImageReader(); r.SetFileName(sys.argv[1])
if not r.Read(): sys.exit(1)
image = r.GetImage()
size, samples = image.GetBufferLength(), image.GetPixelFormat().GetSamplesPerPixel()
data = image.GetBuffer()
if not isinstance(data, str) or len(data.encode('utf-8', 'surrogateescape')) != size: sys.exit(1)
data = data.encode('utf-8', 'surrogateescape')
if image.GetPixelFormat().GetBitsAllocated() == 1:
    data = np.unpackbits(np.frombuffer(data, np.uint8), bitorder='little').tobytes()
if samples > 1 and image.GetPlanarConfiguration():
    columns, rows = image.GetDimension(0), image.GetDimension(1)
    word = image.GetPixelFormat().GetBitsAllocated() // 8
    data = np.frombuffer(data, f'V{word}').reshape(-1, samples, rows * columns).transpose(0, 2, 1).tobytes()
open(sys.argv[2], 'wb').write(data)
"""


def run(command):
    """0: done; 1: refused; 2: crashed."""
    try:
        code = subprocess.run(command, capture_output=True, timeout=60).returncode
    except subprocess.TimeoutExpired:
        return 2
    return 2 if code < 0 else int(code != 0)


def sha(data):
    return hashlib.sha256(data).hexdigest()


def by_dcmtk(suture, path, syntax, folder):
    out, array = folder / "x.dcm", folder / "x.npy"
    number = syntax.removeprefix("1.2.840.10008.1.2.")
    program = (["dcmdrle"] if number == "5" else ["dcmdjpls"] if number in ("4.80", "4.81")
               else ["dcmdjpeg", "+cn"] if number.startswith("4.") else ["dcmconv"])
    code = run([*program, "+te", path, out])
    if code == 0:
        code = run([suture, "dicom", "decode", out, "--out", array])
    return code, None if code else np.load(array).tobytes()


def by_gdcm(path, folder):
    out = folder / "x.raw"
    code = run([sys.executable, "-c", GDCM, path, out])
    return code, None if code else out.read_bytes()


def main(suture, root):
    with open(root / "manifest.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    with open(HERE / "dicom_others.csv", "w", newline="") as f, tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(["path", "suture", "dcmtk", "gdcm"])
        for row in rows:
            path, array = root / row["path"], folder / "ours.npy"
            right = {v for k, v in row.items() if k.startswith("sha256_") and v}
            ours = run([suture, "dicom", "decode", path, "--out", array])
            if not ours:
                right.add(sha(np.load(array).tobytes()))
            outcomes = ["refused" if ours else "same"]
            for code, data in (by_dcmtk(suture, path, row["ts"], folder), by_gdcm(path, folder)):
                outcomes.append(["same" if code == 0 and sha(data) in right else "other", "refused", "crashed"][code])
                for p in folder.glob("x.*"):
                    p.unlink()
            array.unlink(missing_ok=True)
            writer.writerow([row["path"], *outcomes])


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]))
