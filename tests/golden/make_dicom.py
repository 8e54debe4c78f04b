#!/usr/bin/env python3
"""Small DICOM files of every kind of pixel data, and the values that they hold: tests/golden/dicom/, for
tests/dicom/test_decode.py and as seeds for tests/dicom/fuzz_dicom.c.

    python3 make_dicom.py     (needs pydicom, pylibjpeg-openjpeg, pyjpegls, and dcmtk's dcmcjpeg, dcmdjpeg, dcmconv)

Files are written by pydicom, dcmcjpeg (JPEG), CharLS (JPEG-LS) and OpenJPEG (JPEG 2000); RLE and DEFLATE by the few lines
below. arrays.json has for each file the type, the shape and the SHA-256 of its values in C order: of what went in where
nothing is lost, else of what dcmdjpeg, CharLS and OpenJPEG make of it. Values are small pictures of gradients and noise.
"""
import hashlib
import json
import pathlib
import struct
import subprocess
import tempfile
import zlib

import numpy as np
import pydicom
from jpeg_ls import decode as jls_decode, encode_array
from openjpeg.utils import decode, encode_array as j2k_encode
from pydicom.dataset import Dataset, FileMetaDataset

HERE = pathlib.Path(__file__).parent / "dicom"
IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, WRAPPED, DEFLATED_FRAMES, RLE = EXPLICIT + ".99", EXPLICIT + ".98", "1.2.840.10008.1.2.8.1", "1.2.840.10008.1.2.5"
BASELINE, EXTENDED, LOSSLESS, FIRST = ("1.2.840.10008.1.2.4." + n for n in ("50", "51", "57", "70"))
JLS, JLS_NEAR, J2K, J2K_LOSSY = ("1.2.840.10008.1.2.4." + n for n in ("80", "81", "90", "91"))
ROWS, COLUMNS = 18, 23
arrays = {}


def picture(low, high, frames=0, samples=1, size=(ROWS, COLUMNS)):
    """A gradient, a disc and some noise between low and high."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:size[0], 0:size[1]]
    many = []
    for k in range(max(frames, 1) * samples):
        level = 0.6 * (x + y) / sum(size) + 0.3 * ((x - 9 - k) ** 2 + (y - 8) ** 2 < 30) + 0.1 * rng.random(size)
        level[0, k % size[1]], level[1, 0] = 0, 1
        many.append(np.rint(low + level.clip(0, 1) * (high - low)))
    a = np.array(many).reshape((max(frames, 1), samples, *size)).transpose(0, 2, 3, 1)
    if samples == 1:
        a = a[..., 0]
    return np.ascontiguousarray(a if frames else a[0])


def data_set(values, stored, photometric="MONOCHROME2", high=None, frames=0, planar=0, **more):
    samples = values.shape[-1] if photometric in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT") else 1
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.7", "2.25.1", "OT"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = samples, photometric
    if samples > 1:
        ds.PlanarConfiguration = planar
    if frames:
        ds.NumberOfFrames = frames
    ds.Rows, ds.Columns = values.shape[1:3] if frames else values.shape[:2]
    ds.BitsAllocated = 1 if stored == 1 else values.dtype.itemsize * 8
    ds.BitsStored, ds.HighBit = stored, stored - 1 if high is None else high
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    for name, value in more.items():
        setattr(ds, name, value)
    return ds


def note(name, values):
    values = np.ascontiguousarray(values)
    arrays[name] = {"dtype": values.dtype.str, "shape": list(values.shape), "sha256": hashlib.sha256(values.tobytes()).hexdigest()}


def save(name, ds, syntax, pixels=None, vr="OW", keyword="PixelData", values=None, preamble=True, meta=True):
    path, unknown = HERE / f"{name}.dcm", syntax == DEFLATED_FRAMES  # to pydicom
    syntax = WRAPPED if unknown else syntax
    if pixels is not None:
        tag = pydicom.datadict.tag_for_keyword(keyword)
        ds[tag] = pydicom.dataelem.DataElement(tag, vr, pixels + b"\0" * (len(pixels) % 2))
        ds[tag].is_undefined_length = syntax not in (IMPLICIT, EXPLICIT, BIG, DEFLATED)
    if meta:
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        ds.file_meta.ImplementationClassUID = "2.25.2"
        ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
        if preamble:
            ds.preamble = b"\0" * 128
        pydicom.dcmwrite(path, ds, enforce_file_format=preamble)
    else:
        pydicom.dcmwrite(path, ds, implicit_vr=syntax == IMPLICIT, little_endian=syntax != BIG)
    if unknown:
        path.write_bytes(path.read_bytes().replace(WRAPPED.encode(), DEFLATED_FRAMES.encode() + b"\0"))
    if values is not None:
        note(f"{name}.dcm", values)


def items(fragments, table=b""):
    """Encapsulated: the offset table, the fragments, the delimiter."""
    whole = b""
    for f in [table] + fragments:
        f += b"\0" * (len(f) % 2)
        whole += struct.pack("<HHI", 0xFFFE, 0xE000, len(f)) + f
    return whole + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def offsets(frames, width="<I"):
    """Where each frame's first fragment begins."""
    at, table = 0, b""
    for fragments in frames:
        table += struct.pack(width, at)
        at += sum(8 + len(f) + len(f) % 2 for f in fragments)
    return table


def packbits(plane):
    out, i = b"", 0
    while i < len(plane):
        n = 1
        while i + n < len(plane) and n < 128 and plane[i + n] == plane[i]:
            n += 1
        if n > 2:
            out += bytes([257 - n, plane[i]])
        else:
            n = 1
            while i + n < len(plane) and n < 128 and plane[i + n:i + n + 3] != plane[i + n:i + n + 1] * 3:
                n += 1
            out += bytes([n - 1]) + plane[i:i + n]
        i += n
    return out + b"\0" * (len(out) % 2)


def rle(frame):
    """PS3.5 G: a plane a byte of a sample, the most significant first."""
    if frame.dtype == np.bool_:
        planes = [np.packbits(frame.ravel(), bitorder="little").tobytes()]
    else:
        bytes_ = frame.reshape(ROWS * COLUMNS, -1).view(np.uint8).reshape(ROWS * COLUMNS, -1, frame.dtype.itemsize)
        planes = [bytes_[:, s, b].tobytes() for s in range(bytes_.shape[1]) for b in reversed(range(bytes_.shape[2]))]
    packed, at, header = [packbits(p) for p in planes], 64, [len(planes)]
    for p in packed:
        header.append(at)
        at += len(p)
    return struct.pack("<16I", *header, *[0] * (16 - len(header))) + b"".join(packed)


def deflate(data, level=9):
    z = zlib.compressobj(level, zlib.DEFLATED, -15)
    return z.compress(data) + z.flush()


def native():
    kinds = {"u8": (np.uint8, 8), "s8": (np.int8, 8), "u16": (np.uint16, 16), "s16": (np.int16, 16), "u32": (np.uint32, 32),
             "s32": (np.int32, 32)}
    for name, (kind, bits) in kinds.items():
        info = np.iinfo(kind)
        values = picture(info.min, info.max).astype(kind)
        save(f"native_{name}", data_set(values, bits), EXPLICIT, values.tobytes(), "OB" if bits == 8 else "OW", values=values)
        big = values.astype(values.dtype.newbyteorder(">")).tobytes()
        if bits == 8:  # OW: the first of two bytes in the low half of a word
            big = np.frombuffer(values.tobytes() + b"\0" * (values.size % 2), "<u2").astype(">u2").tobytes()
        save(f"big_{name}", data_set(values, bits), BIG, big, "OW", values=values)
    values = picture(0, 255, samples=3).astype(np.uint8)
    save("big_u8_ob", data_set(values[..., 0], 8), BIG, values[..., 0].tobytes(), "OB", values=values[..., 0])
    for stored, high, kind in ((12, 11, np.uint16), (12, 15, np.uint16), (12, 13, np.int16), (10, 9, np.int16)):
        whole = picture(0, 2**stored - 1).astype(np.int64)
        if kind == np.int16:
            whole -= 2 ** (stored - 1)
        words = ((whole & (2**stored - 1)) << (high + 1 - stored)).astype(np.uint16)
        outside = np.random.default_rng(stored + high).integers(0, 65536, words.shape).astype(np.uint16)  # overlays and the like
        words |= outside & ~np.uint16((2**stored - 1) << (high + 1 - stored))
        sign = "s" if kind == np.int16 else "u"
        ds = data_set(whole.astype(kind), stored, high=high)
        save(f"native_{sign}{stored}_high{high}", ds, EXPLICIT, words.tobytes(), values=whole.astype(kind))
    for name, kind, keyword, vr in (("f32", np.float32, "FloatPixelData", "OF"), ("f64", np.float64, "DoubleFloatPixelData", "OD")):
        values = (picture(-1e6, 1e6) / 7).astype(kind)
        for order, syntax in (("<", EXPLICIT), (">", BIG)):
            ds = data_set(values, 8 * values.dtype.itemsize)
            del ds.PixelRepresentation, ds.BitsStored, ds.HighBit
            raw = values.astype(values.dtype.newbyteorder(order)).tobytes()
            save(f"{'big' if order == '>' else 'native'}_{name}", ds, syntax, raw, vr, keyword, values)
    bits = picture(0, 1, frames=3).astype(np.uint8)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    save("native_bits", data_set(bits, 1, frames=3), EXPLICIT, packed, "OB", values=bits)
    many = picture(0, 4095, frames=4).astype(np.uint16)
    save("native_frames", data_set(many, 12, frames=4), EXPLICIT, many.tobytes(), values=many)


def colour():
    rgb = picture(0, 255, samples=3).astype(np.uint8)
    save("native_rgb", data_set(rgb, 8, "RGB"), EXPLICIT, rgb.tobytes(), "OB", values=rgb)
    save("native_ybr", data_set(rgb, 8, "YBR_FULL"), EXPLICIT, rgb.tobytes(), "OB", values=rgb)
    two = picture(0, 255, frames=2, samples=3).astype(np.uint8)
    save("native_rgb_planes", data_set(two, 8, "RGB", frames=2, planar=1), EXPLICIT, two.transpose(0, 3, 1, 2).tobytes(), "OB", values=two)
    wide = picture(0, 65535, samples=3).astype(np.uint16)
    save("native_rgb16", data_set(wide, 16, "RGB"), EXPLICIT, wide.tobytes(), "OW", values=wide)
    even = rgb[:, :22].copy()
    even[:, 1::2, 1:] = even[:, 0::2, 1:]  # pairs share their chroma
    halved = np.stack([even[:, 0::2, 0], even[:, 1::2, 0], even[:, 0::2, 1], even[:, 0::2, 2]], -1)
    save("native_ybr_422", data_set(even, 8, "YBR_FULL_422", Columns=22), EXPLICIT, halved.tobytes(), "OB", values=even)
    indices = picture(0, 255).astype(np.uint8)
    ds = data_set(indices, 8, "PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(ds, f"{name}PaletteColorLookupTableData", np.arange(256, dtype="<u2").tobytes())
    save("native_palette", ds, EXPLICIT, indices.tobytes(), "OB", values=indices)


def structure():
    values = picture(-1000, 1000).astype(np.int16)
    raw = values.tobytes()
    save("implicit", data_set(values, 16), IMPLICIT, raw, values=values)
    save("no_preamble", data_set(values, 16), EXPLICIT, raw, values=values, preamble=False)
    save("no_meta_implicit", data_set(values, 16), IMPLICIT, raw, values=values, meta=False)
    save("no_meta_explicit", data_set(values, 16), EXPLICIT, raw, values=values, meta=False)
    save("no_meta_big", data_set(values, 16), BIG, values.astype(">i2").tobytes(), values=values, meta=False)
    save("says_explicit_is_implicit", data_set(values, 16), IMPLICIT, raw, values=values)
    path = HERE / "says_explicit_is_implicit.dcm"
    whole = path.read_bytes()
    at = whole.index(IMPLICIT.encode() + b"\0")  # two bytes longer, in the meta header
    whole = whole[:at - 2] + struct.pack("<H", 20) + EXPLICIT.encode() + b"\0" + whole[at + 18:]
    path.write_bytes(whole)
    save("deflated", data_set(values, 16), DEFLATED, raw, values=values)
    ds = data_set(values, 16)
    inner, deep = Dataset(), Dataset()
    deep.CodeValue, inner.ConceptCodeSequence = "1", [deep]
    ds.ConceptNameCodeSequence, ds.ContentSequence = [inner], []
    ds["ConceptNameCodeSequence"].is_undefined_length = True
    ds.add_new(0x60000010, "US", ROWS)
    ds.add_new(0x60000011, "US", COLUMNS)
    ds.add_new(0x60000100, "US", 1)
    ds.add_new(0x60003000, "OW", bytes(ROWS * COLUMNS // 8 + 2))
    save("sequences_overlay", ds, EXPLICIT, raw, values=values)


def fragments():
    many = picture(0, 4095, frames=3).astype(np.uint16)
    save("wrapped", data_set(many, 12, frames=3), WRAPPED, items([f.tobytes() for f in many]), "OB", values=many)
    bits = picture(0, 1, frames=3).astype(np.uint8)
    one_bit = [np.packbits(b.ravel(), bitorder="little").tobytes() for b in bits]
    save("deflated_frames_bits", data_set(bits, 1, frames=3), DEFLATED_FRAMES, items([deflate(b) for b in one_bit]), "OB", values=bits)
    save("deflated_frames_u16", data_set(many, 12, frames=3), DEFLATED_FRAMES, items([deflate(f.tobytes()) for f in many]), "OB", values=many)
    rgb = picture(0, 255, samples=3).astype(np.uint8)
    planes = rgb.transpose(2, 0, 1).tobytes()
    save("deflated_frames_planes", data_set(rgb, 8, "RGB", planar=1), DEFLATED_FRAMES, items([deflate(planes)]), "OB", values=rgb)
    save("rle_bits", data_set(bits, 1, frames=3), RLE, items([rle(b.astype(bool)) for b in bits]), "OB", values=bits)
    save("rle_rgb", data_set(rgb, 8, "RGB", planar=1), RLE, items([rle(rgb)]), "OB", values=rgb)
    for name, kind in (("u8", np.uint8), ("s16", np.int16), ("u32", np.uint32)):
        info = np.iinfo(kind)
        values = picture(info.min, info.max).astype(kind)
        save(f"rle_{name}", data_set(values, 8 * values.dtype.itemsize), RLE, items([rle(values)]), "OB", values=values)
    wide = picture(0, 65535, samples=3).astype(np.uint16)
    save("rle_rgb16", data_set(wide, 16, "RGB", planar=1), RLE, items([rle(wide)]), "OB", values=wide)
    frames = [rle(f) for f in many]
    split = [[f[:100], f[100:300], f[300:]] for f in frames]
    flat = [f for fragments in split for f in fragments]
    save("rle_basic_table", data_set(many, 12, frames=3), RLE, items(flat, offsets(split)), "OB", values=many)
    ds = data_set(many, 12, frames=3, ExtendedOffsetTable=offsets(split, "<Q"), ExtendedOffsetTableLengths=struct.pack("<3Q", *map(len, frames)))
    save("rle_extended_table", ds, RLE, items(flat), "OB", values=many)


def jls_encode(values, *more):
    return bytes(encode_array(values, *more))


def jpeg_ls():
    for name, values, stored in (("u8", picture(0, 255).astype(np.uint8), 8), ("u12", picture(0, 4095).astype(np.uint16), 12),
                                 ("u16", picture(0, 65535).astype(np.uint16), 16)):
        save(f"jls_{name}", data_set(values, stored), JLS, items([jls_encode(values)]), "OB", values=values)
    signed = picture(-2048, 2047).astype(np.int16)  # the codestream has the bits as they are, without a sign
    words = (signed.astype(np.int32) & 0xFFF).astype(np.uint16)
    save("jls_s12", data_set(signed, 12), JLS, items([jls_encode(words)]), "OB", values=signed)
    grey = picture(0, 4095).astype(np.uint16)
    stream = jls_encode(grey, 3)
    save("jls_near", data_set(grey, 12), JLS_NEAR, items([stream]), "OB", values=jls_decode(np.frombuffer(stream, np.uint8)).astype(np.uint16))
    rgb = picture(0, 255, samples=3).astype(np.uint8)
    for mode, name in enumerate(("plane", "line", "pixel")):
        stream = jls_encode(rgb if mode else rgb.transpose(2, 0, 1).copy(), 0, mode)
        save(f"jls_rgb_by_{name}", data_set(rgb, 8, "RGB"), JLS, items([stream]), "OB", values=rgb)
    many = picture(0, 4095, frames=3).astype(np.uint16)
    split = [[s[:60], s[60:]] for s in map(jls_encode, many)]
    save("jls_no_table", data_set(many, 12, frames=3), JLS, items([f for s in split for f in s]), "OB", values=many)


def jpeg_2000():
    size = (33, 34)  # the encoder wants that much for its six resolutions
    for name, values, stored in (("u8", picture(0, 255, size=size).astype(np.uint8), 8), ("u12", picture(0, 4095, size=size).astype(np.uint16), 12),
                                 ("s16", picture(-32768, 32767, size=size).astype(np.int16), 16)):
        stream = j2k_encode(values, bits_stored=stored, photometric_interpretation=2, use_mct=False)
        save(f"j2k_{name}", data_set(values, stored), J2K, items([stream]), "OB", values=values)
    rgb = picture(0, 255, samples=3, size=size).astype(np.uint8)
    stream = j2k_encode(rgb, bits_stored=8, photometric_interpretation=1, use_mct=True)
    save("j2k_rgb", data_set(rgb, 8, "YBR_RCT"), J2K, items([stream]), "OB", values=rgb)
    stream = j2k_encode(rgb, bits_stored=8, photometric_interpretation=1, use_mct=True, compression_ratios=[4])
    save("j2k_rgb_lossy", data_set(rgb, 8, "YBR_ICT"), J2K_LOSSY, items([stream]), "OB", values=decode(stream))
    grey = picture(0, 4095, size=size).astype(np.uint16)
    stream = j2k_encode(grey, bits_stored=12, photometric_interpretation=2, compression_ratios=[3])
    save("j2k_lossy", data_set(grey, 12), J2K_LOSSY, items([stream]), "OB", values=decode(stream))
    file = j2k_encode(grey, bits_stored=12, photometric_interpretation=2, use_mct=False, codec_format=1)
    save("j2k_in_jp2", data_set(grey, 12), J2K, items([file]), "OB", values=grey)
    bits = picture(0, 1, size=size).astype(np.uint8)
    stream = j2k_encode(bits, bits_stored=1, photometric_interpretation=2, use_mct=False)
    save("j2k_bits", data_set(bits, 1), J2K, items([stream]), "OB", values=bits)


def jpeg():
    """By dcmcjpeg from a native file, and back by dcmdjpeg."""
    def run(name, values, stored, photometric, option, lossless):
        with tempfile.TemporaryDirectory() as folder:
            def path(n):
                return f"{folder}/{n}.dcm"
            ds = data_set(values, stored, photometric)
            ds[0x7FE00010] = pydicom.dataelem.DataElement(0x7FE00010, "OB" if values.dtype.itemsize == 1 else "OW", values.tobytes() + b"\0" * (values.nbytes % 2))
            ds.file_meta = FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = EXPLICIT
            pydicom.dcmwrite(path("native"), ds, enforce_file_format=True)
            subprocess.run(["dcmcjpeg", *option, path("native"), path("made")], check=True)
            subprocess.run(["dcmdjpeg", "+cn", path("made"), path("back")], check=True)
            made, back = pydicom.dcmread(path("made")), pydicom.dcmread(path("back"))
            lean = data_set(values, stored, made.PhotometricInterpretation)
            lean.BitsAllocated, lean.BitsStored, lean.HighBit = made.BitsAllocated, made.BitsStored, made.HighBit
            out = np.frombuffer(back.PixelData, values.dtype)[:values.size].reshape(values.shape)
            if back.get("PlanarConfiguration") == 1:
                out = np.frombuffer(back.PixelData, values.dtype)[:values.size].reshape(3, ROWS, COLUMNS).transpose(1, 2, 0)
            assert not lossless or np.array_equal(out, values), name
            save(name, lean, made.file_meta.TransferSyntaxUID, made.PixelData, "OB", values=out)
    grey8, grey12 = picture(0, 255).astype(np.uint8), picture(0, 4095).astype(np.uint16)
    run("jpeg_baseline", grey8, 8, "MONOCHROME2", ["+eb"], False)
    run("jpeg_extended", grey12, 12, "MONOCHROME2", ["+ee", "+bt"], False)
    rgb = picture(0, 255, samples=3).astype(np.uint8)
    run("jpeg_baseline_444", rgb, 8, "RGB", ["+eb", "+s4"], False)
    run("jpeg_baseline_422", rgb, 8, "RGB", ["+eb", "+s2"], False)
    run("jpeg_baseline_rgb", rgb, 8, "RGB", ["+eb", "+cr"], False)
    run("jpeg_lossless_u8", grey8, 8, "MONOCHROME2", ["+el"], True)
    run("jpeg_lossless_u12", grey12, 12, "MONOCHROME2", ["+el", "+sv", "6"], True)
    run("jpeg_lossless_u16", picture(0, 65535).astype(np.uint16), 16, "MONOCHROME2", ["+e1"], True)
    run("jpeg_lossless_rgb", rgb, 8, "RGB", ["+e1"], True)


def main():
    HERE.mkdir(exist_ok=True)
    for old in HERE.iterdir():
        old.unlink()
    for make in (native, colour, structure, fragments, jpeg_ls, jpeg_2000, jpeg):
        make()
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(arrays[name])}" for name in sorted(arrays))
    (HERE / "arrays.json").write_text("{\n" + lines + "\n}\n")
    print(len(arrays), "files")


main()
