#!/usr/bin/env python3
"""Golden files for WordPiece, by Hugging Face's BertTokenizerFast (Rust `tokenizers`), special tokens split as text.

    python3 tests/golden/make_wordpiece.py datasets/sample/bert-base-uncased-vocab.txt tests/golden
    (needs transformers and tokenizers)

wordpiece_hostile.txt     one hostile text a line: "bert" or "all", its bytes in hex ("-": none), its ids
wordpiece_codepoints.txt  CRC-32 of the ids of "a", the code point, "b" for each 256 code points, all 17 planes

"all" is a vocabulary in which every code point is a token and a continuation, so that ids show exactly what the
normaliser left: the special tokens, then for each scalar value other than NUL, CR and LF itself and "##" with itself.
Surrogates are encoded as if they were characters, which makes three invalid bytes.
"""

import random
import struct
import sys
import unicodedata
import zlib

import tokenizers
from transformers import BertTokenizerFast

SEED, EACH = 20240607, 1000
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WRITTEN = [  # cases that somebody thought of
    b"", b" ", b" \t\r\n ", b"\0", b"\0\0a\0b\0", b"\xef\xbb\xbfreport", b"a\xc2\x85b", b"\xff", b"\xc3", b"a\xe2\x82",
    b"\xe2\x82a", b"\xc1\x81x", b"\xe0\x81\x81x", b"\xf0\x80\x81\x81x", b"\xf0\x8f\xbf\xbfx",
    b"\xed\xa0\x80x\xed\xbf\xbf", b"\xf4\x90\x80\x80x", b"\xf0\x80\x80\x80x", b"\xc0\xafx", b"\xf8\x88\x80\x80\x80x",
    b"\xe0\x9f\xbfx", b"\xf0\x9f\x98", b"\xf0\x9f\x98a", b"caf\xc3\xa9 cafe\xcc\x81", b"e\xff\xcc\x81",
] + [s.encode() for s in (
    "[SEP]", "[CLS] text [MASK]ed [PAD]", "[UNK]", "[sep]", "##ing", "## ##", "a##b", "\ufffd", "a\ufffdb",
    "İstanbul", "ΌΣΟΣ ὈΔΥΣΣΕΎΣ Σ", "ß ẞ STRASSE", "한국어 가각힣", "가\u11a8", "\u1100\u1161\u11a8", "漢字かな混じり",
    "が ガ は\u3099 ﾊﾞ", "\uf900\U0002f800", "ﬁne ﬃ", "①②", "x\u200by\u200cz\u200d", "a\u00adb", "\u2028\u2029", "a\u3000b",
    "👩\u200d⚕️ 🏳️\u200d🌈 👍🏽", "\u202eabc\u202c", "שָׁלוֹם", "اَلْعَرَبِيَّةُ", "ทดสอบ", "हिन्दी", "Ⓐ Ⅷ", "Å Å", "Ω Ω",
    "\u1fef\u037e≠≮", "…—–‘’“”", "1,000.5mg/dL", "T1-weighted (3.0T)", "don't", "a_b", "$5+3=8~", "\x7f\x1b[0m",
    "\u302e\u302f", "가\u302f\u302e\u0301", "\U0001d15e\U0001d160", "𝐀𝔅", "\U000e0001\U000e0041", "\ue000\U000f0000",
    "\u0378\U000323b0", "\u1e9b\u0323", "q\u0307\u0323", "\u0344", "\u0f73", "ǰ ΐ", "IIİiı", "Ａｂ１")]
WRITTEN += [unit.encode() * n + tail for unit in ("a", "中", "é", "한", "🙂", "\u302e", "a\u0301")
            for n in (33, 34, 49, 50, 51, 99, 100, 101) for tail in (b"", b" x")]
WRITTEN += [b"a" * 5000, b"a " * 400, "\u0301".encode() * 400 + b"a", "\u302f\u302e".encode() * 60, b"." * 150]


def every_code_point():
    tokens = list(SPECIAL)
    for cp in range(0x110000):
        if cp not in (0, 10, 13) and not 0xD800 <= cp < 0xE000:
            tokens += [chr(cp), "##" + chr(cp)]
    return tokens


class Reference:
    def __init__(self, tokens):
        hf = BertTokenizerFast(vocab={t: i for i, t in enumerate(tokens)})
        self.tokenizer = hf._tokenizer
        self.tokenizer.encode_special_tokens = True
        sample = "a [SEP] b[MASK]"
        assert self([sample.encode()]) == [hf(sample, add_special_tokens=False, split_special_tokens=True)["input_ids"]]

    def __call__(self, texts):
        texts = [t.decode("utf-8", "replace") for t in texts]
        return [e.ids for e in self.tokenizer.encode_batch(texts, add_special_tokens=False)]


def hostile(rng, marks):
    out = []
    for _ in range(rng.randrange(1, 16)):
        r = rng.random()
        if r < 0.2:
            out.append(chr(rng.choice(marks)))
        elif r < 0.35:
            out.append(rng.choice("aZ09 .-\t\n\r\0\x01\x7f\x85\xa0[]#'_"))
        elif r < 0.5:
            out.append(chr(rng.randrange(0x80, 0x600)))
        elif r < 0.65:
            out.append(chr(rng.randrange(0x600, 0x3400)))
        elif r < 0.7:
            out.append(chr(rng.choice((0x4E00, 0xAC00, 0xF900, 0x2F800, 0x1F300, 0x1D100)) + rng.randrange(0x200)))
        elif r < 0.75:
            out.append(rng.choice(SPECIAL + ["##", "İ", "Σ", "ẞ", "가", "\ufffd", "ﬁ", "\u2028", "👩\u200d⚕️"]))
        elif r < 0.8:
            out.append(rng.choice(("fracture", "Pleural", "EFFUSION", "naïve", "x-ray", "T2")) + " ")
        elif r < 0.82:
            out.append(rng.choice("a\u302e中é") * rng.choice((33, 98, 99, 100, 101)))
        else:
            out.append(chr(rng.randrange(0x110000)))
    data = bytearray("".join(out).encode("utf-8", "surrogatepass"))
    if rng.random() < 0.3:
        for _ in range(rng.randrange(1, 4)):
            if data and rng.random() < 0.5:
                data[rng.randrange(len(data))] = rng.randrange(256)
            elif data:
                del data[rng.randrange(len(data))]
    return bytes(data)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as f:
        bert = Reference([line.rstrip("\n") for line in f])
    everything = Reference(every_code_point())
    rng = random.Random(SEED)
    marks = [c for c in range(0x110000) if unicodedata.combining(chr(c)) or unicodedata.category(chr(c)) in ("Mn", "Mc")]
    made = f"# Made by make_wordpiece.py, seed {SEED}, tokenizers {tokenizers.__version__}\n"

    with open(f"{sys.argv[2]}/wordpiece_hostile.txt", "w", encoding="ascii", newline="\n") as f:
        f.write(made)
        for name, reference in (("bert", bert), ("all", everything)):
            texts = WRITTEN + [hostile(rng, marks) for _ in range(EACH - len(WRITTEN))]
            for text, ids in zip(texts, reference(texts)):
                f.write(" ".join([name, text.hex() or "-"] + [str(i) for i in ids]) + "\n")

    with open(f"{sys.argv[2]}/wordpiece_codepoints.txt", "w", encoding="ascii", newline="\n") as f:
        f.write(made)
        for first in range(0, 0x110000, 256):
            texts = [("a" + chr(cp) + "b").encode("utf-8", "surrogatepass") for cp in range(first, first + 256)]
            crc = 0
            for ids in everything(texts):
                crc = zlib.crc32(struct.pack(f"<{len(ids) + 1}i", len(ids), *ids), crc)
            f.write(f"{first:06x} {crc:08x}\n")


if __name__ == "__main__":
    main()
