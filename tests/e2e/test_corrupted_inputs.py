"""An import meets more than a thousand bad items: each is listed with its line and reason, every good one is imported.

    test_corrupted_inputs.py SUTURE

Everything is made here from a seed, and each item is made together with the reason that must be given for it. The one kind whose
fate cannot be foretold is a JPEG with a flipped bit (it may decode to other pixels): it must be listed or imported, not lost.
"""
import os
import random
import socket
import struct
import subprocess
import zlib

import numpy

from common import MORE, Case, caption, csv_bytes, csv_text, encode, json_lines, main, picture, without_override, write

GOOD, UNSURE = "good", "unsure"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks, depth=8, colour=0):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def grey_rows(width, height):
    return chunk(b"IDAT", zlib.compress(bytes(height * (width + 1))))


def segment(marker, data):
    return bytes([0xff, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg_bomb():
    """A progressive JPEG of 2 KB of data and 883 scans of a million pixels each, every one of them allowed: the coefficients of a
    black picture, one at a time, bit by bit. Each scan says "16,384 blocks of nothing" in 15 bits."""
    table = bytes([1] + [0] * 15)  # one code, '0'
    out = b"\xff\xd8" + segment(0xdb, b"\0" + b"\1" * 64) + segment(0xc2, struct.pack(">BHHB", 8, 1024, 1024, 1) + b"\1\x11\0")
    out += segment(0xc4, b"\0" + table + b"\0" + b"\x10" + table + b"\xe0")
    out += segment(0xda, b"\1\1\0\0\0\0") + bytes(2048)
    for k in range(1, 64):
        for low in range(13, -1, -1):
            out += segment(0xda, bytes([1, 1, 0, k, k, (low + 1) % 14 << 4 | low])) + b"\0\1"
    return out + b"\xff\xd9"


class Bad:
    """Rows of a CSV file and what must become of each."""

    def __init__(self, folder):
        self.folder, self.rows, self.fates = folder, [], []
        self.rng, self.words = numpy.random.default_rng(11), random.Random(11)
        self.images = 0

    def row(self, image, text, fate):
        self.rows.append([image, text])
        self.fates.append(fate)

    def file(self, data, fate, end="jpg"):
        name = f"images/{self.images:05}.{end}"
        self.images += 1
        write(f"{self.folder}/{name}", data)
        self.row(name, caption(self.words), fate)
        return name

    def picture(self, form, **options):
        mode = options.pop("mode", "RGB")
        return encode(picture(self.rng, mode=mode), form, **options)

    def add_good(self):
        for i in range(40):
            self.file(self.picture(("PNG", "JPEG")[i % 2]), GOOD, ("png", "jpg")[i % 2])
        self.file(self.picture("JPEG", mode="CMYK"), GOOD)
        self.file(self.picture("JPEG", progressive=True), GOOD)
        self.file(self.picture("JPEG", mode="L"), GOOD)
        self.file(self.picture("PNG", mode="P"), GOOD)
        self.file(self.picture("PNG", mode="1"), GOOD)
        self.file(self.picture("PNG", mode="RGBA"), GOOD)
        self.file(self.picture("PNG"), GOOD, "jpg")  # an extension says nothing
        self.file(self.picture("JPEG"), GOOD, "png")
        self.file(self.picture("JPEG"), GOOD, "txt")
        # A text chunk that swells to 50 MB is passed over, unread.
        bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9))
        self.file(png(40, 30, bomb, grey_rows(40, 30)), GOOD, "png")

    def add_truncated(self):
        for form, end in (("JPEG", "jpg"), ("PNG", "png")):
            data = self.picture(form, **({"progressive": True} if form == "JPEG" else {}))
            for cut in range(150 * MORE):
                self.file(data[:len(data) * cut // 150 // MORE], "bad-image", end)
            for cut in range(1, 13):
                self.file(data[:-cut], "bad-image", end)

    def add_flipped(self):
        data = self.picture("PNG")
        for _ in range(200 * MORE):  # every chunk has a checksum: any flip is noticed
            self.file(self.flip(data), ("bad-image", "too-large", "unsupported-image"), "png")
        data = self.picture("JPEG")
        for _ in range(200 * MORE):
            self.file(self.flip(data), UNSURE)

    def flip(self, data):
        at = self.words.randrange(len(data) * 8)
        return data[:at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1:]

    def add_other_formats(self):
        for form in ("GIF", "TIFF", "BMP", "WEBP", "PPM", "JPEG2000"):
            self.file(self.picture(form), "bad-image")
        for data in (b"", b"\0", b"<html>404</html>", b"%PDF-1.4", b"PK\3\4", b"\x1f\x8b\x08", b"version https://git-lfs.github.com/spec/v1\n", bytes(5000)):
            for end in ("jpg", "png", "dcm"):
                self.file(data, "bad-image", end)
        for end in ("jpg", "dcm"):  # a build without DICOM reads none
            self.file(bytes(128) + b"DICM", ("bad-image", "unsupported-image"), end)
        for _ in range(60 * MORE):
            self.file(self.words.randbytes(self.words.randrange(3000)), "bad-image")
            self.file(b"\xff\xd8\xff\xe0" + self.words.randbytes(self.words.randrange(3000)), ("bad-image", "unsupported-image"))
            self.file(b"\x89PNG\r\n\x1a\n" + self.words.randbytes(self.words.randrange(3000)), "bad-image", "png")

    def add_hostile(self):
        for side in (60000, 2**31 - 1, 8193):
            self.file(png(side, side, grey_rows(40, 30)), "too-large", "png")
        self.file(png(2**31, 5), "too-large", "png")
        self.file(png(0, 0), "bad-image", "png")
        for length in (2**31 - 1, 2**31, 2**32 - 1, 1 << 24):
            claim = struct.pack(">I", length) + b"IDAT" + bytes(40)
            self.file(png(40, 30)[:33] + claim, "bad-image", "png")
        self.file(png(8000, 8000, chunk(b"IDAT", zlib.compress(bytes(100)))), "bad-image", "png")
        jpeg = self.picture("JPEG")
        frame = jpeg.index(b"\xff\xc0")
        huge = jpeg[:frame + 5] + struct.pack(">HH", 65500, 65500) + jpeg[frame + 9:]
        self.file(huge, "too-large")
        self.file(jpeg[:frame + 4] + b"\x0c" + jpeg[frame + 5:], "unsupported-image")
        self.file(jpeg[:frame + 1] + b"\xc3" + jpeg[frame + 2:], "unsupported-image")
        self.file(jpeg_bomb(), "too-large")

    def add_no_files(self):
        path = f"{self.folder}/images"
        for i in range(10):
            self.row(f"images/none{i}.jpg", "a text", "missing-file")
            os.makedirs(f"{path}/folder{i}.jpg", exist_ok=True)
            self.row(f"images/folder{i}.jpg", "a text", "unreadable-file")
        os.mkfifo(f"{path}/fifo.jpg")
        with socket.socket(socket.AF_UNIX) as s:
            here = os.getcwd()
            os.chdir(path)  # a socket's name is short
            s.bind("socket.jpg")
            os.chdir(here)
        os.symlink("loop.jpg", f"{path}/loop.jpg")
        os.symlink("a", f"{path}/b")
        os.symlink("b", f"{path}/a")
        os.symlink("nowhere", f"{path}/dangling.jpg")
        os.chmod(write(f"{path}/secret.jpg", self.picture("JPEG")), 0)
        for name in ("fifo.jpg", "socket.jpg", "loop.jpg", "a", "secret.jpg"):
            self.row(f"images/{name}", "a text", "unreadable-file")
        for name in ("images/dangling.jpg", "images/00000.png/inside.jpg", "images\\00000.png", "IMAGES/00000.png"):
            self.row(name, "a text", "missing-file")
        for name in ("/dev/zero", "/dev/tty", "x" * 300, "y/" * 3000):
            self.row(name, "a text", "unreadable-file")
        self.row("", "a text", "no-image")

    def add_texts(self):
        good = self.file(self.picture("PNG"), GOOD, "png")
        for text in ("", " ", "\t\r\n", "\u00a0\u2003\u3000", "\u200b\ufeff", "\x01\x02"):
            for _ in range(5):
                self.row(good, text, "empty-text")
        for text in ("caf\udce9", "\udcc0\udc80", "\udced\udca0\udc80", "\udcf8\udc88\udc80\udc80\udc80", "\udcff", "cut \udce2\udc82"):
            self.row(good, text, "invalid-utf8")
            self.row(f"images/{text}.png", "a text", "invalid-utf8")
        for text in ('a "quoted" text, with a comma', "two\nlines", "crlf\r\nlines", "x" * 1_000_000, "\u05e9\u05dc\u05d5\u05dd \U0001fa7b",
                     "=cmd()", "\\", '"', "a\u0301" * 500):
            self.row(good, text, GOOD)


def encoded(rows):
    """What Python's surrogate escapes stand for is bytes that are no UTF-8."""
    return csv_text(rows).encode("utf-8", "surrogateescape")


class Corrupted(Case):
    def importing(self, csv, *more, code=0, out="data"):
        """Imports as one whom permissions bind; returns the records' and the skipped items' lines."""
        self.out = self.path(out)
        self.done = self.suture("data", "import", "csv", csv, "--out", self.out, "--size", 32, *more, code=code,
                                preexec_fn=without_override, stdin=subprocess.DEVNULL)
        if code:
            return None
        return ({r["line"]: r for r in json_lines(f"{self.out}/records.jsonl")},
                {s["line"]: s for s in json_lines(f"{self.out}/skipped.jsonl")})

    def table(self, name, content):
        """Imports a small CSV file; 0.png to 8.png are there."""
        content = content if isinstance(content, bytes) else content.encode()
        for i in range(9):
            path = self.path(f"{i}.png")
            if not os.path.exists(path):
                write(path, encode(picture(numpy.random.default_rng(i))))
        return self.importing(write(self.path(name + ".csv"), content), out=name)

    def test_a_thousand_bad_items_are_listed_and_the_good_ones_imported(self):
        source = self.path("source")
        bad = Bad(source)
        for add in (bad.add_good, bad.add_truncated, bad.add_flipped, bad.add_other_formats, bad.add_hostile, bad.add_no_files,
                    bad.add_texts):
            add()
        lines, line = [], 2
        for image, text in bad.rows:
            lines.append(line)
            line += 1 + text.replace("\r\n", "\n").replace("\r", "\n").count("\n")
        csv = write(f"{source}/pairs.csv", encoded([["image", "text"], *bad.rows]))
        self.assertGreater(sum(fate != GOOD for fate in bad.fates), 1000)
        records, skipped = self.importing(csv)

        self.assertEqual(set(records) | set(skipped), set(lines))
        self.assertEqual(len(records) + len(skipped), len(lines))
        wrong = []
        for line, fate, (image, text) in zip(lines, bad.fates, bad.rows):
            found = skipped[line]["reason"] if line in skipped else GOOD
            right = fate if isinstance(fate, tuple) else (fate,)
            if found not in right and fate != UNSURE:
                wrong.append((line, image[:60], text[:30], fate, skipped.get(line)))
        self.assertEqual(wrong, [])
        self.assertTrue(all(s["detail"] or s["reason"] in ("empty-text", "no-image") for s in skipped.values()))
        self.check_quiet(bad)

    def check_quiet(self, bad):
        """Nothing of an item, and no path, is in what the import says while it works."""
        self.assertNotIn(self.folder, self.done.stderr)
        for image, text in bad.rows:
            for word in (image, text):
                if len(word) > 12:
                    self.assertNotIn(word, self.done.stderr)
        for item in json_lines(f"{self.out}/skipped.jsonl"):
            self.assertNotIn(self.folder, item["detail"])

    def test_tables_as_spreadsheets_write_them(self):
        rows = [["image", "text"]] + [[f"{i}.png", f"text, {i}"] for i in range(9)]
        plain = csv_bytes(rows)
        want = [f"text, {i}" for i in range(9)]
        for name, content in {"bom": b"\xef\xbb\xbf" + plain, "crlf": plain.replace(b"\n", b"\r\n"), "cr": plain.replace(b"\n", b"\r"),
                              "semicolon": csv_bytes(rows, delimiter=";"), "tab": csv_bytes(rows, delimiter="\t"),
                              "quoted": csv_bytes(rows, quoting=1), "no-end": plain[:-1], "blank": plain.replace(b"\n", b"\n\n \n")}.items():
            with self.subTest(name):
                records, skipped = self.table(name, content)
                self.assertEqual([r["text"] for r in records.values()], want)
                self.assertEqual(skipped, {})

    def test_rows_that_do_not_fit_are_listed_by_their_line(self):
        content = "image,text,id\n0.png,good,a\n1.png,short\n2.png,long,b,c\n3.png,same id,a\n4.png,good,d\n5.png,\"open,e\n6.png,x,f\n"
        records, skipped = self.importing_ids("ragged", content)
        self.assertEqual({line: r["id"] for line, r in records.items()}, {2: "a", 6: "d", 8: "f"})
        self.assertEqual({line: s["reason"] for line, s in skipped.items()},
                         {3: "bad-row", 4: "bad-row", 5: "duplicate-id", 7: "bad-row"})

    def test_a_row_of_megabytes_costs_itself(self):
        content = "image,text\n0.png," + "x" * 17_000_000 + "\n1.png,good\n2.png,\x01" + "x" * 9_000_000 + "\n3.png,x" + "\x01" * 8_000_000
        records, skipped = self.table("huge", content)
        self.assertEqual({line: len(r["text"]) for line, r in records.items()}, {3: 4, 5: 8_000_001})
        self.assertEqual({line: s["reason"] for line, s in skipped.items()}, {2: "bad-row", 4: "too-long"})

    def importing_ids(self, name, content):
        self.table("pictures", "image,text\n0.png,a\n")
        return self.importing(write(self.path(name + ".csv"), content), "--id-column", "id", out=name)

    def test_a_nul_byte_is_listed(self):
        records, skipped = self.table("nul", b"image,text\n0.png,a\x00b\n1.png,good\n2\x00.png,text\n")
        self.assertEqual(list(records), [3])
        self.assertEqual({line: s["reason"] for line, s in skipped.items()}, {2: "invalid-utf8", 4: "invalid-utf8"})

    def test_tables_that_are_none_are_refused(self):
        for name, content, word, code in (("empty", "", "no first row", 1), ("utf16", "image,text\n".encode("utf-16"), "UTF-16", 1),
                                          ("columns", "picture,words\na,b\n", "no column 'image'", 2),
                                          ("binary", bytes(range(256)) * 40, "column", (1, 2)), ("header", "image,text\n", "none of 0", 1)):
            with self.subTest(name):
                path = write(self.path(name + ".csv"), content)
                self.importing(path, code=code, out=name)
                self.assertIn(word, self.done.stderr)
                self.assertEqual(self.done.stdout, "")
                self.assertFalse(os.path.exists(self.path(name)))
        os.mkfifo(self.path("fifo.csv"))
        for path in (self.path("fifo.csv"), self.folder, self.path("none.csv")):
            self.importing(path, code=1, out="no")
            self.assertIn(path, self.done.stderr)

    def test_a_first_row_that_is_a_report_is_not_repeated(self):
        self.importing(write(self.path("headless.csv"), "0.png,Mr Smith born 1950 has a large effusion on the left\n"), code=2)
        self.assertNotIn("Smith", self.done.stderr)

    def test_nothing_good_leaves_nothing_behind(self):
        self.importing(write(self.path("bad.csv"), "image,text\nnone.png,text\n0.csv, \n"), code=1, out="nothing")
        self.assertIn("none of 2 items could be imported: missing-file 1, empty-text 1", self.done.stderr)
        self.assertFalse(os.path.exists(self.path("nothing")) or os.path.exists(self.path("nothing.partial")))


if __name__ == "__main__":
    main()
