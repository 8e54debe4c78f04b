"""What a file says of its display, attribute by attribute: `suture dicom render` on generated files against the standard's
formulas in NumPy. The formulas themselves are proved in test_render.c; here it is which of them a file asks for.

    python3 test_display.py SUTURE SOURCE_DIR
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import dicomfile  # noqa: E402  (scripts/dicomfile.py)

ROWS, COLUMNS = 24, 32


def linear(x, c, w):
    y = (x - (c - 0.5)) / (w - 1) + 0.5 if w > 1 else np.zeros(x.shape)
    return np.where(x <= c - 0.5 - (w - 1) / 2, 0, np.where(x > c - 0.5 + (w - 1) / 2, 1, y)) * 255


def exact(x, c, w):
    return np.where(x <= c - w / 2, 0, np.where(x > c + w / 2, 1, (x - c) / w + 0.5)) * 255


def sigmoid(x, c, w):
    return 255 / (1 + np.exp(np.clip(-4 * (x - c) / w, -700, 700)))


def spread(x, low, high):
    return np.clip((x - low) / (high - low), 0, 1) * 255


def looked_up(x, first, entries, bits=None):
    out = np.asarray(entries, float)[np.clip(np.floor(x + 0.5).astype(int) - first, 0, len(entries) - 1)]
    return out / (2**bits - 1) * 255 if bits else out


def words(values):
    return np.asarray(values, "<u2").tobytes()


class Display(unittest.TestCase):
    suture = golden = None

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.work = pathlib.Path(self.folder.name)
        rng = np.random.default_rng(4)
        self.unsigned = rng.integers(0, 4096, (ROWS, COLUMNS)).astype("<u2")
        self.signed = rng.integers(-2048, 2048, (ROWS, COLUMNS)).astype("<i2")

    def run_render(self, attributes, pixels, *options):
        dicomfile.write(self.work / "x.dcm", attributes, pixels)
        command = [self.suture, "dicom", "render", str(self.work / "x.dcm"), "--out", str(self.work / "x.png"), "--json", "-", *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def rendered(self, attributes, pixels, *options):
        done = self.run_render(attributes, pixels, *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.note = json.loads(done.stdout)["note"]
        with Image.open(self.work / "x.png") as image:
            return np.asarray(image).astype(float)

    def grey(self, want, stored=None, options=(), **more):
        """The stored values of self.unsigned or self.signed, with these attributes, become `want`."""
        stored = self.unsigned if stored is None else stored
        image = dicomfile.image(*stored.shape[-2:], bits=more.pop("bits", 12), signed=stored.dtype.kind == "i", **more)
        shown = self.rendered(image, stored.tobytes(), *options)
        self.assertEqual(shown.shape, want.shape)
        self.assertLess(np.abs(shown - want).max(), 0.5 + 1e-6, more)

    def test_windows_and_their_functions(self):
        x = self.unsigned.astype(float)
        for function, formula in (("LINEAR", linear), ("LINEAR_EXACT", exact), ("SIGMOID", sigmoid), ("", linear)):
            for c, w in ((1000, 1), (2000.5, 1500), (100, 9000)):
                more = {"VOILUTFunction": function} if function else {}
                self.grey(formula(x, c, w), WindowCenter=c, WindowWidth=w, **more)
        self.grey(exact(x, 2000, 0.5), WindowCenter=2000, WindowWidth=0.5, VOILUTFunction="LINEAR_EXACT")

    def test_of_several_windows_the_first_that_is_one(self):
        x = self.unsigned.astype(float)
        self.grey(linear(x, 1000, 500), WindowCenter=[1000, 2000], WindowWidth=[500, 900])
        self.grey(linear(x, 2000, 900), WindowCenter=[1000, 2000], WindowWidth=[0, 900])
        self.grey(spread(x, x.min(), x.max()), WindowCenter=[1000], WindowWidth=[0.5])
        self.assertIn("narrower", self.note)

    def test_rescale_is_applied_before_the_window(self):
        x = self.signed.astype(float)
        for slope, intercept in ((1, -1024), (-2.5, 10), (0.25, 0.125)):
            self.grey(linear(x * slope + intercept, 40, 400), self.signed, RescaleSlope=slope, RescaleIntercept=intercept,
                      WindowCenter=40, WindowWidth=400)
        self.grey(linear(x - 5, 40, 400), self.signed, RescaleSlope=0, RescaleIntercept=-5, WindowCenter=40, WindowWidth=400)
        self.assertIn("slope", self.note)

    def test_xa_and_xrf_show_stored_values(self):
        x = self.unsigned.astype(float)
        for sop in ("1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.2"):
            self.grey(linear(x, 2000, 1000), SOPClassUID=sop, RescaleSlope=3, RescaleIntercept=7, WindowCenter=2000, WindowWidth=1000)

    def test_without_a_window(self):
        x = self.unsigned.astype(float)
        self.grey(spread(x, x.min(), x.max()))
        self.grey(spread(x, 0, 4095), SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1")
        small = (self.unsigned >> 5).astype("u1")
        self.grey(small.astype(float), small, bits=8)
        self.grey(spread(small.astype(float), 0, 127), small, bits=7)

    def test_monochrome1_and_the_shape(self):
        x = linear(self.unsigned.astype(float), 2000, 3000)
        for photometric in ("MONOCHROME1", "MONOCHROME2"):
            for shape, inverted in (("", photometric == "MONOCHROME1"), ("IDENTITY", False), ("INVERSE", True)):
                more = {"PresentationLUTShape": shape} if shape else {}
                self.grey(255 - x if inverted else x, photometric=photometric, WindowCenter=2000, WindowWidth=3000, **more)

    def test_padding_is_black_and_out_of_the_range(self):
        stored = self.unsigned.copy()
        stored[:5] = 4000
        x = stored[5:].astype(float)
        want = np.vstack([np.zeros((5, COLUMNS)), np.where(x == 4000, 0, spread(x, x[x != 4000].min(), x[x != 4000].max()))])
        self.grey(want, stored, PixelPaddingValue=4000)
        keep = (x < 3000) | (x > 4000)
        want = np.vstack([np.zeros((5, COLUMNS)), np.where(keep, 255 - spread(x, x[keep].min(), x[keep].max()), 0)])
        for a, b in ((3000, 4000), (4000, 3000)):
            self.grey(want, stored, photometric="MONOCHROME1", PixelPaddingValue=a, PixelPaddingRangeLimit=b)
        # US where SS is meant.
        stored = self.signed.copy()
        stored[:5] = -2000
        x = stored.astype(float)
        self.grey(np.where(x == -2000, 0, linear(x, 0, 2000)), stored, PixelPaddingValue=65536 - 2000, WindowCenter=0, WindowWidth=2000)

    def table(self, first, entries, bits, packed=False):
        data = bytes(entries) + b"\0" * (len(entries) % 2) if packed else words(entries)
        return [{(0x0028, 0x3002, "SS" if first < 0 else "US"): [len(entries) % 65536, first, bits],
                 (0x0028, 0x3006, "OW"): data}]

    def test_tables_of_every_width(self):
        rng = np.random.default_rng(8)
        for bits in (8, 12, 16):
            for first in (-300, 0, 700):
                entries = np.sort(rng.integers(0, 1 << bits, 2500)).tolist()
                stored = self.signed if first < 0 else self.unsigned
                x = stored.astype(float)
                self.grey(looked_up(x, first, entries, bits), stored, VOILUTSequence=self.table(first, entries, bits))
                if bits == 8:
                    self.grey(looked_up(x, first, entries, 8), stored, VOILUTSequence=self.table(first, entries, 8, packed=True))
                # Before a window: the Modality LUT. A table stands before windows that are there as well.
                modality = looked_up(x, first, entries)
                self.grey(linear(modality, 1 << (bits - 1), 1 << bits), stored, ModalityLUTSequence=self.table(first, entries, bits),
                          WindowCenter=1 << (bits - 1), WindowWidth=1 << bits)
        entries = np.linspace(0, 4095, 4096).astype(int).tolist()
        self.grey(looked_up(self.unsigned.astype(float), 0, entries, 12), VOILUTSequence=self.table(0, entries, 12), WindowCenter=5,
                  WindowWidth=10)

    def test_a_table_that_is_short_or_absent_is_said(self):
        entries = list(range(0, 4096, 2))
        short = [{(0x0028, 0x3002, "US"): [4096, 0, 12], (0x0028, 0x3006, "OW"): words(entries)}]
        self.grey(looked_up(self.unsigned.astype(float), 0, entries, 12), VOILUTSequence=short)
        self.assertIn("shorter", self.note)
        self.grey(linear(self.unsigned.astype(float), 2000, 900), VOILUTSequence=[{}], WindowCenter=2000, WindowWidth=900)
        self.assertIn("no table", self.note)

    def test_functional_groups_speak_for_their_frame(self):
        frames = np.stack([self.unsigned, self.unsigned[::-1], self.unsigned[:, ::-1]])
        own = [{"PixelValueTransformationSequence": [{"RescaleSlope": k + 1, "RescaleIntercept": -100 * k}]} for k in range(3)]
        own[1]["FrameVOILUTSequence"] = [{"WindowCenter": 3000, "WindowWidth": 2000, "VOILUTFunction": "SIGMOID"}]
        shared = [{"FrameVOILUTSequence": [{"WindowCenter": 1500, "WindowWidth": 2500}]}]
        for k in range(3):
            x = frames[k] * (k + 1.0) - 100 * k
            want = sigmoid(x, 3000, 2000) if k == 1 else linear(x, 1500, 2500)
            self.grey(want, frames, ["--frame", str(k + 1)], NumberOfFrames=3, WindowCenter=1, WindowWidth=2,
                      PerFrameFunctionalGroupsSequence=own, SharedFunctionalGroupsSequence=shared)
        self.grey(sigmoid(frames[1] * 2.0 - 100, 3000, 2000), frames, [], NumberOfFrames=3, PerFrameFunctionalGroupsSequence=own,
                  SharedFunctionalGroupsSequence=shared)  # none named: the middle one

    def test_the_mimic_recipe_is_opencv_s(self):
        for i in range(5):
            frame = self.golden[f"{i}/frame"]
            image = dicomfile.image(*frame.shape, photometric="MONOCHROME1" if self.golden[f"{i}/inverted"] else "MONOCHROME2",
                                    RescaleSlope=-3, RescaleIntercept=1, PixelPaddingValue=int(frame[0, 0]), WindowCenter=1, WindowWidth=2)
            shown = self.rendered(image, frame.astype("<u2").tobytes(), "--recipe", "mimic-cxr-jpg")
            self.assertTrue(np.array_equal(shown, self.golden[f"{i}/levels"]), i)

    def test_recipes_override_the_window(self):
        x = self.signed - 1024.0
        ct = dict(Modality="CT", RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=1, WindowWidth=2)
        for name, c, w in (("ct-lung", -600, 1500), ("ct-brain/1", 40, 80), ("ct-bone", 400, 1800), ("ct-abdomen", 40, 400),
                           ("ct-mediastinum", 50, 350)):
            self.grey(linear(x, c, w), self.signed, ["--recipe", name], **ct)
        self.grey(spread(x, x.min(), x.max()), self.signed, ["--recipe", "full-range"], **ct)
        image = dicomfile.image(ROWS, COLUMNS, bits=12, Modality="MR")
        self.assertIn("ct-lung is for CT; this is MR", self.run_render(image, self.unsigned.tobytes(), "--recipe", "ct-lung").stderr)

    def test_palettes_plain_and_segmented(self):
        index = (self.unsigned % 256).astype("u1")
        tables = [np.arange(256) * 257, (255 - np.arange(256)) * 257, np.full(256, 32768)]
        names = ["Red", "Green", "Blue"]
        base = dicomfile.image(ROWS, COLUMNS, bits=8, photometric="PALETTE COLOR",
                               **{f"{n}PaletteColorLookupTableDescriptor": [256, 0, 16] for n in names})
        want = np.stack([t[index] / 65535 * 255 for t in tables], -1)
        plain = dict(base, **{f"{n}PaletteColorLookupTableData": words(t) for n, t in zip(names, tables)})
        self.assertLess(np.abs(self.rendered(plain, index.tobytes()) - want).max(), 0.5 + 1e-6)
        # The same ramps as segments: one value and a line to the end; a constant by an indirect repetition.
        segments = [[0, 1, 0, 1, 255, 65535], [0, 1, 65535, 1, 255, 0],
                    [0, 2, 32768, 32768, 0, 62] + [32768] * 62 + [2, 2, 0, 0, 2, 2, 0, 0, 2, 2, 0, 0]]
        folded = dict(base, **{f"Segmented{n}PaletteColorLookupTableData": words(s) for n, s in zip(names, segments)})
        self.assertLess(np.abs(self.rendered(folded, index.tobytes()) - want).max(), 0.5 + 1e-6)
        # 8 bits in bytes; and 8 bits that say they are 16.
        small = dict(base, **{f"{n}PaletteColorLookupTableDescriptor": [256, 0, 8] for n in names},
                     **{f"{n}PaletteColorLookupTableData": (t >> 8).astype("u1").tobytes() for n, t in zip(names, tables)})
        want = np.stack([(t >> 8)[index] for t in tables], -1)
        self.assertTrue(np.array_equal(self.rendered(small, index.tobytes()), want))
        lying = dict(base, **{f"{n}PaletteColorLookupTableData": words(t >> 8) for n, t in zip(names, tables)})
        self.assertTrue(np.array_equal(self.rendered(lying, index.tobytes()), want))
        self.assertIn("8 bits", self.note)
        for bad in ([0, 1], [1, 5, 7], [2, 1, 0, 0], [0, 400] + [1] * 400, [9, 9, 9], [2, 1, 60000, 0]):
            broken = dict(folded, SegmentedRedPaletteColorLookupTableData=words(bad))
            done = self.run_render(broken, index.tobytes())
            self.assertEqual(done.returncode, 1, bad)
            self.assertIn("segmented palette", done.stderr)

    def test_colours(self):
        rng = np.random.default_rng(2)
        rgb = rng.integers(0, 256, (ROWS, COLUMNS, 3)).astype("u1")
        image = dicomfile.image(ROWS, COLUMNS, bits=8, photometric="RGB", samples=3)
        self.assertTrue(np.array_equal(self.rendered(image, rgb.tobytes()), rgb))
        planes = dict(image, PlanarConfiguration=1)
        self.assertTrue(np.array_equal(self.rendered(planes, rgb.transpose(2, 0, 1).tobytes()), rgb))
        y, b, r = rgb[..., 0].astype(float), rgb[..., 1] - 128.0, rgb[..., 2] - 128.0
        want = np.clip(np.stack([y + 1.402 * r, y - 0.344136286 * b - 0.714136286 * r, y + 1.772 * b], -1), 0, 255)
        self.assertLess(np.abs(self.rendered(dict(image, PhotometricInterpretation="YBR_FULL"), rgb.tobytes()) - want).max(), 0.501)
        wide = (rgb.astype("<u2") << 4) + 7
        image = dicomfile.image(ROWS, COLUMNS, bits=12, photometric="RGB", samples=3)
        self.assertLess(np.abs(self.rendered(image, wide.tobytes()) - wide / 4095 * 255).max(), 0.5 + 1e-6)

    def test_spacing(self):
        flat = np.full((ROWS, COLUMNS), 99, "u1")
        for more, size in ((dict(PixelSpacing=[2, 1]), (16, 24)), (dict(ImagerPixelSpacing=[1, 1]), (16, 12)),
                           (dict(SequenceOfUltrasoundRegions=[dict(PhysicalUnitsXDirection=3, PhysicalUnitsYDirection=3,
                                                                   PhysicalDeltaX=0.1, PhysicalDeltaY=0.2)]), (16, 24))):
            shown = self.rendered(dicomfile.image(ROWS, COLUMNS, bits=8, **more), flat.tobytes(), "--spacing", "2")
            self.assertEqual(shown.shape, size[::-1], more)
            self.assertTrue((shown == 99).all())
        done = self.run_render(dicomfile.image(ROWS, COLUMNS, bits=8), flat.tobytes(), "--spacing", "2")
        self.assertEqual(done.returncode, 1)
        self.assertIn("physical spacing is not known", done.stderr)

    def test_what_cannot_be_shown_is_refused(self):
        ok = dicomfile.image(ROWS, COLUMNS, bits=12)
        pixels = self.unsigned.tobytes()
        for change, data, reason in (({"PhotometricInterpretation": "HSV"}, pixels, "HSV"), ({}, pixels[:-2], "truncated"),
                                     ({"BitsStored": 17}, pixels, "bits stored"), ({"Rows": 0}, pixels, "0 rows"),
                                     ({"SamplesPerPixel": 3}, pixels * 3, "samples"), ({"SamplesPerPixel": 2}, pixels, "2 samples"),
                                     ({"PhotometricInterpretation": "PALETTE COLOR"}, pixels, "without a palette"),
                                     ({"NumberOfFrames": "x"}, pixels, "number of frames")):
            done = self.run_render(dict(ok, **change), data)
            self.assertEqual(done.returncode, 1, change)
            self.assertIn(reason, done.stderr)
        self.assertEqual(self.run_render(ok, pixels, "--frame", "2").returncode, 1)
        self.assertEqual(self.run_render(ok, pixels, "--frame", "0").returncode, 2)
        self.assertEqual(self.run_render(ok, pixels, "--recipe", "ct").returncode, 2)


if __name__ == "__main__":
    source = pathlib.Path(sys.argv.pop())
    Display.suture = os.path.abspath(sys.argv.pop())
    Display.golden = np.load(source / "tests/golden/dicom_mimic.npz")
    unittest.main()
