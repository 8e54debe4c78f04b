#!/usr/bin/env python3
"""Writes text/unicode.c: what BERT's uncased normaliser and word splitter do to every code point.

    python3 text/make_unicode.py text/unicode.c        (needs the `tokenizers` package)

The tables are measured, not derived: the steps of Hugging Face's Rust `tokenizers` are asked about each of the 1,112,064
scalar values, one at a time. That library mixes several versions of Unicode (decomposition, general category and letter
case each have their own), so no release of a Unicode library gives the same answer, and a table does not change under
us when a distribution updates one.
"""

import sys
import unicodedata

import tokenizers
from tokenizers.normalizers import NFD, BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

PAGE = 64
FLAT = 0x30000  # code points below have a page; above there are only a few ranges
SCALARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
WORD, ALONE, SPACE, DROP, BREAK, HANGUL, MARK = range(7)
MAP = 16


def bert(**on):
    steps = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return BertNormalizer(**{**steps, **on}).normalize_str


def combining_class(nfd, probes, c):
    """The canonical combining class of c, narrowed to (highest probe below, lowest probe above); (0, None): starter."""
    base = nfd(c)
    below = [k for k, p in probes if nfd("a" + c + p) != "a" + base + p]
    above = [k for k, p in probes if nfd("a" + p + c) != "a" + p + base]
    return (below[-1] if below else 0, above[0] if above else None)


def measure():
    clean, cjk = bert(clean_text=True), bert(handle_chinese_chars=True)
    strip, lower = bert(strip_accents=True), bert(lowercase=True)
    nfd, split = NFD().normalize_str, BertPreTokenizer().pre_tokenize_str

    probes = {}
    for cp in SCALARS:  # one long-established mark for each combining class
        k = unicodedata.combining(chr(cp))
        if k and k not in probes:
            probes[k] = chr(cp)
    probes = sorted(probes.items())
    low, high = probes[0][1], probes[-1][1]

    code, target, marks = {}, {}, {}
    for cp in SCALARS:
        c = chr(cp)
        cleaned = clean(c)
        out = "".join(lower(x) for x in strip(c))
        assert lower(strip(c)) == out and cleaned in ("", " ", c)
        # A mark of a high class that c overtakes, or one of class 1 that overtakes c: then c is not a starter.
        moves = nfd("a" + high + c) != "a" + high + nfd(c) or (
            nfd(c) == c and nfd("a" + c + low) != "a" + c + low)
        if cleaned == "":
            code[cp] = DROP
        elif cleaned == " ":
            code[cp] = SPACE
        elif 0xAC00 <= cp <= 0xD7A3:
            code[cp] = HANGUL
        elif out == "":
            code[cp] = DROP if moves else BREAK
        elif out == c:
            pieces = [p for p, _ in split("a" + c + "b")]
            assert pieces in (["a" + c + "b"], ["a", c, "b"])
            alone = len(pieces) == 3 or cjk(c) != c
            code[cp] = ALONE if alone else WORD
            if moves:
                assert not alone
                marks[cp] = combining_class(nfd, probes, c)
        else:
            target[cp] = [ord(x) for x in out]

    ranks = sorted(set(marks.values()))
    assert all(a[0] < b[1] and a[1] <= b[1] for a, b in zip(ranks, ranks[1:]))
    for cp, k in marks.items():
        code[cp] = MARK + ranks.index(k)
    assert MARK + len(ranks) <= MAP
    for cp, out in target.items():  # a result needs no further mapping, and CJK stays CJK
        for x in out:
            assert code[x] in (WORD, ALONE) or MARK <= code[x] < MAP
            assert (cjk(chr(cp)) != chr(cp)) == (cjk(chr(x)) != chr(x))

    deltas = sorted({out[0] - cp for cp, out in target.items() if len(out) == 1})
    sequences = sorted({tuple(out) for out in target.values() if len(out) > 1})
    first_sequence = MAP + len(deltas)
    at = {d: MAP + i for i, d in enumerate(deltas)}
    at.update({s: first_sequence + i for i, s in enumerate(sequences)})
    for cp, out in target.items():
        code[cp] = at[out[0] - cp] if len(out) == 1 else at[tuple(out)]
    return code, deltas, sequences, len(ranks)


def array(kind, name, values, form="{}"):
    lines, line = [], "   "
    for v in values:
        item = " " + form.format(v) + ","
        if len(line) + len(item) > 110:
            lines.append(line)
            line = "   "
        line += item
    return f"{kind} {name}[{len(values)}] = {{\n" + "\n".join(lines + [line]) + "\n};\n"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    code, deltas, sequences, ranks = measure()
    pages, index = [], []
    for first in range(0, FLAT, PAGE):
        page = [code.get(cp, DROP) for cp in range(first, first + PAGE)]
        if page not in pages:
            pages.append(page)
        index.append(pages.index(page))
    assert len(pages) <= 256
    ranges = []
    for cp in range(FLAT, 0x110000):
        if code[cp] != WORD:
            if ranges and ranges[-1][1] == cp - 1 and ranges[-1][2] == code[cp]:
                ranges[-1][1] = cp
            else:
                ranges.append([cp, cp, code[cp]])
    sequences = [list(s) + [0] * (3 - len(s)) for s in sequences]

    with open(sys.argv[1], "w", encoding="ascii") as f:
        f.write("/* Made by text/make_unicode.py from tokenizers " + tokenizers.__version__ + "; do not edit.\n"
                " * Codes are explained in text/unicode.h. */\n// clang-format off\n"
                '#include "text/unicode.h"\n\n')
        f.write(f"_Static_assert(SU_UNICODE_MARK + {ranks} <= SU_UNICODE_MAP, \"marks fit below the maps\");\n"
                f"_Static_assert(SU_UNICODE_FLAT == {FLAT:#x} && SU_UNICODE_PAGE == {PAGE}, \"pages as generated\");\n\n")
        f.write(f"const int su_unicode_deltas = {len(deltas)}, su_unicode_ranges = {len(ranges)};\n\n")
        f.write(array("const uint8_t", "su_unicode_page", index) + "\n")
        f.write(array("const uint16_t", "su_unicode_code", [x for p in pages for x in p]) + "\n")
        f.write(array("const int32_t", "su_unicode_delta", deltas) + "\n")
        f.write(f"const uint32_t su_unicode_sequence[{len(sequences)}][3] = {{\n" +
                "".join("    {%s},\n" % ", ".join(f"0x{x:X}" for x in s) for s in sequences) + "};\n\n")
        f.write(f"const su_unicode_range su_unicode_above[{len(ranges)}] = {{\n" +
                "".join("    {0x%X, 0x%X, %d},\n" % tuple(r) for r in ranges) + "};\n")


if __name__ == "__main__":
    main()
