#!/usr/bin/env python3
"""What pydicom makes of real files: tests/golden/dicom_rendered.json.gz, for tests/dicom/test_rendered.py.

    python3 make_dicom_rendered.py SHARED/data/dicom     (needs pydicom, pylibjpeg with its plugins, python-gdcm)

For the first and the middle frame of each file that pydicom decodes: apply_modality_lut, then apply_voi_lut, brought to
0 .. 255 by the range that each is defined to fill; colour through apply_color_lut and convert_color_space. Kept are the
values at 64 places. Presentation LUT Shape, MONOCHROME1, padding and the functional groups are
not pydicom's business: they are applied here.
"""
import csv
import gzip
import json
import pathlib
import sys
import warnings

import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, convert_color_space, pixel_array

PLACES = 64


def places(count):
    return [i * 2654435761 % count for i in range(PLACES)]


def output_range(ds, values):
    """What 0 and 255 stand for in apply_voi_lut's output: the table's entries, or the range of the bits stored after the
    modality transformation; without either, the rule of recipe dicom-standard/1."""
    tables = ds.get("VOILUTSequence")
    if tables:
        return 0, 2 ** tables[0].LUTDescriptor[2] - 1
    if ds.get("ModalityLUTSequence"):
        low, high = 0, 2 ** ds.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    else:
        bits = ds.get("BitsStored", 0)
        ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if ds.get("PixelRepresentation") else [0, 2**bits - 1])
        ends = ends * float(ds.get("RescaleSlope", 1) or 1) + float(ds.get("RescaleIntercept", 0) or 0)
        low, high = min(ends), max(ends)
    if "WindowWidth" in ds and ds.WindowWidth not in (None, "") or 0 < ds.get("BitsStored", 0) <= 8:
        return low, high
    if str(ds.get("SOPClassUID", "")).startswith("1.2.840.10008.5.1.4.1.1.1."):
        return low, high
    return float(values.min()), float(values.max())


def frame_of(ds, frame, raw=False):
    """By the property, out of all frames: the function pixel_array of pydicom 3.0 leaves big endian OW words unturned."""
    values = pixel_array(ds, raw=True) if raw else ds.pixel_array
    return values[frame] if int(ds.get("NumberOfFrames", 1) or 1) > 1 else values


def grey(ds, stored):
    shown = stored
    x = apply_modality_lut(stored, ds).astype(float)
    shown = np.asarray(apply_voi_lut(x if not ds.get("VOILUTSequence") else np.rint(x).astype(int), ds), float)
    padding = np.zeros(stored.shape, bool)
    if "PixelPaddingValue" in ds:
        a = ds.PixelPaddingValue
        b = ds.get("PixelPaddingRangeLimit", a)
        padding = (stored >= min(a, b)) & (stored <= max(a, b))
    kept = shown[~padding] if (~padding).any() else shown
    low, high = output_range(ds, kept)
    y = np.clip((shown - low) / (high - low), 0, 1) * 255 if high > low else np.zeros(shown.shape)
    shape = ds.get("PresentationLUTShape", "")
    if shape == "INVERSE" or (not shape and ds.PhotometricInterpretation == "MONOCHROME1"):
        y = 255 - y
    y[padding] = 0
    return y


def colour(ds, frame):
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        rgb = apply_color_lut(frame_of(ds, frame), ds)
        return rgb / (2.0 ** (8 * rgb.dtype.itemsize) - 1) * 255
    rgb = frame_of(ds, frame, raw=True)
    if ds.PhotometricInterpretation.startswith("YBR_FULL"):
        rgb = convert_color_space(rgb, "YBR_FULL", "RGB")
    return rgb / (2.0 ** ds.BitsStored - 1) * 255


def fold(ds, frame):
    """pydicom looks at the data set alone: what the functional groups say of a frame is put there."""
    own = ds.get("PerFrameFunctionalGroupsSequence") or []
    shared = ds.get("SharedFunctionalGroupsSequence") or []
    for group in (list(shared[:1]) + list(own[frame : frame + 1])):
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in (group.get(name) or [])[:1]:
                for element in item:
                    ds[element.tag] = element


def render(path, frame):
    ds = pydicom.dcmread(path)
    fold(ds, frame)
    if ds.get("SamplesPerPixel", 1) == 3 or ds.PhotometricInterpretation == "PALETTE COLOR":
        return colour(ds, frame)
    return grey(ds, frame_of(ds, frame))


def main():
    root = pathlib.Path(sys.argv[1])
    warnings.simplefilter("ignore")
    result = {}
    with open(root / "manifest.csv", encoding="utf-8", newline="") as f:
        paths = [row["path"] for row in csv.DictReader(f)]
    for path in paths:
        try:
            ds = pydicom.dcmread(root / path)
            frames = int(ds.get("NumberOfFrames", 1) or 1)
            for frame in sorted({0, frames // 2}):
                y = render(root / path, frame)
                at = places(y.size)
                result.setdefault(path, {})[frame + 1] = {"shape": y.shape, "values": [round(float(v), 3) for v in y.ravel()[at]]}
        except Exception as e:  # what pydicom cannot read is not compared
            print(f"{path}: {type(e).__name__}: {str(e)[:90]}", file=sys.stderr)
    out = pathlib.Path(__file__).parent / "dicom_rendered.json.gz"
    out.write_bytes(gzip.compress(json.dumps(result, separators=(",", ":")).encode(), mtime=0))
    print(f"{len(result)} files, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
