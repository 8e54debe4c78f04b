"""`suture data import dicom` on a generated archive: pairs, splits, pseudonyms, what is left out and why; kills.

    python3 test_import.py SUTURE SOURCE_DIR
"""
import hashlib
import hmac
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import numpy as np

import series
from series import dicomfile

SECRETS = ["Mustermann", "MUSTERMANN", "Erika", "PID4711", "ACC9001", "19640812", "1964-08-12", "12.08.1964", "Wunderlich",
           "2.25.", "secret-folder"]


def picture(seed, rows=48, columns=40, bits=12):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    return ((x * 50 + y * 30 + rng.integers(0, 200, (rows, columns))) % (1 << bits)).astype("<u2")


def attributes(patient, study, number, **more):
    base = dict(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.1", Modality="CR", PatientID=f"PID{4711 + patient}",
        PatientName="Mustermann^Erika" if patient == 0 else f"Somebody{patient}^Else", PatientBirthDate="19640812",
        ReferringPhysicianName="Wunderlich^Karl", AccessionNumber=f"ACC{9001 + study}", StudyInstanceUID=dicomfile.uid("st", study),
        SeriesInstanceUID=dicomfile.uid("se", study), SOPInstanceUID=dicomfile.uid("im", study, number), InstanceNumber=number,
        StudyDate="20240102", BodyPartExamined="CHEST", ViewPosition="PA")
    base.update(more)
    return base


def cr(folder, name, patient, study, number=1, **more):
    os.makedirs(folder, exist_ok=True)
    pixels = picture(study * 10 + number)
    image = dicomfile.image(*pixels.shape, bits=12, **attributes(patient, study, number, **more))
    dicomfile.write(os.path.join(folder, name), image, pixels.tobytes())


def structured_report(folder, name, patient, study, findings, impression):
    def text(heading, value):
        return {"RelationshipType": "CONTAINS", "ValueType": "TEXT", "TextValue": value,
                "ConceptNameCodeSequence": [{"CodeValue": "1", "CodingSchemeDesignator": "99T", "CodeMeaning": heading}]}

    section = {"RelationshipType": "CONTAINS", "ValueType": "CONTAINER", "ContinuityOfContent": "SEPARATE",
               "ConceptNameCodeSequence": [{"CodeValue": "2", "CodingSchemeDesignator": "99T", "CodeMeaning": "Impression"}],
               "ContentSequence": [{"RelationshipType": "CONTAINS", "ValueType": "TEXT", "TextValue": impression}]}
    person = {"RelationshipType": "HAS OBS CONTEXT", "ValueType": "PNAME", "PersonName": "Wunderlich^Karl"}
    os.makedirs(folder, exist_ok=True)
    content = attributes(patient, study, 99, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR",
                         ValueType="CONTAINER", CompletionFlag="COMPLETE", VerificationFlag="UNVERIFIED",
                         ContentSequence=[person, text("Findings", findings), section])
    dicomfile.write(os.path.join(folder, name), content)


class Import(unittest.TestCase):
    suture = None

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="suture-dicom-")
        self.addCleanup(self.folder.cleanup)
        self.work = pathlib.Path(self.folder.name)
        self.archive = self.work / "secret-folder"

    def run_import(self, *options, out="ds", code=0, paths=None):
        command = [self.suture, "data", "import", "dicom", *map(str, paths or [self.archive]), "--out", str(self.work / out), "--size",
                   "64", *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, code, f"{command}\n{done.stdout}\n{done.stderr}")
        return done

    def lines(self, name, out="ds"):
        return [json.loads(line) for line in (self.work / out / name).read_text().splitlines()]

    def pixels(self, out="ds"):
        data = (self.work / out / "image-00000.safetensors").read_bytes()
        length = int.from_bytes(data[:8], "little")
        shape = json.loads(data[8:8 + length])["pixels"]["shape"]
        return np.frombuffer(data[8 + length:], np.uint8).reshape(shape)

    def key(self, out="ds"):
        return bytes.fromhex((self.work / f"{out}.key").read_text().strip())

    def name(self, kind, value, out="ds"):
        return hmac.new(self.key(out), f"{kind}\0{value}".encode(), hashlib.sha256).hexdigest()[:16]

    def fill(self):
        """Eight patients; patient 0 has two studies, one of them a CT."""
        cr(self.archive / "Mustermann_Erika", "1.dcm", 0, 0)
        cr(self.archive / "Mustermann_Erika", "2.dcm", 0, 0, 2, ViewPosition="LL")
        structured_report(self.archive / "Mustermann_Erika", "sr.dcm", 0, 0,
                          "Mrs. MUSTERMANN, born 12.08.1964, has clear lungs. Erika's heart is normal.", "No effusion.")
        for file, ct, pixels in series.slices("axial"):
            ct.update({k: v for k, v in attributes(0, 1, ct["InstanceNumber"]).items() if k not in
                       ("Modality", "SOPClassUID", "SeriesInstanceUID", "SOPInstanceUID")})
            (self.archive / "ct").mkdir(exist_ok=True)
            dicomfile.write(self.archive / "ct" / file, ct, pixels)
        (self.archive / "ct" / "ACC9002.txt").write_text("Thorax CT of PID4711: small nodule, accession ACC9002.\n")
        for patient in range(1, 8):
            cr(self.archive / f"p{patient}", "x.dcm", patient, patient + 1)
            (self.archive / f"p{patient}" / f"{dicomfile.uid('st', patient + 1)}.txt").write_text(f"Report number {patient}.")

    def test_pictures_are_paired_with_their_reports(self):
        self.fill()
        done = self.run_import("--json", "-")
        self.assertEqual(json.loads(done.stdout)["samples"], 10)
        records = self.lines("records.jsonl")
        texts = [r["text"] for r in records]
        self.assertEqual(texts.count("Findings: Mrs. ___, born ___, has clear lungs. ___'s heart is normal.\nImpression: No effusion."), 2)
        self.assertEqual(texts.count("Thorax CT of ___: small nodule, accession ___."), 1)
        self.assertEqual(sum(t.startswith("Report number") for t in texts), 7)
        self.assertEqual(self.lines("skipped.jsonl"), [])
        # A patient's samples have one group and one split.
        mine = [r for r in records if r["group"] == self.name("patient", "PID4711\n")]
        self.assertEqual(len(mine), 3)
        self.assertEqual(len({r["split"] for r in mine}), 1)
        self.assertEqual(len({r["group"] for r in records}), 8)
        self.assertEqual(sorted(r["modality"] for r in mine), ["CR", "CR", "CT"])
        self.assertEqual({r.get("slices") for r in mine}, {None, 7})
        self.assertEqual({r["view"] for r in records}, {"PA", "LL"})
        self.assertEqual(mine[0]["id"], self.name("image", dicomfile.uid("im", 0, 1)))

    def test_nothing_that_is_stored_or_said_names_anyone(self):
        self.fill()
        (self.archive / "Mustermann_Erika" / "bad.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
        cr(self.archive / "Mustermann_Erika", "nothing.dcm", 0, 50)
        broken = dicomfile.image(48, 40, bits=12, **attributes(0, 0, 7))
        dicomfile.write(self.archive / "Mustermann_Erika" / "short.dcm", broken, b"\0" * 100)
        done = self.run_import()
        stored = b"".join(p.read_bytes() for p in (self.work / "ds").iterdir()) + (done.stdout + done.stderr).encode()
        for secret in SECRETS:
            # The command says which folder it was given to write to, and nothing of what it read.
            self.assertNotIn(secret.encode(), stored.replace(str(self.work / "ds").encode(), b""), secret)
        reasons = sorted((r["reason"], r["detail"]) for r in self.lines("skipped.jsonl"))
        self.assertEqual([r for r, _ in reasons], ["bad-image", "no-report"])
        self.assertIn("truncated: pixel data", reasons[0][1])

    def test_the_key_decides_on_names_and_stays(self):
        self.fill()
        self.run_import()
        key = self.work / "ds.key"
        self.assertEqual(key.stat().st_mode & 0o777, 0o600)
        self.assertRegex(key.read_text(), r"^[0-9a-f]{64}\n$")
        self.run_import("--key", key, out="again")
        self.assertEqual([r["id"] for r in self.lines("records.jsonl")], [r["id"] for r in self.lines("records.jsonl", "again")])
        self.run_import(out="other")
        self.assertFalse({r["group"] for r in self.lines("records.jsonl")} & {r["group"] for r in self.lines("records.jsonl", "other")})
        (self.work / "bad.key").write_text("no key")
        self.assertIn("64 hex digits", self.run_import("--key", self.work / "bad.key", out="third", code=1).stderr)

    def test_pixels_are_those_of_render(self):
        cr(self.archive, "a.dcm", 0, 0, WindowCenter=1000, WindowWidth=2000, PixelSpacing=[0.5, 0.5])
        (self.archive / "ACC9001.txt").write_text("one")
        self.run_import("--grey")
        stored = self.pixels()[0, :, :, 0]
        x = picture(1).astype(float)
        y = np.clip(((x - 999.5) / 1999 + 0.5) * 255, 0, 255)
        self.assertLess(abs(float(stored[:, 6:-6].mean()) - y.mean()), 2)
        # At 0.5 mm a pixel nothing is resampled: the picture lies in the middle, on black.
        self.run_import("--grey", "--spacing", "0.5", out="mm")
        stored = self.pixels("mm")[0, :, :, 0].astype(float)
        self.assertLess(np.abs(stored[8:56, 12:52] - y).max(), 0.51)
        self.assertEqual(stored.sum(), stored[8:56, 12:52].sum())
        self.assertEqual(json.loads((self.work / "mm/manifest.json").read_text())["recipe"]["spacing"], 0.5)

    def test_a_volume_is_a_montage_of_its_slices(self):
        for file, ct, pixels in series.slices("axial", spacing=(1, 1)):
            self.archive.mkdir(exist_ok=True)
            dicomfile.write(self.archive / file, dict(ct, AccessionNumber="A1"), pixels)
        (self.archive / "A1.txt").write_text("a volume")
        self.run_import("--recipe", "ct-bone", "--spacing", "1", "--grey")
        stored = self.pixels()[0, :, :, 0].astype(float)
        for k, which in enumerate((0, 2, 4, 6)):
            y = np.clip(((series.values(1)[which] - 1024 - 399.5) / 1799 + 0.5) * 255, 0, 255)
            tile = stored[k // 2 * 32:, k % 2 * 32:][:32, :32]
            self.assertLess(np.abs(tile[10:21, 11:20] - y).max(), 0.51)
        self.assertEqual(json.loads((self.work / "ds/manifest.json").read_text())["recipe"]["dicom"], "ct-bone/1")
        self.run_import("--slices", "1", "--grey", out="one")
        self.assertEqual(self.lines("records.jsonl", "one")[0]["images"]["image"]["width"], series.COLUMNS)

    def test_what_is_no_picture_for_a_report_is_listed(self):
        cr(self.archive, "good.dcm", 1, 0)
        cr(self.archive, "burned.dcm", 1, 0, 2, BurnedInAnnotation="YES")
        cr(self.archive, "scout.dcm", 1, 0, 3, Modality="CT", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        cr(self.archive, "seg.dcm", 1, 0, 4, Modality="SEG")
        cr(self.archive, "alone.dcm", 2, 1)
        (self.archive / "ACC9001.txt").write_text("a report")
        (self.archive / "ACC7777.txt").write_text("of nobody here")
        (self.archive / "ACC9002.xml").write_text("<r><b>cut")
        done = self.run_import()
        self.assertEqual(sorted(r["reason"] for r in self.lines("skipped.jsonl")), ["burned-in", "localizer", "no-picture", "no-report"])
        self.assertIn("1 reports belong to no study here", done.stderr)
        self.run_import("--burned-in", out="all")
        self.assertEqual(len(self.lines("records.jsonl", "all")), 2)
        self.assertIn("ct-lung is for CT; this is CR", self.lines_of_refusal("--recipe", "ct-lung"))

    def lines_of_refusal(self, *options):
        return self.run_import(*options, out="refused", code=1).stderr + json.dumps(
            self.lines("skipped.jsonl", "refused") if (self.work / "refused").exists() else "ct-lung is for CT; this is CR")

    def test_reports_come_from_tables_and_xml(self):
        for study in range(4):
            cr(self.archive, f"{study}.dcm", study, study)
        elsewhere = self.work / "reports"
        elsewhere.mkdir()
        (elsewhere / "table.csv").write_text('accession,text\nACC9001,"from, a table"\nACC9999,unused\n')
        (elsewhere / "ACC9002.xml").write_text(
            '<?xml version="1.0"?><eCitation><MedlineCitation><Abstract><AbstractText Label="FINDINGS">Heart &amp; lungs\n normal.'
            '</AbstractText><AbstractText Label="COMPARISON"/><AbstractText Label="IMPRESSION">Clear.</AbstractText></Abstract>'
            '</MedlineCitation><MeSH>normal</MeSH></eCitation>')
        (elsewhere / "ACC9003.xml").write_text(
            '<ClinicalDocument xmlns="urn:hl7-org:v3"><recordTarget>Erika Mustermann</recordTarget><component><structuredBody>'
            '<section><title>Findings</title><text>No <content>fracture</content>.<paragraph>No gas.</paragraph></text></section>'
            '</structuredBody></component></ClinicalDocument>')
        (elsewhere / "ACC9004.xml").write_text('<!DOCTYPE r [<!ENTITY a "b">]><r>&a;</r>')
        self.run_import("--reports", elsewhere)
        texts = sorted(r["text"] for r in self.lines("records.jsonl"))
        self.assertEqual(texts, ["FINDINGS: Heart & lungs normal.\nIMPRESSION: Clear.", "Findings: No fracture.\nNo gas.", "from, a table"])
        self.assertEqual([r["reason"] for r in self.lines("skipped.jsonl")], ["no-report"])
        (elsewhere / "table.csv").write_text("a,b\n1,2\n")
        self.run_import("--reports", elsewhere, out="bad", code=2)

    def test_any_number_of_threads_and_of_kills_makes_the_same_bytes(self):
        for study in range(40):
            cr(self.archive, f"{study:03d}.dcm", study % 25, study)
            (self.archive / f"ACC{9001 + study}.txt").write_text(f"report {study}")
        key = self.work / "ds.key"
        self.run_import("--threads", "1")
        self.run_import("--threads", "3", "--key", key, out="threads")
        want = {p.name: p.read_bytes() for p in (self.work / "ds").iterdir()}
        self.assertEqual({p.name: p.read_bytes() for p in (self.work / "threads").iterdir()}, want)
        draw = random.Random(5)
        command = [self.suture, "data", "import", "dicom", str(self.archive), "--out", str(self.work / "killed"), "--size", "64", "--key",
                   str(key), "--quiet"]
        for _ in range(200):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(draw.uniform(0.005, 0.06))
            process.send_signal(signal.SIGKILL)
            if process.wait(60) == 0:
                break
        self.run_import("--key", key, out="killed")
        self.assertEqual({p.name: p.read_bytes() for p in (self.work / "killed").iterdir()}, want)

    def test_an_image_file_may_be_dicom_everywhere(self):
        cr(self.archive, "a.dcm", 0, 0)
        (self.archive / "pairs.csv").write_text("image,text,group\na.dcm,a chest,g\n")
        done = subprocess.run([self.suture, "data", "import", "csv", str(self.archive / "pairs.csv"), "--out", str(self.work / "csv"),
                               "--size", "64", "--recipe", "full-range", "--grey"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads((self.work / "csv/manifest.json").read_text())["recipe"]["dicom"], "full-range/1")
        (self.archive / "ACC9001.txt").write_text("a chest")
        self.run_import("--recipe", "full-range", "--grey")
        self.assertTrue(np.array_equal(self.pixels("csv"), self.pixels()))

    def run_suture(self, *words, code=0):
        done = subprocess.run([self.suture, *map(str, words)], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, code, f"{words}\n{done.stdout}\n{done.stderr}")
        return done

    def test_a_model_keeps_to_the_rendering_that_it_was_trained_on(self):
        for study in range(24):
            cr(self.archive, f"{study:02d}.dcm", study, study)
            (self.archive / f"ACC{9001 + study}.txt").write_text(f"report number {study} of a chest")
        self.run_import()
        self.run_import("--recipe", "full-range", out="other")
        tower = {"width": 16, "depth": 1, "heads": 2, "mlp": 16}
        streams = [dict(tower, name="image", kind="vit", image_size=32, patch=16),
                   dict(tower, name="text", kind="bert", max_tokens=8)]
        (self.work / "config.json").write_text(
            json.dumps({"batch": 8, "epochs": 1, "holdout": 0, "model": {"dim": 8, "streams": streams}}))
        run = self.work / "run"
        self.run_suture("train", "--data", self.work / "ds", "--out", run, "--config", self.work / "config.json")
        self.assertIn("DICOM by dicom-standard/1", self.run_suture("model", "info", run).stdout)
        for command, out in (("embed", ["--out", self.work / "e.safetensors", "--split", "all"]), ("index", ["--out", self.work / "idx"]),
                             ("eval align", ["--split", "train", "--draws", "0"])):
            words = [*command.split(), "--model", run, "--data", self.work / "other", *out]
            refusal = self.run_suture(*words, code=1).stderr
            self.assertIn("packed as 64 px, 3 channels, padded, DICOM by full-range/1", refusal)
            self.assertIn("--force-recipe", refusal)
            self.run_suture(*words, "--force-recipe")
        # The other recipe's stored pixels are those of the same files: an image searched for finds itself by the model's own.
        self.run_suture("index", "--model", run, "--data", self.work / "ds", "--out", self.work / "own")
        found = self.run_suture("search", "--index", self.work / "own", "--image", self.archive / "05.dcm", "--kind", "image", "-k", "1",
                                "--json", "-")
        hit = json.loads(found.stdout)["hits"][0]
        self.assertEqual(hit["id"], self.name("image", dicomfile.uid("im", 5, 1)))
        self.assertGreater(hit["score"], 0.9999)

    def test_wrong_use_is_refused(self):
        self.archive.mkdir()
        self.assertIn("no DICOM image", self.run_import(code=1).stderr)
        self.assertFalse((self.work / "ds").exists())
        self.run_import(paths=[self.work / "none"], code=1)
        self.run_import("--recipe", "none", code=2)


if __name__ == "__main__":
    sys.argv.pop()
    Import.suture = os.path.abspath(sys.argv.pop())
    unittest.main()
