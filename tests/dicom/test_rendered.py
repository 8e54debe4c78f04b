"""`suture dicom render` on real files against pydicom (tests/golden/make_dicom_rendered.py), at 64 places of each frame.

    python3 test_rendered.py SUTURE SOURCE_DIR      (files: environment SUTURE_SHARED, else ../shared beside the sources)

Every difference of more than half a grey level is listed in EXPLAINED, with its reason; an explanation that is no longer
needed fails the test as well. Skipped, with exit code 77, where the files are not there.
"""
import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from PIL import Image

LOSSY = "12-bit lossy JPEG: the two decoders differ by one stored value, which the window widens"
BIG_ENDIAN = "pydicom 3.0 takes a big endian palette's words as little endian; ours is its little endian twin's picture"
EXPLAINED = {
    "CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm": LOSSY,
    "CT0012.fragmented_no_bot_jpeg_baseline.51.dcm": LOSSY,
    "JPGExtended.dcm": LOSSY,
    "RG2_JPLY_fixed.dcm": LOSSY,
    "OBXXXX1A_expb.dcm": BIG_ENDIAN,
    "OBXXXX1A_expb_2frame.dcm": BIG_ENDIAN,
}
HALF = 0.5 + 2e-3  # the golden values have three decimals


def places(count):
    return [i * 2654435761 % count for i in range(64)]


class Rendered(unittest.TestCase):
    maxDiff = None
    suture = golden = root = None

    def difference(self, path, frame, want, out):
        """The largest difference in grey levels, or why there is no picture."""
        command = [self.suture, "dicom", "render", str(self.root / path), "--frame", frame, "--out", out, "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode:
            return done.stderr.strip()
        with Image.open(out) as image:
            shape = [image.height, image.width] + ([3] if image.mode == "RGB" else [])
            if shape != want["shape"]:
                return f"{shape} instead of {want['shape']}"
            levels = image.tobytes()
        return max(abs(levels[at] - value) for at, value in zip(places(len(levels)), want["values"]))

    def test_real_files_are_rendered_as_by_pydicom(self):
        with tempfile.TemporaryDirectory() as folder:
            compared, unexplained, needless = 0, [], set(EXPLAINED)
            for path, frames in self.golden.items():
                for frame, want in frames.items():
                    found = self.difference(path, frame, want, f"{folder}/x.png")
                    compared += 1
                    name = path.rsplit("/", 1)[-1]
                    if isinstance(found, str) or found > HALF:
                        needless.discard(name)
                        if name not in EXPLAINED:
                            unexplained.append(f"{path} frame {frame}: {found}")
            self.assertEqual("\n".join(unexplained), "")
            self.assertEqual(needless, set())
            self.assertGreater(compared, 250)


if __name__ == "__main__":
    source = pathlib.Path(sys.argv.pop())
    Rendered.suture = sys.argv.pop()
    Rendered.root = root = pathlib.Path(os.environ.get("SUTURE_SHARED", source / "../shared")) / "data/dicom"
    with gzip.open(source / "tests/golden/dicom_rendered.json.gz") as f:
        Rendered.golden = json.load(f)
    if not (root / "manifest.csv").exists():
        print(f"{root} is not there: skipped")
        sys.exit(77)
    unittest.main()
