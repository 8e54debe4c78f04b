"""`suture dicom decode` on small files of every kind (tests/golden/dicom, made by tests/golden/make_dicom.py), on files that
are not what they say, and frame by frame.

    python3 test_decode.py SUTURE SOURCE_DIR
"""
import hashlib
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

import numpy as np

SUTURE, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
sys.path.insert(0, str(SOURCE / "scripts"))
import dicomfile  # noqa: E402

GOLDEN = SOURCE / "tests" / "golden" / "dicom"


def run(*arguments):
    return subprocess.run([SUTURE, "dicom", *map(str, arguments)], capture_output=True, text=True, timeout=60)


class Decode(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)

    def decode(self, path, *options):
        out = self.folder / "x.npy"
        done = run("decode", path, "--out", out, *options)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return np.load(out)

    def refusal(self, data):
        path, out = self.folder / "bad.dcm", self.folder / "none.npy"
        path.write_bytes(data)
        out.unlink(missing_ok=True)
        done = run("decode", path, "--out", out)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertFalse(out.exists())
        self.assertTrue(done.stderr.startswith(f"suture dicom decode: {path}: "), done.stderr)
        return done.stderr.removeprefix(f"suture dicom decode: {path}: ").strip()

    def test_values_are_those_that_were_stored(self):
        arrays = json.loads((GOLDEN / "arrays.json").read_text())
        self.assertEqual(set(arrays), {p.name for p in GOLDEN.glob("*.dcm")})
        wrong = []
        for name, want in arrays.items():
            done = run("decode", GOLDEN / name, "--out", self.folder / "x.npy")
            if done.returncode:
                wrong.append(f"{name}: {done.stderr.strip()}")
                continue
            got = np.load(self.folder / "x.npy")
            found = {"dtype": got.dtype.str, "shape": list(got.shape), "sha256": hashlib.sha256(got.tobytes()).hexdigest()}
            if not got.flags.c_contiguous or found != want:
                wrong.append(f"{name}: {found} instead of {want}")
        self.assertEqual("\n".join(wrong), "")

    def test_a_frame_alone_is_that_of_all(self):
        for path in sorted(GOLDEN.glob("*.dcm")):
            whole = self.decode(path)
            if whole.ndim != 3 or whole.shape[-1] == 3:
                continue
            for k, frame in enumerate(whole):
                np.testing.assert_array_equal(self.decode(path, "--frame", k + 1), frame, err_msg=f"{path.name} frame {k + 1}")
        done = run("decode", GOLDEN / "native_frames.dcm", "--frame", 5, "--out", self.folder / "no.npy")
        self.assertEqual((done.returncode, "there is no frame 5; it has 4" in done.stderr), (1, True), done.stderr)

    def test_json_says_what_was_written_and_what_was_left_out(self):
        out = self.folder / "x.npy"
        done = run("decode", GOLDEN / "sequences_overlay.dcm", "--out", out, "--json", "-")
        document = json.loads(done.stdout)
        self.assertEqual(document["schema"], "suture.dicom.decode/1")
        self.assertEqual((document["shape"], document["dtype"], document["overlays"], document["frames"]), ([18, 23], "<i2", 1, 1))
        self.assertEqual(document["transfer_syntax"], "1.2.840.10008.1.2.1")
        self.assertIn("1 overlay is left out", run("decode", GOLDEN / "sequences_overlay.dcm", "--out", out).stdout)

    def test_cut_anywhere_it_is_refused_or_whole(self):
        """A cut costs pixels only where it takes some: what is given is never made up."""
        for name in ("native_u16", "rle_basic_table", "jls_u12", "j2k_u12", "jpeg_lossless_u12", "jpeg_baseline", "deflated",
                     "deflated_frames_u16"):
            data = (GOLDEN / f"{name}.dcm").read_bytes()
            whole = self.decode(GOLDEN / f"{name}.dcm")
            path, out = self.folder / "cut.dcm", self.folder / "cut.npy"
            for length in [len(data) - 1, len(data) - 9] + list(range(0, len(data), max(1, len(data) // 9))):
                path.write_bytes(data[:length])
                done = run("decode", path, "--out", out)
                with self.subTest(name=name, length=length):
                    self.assertIn(done.returncode, (0, 1))
                    if done.returncode == 0:
                        np.testing.assert_array_equal(np.load(out), whole)
                        out.unlink()
                    else:
                        self.assertFalse(out.exists())

    def test_what_is_not_what_it_says_is_refused(self):
        grey = dicomfile.image(4, 6, bits=8)
        pixels = bytes(range(24))
        for change, reason in (
            ({"Rows": 0}, "0 rows"), ({"Columns": 5, "Rows": 5}, "truncated: pixel data at byte"),
            ({"NumberOfFrames": "1A"}, "number of frames (0028,0008) is no number"), ({"NumberOfFrames": "2000000"}, "truncated"),
            ({"BitsAllocated": 12}, "12 bits allocated"), ({"BitsStored": 9}, "9 bits stored"), ({"HighBit": 3}, "high bit 3"),
            ({"SamplesPerPixel": 4}, "4 samples a pixel"), ({"BitsAllocated": 64, "BitsStored": 64, "HighBit": 63}, "integers of 64 bits"),
        ):
            with self.subTest(change=change):
                self.assertIn(reason, self.refusal(dicomfile.encode({**grey, **change}, pixels)))
        self.assertIn("it has no pixel data", self.refusal(dicomfile.encode(grey)))
        for path in (GOLDEN / "arrays.json", SOURCE / "tests/golden/make_dicom.py"):
            self.assertIn("no DICOM file", self.refusal(path.read_bytes()))
        self.assertIn("no DICOM file", self.refusal(b""))

    def test_codestreams_that_speak_of_other_pictures_are_refused(self):
        for name, old, new, reason in (
            ("jls_u12", struct.pack(">HH", 18, 23), struct.pack(">HH", 60000, 60000), "60000 x 60000"),
            ("jpeg_lossless_u12", struct.pack(">HH", 18, 23), struct.pack(">HH", 18, 24), "24 x 18"),
            ("j2k_u12", struct.pack(">II", 34, 33), struct.pack(">II", 60000, 60000), "60000 x 60000"),
        ):
            data = (GOLDEN / f"{name}.dcm").read_bytes()
            at = data.index(old, data.index(b"\xe0\x7f\x10\x00"))
            with self.subTest(name=name):
                self.assertIn(reason, self.refusal(data[:at] + new + data[at + len(old):]))

    def test_syntaxes_that_are_not_read_say_why(self):
        data = (GOLDEN / "jls_u8.dcm").read_bytes()
        for uid, reason in (("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level: it is a video stream"),
                            ("1.2.840.10008.1.2.4.110", "no decoder for JPEG XL"), ("1.2.840.10008.1.2.4.94", "on a server, not in the file"),
                            ("1.2.3", "transfer syntax 1.2.3 is not known")):
            old = b"1.2.840.10008.1.2.4.80"
            new = uid.encode().ljust(len(old), b"\0")
            self.assertEqual(data.count(old), 1)
            text = self.refusal(data.replace(old, new) if len(new) == len(old) else data.replace(b"\x16\0" + old, b"\x18\0" + new.ljust(24, b"\0")))
            self.assertIn(reason, text)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
