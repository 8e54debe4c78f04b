"""The texts on which the PTB tokenizer is compared with Java's: {name: lines}; lines hold no line ends, and follow each
other as in one file. For make_ptb.py, which asks Java, and tests/eval/check_ptb.py, which asks Suture."""
import csv
import hashlib
import json
import os
import random
import re
import tarfile
import xml.etree.ElementTree as ET

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HARD = os.path.join(ROOT, "tests/golden/ptb_hard.txt")
BLOCKS = os.path.join(ROOT, "tests/golden/ptb_blocks.txt")
BLOCK = 64  # lines
GENERATED = 30000

# Pieces of which most mean something to the tokenizer, alone or beside the right neighbour.
PIECES = """a b q A B I T x T1 T2 ab Ab AB é É ü the The This In lobe mm CT word cannot Cannot gonna wanna lemme gimme gotta don ain 've 'll
're 's 'S 'm 'd n't N'T 'tis 'twas 'em 'n 'til 'cause '90s '80s '90 y'all d'un l'a L'A O'B o'clock ma'am c'mon s'mores ol' J' x'ab ba'a
e.g. i.e. U.S. u.s.a a.m. Ph.D. ph.d. M.D. A. a. b. I. Dr. dr. Mr. mr. etc. Etc. al. Jan. jan. Inc. inc. Co. St. vs. No. no. fig. Fig. figs.
ca. pp. art. Tex. tex. Wash. Miss. sq. ft. in. cm. Pty. ptY. approx. 0 1 5 9 12 99 123 555 1234 2010 12345 1,000 1.5 .5 -5 +5 1/2 3/4 11/22
5/6/2010 10:30 1-1/2 10% 37° $5 US$ A$ C$ £ € ¢ ¥ ½ ¼ ⅓ x² ¹ ₂ ⁻ ± × ÷ µ α Ω ά 中 文 テ 한 ا ١ ٢ ٫ ٬ 、 。 ( ) [ ] { } < > <b> </b> <br/>
<a x="1"> <!-- > <?x " ' ` `` '' “ ” ‘ ’ « » ‹ › ‛ ‟ „ & &amp; &lt; &gt; &quot; &apos; &nbsp; &mdash; &#39; &eacute; &UR; . .. ... ....
…  , ; : :: ! ? !? !! - -- --- – — ― ‐ ‑ _ __ / // \\ \\/ | ~ ^ * ** @ @a # ## #a % + ++ = == $ C# c++ .NET http:// https:// www.
.com .org/x a@b.c .txt .png .c, .h. :) :-) ;-) :D ^_^ x_x (x.x) (^^) -_- AT&T A+B a/b and/or w/o \u00a0 \u2009 \t \u3000 \u00ad \u200b \ufffd \ufeff
\u0301 \u0092 \u0096 \u0080 \u0131 \u0130 Σ ς ﬁ Ａ １ 😀 𝐀 (555) 555-1234 +44 020 7946 a.b a-b x-1 1-x a.b. q.d. b.i.d. A.B-c 5-a.m. 3x4 10x""".split(" ")
PIECES = [p for piece in PIECES for p in piece.split("\n") if p]


def generated(count, seed=1):
    rng = random.Random(seed)
    for _ in range(count):
        yield "".join(rng.choice(PIECES) + (" " if rng.random() < 0.35 else "") for _ in range(1 + int(rng.random() * 12)))


def plain(text):
    return re.sub("[\n\r\x0b\x0c\x85\u2028\u2029]", " ", text)


def column(path):
    with open(path, encoding="utf-8", newline="") as f:
        return [plain(row["text"]) for row in csv.DictReader(f)]


def hard():
    """[(line, its tokens)]"""
    with open(HARD, encoding="utf-8", newline="") as f:
        lines = f.read().split("\n")[:-1]
    return list(zip(lines[::2], lines[1::2]))


def openi(path):
    out = []
    with tarfile.open(path) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            if member.name.endswith(".xml"):
                out += [plain(e.text) for e in ET.parse(tar.extractfile(member)).getroot().iter("AbstractText") if e.text]
    return out


def blocks(token_lines):
    return [hashlib.sha256("\n".join(token_lines[i:i + BLOCK]).encode()).hexdigest()[:12] for i in range(0, len(token_lines), BLOCK)]


def here():
    """What this checkout holds."""
    return {"sample": column(os.path.join(ROOT, "datasets/sample/pairs.csv")), "generated": list(generated(GENERATED))}


def shared(folder):
    """What the shared data folder holds."""
    data = os.path.join(folder, "data")
    with open(os.path.join(data, "vocab/bert_uncased_squad_questions.jsonl"), encoding="utf-8") as f:
        squad = [plain(json.loads(line)["original"]) for line in f]
    return {"roco": column(os.path.join(data, "roco/pairs.csv")), "roco-extra": column(os.path.join(data, "roco/captions_extra.csv")),
            "openi": openi(os.path.join(data, "openi/NLMCXR_reports.tgz")), "squad": squad}
