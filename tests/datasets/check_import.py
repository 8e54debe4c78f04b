#!/usr/bin/env python3
"""End to end: `suture data import csv|roco`, `data info`, `data audit` on files as the world makes them.

    check_import.py SUTURE SAMPLE        SAMPLE: datasets/sample"""

import csv
import filecmp
import hashlib
import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import zlib

import numpy as np
from PIL import Image, ImageDraw

SUTURE, SAMPLE = map(os.path.abspath, sys.argv[1:3])


def picture(seed, size=(96, 80), colour=False):
    """Blobs where the seed says: every seed another picture."""
    draw = random.Random(seed)
    image = Image.new("RGB" if colour else "L", size, (40, 40, 40) if colour else 40)
    pen = ImageDraw.Draw(image)
    for _ in range(14):
        x, y, r = draw.randrange(size[0]), draw.randrange(size[1]), draw.randrange(3, 18)
        shade = tuple(draw.randrange(256) for _ in range(3)) if colour else draw.randrange(256)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=shade)
    return image


def encoded(image, kind="JPEG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_header(width, height):
    """A PNG that says it is width x height, and has next to nothing in it."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="suture-import-")
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, data):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())

    def write_csv(self, name, rows, columns):
        with open(self.path(name), "w", newline="", encoding="utf-8") as f:
            writer = csv.writer(f)
            writer.writerow(columns)
            writer.writerows(rows)

    def suture(self, *words, code=0):
        run = subprocess.run([SUTURE, *words], cwd=self.folder, capture_output=True, text=True, timeout=300)
        self.assertEqual(run.returncode, code, f"{words}\n{run.stdout}\n{run.stderr}")
        return run

    def json(self, *words, code=0):
        return json.loads(self.suture(*words, "--json", "-", code=code).stdout)

    def lines(self, name):
        with open(self.path(name), encoding="utf-8") as f:
            return [json.loads(line) for line in f]

    def reasons(self, dataset):
        return {line["item"]: line["reason"] for line in self.lines(dataset + "/skipped.jsonl")}

    def assert_same_folder(self, a, b):
        names = sorted(os.listdir(self.path(a)))
        self.assertEqual(names, sorted(os.listdir(self.path(b))))
        same, other, failed = filecmp.cmpfiles(self.path(a), self.path(b), names, shallow=False)
        self.assertEqual((other, failed), ([], []))

    def pixels(self, dataset, name="image-00000.safetensors"):
        with open(self.path(dataset, name), "rb") as f:
            header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
            return np.frombuffer(f.read(), np.uint8).reshape(header["pixels"]["shape"])


class Csv(Case):
    def test_what_spreadsheets_write_is_read(self):
        for k in range(4):
            self.write(f"i/{k}.jpg", encoded(picture(k)))
        text = (
            "\ufeffimage,text,patient\r\n"
            'i/0.jpg,"one, with ""quotes""\r\nand a second line",p1\r\n'
            "\r\n"
            "i/1.jpg,zwei – drei µm,p1\r\n"
            "i/2.jpg,  trimmed  ,p2\r\n"
            'i/3.jpg,last without a line end,p3'
        )
        self.write("x.csv", text)
        info = self.json("data", "import", "csv", "x.csv", "--out", "d", "--size", "64")
        records = self.lines("d/records.jsonl")
        self.assertEqual([r["text"] for r in records], ['one, with "quotes"\r\nand a second line', "zwei – drei µm", "trimmed",
                                                        "last without a line end"])
        self.assertEqual([r["line"] for r in records], [2, 5, 6, 7])
        self.assertEqual([r["group"] for r in records], ["p1", "p1", "p2", "p3"])
        self.assertEqual(records[0]["split"], records[1]["split"])
        self.assertEqual((info["samples"], info["groups"], info["skipped"]["items"]), (4, 3, 0))

    def test_stored_pixels_are_pillows(self):
        from PIL import ImageOps
        self.write("a.png", encoded(picture(1, (200, 120), True), "PNG"))
        self.write_csv("x.csv", [["a.png", "colour"]], ["image", "text"])
        self.suture("data", "import", "csv", "x.csv", "--out", "d", "--size", "64")
        with Image.open(self.path("a.png")) as image:
            expected = np.asarray(ImageOps.pad(image, (64, 64), Image.BICUBIC))
        self.assertTrue(np.array_equal(self.pixels("d")[0], expected))

    def test_several_image_columns_make_several_streams(self):
        for k in range(3):
            self.write(f"f{k}.jpg", encoded(picture(k)))
            self.write(f"l{k}.png", encoded(picture(k + 10), "PNG"))
        self.write_csv("x.csv", [["f0.jpg", "l0.png", "a"], ["f1.jpg", "none.png", "b"], ["f2.jpg", "l2.png", "c"]],
                       ["frontal", "lateral", "report"])
        info = self.json("data", "import", "csv", "x.csv", "--out", "d", "--size", "32", "--image-column",
                         "frontal,lateral", "--text-column", "report")
        self.assertEqual(info["streams"], ["frontal", "lateral", "text"])
        self.assertEqual(self.pixels("d", "frontal-00000.safetensors").shape, (2, 32, 32, 3))
        self.assertEqual(self.pixels("d", "lateral-00000.safetensors").shape, (2, 32, 32, 3))
        self.assertEqual(self.lines("d/records.jsonl")[1]["images"]["lateral"]["file"], "l2.png")
        self.assertEqual(self.reasons("d"), {"f1.jpg": "missing-file"})

    def test_a_missing_column_is_named_with_those_there_are(self):
        self.write_csv("x.csv", [["a.jpg", "b"]], ["path", "caption"])
        said = self.suture("data", "import", "csv", "x.csv", "--out", "d", code=2).stderr
        self.assertIn("no column 'image'", said)
        self.assertIn("path, caption", said)
        self.assertFalse(os.path.exists(self.path("d.partial")))

    def test_a_split_column_is_kept_and_can_be_overruled(self):
        rows = []
        for k in range(12):
            self.write(f"{k}.jpg", encoded(picture(k)))
            rows.append([f"{k}.jpg", f"text {k}", "patient", ["train", "Validation", "test"][k % 3]])
        self.write_csv("x.csv", rows, ["image", "text", "patient", "split"])
        run = self.suture("data", "import", "csv", "x.csv", "--out", "d", "--size", "32")
        self.assertIn("LEAK: 1 groups", run.stdout)
        self.assertIn("100.0 % of val", run.stdout)
        self.assertEqual({r["split"] for r in self.lines("d/records.jsonl")}, {"train", "val", "test"})
        self.suture("data", "import", "csv", "x.csv", "--out", "e", "--size", "32", "--split", "group")
        self.assertEqual(len({r["split"] for r in self.lines("e/records.jsonl")}), 1)

    def test_an_image_with_two_texts_is_two_samples_of_one_group(self):
        self.write("a.jpg", encoded(picture(1)))
        self.write_csv("x.csv", [["a.jpg", "one"], ["a.jpg", "two"]], ["image", "text"])
        self.suture("data", "import", "csv", "x.csv", "--out", "d", "--size", "32")
        self.assertEqual([(r["id"], r["group"]) for r in self.lines("d/records.jsonl")],
                         [("a.jpg", "a.jpg"), ("a.jpg:3", "a.jpg")])

    def test_licences_are_filtered(self):
        names = ["CC BY", "cc-by-nc", "CC0", "", "NO-CC CODE", "https://creativecommons.org/licenses/by/4.0/"]
        for k in range(len(names)):
            self.write(f"{k}.jpg", encoded(picture(k)))
        self.write_csv("x.csv", [[f"{k}.jpg", "t", name] for k, name in enumerate(names)], ["image", "text", "license"])
        info = self.json("data", "import", "csv", "x.csv", "--out", "d", "--size", "32", "--licence", "cc-by,cc0")
        self.assertEqual([r["id"] for r in self.lines("d/records.jsonl")], ["0.jpg", "2.jpg", "5.jpg"])
        self.assertEqual(info["skipped"]["reasons"], {"licence": 3})
        self.assertEqual(info["licences"], {"cc-by": 2, "cc0": 1})

    def test_what_is_there_is_not_overwritten(self):
        self.write("a.jpg", encoded(picture(1)))
        self.write_csv("x.csv", [["a.jpg", "t"]], ["image", "text"])
        command = ["data", "import", "csv", "x.csv", "--out", "d/"]
        self.suture(*command, "--size", "32")
        manifest = os.stat(self.path("d/manifest.json"))
        self.assertIn("finished already", self.suture(*command, "--size", "32").stderr)
        said = self.suture(*command, "--size", "64", code=2).stderr
        self.assertIn("remove it or give another --out", said)
        self.assertEqual(os.stat(self.path("d/manifest.json")).st_mtime_ns, manifest.st_mtime_ns)


class BadItems(Case):
    def test_every_bad_item_is_listed_with_its_reason_and_the_rest_imported(self):
        jpeg = encoded(picture(1))
        files = {
            "good.jpg": jpeg,
            "png-named.jpg": encoded(picture(2), "PNG"),
            "jpeg-named.png": encoded(picture(3)),
            "truncated.jpg": jpeg[: len(jpeg) // 2],
            "empty.jpg": b"",
            "text.jpg": b"this is no picture\n",
            "gif.jpg": encoded(picture(4), "GIF"),
            "huge.png": png_header(60000, 60000),
            "hole.png": png_header(300, 300),
            "wide.jpg": encoded(picture(5, (400, 3))),
        }
        for name, data in files.items():
            self.write(name, data)
        os.mkdir(self.path("folder.jpg"))
        os.symlink("loop.jpg", self.path("loop.jpg"))
        rows = [[name.encode(), b"a text"] for name in files]
        rows += [[b"folder.jpg", b"a text"], [b"missing.jpg", b"a text"], [b"loop.jpg", b"a text"], [b"", b"a text"]]
        rows += [[b"good.jpg", b"   "], [b"good.jpg", b"bad \xff\xfe utf-8"], [b"good\xe9.jpg", b"a text"]]
        rows += [[b"good.jpg"], [b"good.jpg", b"a", b"b"], [b"good.jpg", b"a\0b"], [b"x" * 5000, b"a text"]]
        rows += [[b"good.jpg", b"again"]]
        self.write("x.csv", b"image,text\n" + b"".join(b",".join(row) + b"\n" for row in rows))
        info = self.json("data", "import", "csv", "x.csv", "--out", "d", "--size", "32")
        skipped = {line["line"]: line for line in self.lines("d/skipped.jsonl")}
        expected = dict(zip(files, [None, None, None, "bad-image", "bad-image", "bad-image", "bad-image", "too-large",
                                    "bad-image", None]))
        for line, (name, reason) in enumerate(expected.items(), start=2):
            self.assertEqual(skipped.get(line, {}).get("reason"), reason, name)
        rest = [skipped.get(line, {}).get("reason") for line in range(12, 12 + 12)]
        self.assertEqual(rest, ["unreadable-file", "missing-file", "unreadable-file", "no-image", "empty-text",
                                "invalid-utf8", "invalid-utf8", "bad-row", "bad-row", "invalid-utf8",
                                "unreadable-file", None])
        self.assertEqual(info["samples"], 5)
        for record, pixels in zip(self.lines("d/records.jsonl"), self.pixels("d")):
            self.assertEqual(record["images"]["image"]["sha256"], hashlib.sha256(pixels.tobytes()).hexdigest())
        self.assertEqual(info["skipped"]["items"], len(rows) - 5)
        self.assertEqual(sum(info["skipped"]["reasons"].values()), len(rows) - 5)
        for line in skipped.values():
            self.assertNotIn(self.folder, line["detail"])
        self.assertIn("60000", skipped[9]["detail"])

    @unittest.skipIf(os.geteuid() == 0, "root reads everything")
    def test_a_file_without_permission_is_skipped(self):
        self.write("a.jpg", encoded(picture(1)))
        self.write("b.jpg", encoded(picture(2)))
        os.chmod(self.path("a.jpg"), 0)
        self.write_csv("x.csv", [["a.jpg", "t"], ["b.jpg", "t"]], ["image", "text"])
        self.suture("data", "import", "csv", "x.csv", "--out", "d", "--size", "32")
        self.assertEqual(self.reasons("d"), {"a.jpg": "unreadable-file"})

    def test_a_thousand_mutilated_files_never_stop_an_import(self):
        draw = random.Random(11)
        rows = []
        for k in range(1000):
            image = picture(k, (48, 40), colour=k % 3 == 0)
            kind, options = [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {})][k % 3 if k % 7 else 1]
            data = bytearray(encoded(image, kind, **options))
            if k % 10 == 0:
                pass
            elif k % 2:
                del data[draw.randrange(len(data)):]
            else:
                for _ in range(draw.randrange(1, 12)):
                    data[draw.randrange(len(data))] = draw.randrange(256)
            self.write(f"i/{k}.jpg", bytes(data))
            rows.append([f"i/{k}.jpg", f"text {k}"])
        self.write_csv("x.csv", rows, ["image", "text"])
        info = self.json("data", "import", "csv", "x.csv", "--out", "d", "--size", "32")
        self.assertEqual(info["samples"] + info["skipped"]["items"], 1000)
        self.assertGreaterEqual(info["samples"], 100)
        self.assertGreaterEqual(info["skipped"]["items"], 450)
        bad = self.reasons("d")
        for k in range(0, 1000, 10):
            self.assertNotIn(f"i/{k}.jpg", bad)

    def test_nothing_good_is_a_failure_that_leaves_nothing(self):
        self.write("a.jpg", b"no picture")
        self.write_csv("x.csv", [["a.jpg", "t"], ["b.jpg", "t"]], ["image", "text"])
        said = self.suture("data", "import", "csv", "x.csv", "--out", "d", code=1).stderr
        self.assertIn("none of 2 items", said)
        self.assertIn("bad-image 1", said)
        self.assertIn("missing-file 1", said)
        self.assertEqual(sorted(os.listdir(self.folder)), ["a.jpg", "x.csv"])

    def test_an_unclosed_quote_costs_one_row(self):
        self.write("a.jpg", encoded(picture(1)))
        self.write("x.csv", 'image,text\na.jpg,one\na.jpg,"two\na.jpg,three\n')
        self.suture("data", "import", "csv", "x.csv", "--out", "d", "--size", "32")
        self.assertEqual([r["text"] for r in self.lines("d/records.jsonl")], ["one", "three"])
        self.assertEqual([(s["line"], s["reason"]) for s in self.lines("d/skipped.jsonl")], [(3, "bad-row")])

    def test_no_csv_and_no_rows_say_so(self):
        self.assertIn("none.csv", self.suture("data", "import", "csv", "none.csv", "--out", "d", code=1).stderr)
        self.write("x.csv", "")
        self.suture("data", "import", "csv", "x.csv", "--out", "d", code=1)
        self.write("x.csv", "image,text\n")
        self.assertIn("none of 0", self.suture("data", "import", "csv", "x.csv", "--out", "d", code=1).stderr)


class Same(Case):
    def rows(self, count):
        with open(os.path.join(SAMPLE, "pairs.csv"), newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))[:count]
        for row in rows:
            row["image"] = os.path.join(os.path.abspath(SAMPLE), row["image"])
        for k in range(5, count, 17):
            rows[k]["image"] = "missing.jpg"
        return [[row["image"], row["text"], row["article"]] for row in rows]

    def test_any_number_of_threads_gives_the_same_bytes(self):
        self.write_csv("x.csv", self.rows(300), ["image", "text", "article"])
        for threads in ("1", "2", "5"):
            self.suture("data", "import", "csv", "x.csv", "--out", "d" + threads, "--size", "64", "--threads", threads)
        self.assert_same_folder("d1", "d2")
        self.assert_same_folder("d1", "d5")

    def test_killed_and_given_again_it_ends_with_the_same_bytes(self):
        self.write_csv("x.csv", self.rows(400), ["image", "text", "article"])
        command = ["data", "import", "csv", "x.csv", "--size", "448", "--out"]
        self.suture(*command, "whole")
        # Two parts: killed as soon as one of these is there (on a busy machine a late kill may find it done).
        killed = 0
        for sign in ("", "import.json", "image-00000.safetensors", "part-00000.records.jsonl", "part-00000.json"):
            with self.subTest(sign):
                shutil.rmtree(self.path("d"), ignore_errors=True)
                run = subprocess.Popen([SUTURE, *command, "d"], cwd=self.folder, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
                while run.poll() is None and not os.path.exists(self.path("d.partial", sign)):
                    time.sleep(0.001)
                run.send_signal(signal.SIGKILL)
                if run.wait() == -signal.SIGKILL:
                    killed += 1
                    self.suture("data", "info", "d.partial", code=1)
                    self.suture(*command, "d")
                self.assertFalse(os.path.exists(self.path("d.partial")))
                self.assert_same_folder("whole", "d")
        self.assertGreaterEqual(killed, 3)


class Audit(Case):
    def pack(self, items, *options):
        """items: (image, text, group, split)"""
        rows = []
        for k, (image, text, group, split) in enumerate(items):
            self.write(f"{k}.png", image if isinstance(image, bytes) else encoded(image, "PNG"))
            rows.append([f"{k}.png", text, group, split])
        self.write_csv("x.csv", rows, ["image", "text", "group", "split"])
        self.suture("data", "import", "csv", "x.csv", "--out", "d", "--size", "64", *options)

    def test_a_clean_dataset_ends_with_0(self):
        self.pack([(picture(k), f"text {k}", f"g{k}", "train" if k < 20 else "val") for k in range(25)])
        report = self.json("data", "audit", "d")
        self.assertEqual((report["leak"], report["damage"]), (False, False))
        self.assertIn("No leak", self.suture("data", "audit", "d").stdout)

    def test_each_leak_ends_with_3(self):
        base = [(picture(k), f"text {k}", f"g{k}", "train" if k < 8 else "test") for k in range(10)]
        small = picture(3).resize((60, 50), Image.BICUBIC)
        leaks = {
            "groups": [(picture(50), "other", "g1", "test")],
            "identical_images": [(picture(2), "other", "x", "test")],
            "near_images": [(encoded(small, "JPEG", quality=60), "other", "x", "test")],
        }
        for name, extra in leaks.items():
            with self.subTest(name):
                shutil.rmtree(self.path("d"), ignore_errors=True)
                self.pack(base + extra)
                report = self.json("data", "audit", "d", code=3)
                self.assertEqual([n for n in leaks if report[n]["leak"]], [name])
                self.assertEqual(report[name]["across"], 1)
                table = self.suture("data", "audit", "d", code=3).stdout
                self.assertIn("A leak was found", table)
        self.assertEqual({report["near_images"]["pairs"][0][side]["id"] for side in "ab"}, {"3.png", "10.png"})

    def test_a_repeated_text_is_noted_and_leaks_only_when_strict(self):
        self.pack([(picture(1), "Chest X-ray", "a", "train"), (picture(2), "chest  x-ray", "b", "test")])
        report = self.json("data", "audit", "d")
        self.assertEqual(report["identical_texts"]["across"], 1)
        self.suture("data", "audit", "d", "--strict", code=3)

    def test_damage_ends_with_3_and_names_the_file(self):
        self.pack([(picture(1), "one", "a", "train"), (picture(2), "two", "b", "test")])
        with open(self.path("d/image-00000.safetensors"), "r+b") as f:
            f.seek(-1, os.SEEK_END)
            f.write(b"\x01")
        report = self.json("data", "audit", "d", code=3)
        self.assertEqual([d["file"] for d in report["damaged"]], ["image-00000.safetensors"])
        with open(self.path("d/image-00000.safetensors"), "r+b") as f:
            f.truncate(100)
        self.suture("data", "audit", "d", code=1)


class Roco(Case):
    def make(self, root="data", older=False):
        """Articles PMC1..: figure k of article k % 12, in the official split by k; two figures are not radiology's."""
        number = 0
        for split, count in (("train", 24), ("validation", 6), ("test", 6)):
            captions, licences, dlinks = "", "ROCO_ID,PMC_ID,CC\n", ""
            for _ in range(count):
                number += 1
                name, article = f"ROCO_{number:05}", f"PMC{number % 12 + 1 if number % 2 else 100 + number}"
                file = f"fig,{number}.jpg"
                captions += f"{name}\t A figure with number {number}.\n"
                licences += f"{name},{article}_{file},{'CC BY' if number % 3 else 'CC BY-NC'}\n"
                dlinks += f"{name}\twget -r ftp://x/oa_package/{article}.tar.gz -P /path\t{file}\n"
                image = f"{article}_{file}" if older else f"{name}.jpg"
                self.write(f"{root}/{split}/radiology/images/{image}", encoded(picture(number)))
            self.write(f"{root}/{split}/radiology/captions.txt", captions)
            self.write(f"{root}/{split}/radiology/licences.txt", licences)
            self.write(f"{root}/{split}/radiology/dlinks.txt", dlinks)
            self.write(f"{root}/{split}/non-radiology/captions.txt", "ROCO_99999\tA bone model.\n")

    def test_articles_stay_together_by_default(self):
        self.make()
        self.suture("data", "import", "roco", "data", "--out", "d", "--size", "32")
        records = self.lines("d/records.jsonl")
        self.assertEqual(len(records), 36)
        self.assertEqual(records[0]["id"], "ROCO_00001")
        self.assertEqual(records[0]["text"], "A figure with number 1.")
        self.assertEqual(records[0]["group"], "PMC2")
        self.assertEqual(records[0]["licence"], "CC BY")
        self.assertEqual(records[0]["source"], "PMC2_fig,1.jpg")
        sides = {}
        for r in records:
            sides.setdefault(r["group"], set()).add(r["split"])
        self.assertEqual({len(s) for s in sides.values()}, {1})
        self.suture("data", "audit", "d")

    def test_the_official_split_is_kept_and_its_leak_printed(self):
        self.make()
        run = self.suture("data", "import", "roco", "data", "--out", "d", "--size", "32", "--split", "official")
        self.assertIn("LEAK: 6 groups", run.stdout)
        self.assertIn("50.0 % of val", run.stdout)
        self.assertIn("50.0 % of test", run.stdout)
        report = self.json("data", "audit", "d", code=3)
        self.assertEqual(report["splits"], {"train": 24, "val": 6, "test": 6})
        self.assertEqual(report["groups"]["train_samples"], {"test": 3, "val": 3})

    def test_any_folder_of_the_layout_can_be_given(self):
        self.make("repository/data")
        where = {"repository": 36, "repository/data": 36, "repository/data/test": 6, "repository/data/test/radiology": 6}
        for k, (folder, count) in enumerate(where.items()):
            info = self.json("data", "import", "roco", folder, "--out", f"d{k}", "--size", "32", "--split", "official")
            self.assertEqual(info["samples"], count)
        self.assertEqual(set(info["splits"]), {"test"})
        said = self.suture("data", "import", "roco", ".", "--out", "e", code=1).stderr
        self.assertIn("captions.txt", said)
        os.rename(self.path("repository/data/test"), self.path("elsewhere"))
        said = self.suture("data", "import", "roco", "elsewhere", "--out", "e", "--split", "official", code=2).stderr
        self.assertIn("no official split", said)

    def test_older_file_names_and_missing_lists_are_read(self):
        self.make(older=True)
        os.remove(self.path("data/test/radiology/licences.txt"))
        self.suture("data", "import", "roco", "data", "--out", "d", "--size", "32")
        records = self.lines("d/records.jsonl")
        self.assertEqual(len(records), 36)
        self.assertEqual((records[-1]["group"], records[-1]["licence"]), ("PMC136", ""))
        os.remove(self.path("data/test/radiology/dlinks.txt"))
        run = self.suture("data", "import", "roco", "data", "--out", "e", "--size", "32")
        self.assertIn("no licences.txt or dlinks.txt", run.stderr)
        self.assertEqual(len(self.lines("e/records.jsonl")), 30)

    def test_licences_are_filtered_and_bad_lines_listed(self):
        self.make()
        with open(self.path("data/test/radiology/captions.txt"), "ab") as f:
            f.write(b"no tab here\nROCO_77777\tno such image\nROCO_00031\tsaid twice\nROCO_00032\t\n")
        info = self.json("data", "import", "roco", "data", "--out", "d", "--size", "32", "--licence", "cc-by")
        self.assertEqual(info["licences"], {"cc-by": 24})
        self.assertEqual(info["skipped"]["reasons"], {"licence": 13, "bad-row": 1, "duplicate-id": 1, "empty-text": 1})


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
