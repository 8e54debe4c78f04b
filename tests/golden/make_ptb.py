"""What Stanford's PTBTokenizer says of texts: tests/golden/ptb_hard.txt and ptb_blocks.txt.

    make_ptb.py stanford-corenlp-3.4.1.jar SHARED      needs a Java run time; the jar comes with pycocoevalcap (PyPI)

ptb_hard.txt: a line, below it its tokens, and so on; the lines follow each other as in one file. Add a line and an empty one,
and run this. ptb_blocks.txt: of the texts of ptb_texts.py, 64 lines at a time, the beginning of the SHA-256 of their token
lines, since most of the texts may not be copied here.
"""
import subprocess
import sys
import tempfile

import ptb_texts


def java(lines):
    with tempfile.NamedTemporaryFile() as f:
        f.write("\n".join(lines).encode())
        f.flush()
        done = subprocess.run(["java", "-cp", sys.argv[1], "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", f.name],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    out = done.stdout.decode().split("\n")
    assert len(out) == len(lines) + (out[-1] == ""), (len(out), len(lines))
    return out[:len(lines)]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    lines = [line for line, _ in ptb_texts.hard()]
    with open(ptb_texts.HARD, "w", encoding="utf-8", newline="\n") as f:
        for line, tokens in zip(lines, java(lines)):
            f.write(f"{line}\n{tokens}\n")
    with open(ptb_texts.BLOCKS, "w", encoding="ascii") as f:
        for name, texts in {**ptb_texts.here(), **ptb_texts.shared(sys.argv[2])}.items():
            f.write(f"{name} {len(texts)} {' '.join(ptb_texts.blocks(java(texts)))}\n")


main()
