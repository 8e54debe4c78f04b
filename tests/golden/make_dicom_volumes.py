#!/usr/bin/env python3
"""What SimpleITK makes of the generated series of tests/dicom/series.py, and of series of the shared data folder:
tests/golden/dicom_volumes.npz, for tests/dicom/test_volume.py.

    python3 make_dicom_volumes.py SHARED/data/dicom     (needs SimpleITK)

A series with a missing slice, which SimpleITK's reader would place wrongly, is put together from its slices, each read by
SimpleITK alone; the missing ones are what SimpleITK's linear interpolation gives between the neighbours. A tilted stack is
read with the direction of its positions (SetForceOrthogonalDirection(False)).
"""
import pathlib
import sys
import tempfile

import numpy as np
import SimpleITK as sitk

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "dicom"))
import series  # noqa: E402

CORPUS = {
    "ct-3slice": "QIICR__dcmqi/data/segmentations/ct-3slice",
    "24x38x3": "QIICR__dcmqi/data/segmentations/24x38x3/image",
    "23x38x3": "QIICR__dcmqi/data/segmentations/23x38x3/image",
}


def read_series(folder, orthogonal=True):
    reader = sitk.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(folder))
    reader.SetFileNames(names)
    reader.SetForceOrthogonalDirection(orthogonal)
    reader.SetOutputPixelType(sitk.sitkFloat64)
    return reader.Execute()


def join_slices(folder, step):
    """Slice by slice onto the regular grid; between two slices by linear interpolation."""
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    images = [sitk.ReadImage(name, sitk.sitkFloat64) for name in names]
    heights = [im.GetOrigin()[2] for im in images]
    parts = []
    for a, b, low, high in zip(images, images[1:], heights, heights[1:]):
        pair = sitk.JoinSeries([a[:, :, 0], b[:, :, 0]], low, high - low)
        count = round((high - low) / step)
        grid = sitk.Resample(pair, [*a.GetSize()[:2], count], sitk.Transform(), sitk.sitkLinear, pair.GetOrigin(),
                             [*a.GetSpacing()[:2], step], pair.GetDirection())
        parts.append(sitk.GetArrayFromImage(grid))
    parts.append(sitk.GetArrayFromImage(images[-1]))
    joined = sitk.GetImageFromArray(np.concatenate(parts))
    joined.SetOrigin(images[0].GetOrigin())
    joined.SetDirection(images[0].GetDirection())
    joined.SetSpacing([*images[0].GetSpacing()[:2], step])
    return joined


def isotropic(image, size=None, straight=True):
    image = sitk.DICOMOrient(image, "LPS")
    size = size or min(image.GetSpacing())
    least = float(sitk.GetArrayViewFromImage(image).min())
    direction, origin = image.GetDirection(), np.array(image.GetOrigin())
    if straight:
        counts = [int(np.floor((n - 1) * s / size + 1e-6)) + 1 for n, s in zip(image.GetSize(), image.GetSpacing())]
    else:  # at right angles, over everything
        d = np.array(direction).reshape(3, 3)
        axes = np.column_stack([d[:, 0], d[:, 1], np.cross(d[:, 0], d[:, 1])])
        corners = [image.TransformIndexToPhysicalPoint([i * (n - 1) for i, n in zip(c, image.GetSize())])
                   for c in np.ndindex(2, 2, 2)]
        along = (np.array(corners) - origin) @ axes
        counts = [int(np.floor(r / size + 1e-6)) + 1 for r in along.max(0) - along.min(0)]
        origin = origin + axes @ along.min(0)
        direction = axes.ravel().tolist()
    return sitk.Resample(image, counts, sitk.Transform(), sitk.sitkLinear, origin.tolist(), [size] * 3, direction, least)


def keep(store, name, image):
    store[f"{name}/voxels"] = sitk.GetArrayFromImage(image).astype(np.float32)
    store[f"{name}/geometry"] = np.array([*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection()])


def main():
    root, store = pathlib.Path(sys.argv[1]), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, how in series.CASES.items():
            where = pathlib.Path(folder) / name
            series.write_series(where, name)
            tilted = name == "tilted"
            image = join_slices(where, 2.5) if how.get("missing") else read_series(where, not tilted)
            keep(store, f"{name}/native", image)
            keep(store, f"{name}/isotropic", isotropic(image, straight=not tilted))
            keep(store, f"{name}/spaced", isotropic(image, 1.3, straight=not tilted))
    for name, path in CORPUS.items():
        image = read_series(root / path)
        if name == "ct-3slice":  # 512 x 512: a corner of it is enough
            keep(store, f"{name}/native", image)
            store[f"{name}/native/voxels"] = store[f"{name}/native/voxels"][:, ::16, ::16]
            image = isotropic(image, 4.0)
            keep(store, f"{name}/spaced4", image)
            continue
        keep(store, f"{name}/native", image)
        keep(store, f"{name}/isotropic", isotropic(image))
    out = HERE / "dicom_volumes.npz"
    np.savez_compressed(out, **store)
    print(f"{len(store)} arrays, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
