"""`suture dicom info`: what it says of files whose every attribute is known, that nobody is named unless --phi, and that
one bad file stops nothing.

    python3 test_info.py SUTURE SOURCE_DIR
"""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

SUTURE, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
sys.path.insert(0, str(SOURCE / "scripts"))
import dicomfile  # noqa: E402

PEOPLE = {"PatientName": "Mustermann^Erika", "PatientID": "P-4711", "PatientBirthDate": "19640812", "PatientSex": "F",
          "AccessionNumber": "ACC-99", "StudyDate": "20240229", "StudyDescription": "Frau M. nach Sturz", "SeriesDescription": "Erika kommt wieder",
          "ReferringPhysicianName": "Wunderlich^Karl", "StudyInstanceUID": "2.25.1001", "SeriesInstanceUID": "2.25.1002", "SOPInstanceUID": "2.25.1003",
          "StudyID": "Mustermann", "OtherPatientIDs": "Mustermann-2", (0x0008, 0x0080, "LO"): "Haus Mustermann", (0x0028, 0x1055, "LO"): "Mustermann",
          (0x0010, 0x4000, "LT"): "Frau Mustermann", (0x0009, 0x0010, "LO"): "Mustermann"}
SAID = ["Mustermann", "Erika", "4711", "19640812", "ACC-99", "20240229", "Sturz", "Wunderlich", "1001", "1002", "1003"]


def words(values):
    return struct.pack(f"<{len(values)}h", *values)


def slice_of_ct(**more):
    image = dicomfile.image(4, 4, bits=12, signed=True, Modality="CT", BodyPartExamined="CHEST", SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
                            PixelSpacing=[0.7, 0.6], ImagePositionPatient=[1, 2, 3], ImageOrientationPatient=[1, 0, 0, 0, 1, 0], SliceThickness=2.5,
                            RescaleSlope=2, RescaleIntercept=-1000, RescaleType="HU", WindowCenter=[40, -600], WindowWidth=[400, 1500],
                            PixelPaddingValue=65535 - 1999, BurnedInAnnotation="NO", SpecificCharacterSet="ISO_IR 192")
    return dict(image, **more)


class Info(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="suture-info-")
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)

    def info(self, *arguments, code=0):
        done = subprocess.run([SUTURE, "dicom", "info", *map(str, arguments)], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def lines(self, *arguments):
        return [json.loads(line) for line in self.info(*arguments, "--json", "-", "--quiet").stdout.splitlines()]

    def write(self, name, attributes, pixels=words([-2000, -500, 0, 1000] * 4)):
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        dicomfile.write(path, attributes, pixels)
        return path

    def test_every_member_is_what_went_into_the_file(self):
        path = self.write("a.dcm", slice_of_ct())
        (found,) = self.lines(path)
        people = found.pop("people")
        self.assertEqual([k for k, v in people.items() if v], ["sop_uid"])
        recipes = {r.pop("recipe"): r for r in found.pop("recipes")}
        self.assertEqual(found, {
            "schema": "suture.dicom.info/1", "file": str(path), "transfer_syntax": "1.2.840.10008.1.2.1", "transfer_syntax_name": "Explicit VR Little Endian",
            "character_set": "ISO_IR 192", "sop_class": "1.2.840.10008.5.1.4.1.1.2", "sop_class_name": "CTImageStorage", "modality": "CT",
            "body_part": "CHEST", "view": None, "laterality": None, "burned_in_annotation": "NO",
            "pixels": {"rows": 4, "columns": 4, "frames": 1, "samples": 1, "photometric": "MONOCHROME2", "type": "int16", "bits_allocated": 16,
                       "bits_stored": 12, "high_bit": 11, "signed": True},
            "decodes": True, "reason": None, "frame": 1, "values": [-2000.0, 1000.0], "fragments": None,
            "modality_lut": {"slope": 2.0, "intercept": -1000.0, "unit": "HU"},
            "windows": [{"centre": 40.0, "width": 400.0}, {"centre": -600.0, "width": 1500.0}], "voi_function": None, "voi_tables": 0,
            "padding": [-2000.0, -2000.0], "inverted": False, "spacing": {"row": 0.7, "column": 0.6, "from": "Pixel Spacing"},
            "slice": {"position": [1.0, 2.0, 3.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "thickness": 2.5}, "overlays": 0, "notes": None})
        self.assertEqual(recipes["dicom-standard/1"], {"shows": "the file's window, centre 40, width 400"})
        self.assertEqual(recipes["full-range/1"], {"shows": "least to greatest value, -2000 to 1000"})
        self.assertEqual(recipes["mimic-cxr-jpg/1"], {"shows": "range of the stored values, -2000 to 1000, histogram equalised"})
        self.assertEqual(recipes["ct-lung/1"], {"shows": "centre -600, width 1500"})
        text = self.info(path).stdout
        for part in ("4 x 4, 1 frame, MONOCHROME2, 12 bits of 16, int16", "-2000 to 1000 HU", "0.7 mm between rows, 0.6 mm between columns",
                     "centre 40, width 400; centre -600, width 1500", "--phi shows them"):
            self.assertIn(part, text)

    def test_what_each_recipe_shows_is_what_rendering_does(self):
        plain = dict(slice_of_ct(Modality="CR", WindowCenter=[40, 30], WindowWidth=[0.5, 200]), PresentationLUTShape="INVERSE")
        (found,) = self.lines(self.write("a.dcm", plain))
        recipes = {r.pop("recipe"): r for r in found["recipes"]}
        self.assertEqual(recipes["dicom-standard/1"], {"shows": "the file's window, centre 30, width 200, inverted"})
        self.assertEqual(recipes["ct-bone/1"], {"refused": "recipe ct-bone is for CT; this is CR"})
        without = {k: v for k, v in plain.items() if not k.startswith("Window")}
        (found,) = self.lines(self.write("b.dcm", without))
        self.assertIn({"recipe": "dicom-standard/1", "shows": "no window in the file: least to greatest value, -2000 to 1000, inverted"}, found["recipes"])
        table = dict(without, VOILUTSequence=[{"LUTDescriptor": [4, 0, 8], "LUTData": [0, 1, 2, 3]}])
        (found,) = self.lines(self.write("c.dcm", table))
        self.assertEqual(found["voi_tables"], 1)
        self.assertIn({"recipe": "dicom-standard/1", "shows": "the VOI LUT table of 4 entries, inverted"}, found["recipes"])
        colour = dicomfile.image(4, 4, bits=8, photometric="RGB", samples=3)
        (found,) = self.lines(self.write("d.dcm", colour, bytes(48)))
        self.assertIn({"recipe": "full-range/1", "shows": "the colours as they are"}, found["recipes"])
        odd = dict(colour, PhotometricInterpretation="CMYK2")
        (found,) = self.lines(self.write("e.dcm", odd, bytes(48)))
        self.assertTrue(found["decodes"])
        self.assertTrue(all("CMYK2" in r["refused"] for r in found["recipes"]))

    def test_nobody_is_named_unless_phi(self):
        path = self.write("a.dcm", slice_of_ct(**{k: v for k, v in PEOPLE.items() if isinstance(k, str)}, BodyPartExamined="Knie Mustermann", ViewPosition="von Erika")
                          | {k: v for k, v in PEOPLE.items() if not isinstance(k, str)})
        for done in (self.info(path), self.info(path, "--json", "-"), self.info(path, path.parent), self.info(path.parent, "--json", "-")):
            for word in SAID:
                self.assertNotIn(word, done.stdout + done.stderr)
        (found,) = self.lines(path)
        self.assertEqual(found["people"]["patient_name"], "masked")
        self.assertIsNone(found["people"]["patient_age"])
        self.assertIsNone(found["body_part"])
        (found,) = self.lines(path, "--phi")
        self.assertEqual(found["people"]["patient_name"], "Mustermann^Erika")
        self.assertEqual(found["body_part"], "Knie Mustermann")
        text = self.info(path, "--phi").stdout
        for word in ("Mustermann^Erika", "P-4711", "20240229", "2.25.1001", "Wunderlich^Karl", "Haus Mustermann"):
            self.assertIn(word, text)

    def test_a_folder_is_a_table_and_one_bad_file_stops_nothing(self):
        self.write("in/a.dcm", slice_of_ct())
        self.write("in/cut.dcm", slice_of_ct(), bytes(10))
        self.write("in/video.dcm", slice_of_ct(NumberOfFrames="1A"))
        dicomfile.write(self.root / "in/report.dcm", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11", "Modality": "SR"})
        (self.root / "in/notes.txt").write_text("no DICOM")
        (self.root / "in/empty").write_bytes(b"")
        done = self.info(self.root / "in")
        self.assertIn("6 files: 1 decode, 2 do not, 1 without pixels, 2 unreadable", done.stdout)
        self.assertIn("cut.dcm: truncated: pixel data at byte", done.stdout)
        self.assertIn("report.dcm: BasicTextSRStorage: it has no pixel data", done.stdout)
        found = {pathlib.Path(o["file"]).name: o for o in self.lines(self.root / "in")}
        self.assertEqual([n for n, o in sorted(found.items()) if "error" in o], ["empty", "notes.txt"])
        self.assertEqual([n for n, o in sorted(found.items()) if o.get("decodes")], ["a.dcm"])
        out = self.root / "out.jsonl"
        self.assertIn("6 files", self.info(self.root / "in", "--json", out).stdout)
        self.assertEqual([json.loads(line) for line in out.read_text().splitlines()], self.lines(self.root / "in"))

    def test_what_cannot_be_read_is_an_error(self):
        (self.root / "notes.txt").write_text("no DICOM")
        self.assertIn("no DICOM file", self.info(self.root / "notes.txt", code=1).stderr)
        self.assertIn("there is no such file", self.info(self.root / "none", code=1).stderr)
        self.assertIn("none of the 2 files", self.info(self.root / "notes.txt", self.root / "none", code=1).stderr)
        (self.root / "empty").mkdir()
        self.assertIn("no files", self.info(self.root / "empty", code=1).stderr)
        self.info(code=2)

    def test_it_says_decodes_of_every_small_file_of_any_syntax(self):
        found = self.lines(SOURCE / "tests" / "golden" / "dicom")
        said = {pathlib.Path(o["file"]).name: o for o in found if "error" not in o}
        self.assertGreater(len(said), 70)
        self.assertEqual({n for n, o in said.items() if not o["decodes"]}, set())
        self.assertEqual(len([o for o in found if "error" in o]), 1, "arrays.json")
        self.assertEqual(said["j2k_u12.dcm"]["transfer_syntax_name"], "JPEG 2000 Lossless")
        self.assertEqual(said["rle_basic_table.dcm"]["fragments"], "basic offset table")
        self.assertIn("transfer syntax", said["no_meta_big.dcm"]["notes"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
