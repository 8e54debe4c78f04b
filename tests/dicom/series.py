"""The generated series of the volume tests: what tests/golden/make_dicom_volumes.py puts together with SimpleITK, and
tests/dicom/test_volume.py with ours. Nothing but Python's standard library and NumPy."""
import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import dicomfile  # noqa: E402  (scripts/dicomfile.py)

ROWS, COLUMNS, SLICES = 11, 9, 7
CASES = {
    # name: orientation (rows, columns), from slice to slice, pixel spacing, slices left out, seed
    "axial": dict(),
    "reversed": dict(reverse=True),
    "sagittal": dict(across=(0, 1, 0), down=(0, 0, -1), step=(2.5, 0, 0)),
    "oblique": dict(across=(0.96, 0.28, 0), down=(-0.28 * 0.6, 0.96 * 0.6, 0.8), step=(0.28 * 0.8 * 3, -0.96 * 0.8 * 3, 0.6 * 3)),
    "tilted": dict(step=(0, -0.6, 2.0)),
    "missing": dict(missing=(2,)),
    "two missing": dict(missing=(3, 4)),
    "slopes": dict(slopes=True),
    "rounded": dict(step=(0, 0, 1 / 3), digits=2),  # 0.33, 0.67, 1.0: no distance is the true one
}


def values(seed):
    rng = np.random.default_rng(seed)
    return rng.integers(-1000, 3000, (SLICES, ROWS, COLUMNS)).astype("<i2")


def slices(name, seed=1, across=(1, 0, 0), down=(0, 1, 0), step=(0, 0, 2.5), spacing=(0.8, 0.7), missing=(), reverse=False,
           slopes=False, digits=6, series="a"):
    """[(file name, attributes, pixels)] of one series."""
    made = []
    for k, plane in enumerate(values(seed)):
        if k in missing:
            continue
        position = [round(a + k * b, digits) for a, b in zip((-12.5, 20.25, -340.0), step)]
        number = SLICES - k if reverse else k + 1
        attributes = dicomfile.image(
            ROWS, COLUMNS, signed=True, SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT",
            SOPInstanceUID=dicomfile.uid(name, series, k), SeriesInstanceUID=dicomfile.uid(name, series),
            StudyInstanceUID=dicomfile.uid(name), FrameOfReferenceUID=dicomfile.uid(name, "frame"), InstanceNumber=number,
            SeriesNumber=1, ImagePositionPatient=position, ImageOrientationPatient=[*across, *down], PixelSpacing=list(spacing),
            SliceThickness=2.5, RescaleSlope=1 + k / 8 if slopes else 1, RescaleIntercept=-24.5 if slopes else -1024,
            WindowCenter=40, WindowWidth=400, PatientName="Test^Series", PatientID="S1")
        # Names in another order than the slices: nothing may depend on it.
        made.append((f"{series}{(k * 5 + 3) % 11:02d}.dcm", attributes, plane.tobytes()))
    return made


def write_series(folder, name, **more):
    os.makedirs(folder, exist_ok=True)
    for file, attributes, pixels in slices(name, **{**CASES.get(name, {}), **more}):
        dicomfile.write(os.path.join(folder, file), attributes, pixels)
