"""`suture dicom decode` on the shared collection of real files, file by file against the SHA-256 that pydicom, GDCM, DCMTK and
Pillow gave (manifest.csv). Every other outcome is listed here, with its reason and the hash that is right instead.

    python3 test_corpus.py SUTURE SOURCE_DIR      (files: environment SUTURE_SHARED, else ../shared beside the sources)

Prints the table of docs/dicom.md, beside what DCMTK and GDCM made of the same files. Skipped, with exit code 77, where the files are not there.
"""
import collections
import csv
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np

SIGN = "the manifest has words as they lie there; bits outside of Bits Stored are no part of a value, whose sign is Bits Stored's highest (PS3.3 C.7.6.3.1); pydicom 3.0.2 gives ours"
ORDER = "the manifest has bytes as they lie there; in OW of a big endian file the first of two is the low one (PS3.5 D); pydicom 3.0.2 gives ours"
BITS = "no decoder of the manifest reads it; ours are the values of the native file of the same picture"
# file name: (how the right SHA-256 begins, why the manifest has another or none)
OTHERWISE = {
    "JLSL_16_15_1_1F.dcm": ("bb0a20c3", SIGN),
    "mlut_18.dcm": ("9195d883", SIGN),
    "OBXXXX1A_expb.dcm": ("48abdc16", ORDER + ", and so does its little endian twin"),
    "OBXXXX1A_expb_2frame.dcm": ("a4e8cb36", ORDER + ", and so does its little endian twin"),
    "SC_rgb_small_odd_big_endian.dcm": ("ef2df252", ORDER),
    "HTJ2KLossless_08_RGB.dcm": ("9d872406", "the manifest's decoders do not know HTJ2K; pydicom 3.0.2 with OpenJPEG gives ours"),
    "HTJ2K_08_RGB.dcm": ("16463ac9", "the manifest's decoders do not know HTJ2K; pydicom 3.0.2 with OpenJPEG gives ours"),
    "OT-PAL-8-face.dcm": ("b171a300", "no meta header: pydicom does not guess; the bytes of the file give ours"),
    "emri_small_jpeg_2k_lossless_too_short.dcm": ("9719c5d0", "only the delimiter behind the last frame is missing; values are those of the whole file"),
    "liver_j2k.dcm": ("86ceb97b", BITS), "liver_rle.dcm": ("86ceb97b", BITS), "liver_deflate.dcm": ("86ceb97b", BITS),
    "liver_nonbyte_aligned_j2k.dcm": ("842dd64c", BITS), "liver_nonbyte_aligned_rle.dcm": ("842dd64c", BITS),
    "liver_nonbyte_aligned_deflate.dcm": ("842dd64c", BITS),
}
# file name: (what the message says, why a person agrees)
REFUSED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": (
        "its JPEG 2000 picture is of 3722445056 x 1024 pixels",
        "the delimiter's bytes were written over the codestream's width; OpenJPEG refuses it, and GDCM's pixels in the manifest are memory that nobody wrote to"),
    "MR_truncated.dcm": ("truncated: pixel data at byte 1488 should be 8192 bytes, and 8130 are there", "it is"),
    "badVR.dcm": ("its number of frames (0028,0008) is no number", "it is \"1A\""),
    "meta_missing_tsyntax.dcm": ("pixel data of 0 rows", "a data set without Rows and Columns"),
    "nested_priv_SQ.dcm": ("pixel data of 0 rows", "a data set without Rows and Columns"),
}
NO_PIXELS = ("it has no pixel data", "no DICOM file", "where 224 are left", "where 711 are left")
NAMES = {"1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression", "1.2.840.10008.1.2.4.201": "HTJ2K Lossless", "1.2.840.10008.1.2.4.203": "HTJ2K", "": "said nowhere"}


class Corpus(unittest.TestCase):
    maxDiff = None
    suture = root = golden = None

    def outcome(self, row, out):
        """(decoded?, what is wrong with that or None)"""
        name = row["path"].rsplit("/", 1)[-1]
        hashes = {v for k, v in row.items() if k.startswith("sha256_") and v}
        done = subprocess.run([self.suture, "dicom", "decode", self.root / row["path"], "--out", out], capture_output=True, text=True, timeout=120)
        if done.returncode not in (0, 1):
            return False, f"exit code {done.returncode}: {done.stderr}"
        if done.returncode == 1:
            expected = [REFUSED[name][0]] if name in REFUSED else [] if hashes or name in OTHERWISE else NO_PIXELS
            return False, None if any(e in done.stderr for e in expected) and len(done.stderr.splitlines()) == 1 else done.stderr
        values = np.load(out)
        found = hashlib.sha256(values.tobytes()).hexdigest()
        if name in OTHERWISE:
            right = OTHERWISE[name][0]
            return True, None if found.startswith(right) and found not in hashes else f"{found}, expected {right}"
        shape = "x".join(map(str, values.shape))
        good = found in hashes and (str(values.dtype), shape) == (row["dtype"], row["shape"])
        return True, None if good else f"{values.dtype} {shape} {found}"

    def test_every_file_is_decoded_right_or_refused_for_a_reason(self):
        with open(self.root / "manifest.csv", newline="") as f:
            rows = list(csv.DictReader(f))
        with open(self.golden, newline="") as f:
            others = {row["path"]: row for row in csv.DictReader(f)}
        wrong, table = [], collections.defaultdict(collections.Counter)
        with tempfile.TemporaryDirectory() as folder:
            for row in rows:
                decoded, problem = self.outcome(row, f"{folder}/x.npy")
                name = row["path"].rsplit("/", 1)[-1]
                if problem:
                    wrong.append(f"{row['path']}: {problem}")
                counts = table[row["ts_name"] if not row["ts_name"].startswith("1.") and row["ts_name"] else NAMES[row["ts"]]]
                pixels = decoded or name in REFUSED
                counts["with"] += pixels
                counts["decoded"] += decoded
                counts["without"] += not pixels
                for one in ("dcmtk", "gdcm"):
                    counts[one] += others[row["path"]][one] == "same"
                    counts["wrong by " + one] += others[row["path"]][one] == "other"
                    counts["crashed by " + one] += others[row["path"]][one] == "crashed"
                counts["either"] += "same" in (others[row["path"]]["dcmtk"], others[row["path"]]["gdcm"])
                counts["manifest"] += any(row[k] for k in ("sha256_native", "sha256_gdcm", "sha256_dcmtk", "sha256_pillow", "sha256_pydicom_rle"))
        total = sum(table.values(), collections.Counter())
        print("| transfer syntax | with pixels | Suture | DCMTK | GDCM | DCMTK or GDCM |\n|---|---|---|---|---|---|")
        for syntax, c in sorted(table.items()) + [("all", total)]:
            if c["with"]:
                print(f"| {syntax} | {c['with']} | {c['decoded']} | {c['dcmtk']} | {c['gdcm']} | {c['either']} |")
        print(f"and {total['without']} files without pixel data; other values: DCMTK {total['wrong by dcmtk']}, GDCM {total['wrong by gdcm']}; GDCM "
              f"crashed on {total['crashed by gdcm']}; the manifest's decoders together {total['manifest']}")
        self.assertEqual("\n".join(wrong), "")
        self.assertEqual(len(rows), 362)
        for known in ("either", "manifest"):
            self.assertGreaterEqual(total["decoded"], total[known])


if __name__ == "__main__":
    Corpus.suture, source = sys.argv[1], pathlib.Path(sys.argv[2])
    Corpus.golden = source / "tests" / "golden" / "dicom_others.csv"  # make_dicom_others.py
    Corpus.root = pathlib.Path(os.environ.get("SUTURE_SHARED") or source.parent / "shared") / "data" / "dicom"
    if not (Corpus.root / "manifest.csv").exists():
        print(f"skipped: {Corpus.root} is not there (SUTURE_SHARED)")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1])
