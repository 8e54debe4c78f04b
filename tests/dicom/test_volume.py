"""`suture dicom volume` against SimpleITK (tests/golden/make_dicom_volumes.py): voxels and positions to 1e-4.

    python3 test_volume.py SUTURE SOURCE_DIR     (real series: environment SUTURE_SHARED, else ../shared beside the sources)
"""
import gzip
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

import numpy as np
from PIL import Image

import series

TOLERANCE = 1e-4  # mm for positions; of the largest value for voxels
CORPUS = {
    "ct-3slice": "QIICR__dcmqi/data/segmentations/ct-3slice",
    "24x38x3": "QIICR__dcmqi/data/segmentations/24x38x3/image",
    "23x38x3": "QIICR__dcmqi/data/segmentations/23x38x3/image",
}


class Volumes(unittest.TestCase):
    suture = golden = shared = None

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.work = pathlib.Path(self.folder.name)

    def run_volume(self, path, *options):
        out = self.work / "v.npy"
        out.unlink(missing_ok=True)
        command = [self.suture, "dicom", "volume", str(path), "--out", str(out), "--json", "-", *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=120), out

    def volume(self, path, *options):
        done, out = self.run_volume(path, *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        report, voxels = json.loads(done.stdout), np.load(out)
        self.assertEqual(list(voxels.shape), report["size"][::-1])
        self.assertEqual(voxels.dtype, np.float32)
        return voxels, report, done.stderr

    def equals(self, name, voxels, report, every=1):
        want, geometry = self.golden[f"{name}/voxels"], self.golden[f"{name}/geometry"]
        self.assertEqual(voxels[:, ::every, ::every].shape, want.shape, name)
        apart = np.abs(voxels[:, ::every, ::every] - want).max() / np.abs(want).max()
        self.assertLess(apart, TOLERANCE, name)
        spacing, origin, direction = np.array(report["spacing"]), np.array(report["origin"]), np.array(report["direction"])
        # The corners' positions: where a wrong spacing or direction shows most.
        for corner in np.ndindex(2, 2, 2):
            index = np.array(corner) * (np.array(report["size"]) - 1)
            ours = origin + direction.reshape(3, 3) @ (spacing * index)
            theirs = geometry[3:6] + geometry[6:].reshape(3, 3) @ (geometry[:3] * index)
            self.assertLess(np.abs(ours - theirs).max(), TOLERANCE, f"{name} corner {corner}")

    def test_generated_series_become_the_volumes_of_simpleitk(self):
        for name in series.CASES:
            folder = self.work / name
            series.write_series(folder, name)
            for form, options in (("native", ["--native"]), ("isotropic", []), ("spaced", ["--spacing", "1.3"])):
                voxels, report, said = self.volume(folder, *options)
                self.equals(f"{name}/{form}", voxels, report)
            stack = report["stacks"][0]
            self.assertEqual(stack["gaps"], len(series.CASES[name].get("missing", ())))
            self.assertEqual("missing" in said, stack["gaps"] > 0)
            if name == "tilted":
                self.assertAlmostEqual(stack["tilt"], np.degrees(np.arctan2(0.6, 2.0)), 4)
                self.assertIn("tilted", said)
            else:
                self.assertEqual(stack["tilt"], 0)
            self.assertFalse(stack["irregular"])

    def test_real_series_become_the_volumes_of_simpleitk(self):
        if not (self.shared / "manifest.csv").exists():
            self.skipTest(f"{self.shared} is not there")
        for name, path in CORPUS.items():
            voxels, report, _ = self.volume(self.shared / path, "--native")
            self.equals(f"{name}/native", voxels, report, 16 if name == "ct-3slice" else 1)
            if name == "ct-3slice":
                self.equals(f"{name}/spaced4", *self.volume(self.shared / path, "--spacing", "4")[:2])
            else:
                self.equals(f"{name}/isotropic", *self.volume(self.shared / path)[:2])

    def test_mixed_series_are_told_apart(self):
        series.write_series(self.work / "in", "axial")
        series.write_series(self.work / "in/deeper", "axial", series="b", seed=2, spacing=(0.8, 0.7), missing=(0, 1))
        series.write_series(self.work / "in", "axial", series="c", seed=3, across=(0, 1, 0), down=(0, 0, -1), step=(1, 0, 0),
                            missing=(1, 2, 3, 4, 5, 6))
        (self.work / "in/notes.txt").write_text("no DICOM at all")
        (self.work / "in/empty.dcm").write_bytes(b"")
        voxels, report, said = self.volume(self.work / "in", "--native")
        self.equals("axial/native", voxels, report)
        self.assertEqual([s["slices"] for s in report["stacks"]], [7, 5, 1])
        self.assertEqual((report["files"], report["skipped"]), (15, {"no DICOM": 2}))
        self.assertIn("stack 2", said)
        voxels, report, _ = self.volume(self.work / "in", "--native", "--stack", "2")
        self.assertTrue(np.array_equal(voxels, series.values(2)[2:] - 1024.0))

    def test_a_choice_between_equals_is_left_to_the_user(self):
        series.write_series(self.work / "in", "axial")
        series.write_series(self.work / "in", "axial", series="b", seed=2)
        done, out = self.run_volume(self.work / "in")
        self.assertEqual(done.returncode, 1)
        self.assertIn("--stack", done.stderr)
        self.assertFalse(out.exists())
        self.assertEqual(self.run_volume(self.work / "in", "--stack", "3")[0].returncode, 2)

    def test_duplicates_are_left_out_and_counted(self):
        series.write_series(self.work / "in", "axial")
        for file, attributes, pixels in series.slices("axial", seed=9):
            attributes["InstanceNumber"] += 100
            attributes["SOPInstanceUID"] += ".1"
            series.dicomfile.write(self.work / "in" / ("0" + file), attributes, pixels)
        voxels, report, said = self.volume(self.work / "in", "--native")
        self.equals("axial/native", voxels, report)
        self.assertEqual(report["stacks"][0]["duplicates"], 7)
        self.assertIn("7 slices lie where others do", said)

    def test_irregular_distances_are_said_and_resampled(self):
        made = series.slices("axial")
        heights = [0, 2.5, 5, 7, 10, 12.5, 15]  # the fourth is half a millimetre too low
        (self.work / "in").mkdir()
        for (file, attributes, pixels), height in zip(made, heights):
            attributes["ImagePositionPatient"][2] = height
            series.dicomfile.write(self.work / "in" / file, attributes, pixels)
        voxels, report, said = self.volume(self.work / "in", "--native")
        planes = series.values(1) - 1024.0
        self.assertIn("distances differ by up to 0.5 mm", said)
        self.assertTrue(report["stacks"][0]["irregular"])
        self.assertTrue(np.array_equal(voxels[[0, 1, 2, 4, 5, 6]], planes[[0, 1, 2, 4, 5, 6]]))
        self.assertLess(np.abs(voxels[3] - (planes[3] + (planes[4] - planes[3]) / 6)).max(), 1e-3)

    def test_frames_of_one_file_make_the_same_volume(self):
        made = series.slices("axial")
        first = dict(made[0][1])
        frames = [{"PlanePositionSequence": [{"ImagePositionPatient": a["ImagePositionPatient"]}],
                   "PixelValueTransformationSequence": [{"RescaleSlope": 1, "RescaleIntercept": -1024}]} for _, a, _ in made]
        shared = {"PixelMeasuresSequence": [{"PixelSpacing": first.pop("PixelSpacing")}],
                  "PlaneOrientationSequence": [{"ImageOrientationPatient": first.pop("ImageOrientationPatient")}]}
        for name in ("ImagePositionPatient", "RescaleSlope", "RescaleIntercept"):
            del first[name]
        first.update(NumberOfFrames=len(made), PerFrameFunctionalGroupsSequence=frames, SharedFunctionalGroupsSequence=[shared])
        (self.work / "in").mkdir()
        series.dicomfile.write(self.work / "in/mf.dcm", first, b"".join(pixels for _, _, pixels in made))
        self.equals("axial/native", *self.volume(self.work / "in", "--native")[:2])

    def test_nifti_nrrd_and_metaimage_are_read(self):
        voxels = series.values(4).astype("<f4")
        depth, rows, columns = voxels.shape
        (self.work / "v.mha").write_bytes(
            (f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
             f"TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -5 6 7\nElementSpacing = 0.7 0.8 2.5\n"
             f"DimSize = {columns} {rows} {depth}\nElementType = MET_FLOAT\nElementDataFile = LOCAL\n").encode() + voxels.tobytes())
        (self.work / "v.nrrd").write_bytes(
            (f"NRRD0004\ntype: float\ndimension: 3\nspace: left-posterior-superior\nsizes: {columns} {rows} {depth}\n"
             f"space directions: (0.7,0,0) (0,0.8,0) (0,0,2.5)\nspace origin: (-5,6,7)\nendian: little\nencoding: raw\n\n").encode()
            + voxels.tobytes())
        header = bytearray(348)  # NIfTI-1: x to the right, y to the front
        struct.pack_into("<i", header, 0, 348)
        struct.pack_into("<8h", header, 40, 3, columns, rows, depth, 1, 1, 1, 1)
        struct.pack_into("<2h", header, 70, 16, 32)
        struct.pack_into("<8f", header, 76, 1, 0.7, 0.8, 2.5, 1, 1, 1, 1)
        struct.pack_into("<f", header, 108, 352)
        struct.pack_into("<2h", header, 252, 1, 1)
        struct.pack_into("<12f", header, 280, -0.7, 0, 0, 5, 0, -0.8, 0, -6, 0, 0, 2.5, 7)
        struct.pack_into("<3f", header, 256, 0, 0, 1)  # quaternion: half a turn about z
        struct.pack_into("<3f", header, 268, 5, -6, 7)
        header[344:348] = b"n+1\0"
        nifti = bytes(header) + b"\0" * 4 + voxels.tobytes()
        (self.work / "v.nii").write_bytes(nifti)
        (self.work / "v.nii.gz").write_bytes(gzip.compress(nifti))
        for name in ("v.mha", "v.nrrd", "v.nii", "v.nii.gz"):
            read, report, _ = self.volume(self.work / name, "--native")
            self.assertTrue(np.array_equal(read, voxels), name)
            self.assertLess(np.abs(np.array(report["origin"]) - [-5, 6, 7]).max(), TOLERANCE, name)
            self.assertLess(np.abs(np.array(report["spacing"]) - [0.7, 0.8, 2.5]).max(), TOLERANCE, name)
            self.assertLess(np.abs(np.array(report["direction"]) - np.eye(3).ravel()).max(), TOLERANCE, name)
        # What is cut off is refused, not filled with zeros.
        for name in ("v.mha", "v.nrrd", "v.nii", "v.nii.gz"):
            whole = (self.work / name).read_bytes()
            for part in (0, 100, 400, len(whole) // 2, len(whole) - 40):
                cut = self.work / f"cut.{name[2:]}"
                cut.write_bytes(whole[:part])
                done, out = self.run_volume(cut)
                self.assertEqual((done.returncode, out.exists()), (1, False), f"{name} cut to {part}: {done.stderr}")
                self.assertIn("cut.", done.stderr)

    def test_a_header_that_claims_too_much_is_refused_at_once(self):
        for size in ("60000 60000 60000", "4294967295 1 1", "0 1 1"):
            (self.work / "v.mha").write_text(f"ObjectType = Image\nNDims = 3\nDimSize = {size}\nElementType = MET_FLOAT\n"
                                             "ElementDataFile = LOCAL\n")
            done, _ = self.run_volume(self.work / "v.mha")
            self.assertEqual(done.returncode, 1, done.stderr)

    def test_the_montage_shows_slices_as_they_lie(self):
        series.write_series(self.work / "in", "axial")
        picture = self.work / "m.png"
        self.volume(self.work / "in", "--native", "--montage", str(picture), "--slices", "3", "--recipe", "ct-bone")
        with Image.open(picture) as im:
            self.assertEqual(im.size, (2 * series.COLUMNS, 2 * series.ROWS))
            shown = np.asarray(im).astype(float)
        for k, slice_number in enumerate((1, 3, 5)):  # (k + 0.5) / 3 of seven
            x = series.values(1)[slice_number] - 1024.0
            y = np.clip(((x - 399.5) / 1799 + 0.5) * 255, 0, 255)
            tile = shown[k // 2 * series.ROWS:, k % 2 * series.COLUMNS:][:series.ROWS, :series.COLUMNS]
            self.assertLess(np.abs(tile - y).max(), 0.51)
        self.assertEqual(shown[series.ROWS:, series.COLUMNS:].max(), 0)

    def test_wrong_use_is_refused(self):
        series.write_series(self.work / "in", "axial")
        (self.work / "nothing").mkdir()
        for path, options, code in (("in", ["--native", "--spacing", "2"], 2), ("in", ["--orient", "XYZ"], 2),
                                    ("in", ["--orient", "LLS"], 2), ("in", ["--recipe", "none"], 2), ("nothing", [], 1),
                                    ("none", [], 1), ("in", ["--spacing", "0.001"], 1)):
            done, out = self.run_volume(self.work / path, *options)
            self.assertEqual((done.returncode, out.exists()), (code, False), f"{path} {options}: {done.stderr}")


if __name__ == "__main__":
    source = pathlib.Path(sys.argv.pop())
    Volumes.suture = sys.argv.pop()
    Volumes.golden = np.load(source / "tests/golden/dicom_volumes.npz")
    Volumes.shared = pathlib.Path(os.environ.get("SUTURE_SHARED", source / "../shared")) / "data/dicom"
    unittest.main()
