"""Small files that want to be large: each is refused in under 2 s of processor time and 256 MB, workers included.

    python3 test_bombs.py SUTURE SOURCE_DIR
"""
import ctypes
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

import numpy as np

SUTURE, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
sys.path.insert(0, str(SOURCE / "scripts"))
import dicomfile  # noqa: E402

EXPLICIT, DEFLATED, FRAMES, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1", "1.2.840.10008.1.2.5"
IMPLICIT = "1.2.840.10008.1.2"
JPEG, LOSSLESS, JLS, J2K = ("1.2.840.10008.1.2.4." + n for n in ("50", "70", "80", "90"))
SECONDS, BYTES = 2.0, 256 << 20
PR_SET_CHILD_SUBREAPER = 36


def head(uid):
    return dicomfile.encode({}).replace(struct.pack("<H", 20) + EXPLICIT.encode() + b"\0",
                                        struct.pack("<H", len(uid) + len(uid) % 2) + uid.encode() + b"\0" * (len(uid) % 2))


def item(data, length=None):
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(data) if length is None else length) + data


END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def compressed(uid, fragments, rows=60000, columns=60000, table=b"", **more):
    attributes = dicomfile.image(rows, columns, bits=16, **more)
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + item(table) + b"".join(fragments) + END
    return head(uid) + dicomfile.data_set(attributes) + pixels


def rle(segments, length):
    return struct.pack("<16I", segments, *[64 + k * length for k in range(segments)], *[0] * (15 - segments)) + b"\x81\0" * (segments * length // 2)


def jls(rows, columns):
    return (b"\xff\xd8\xff\xf7" + struct.pack(">HBHHB", 11, 16, rows, columns, 1) + b"\1\x11\0" + b"\xff\xda\0\x08\1\1\0\0\0\0" + bytes(1000))


def jpeg(rows, columns, sof=0xC3, bits=16):
    return (b"\xff\xd8\xff" + bytes([sof]) + struct.pack(">HBHHB", 11, bits, rows, columns, 1) + b"\1\x11\0"
            + b"\xff\xc4\0\x14\0" + bytes([1] + [0] * 15) + b"\0" + b"\xff\xda\0\x08\1\1\0\1\0\0" + bytes(1000))


def j2k(rows, columns, levels=5, data=bytes(1000)):
    siz = struct.pack(">HIIIIIIIIH", 0, columns, rows, 0, 0, columns, rows, 0, 0, 1) + b"\x0f\1\1"
    cod = b"\0\0\0\1\0" + bytes([levels]) + b"\4\4\0\1"
    qcd = b"\x40" + b"\x88" * 16 if levels else b"\xe0\xc0"
    return (b"\xff\x4f" + b"".join(m + struct.pack(">H", len(b) + 2) + b for m, b in ((b"\xff\x51", siz), (b"\xff\x52", cod), (b"\xff\x5c", qcd)))
            + b"\xff\x90\0\x0a\0\0\0\0\0\0\0\1\xff\x93" + data + b"\xff\xd9")


def new_nodes(width, height):
    """For each leaf of a tag tree, as they are visited, how many nodes from the root to it are met for the first time."""
    levels = max(width - 1, height - 1).bit_length()
    for y in range(height):
        for x in range(width):
            yield 1 + next((n for n in range(levels) if x % (2 << n) or y % (2 << n)), levels)


def j2k_packet(rows, columns):
    """A packet in which each code-block of 64 x 64 has one byte for all the passes that a decoder takes, 88."""
    bits = "1" + "".join("1" * (2 * n) + "1" * 9 + f"{88 - 37:07b}" + "0" + f"{1:09b}"
                         for n in new_nodes(-(-columns // 64), -(-rows // 64)))
    head, at = bytearray(), 0
    while at < len(bits):
        n = 7 if head and head[-1] == 0xFF else 8
        head.append(int(bits[at:at + n].ljust(n, "0"), 2))
        at += n
    if head[-1] == 0xFF:
        head.append(0)
    return bytes(head) + b"\x80" * (-(-columns // 64) * -(-rows // 64))


def deflate(start, megabytes):
    """A deflated stream of `start` and zeros. Behind a full flush nothing refers to what was before it: one block serves for all."""
    z = zlib.compressobj(9, zlib.DEFLATED, -15)
    before = z.compress(start) + z.flush(zlib.Z_FULL_FLUSH)
    block = z.compress(bytes(1 << 20)) + z.flush(zlib.Z_FULL_FLUSH)
    return before + block * megabytes + z.flush()


def nested(depth, undefined, implicit=False, vr=b"SQ"):
    """A sequence in an item of a sequence in ..."""
    sequence = struct.pack("<HH", 0x0040, 0xA730)
    if undefined:
        start = sequence + (b"\xff\xff\xff\xff" if implicit else vr + b"\0\0\xff\xff\xff\xff") + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
        return start * depth + (struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + END) * depth
    inside = b""
    for _ in range(depth):
        inside = item(inside)
        inside = sequence + (b"" if implicit else vr + b"\0\0") + struct.pack("<I", len(inside)) + inside
    return inside


def elements(numbers):
    """Empty elements, the number'th of all that could be."""
    made = np.zeros(len(numbers), [("group", "<u2"), ("element", "<u2"), ("vr", "S2"), ("length", "<u2")])
    made["group"], made["element"], made["vr"] = 9 + 2 * (numbers >> 12), 0x1000 + (numbers & 0xFFF), b"LO"
    return made.tobytes()


def bombs():
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 1000 << 20)
    yield "60000 x 60000 in RLE", compressed(RLE, [item(rle(2, 5000))]), "frames of 60000 x 60000 pixels are 7200000000 bytes"
    yield "60000 x 60000 in JPEG-LS", compressed(JLS, [item(jls(60000, 60000))]), "frames of 60000 x 60000 pixels"
    yield "60000 x 60000 in JPEG 2000", compressed(J2K, [item(j2k(60000, 60000))]), "frames of 60000 x 60000 pixels"
    yield "60000 x 60000 in JPEG Lossless", compressed(LOSSLESS, [item(jpeg(60000, 60000))]), "frames of 60000 x 60000 pixels"
    yield "60000 x 60000 native", dicomfile.encode(dicomfile.image(60000, 60000), b"\0" * 1000), "frames of 60000 x 60000 pixels"
    for name, uid, make in (("JPEG-LS", JLS, jls), ("JPEG 2000", J2K, j2k), ("JPEG Lossless", LOSSLESS, jpeg)):
        yield (f"{name} of 60000 x 60000 where the data set says 512 x 512", compressed(uid, [item(make(60000, 60000))], 512, 512),
               "picture is of 60000 x 60000 pixels")
    yield "just below the limit, in RLE", compressed(RLE, [item(rle(2, 5000))], 23000, 23000), "truncated: frame 1 has"
    yield "just below the limit, in JPEG-LS", compressed(JLS, [item(jls(23000, 23000))], 23000, 23000), "truncated: frame 1 has"
    yield "just below the limit, in JPEG Lossless", compressed(LOSSLESS, [item(jpeg(23000, 23000))], 23000, 23000), "truncated: frame 1 has"
    yield "just below the limit, in JPEG 2000", compressed(J2K, [item(j2k(23000, 23000))], 23000, 23000), "truncated: frame 1 has"
    yield ("1 GiB of blocks of one byte and 88 passes, in JPEG 2000",
           compressed(J2K, [item(j2k(23168, 23168, 0, j2k_packet(23168, 23168)))], 23168, 23168), "truncated: frame 1 has")
    yield "where a flat one may be small, in JPEG-LS", compressed(JLS, [item(jls(5790, 5790))], 5790, 5790), "truncated in line 1"
    yield "where a flat one may be small, in JPEG Lossless", compressed(LOSSLESS, [item(jpeg(5790, 5790))], 5790, 5790), "JPEG: truncated"
    yield "two million frames in one fragment", compressed(RLE, [item(rle(2, 500))], 512, 512, NumberOfFrames="2000000"), "at most"
    yield "two million small frames in one fragment", compressed(RLE, [item(rle(2, 500))], 4, 4, NumberOfFrames="2000000"), "1 fragments"
    yield "two million empty fragments", compressed(RLE, [item(b"")] * 2000000, 4, 4, NumberOfFrames="2000000"), "truncated: frame 1"
    yield "two million native frames", dicomfile.encode(dicomfile.image(512, 512, NumberOfFrames="2000000"), b"\0" * 100000), "2000000 frames"
    whole = dicomfile.data_set(dicomfile.image(23000, 23000))
    yield "1 MB that inflates to 1 GB of pixels", head(DEFLATED) + deflate(whole + pixels, 1000), "inflates to more than the 128 MiB"
    yield "1 MB that inflates to 1 GB of one value", head(DEFLATED) + deflate(struct.pack("<HH2sHI", 9, 0x10, b"OB", 0, 1000 << 20), 1000), "inflates to more than"
    yield "a frame that inflates to 1 GB", compressed(FRAMES, [item(deflate(b"", 1000))], 100, 100), "holds more than its picture's 20000 bytes"
    yield "a fragment that is longer than the file", compressed(JLS, [item(jls(512, 512), 0xFFFFFFF0)], 512, 512), "says 4294967280 bytes, where"
    for width, name in (("<I", "basic"), ("<Q", "extended")):
        table = struct.pack(width[0] + 2 * width[1], 0, 0xFFFFFF00)
        fragments = [item(rle(2, 50))] * 3
        made = (compressed(RLE, fragments, 4, 4, table, NumberOfFrames="2") if name == "basic" else
                compressed(RLE, fragments, 4, 4, NumberOfFrames="2").replace(
                    struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF),
                    struct.pack("<HH2sHI", 0x7FE0, 1, b"OV", 0, 16) + table + struct.pack("<HH2sHI", 0x7FE0, 2, b"OV", 0, 16) + table
                    + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)))
        yield f"{name} offset table that points outside", made, f"{name} offset table"
    yield "RLE segments that point outside", compressed(RLE, [item(struct.pack("<16I", 2, 64, 0xFFFFFFF0, *[0] * 13) + bytes(100))], 4, 4), "points outside of its frame"
    for implicit in (False, True):
        for undefined in (False, True):
            for depth in (100, 20000):
                if not undefined and depth > 2000:
                    depth = 2000  # which takes a while to make
                yield (f"sequences {depth} deep, {'implicit' if implicit else 'explicit'}, of {'undefined' if undefined else 'said'} length",
                       head(IMPLICIT if implicit else EXPLICIT) + nested(depth, undefined, implicit), "deep")
    yield "UN 20000 deep", head(EXPLICIT) + nested(1, True, vr=b"UN").replace(b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + nested(20000, True, True), 1), "deep"
    yield "three million elements", head(EXPLICIT) + elements(np.arange(3000000)), "more than 2000000 elements"
    yield "elements in no order", head(EXPLICIT) + elements(np.arange(200000)[::-1]), "no order"
    for name, form, data in (("explicit", EXPLICIT, pixels[:8] + struct.pack("<I", 8) + bytes(8)), ("deflated", DEFLATED, deflate(pixels[:8] + struct.pack("<I", 8) + bytes(8), 0))):
        yield f"pixel data and nothing else, {name}", head(form) + data, "no data element in front of its pixel data"
    yield "lengths beyond the file", head(EXPLICIT) + struct.pack("<HH2sHI", 9, 0x10, b"OB", 0, 0xFFFFFFF0) + bytes(1000), "says 4294967280 bytes"


def measured(command):
    """(exit code, stderr, processor seconds, most memory), of the command and everything that it leaves behind."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with process.stderr as f:
        text = f.read().decode()
    seconds, memory, code = 0.0, 0, None
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            break
        seconds += usage.ru_utime + usage.ru_stime
        memory = max(memory, usage.ru_maxrss * 1024)
        if pid == process.pid:
            code = process.returncode = os.waitstatus_to_exitcode(status)
    return code, text, seconds, memory


def make(folder):
    """All of them, by another process: what this one has held counts as its children's (Linux, until they exec)."""
    if os.fork() == 0:
        with open(f"{folder}/list", "w") as names:
            for i, (name, data, reason) in enumerate(bombs()):
                pathlib.Path(f"{folder}/{i}.dcm").write_bytes(data)
                names.write(f"{name}\t{reason}\n")
        os._exit(0)
    os.wait()
    return [line.split("\t") for line in pathlib.Path(f"{folder}/list").read_text().splitlines()]


class Bombs(unittest.TestCase):
    def test_each_is_refused_before_it_goes_off(self):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # workers that outlive their parent are counted too
        sanitized = b"__asan_init" in subprocess.run(["nm", "-D", SUTURE], capture_output=True).stdout
        with tempfile.TemporaryDirectory() as folder:
            made = make(folder)
            self.assertEqual(len(made), 40)
            for i, (name, reason) in enumerate(made):
                path, out = f"{folder}/{i}.dcm", pathlib.Path(f"{folder}/x.npy")
                code, text, seconds, memory = measured([SUTURE, "dicom", "decode", path, "--out", out])
                print(f"{seconds:6.2f} s {memory >> 20:4} MB  {os.path.getsize(path):9} bytes: {name}")
                with self.subTest(bomb=name):
                    self.assertEqual(code, 1, text)
                    self.assertIn(reason, text)
                    self.assertEqual(text.count("\n"), 1, text)
                    self.assertFalse(out.exists())
                    if not sanitized:
                        self.assertLess(seconds, SECONDS)
                        self.assertLess(memory, BYTES)

    def test_what_is_small_for_a_good_reason_is_decoded(self):
        with tempfile.TemporaryDirectory() as folder:
            path, out = pathlib.Path(f"{folder}/a.dcm"), pathlib.Path(f"{folder}/x.npy")
            for name, code, rows, columns, value in (
                    ("an empty mammogram", j2k(5000, 4000, data=b"\0" * 6), 5000, 4000, 0x8000),
                    ("the packet of the bomb", j2k(256, 128, 0, j2k_packet(256, 128)), 256, 128, None)):
                with self.subTest(name):
                    path.write_bytes(compressed(J2K, [item(code)], rows, columns))
                    code, text, _, _ = measured([SUTURE, "dicom", "decode", path, "--out", out])
                    self.assertEqual((code, text), (0, ""))
                    values = np.load(out)
                    self.assertEqual(values.shape, (rows, columns))
                    if value is not None:
                        self.assertTrue((values == value).all())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
