#!/usr/bin/env python3
"""Writes eval/ptb_classes.c: what every code point of the basic plane is to Stanford's PTB tokenizer.

    python3 eval/make_ptb_classes.py stanford-corenlp-3.4.1.jar eval/ptb_classes.c     (needs a Java run time)

The jar comes with pycocoevalcap (PyPI). The tables are measured, not derived: the tokenizer is asked about each code point
in a few surroundings. Its letters and digits are those of the Unicode version that its lexer was generated with, its lower
case is that of the Java run time, so no library's tables give its answers.
"""

import os
import subprocess
import sys
import tempfile

PAGE = 64
LETTER, MARK, DIGIT, SYMBOL, UPPER, SHIFT = 1, 2, 4, 8, 16, 5
NEWLINES = {0xA, 0xB, 0xC, 0xD, 0x85, 0x2028, 0x2029}
ASKED = [c for c in range(0x10000) if c not in NEWLINES and not 0xD800 <= c < 0xE000]


def tokens(jar, surroundings):
    """{code point: tokens of the surroundings with % replaced by it}"""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", delete=False) as f:
        f.write("\n".join(surroundings.replace("%", chr(c)) for c in ASKED) + "\n")
    done = subprocess.run(["java", "-cp", jar, "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", f.name],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    os.unlink(f.name)
    lines = done.stdout.decode().split("\n")[:-1]
    assert len(lines) == len(ASKED), (surroundings, len(lines))
    return {c: line.split(" ") if line else [] for c, line in zip(ASKED, lines)}


def array(kind, name, values):
    lines, line = [], "   "
    for v in values:
        item = f" {v},"
        if len(line) + len(item) > 110:
            lines.append(line)
            line = "   "
        line += item
    return f"{kind} {name}[{len(values)}] = {{\n" + "\n".join(lines + [line]) + "\n};\n"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    jar = sys.argv[1]
    alone, hyphen, sign = tokens(jar, "%"), tokens(jar, "1-%"), tokens(jar, "-%")
    topic, behind, inside = tokens(jar, "#%"), tokens(jar, "etc. %"), tokens(jar, "x%y")
    flags, delta = dict.fromkeys(range(0x10000), 0), dict.fromkeys(range(0x10000), 0)
    for c in ASKED:
        if len(sign[c]) == 1 and sign[c] != ["--"] and sign[c] != ["-"]:
            flags[c] = DIGIT
        elif len(hyphen[c]) == 1 and len(topic[c]) == 1 and c not in (0xAD, ord(".")):
            flags[c] = LETTER
        elif len(topic[c]) == 1 and len(topic[c][0]) > 1 and c not in (0xAD, ord("#"), ord("_")):
            flags[c] = MARK
        elif alone[c] and c != 0xAD:
            flags[c] = SYMBOL
        if flags[c] in (LETTER, MARK):
            assert len(inside[c]) == 1 and inside[c][0][0] == "x" and inside[c][0][-1] == "y", hex(c)
            low = inside[c][0][1:-1]
            if len(low) == 1:
                delta[c] = ord(low) - c
            else:
                assert c == 0x130, hex(c)  # I with a dot becomes two: eval/ptb.c
            if behind[c][:2] == ["etc.", "."]:
                flags[c] |= UPPER
        elif flags[c] and len(alone[c]) == 1 and len(alone[c][0]) == 1 and chr(c).lower() == alone[c][0]:
            delta[c] = ord(alone[c][0]) - c
    deltas = sorted(set(delta.values()), key=lambda d: (d != 0, d))
    code = [flags[c] | deltas.index(delta[c]) << SHIFT for c in range(0x10000)]
    assert max(code) < 0x10000
    pages, index = [], []
    for first in range(0, 0x10000, PAGE):
        page = code[first:first + PAGE]
        if page not in pages:
            pages.append(page)
        index.append(pages.index(page))
    assert len(pages) <= 256, len(pages)
    version = subprocess.run(["java", "-version"], stderr=subprocess.PIPE, check=True).stderr.decode().split('"')[1]
    with open(sys.argv[2], "w", encoding="ascii") as f:
        f.write(f"/* Made by eval/make_ptb_classes.py from CoreNLP 3.4.1 and Java {version}; do not edit. */\n// clang-format off\n"
                '#include "eval/ptb_match.h"\n\n'
                f'_Static_assert(SU_PTB_PAGE == {PAGE} && SU_PTB_LOWER_SHIFT == {SHIFT}, "pages as generated");\n\n')
        f.write(array("const uint8_t", "su_ptb_page", index) + "\n")
        f.write(array("const uint16_t", "su_ptb_code", [x for p in pages for x in p]) + "\n")
        f.write(array("const int32_t", "su_ptb_delta", deltas))


if __name__ == "__main__":
    main()
