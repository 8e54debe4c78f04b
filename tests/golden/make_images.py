#!/usr/bin/env python3
"""Golden images: small JPEG and PNG files, the pixels that they hold, and resampled pictures, by Pillow and NumPy.

    /usr/bin/python3 make_images.py tests/golden/images        (Debian 12's Pillow 9.4; NumPy)

    FOLDER/*.jpg, *.png            files of every kind, from formulas
    FOLDER/expected.safetensors    decode/FILE [h, w, c]; resize/N [h, w, c] with boxes/N [4] and sizes/N [w, h, c];
                                   recipe/{pad,crop}/{1,3}/N [s, s, c] of the same pictures

JPEG pixels are Pillow's, which reads through libjpeg-turbo as well. PNG files are written here, every colour type and
depth, and what they must decode to is computed from the samples, so that nothing is shared with libpng.
The pictures that are resampled come from noise(), which tests/datasets/picture.h repeats in C.
"""
import io
import json
import os
import struct
import sys
import zlib

import numpy as np
import PIL
from PIL import Image, ImageOps

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
expected = {}


def noise(width, height, channels):
    """Hard noise with flat patches: the cubic overshoots on it, both ways."""
    y, x, c = np.mgrid[0:height, 0:width, 0:channels].astype(np.uint32)
    h = (x * np.uint32(73856093)) ^ (y * np.uint32(19349663)) ^ (c * np.uint32(83492791))
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    return np.where((x // 5 + y // 3) % 3 == 0, 255 * (h >> np.uint32(31)), h >> np.uint32(24)).astype(np.uint8)


def picture(width, height, channels):
    """Smooth, with a disc and a bright mark on the left: what a figure is like."""
    y, x, c = np.mgrid[0:height, 0:width, 0:channels].astype(float)
    v = 120 + 90 * np.sin(x / 9 + c) * np.cos(y / 7 - c)
    v = np.where((x - 0.6 * width) ** 2 + (y - 0.5 * height) ** 2 < (0.2 * height) ** 2, 30 + 80 * c, v)
    v = np.where((x < 4) & (y > 3) & (y < 9), 250, v)
    return np.clip(v, 0, 255).astype(np.uint8)


def mode_of(a):
    return Image.fromarray(a[:, :, 0]) if a.shape[2] == 1 else Image.fromarray(a)


def pixels(image):
    a = np.asarray(image)
    return a[:, :, None] if a.ndim == 2 else a


def jpeg(name, image, **options):
    path = os.path.join(folder, name)
    image.save(path, "JPEG", **options)
    with Image.open(path) as im:
        expected["decode/" + name] = pixels(im.convert("RGB") if im.mode == "CMYK" else im)


jpeg("grey.jpg", mode_of(picture(61, 47, 1)), quality=90)
jpeg("grey_progressive.jpg", mode_of(picture(47, 61, 1)), quality=85, progressive=True)
jpeg("colour_444.jpg", mode_of(picture(67, 45, 3)), quality=90, subsampling=0)
jpeg("colour_422.jpg", mode_of(picture(67, 45, 3)), quality=90, subsampling=1)
jpeg("colour_420.jpg", mode_of(picture(67, 45, 3)), quality=90, subsampling=2)
jpeg("progressive.jpg", mode_of(picture(67, 45, 3)), quality=85, progressive=True)
jpeg("optimised.jpg", mode_of(picture(40, 33, 3)), quality=50, optimize=True)
jpeg("cmyk.jpg", mode_of(picture(35, 31, 3)).convert("CMYK"), quality=90)
jpeg("one.jpg", mode_of(picture(1, 1, 3)), quality=90)
jpeg("tall.jpg", mode_of(picture(3, 131, 1)), quality=90)
jpeg("wide.jpg", mode_of(picture(131, 1, 3)), quality=90)

# Adobe's transform 2 in the CMYK file's APP14 marker: the same samples, now read as YCCK.
data = bytearray(open(os.path.join(folder, "cmyk.jpg"), "rb").read())
at = data.index(b"Adobe") + 11
data[at] = 2 if data[at] != 2 else 0
with open(os.path.join(folder, "ycck.jpg"), "wb") as f:
    f.write(data)
with Image.open(os.path.join(folder, "ycck.jpg")) as im:
    expected["decode/ycck.jpg"] = pixels(im.convert("RGB"))
# The same trick on three components: transform 0 is RGB without a colour transform.
data = open(os.path.join(folder, "colour_444.jpg"), "rb").read()
adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
data = data[:2] + adobe + data[2 + 18:]  # in the place of the JFIF marker, which would say YCbCr
with open(os.path.join(folder, "rgb.jpg"), "wb") as f:
    f.write(data)
with Image.open(io.BytesIO(data)) as im:
    expected["decode/rgb.jpg"] = pixels(im)

# ---- PNG ----

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def packed_rows(samples, depth):
    """Filter byte, then samples [h, w, c] in `depth` bits, for every row; the filter changes from row to row."""
    out, h = b"", samples.shape[0]
    per_pixel = max(1, samples.shape[2] * depth // 8)
    before = None
    for y in range(h):
        row = samples[y].reshape(-1)
        if depth == 16:
            raw = row.astype(">u2").tobytes()
        elif depth == 8:
            raw = row.astype(np.uint8).tobytes()
        else:
            bits = ((row[:, None] >> np.arange(depth - 1, -1, -1)) & 1).astype(np.uint8).reshape(-1)
            raw = np.packbits(bits).tobytes()
        a = np.frombuffer(raw, np.uint8).astype(int)
        if y % 3 == 1:  # Sub
            out += b"\x01" + (a - np.concatenate([np.zeros(per_pixel, int), a])[: len(a)]).astype(np.uint8).tobytes()
        elif y % 3 == 2:  # Up
            out += b"\x02" + (a - before).astype(np.uint8).tobytes()
        else:
            out += b"\x00" + raw
        before = a
    return out


def png(name, samples, depth, kind, want, palette=None, transparent=None, interlace=False, extra=b""):
    samples = samples.astype(np.uint32)
    h, w = samples.shape[:2]
    if interlace:
        parts = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7]
        rows = b"".join(packed_rows(p, depth) for p in parts if p.size)
    else:
        rows = packed_rows(samples, depth)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, int(interlace)))
    data += extra
    if palette is not None:
        data += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    if transparent is not None:
        data += chunk(b"tRNS", transparent)
    body = zlib.compress(rows, 9)
    for i in range(0, len(body), 700):  # several IDAT chunks
        data += chunk(b"IDAT", body[i:i + 700])
    data += chunk(b"IEND", b"")
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)
    expected["decode/" + name] = want.astype(np.uint8)


def eight(samples):
    return (samples.astype(np.int64) * 255 + 32767) // 65535


def on_black(colours, alpha):
    return (2 * colours.astype(np.int64) * alpha + 255) // 510  # colours * alpha / 255, rounded


def levels(width, height, channels, bits):
    return (noise(width, height, channels).astype(np.uint32) * 257) >> (16 - bits)


for depth in (1, 2, 4):
    s = levels(37, 11, 1, depth)
    png(f"grey_{depth}.png", s, depth, GREY, s * (255 // (2**depth - 1)), interlace=depth == 2)
s = noise(33, 21, 1)
png("grey_8.png", s, 8, GREY, s)
s = picture(21, 33, 3)
png("rgb_8.png", s, 8, RGB, s)
png("rgb_8_interlaced.png", s, 8, RGB, s, interlace=True)
y, x = np.mgrid[0:24, 0:31].astype(np.uint32)
s = ((x * 2221 + y * 32749) % 65536)[:, :, None]
png("grey_16.png", s, 16, GREY, eight(s))
png("grey_16_interlaced.png", s, 16, GREY, eight(s), interlace=True)
s = np.concatenate([s, (s * 7) % 65536, (s * 31 + 5) % 65536], 2)
png("rgb_16.png", s, 16, RGB, eight(s))
colours, alpha = s, ((x * 2114) % 65536)[:, :, None]
png("rgb_alpha_16.png", np.concatenate([colours, alpha], 2), 16, RGB_ALPHA, on_black(eight(colours), eight(alpha)))
colours, alpha = noise(29, 17, 3), noise(31, 17, 1)[:, 2:]
png("rgb_alpha_8.png", np.concatenate([colours, alpha], 2), 8, RGB_ALPHA, on_black(colours, alpha), interlace=True)
colours = noise(29, 17, 1)
png("grey_alpha_8.png", np.concatenate([colours, alpha], 2), 8, GREY_ALPHA, on_black(colours, alpha))
colours, alpha = s[:, :, :1], s[:, :, 1:2]
png("grey_alpha_16.png", np.concatenate([colours, alpha], 2), 16, GREY_ALPHA, on_black(eight(colours), eight(alpha)))
for depth in (1, 2, 4, 8):
    n = 2**depth if depth < 8 else 200
    palette = noise(n, 1, 3)[0]
    s = noise(41, 9, 1).astype(np.uint32) % n
    png(f"palette_{depth}.png", s, depth, PALETTE, palette[s[:, :, 0]], palette=palette, interlace=depth == 4)
opacity = np.concatenate([np.arange(0, 256, 4), np.full(136, 255)])  # the first 64 entries have one in the file
png("palette_alpha.png", s, 8, PALETTE, on_black(palette[s[:, :, 0]], opacity[s[:, :, 0]][:, :, None]), palette=palette,
    transparent=opacity[:64].astype(np.uint8).tobytes())
s = noise(19, 13, 1)
png("grey_transparent.png", s, 8, GREY, np.where(s == 255, 0, s), transparent=struct.pack(">H", 255))
s = noise(19, 13, 3) // 64 * 85
blank = (s == np.array([255, 85, 0])).all(2, keepdims=True)
png("rgb_transparent.png", s, 8, RGB, np.where(blank, 0, s), transparent=struct.pack(">3H", 255, 85, 0))
png("one.png", noise(1, 1, 1), 8, GREY, noise(1, 1, 1))
png("one_interlaced.png", noise(1, 1, 3), 8, RGB, noise(1, 1, 3), interlace=True)
png("wide.png", noise(300, 1, 1), 8, GREY, noise(300, 1, 1))
s = noise(16, 16, 1)
png("chunks.png", s, 8, GREY, s,  # a gamma, a comment and a profile that is no profile: none of them may matter
    extra=chunk(b"gAMA", struct.pack(">I", 22727)) + chunk(b"tEXt", b"Comment\0no") + chunk(b"iCCP", b"x\0\0zzzz"))

for path in sorted(os.listdir(folder)):  # where Pillow has the same rules, it must agree with what was computed
    if path.endswith(".png"):
        with Image.open(os.path.join(folder, path)) as im:
            if im.mode in ("1", "L", "RGB", "P") and "transparency" not in im.info and "16" not in path:
                got = pixels(im.convert("RGB" if im.mode == "P" else {"1": "L"}.get(im.mode, im.mode)))
                assert np.array_equal(got, expected["decode/" + path]), path

# ---- resampling ----

CASES = [  # width, height, channels, to width, to height, box
    (1, 1, 3, 5, 4, None),
    (5, 3, 1, 17, 11, None),
    (37, 29, 3, 16, 16, None),
    (16, 16, 3, 37, 29, None),
    (200, 7, 1, 31, 7, None),
    (7, 200, 1, 7, 31, None),
    (7, 200, 3, 3, 9, None),
    (64, 48, 1, 1, 1, None),
    (65, 33, 1, 64, 32, None),
    (50, 40, 3, 50, 40, (0.5, 0.25, 49.5, 39.0)),
    (40, 30, 1, 20, 15, (3.3, 2.7, 30.1, 29.9)),
    (40, 30, 3, 61, 44, (10.0, 5.0, 12.5, 6.25)),
    (33, 70, 3, 24, 24, (0.0, 18.5, 33.0, 51.5)),
    (8193, 2, 1, 50, 2, None),
    (8200, 3, 3, 11, 2, (17.25, 0.0, 8100.5, 3.0)),
    (31, 31, 1, 31, 31, None),
]
for i, (w, h, c, tw, th, box) in enumerate(CASES):
    result = mode_of(noise(w, h, c)).resize((tw, th), Image.BICUBIC, box=box)
    expected[f"resize/{i}"] = pixels(result)
    expected[f"sizes/{i}"] = np.array([w, h, c], np.int32)
    expected[f"boxes/{i}"] = np.array(box or (0, 0, w, h), np.float32)

SHAPES = [(67, 45, 3), (45, 67, 1), (32, 32, 3), (33, 32, 1), (150, 1, 3), (1, 150, 1), (3, 2, 3), (9, 11, 3), (29, 40, 3)]
for i, (w, h, c) in enumerate(SHAPES):
    expected[f"shapes/{i}"] = np.array([w, h, c], np.int32)
    for channels, mode in ((1, "L"), (3, "RGB")):
        im = mode_of(noise(w, h, c)).convert(mode)
        for fit, call in (("pad", ImageOps.pad), ("crop", ImageOps.fit)):
            if (fit, min(w, h)) == ("pad", 1):
                continue  # Pillow gives up on a side of zero pixels; we keep one
            expected[f"recipe/{fit}/{channels}/{i}"] = pixels(call(im, (32, 32), Image.BICUBIC))

# ---- the file ----

names = {np.dtype(np.uint8): "U8", np.dtype(np.int32): "I32", np.dtype(np.float32): "F32"}
header, body = {"__metadata__": {"pillow": PIL.__version__}}, b""
for key in sorted(expected, key=lambda k: (-expected[k].dtype.itemsize, k)):  # wide types first: all are aligned
    a = np.ascontiguousarray(expected[key])
    header[key] = {"dtype": names[a.dtype], "shape": list(a.shape), "data_offsets": [len(body), len(body) + a.nbytes]}
    body += a.tobytes()
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-(len(text) + 8) % 64)
with open(os.path.join(folder, "expected.safetensors"), "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + body)
print(len(expected), "tensors,", sum(os.path.getsize(os.path.join(folder, p)) for p in os.listdir(folder)), "bytes")
