"""What METEOR 1.5 says of captions: tests/golden/meteor.json.gz.

    make_meteor.py OUT.json.gz       needs pycocoevalcap 1.2 (its METEOR jar and table), java, and Debian's wordnet

Texts are captions of datasets/sample (CC BY, CC0; see its ATTRIBUTION.md), tokenised as pycocoevalcap does, against
themselves damaged by a seeded generator: words dropped, doubled, moved, inflected, exchanged for synonyms, captions cut
and joined; lines of few different words, where the search for an alignment has many ties; and marks of every kind, for
METEOR's own splitting. The table of paraphrases that one run uses is made here from the same captions. The jar runs as
pycocoevalcap runs it (-l en -norm), with the stages named.
"""
import csv
import gzip
import io
import json
import os
import random
import subprocess
import sys
import tempfile

import pycocoevalcap.meteor.meteor
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = os.path.dirname(pycocoevalcap.meteor.meteor.__file__)
ITEMS, PAIRED = 300, 150
MARKS = ["t1-weighted", "x--ray", "-", "--", "\u2013", "'s", "n't", "patient's", "1990's", "''", "`", "\u201cmass\u201d", "\u2018a\u2019", "a,b,c",
         "1,000", "1,a", "fig.", "u.s.", "U.S.", "e.g.", "vs.", "pp.", "5.", "..", "...", "a..b", ".5.", "c6", "at", "c5", "t2", "1/2", "37\u00b0c",
         "\u00b5", "\u03a3", "\u0130", "\u00c9t\u00e9", "\u0436\u0416", "a\u00a0b", "\u2003", "\u4e2d\u6587", "$5", "A.", "B", "(", ")", "-lrb-", "\U0001d400"]


def synonyms():
    """Words of one set of WordNet, by word."""
    sets = {}
    for part in ("noun", "verb", "adj", "adv"):
        with open(f"/usr/share/wordnet/data.{part}", encoding="latin-1") as f:
            for line in f:
                if line[0] == " ":
                    continue
                field = line.split()
                words = [field[4 + 2 * k].lower() for k in range(int(field[3], 16))]
                for w in words:
                    sets.setdefault(w, []).extend(x for x in words if x != w and x.isalpha())
    return {w: s for w, s in sets.items() if s}


def inflect(rng, word):
    ending = rng.choice(["s", "es", "ed", "ing", "er", "est", "ly", "ness", "ies"])
    if rng.random() < 0.4 and len(word) > 4:
        return word[:-rng.randrange(1, 3)]
    return (word[:-1] if word.endswith(("e", "y")) and rng.random() < 0.7 else word) + ending


def damage(rng, words, other, same):
    words = list(words)
    for _ in range(rng.randrange(0, 3 + len(words) // 4)):
        at = rng.randrange(len(words)) if words else 0
        kind = rng.randrange(8) if words else 3
        if kind == 0:
            del words[at]
        elif kind == 1:
            words[at] = rng.choice(other)
        elif kind == 2:
            words[at] = inflect(rng, words[at])
        elif kind == 3:
            words.insert(at, rng.choice(other))
        elif kind == 4:
            words.insert(at, rng.choice(["the", "of", "a", "and", "in", words[rng.randrange(len(words))]]))
        elif kind == 5:
            words = words[at:] + words[:at]
        elif kind == 6:
            known = [i for i, w in enumerate(words) if w in same]
            if known:
                at = rng.choice(known)
                words[at] = rng.choice(same[words[at]])
        else:
            end = at + rng.randrange(2, 6)
            part = words[at:end]
            del words[at:end]
            to = rng.randrange(len(words) + 1)
            words[to:to] = part
    return words


def texts():
    with open(os.path.join(ROOT, "datasets/sample/pairs.csv"), encoding="utf-8", newline="") as f:
        captions = [" ".join(row["text"].split()) for row in csv.DictReader(f)]
    rng, same = random.Random(1), synonyms()
    rng.shuffle(captions)
    tokens = PTBTokenizer().tokenize({i: [{"caption": c}] for i, c in enumerate(captions[:ITEMS])})
    lines = [tokens[i][0].split() for i in range(ITEMS)]
    items = []
    for i, line in enumerate(lines):
        other = rng.choice(lines)
        references = [line] + [damage(rng, line, other, same) for _ in range(rng.randrange(3))]
        if i % 10 == 0:
            references = [line + other]
        hypothesis = line if i % 25 == 7 else damage(rng, rng.choice(references), other, same)
        items.append({"h": hypothesis, "r": references, "against": damage(rng, hypothesis, other, same)})
    few = ["the", "of", "a", "lung", "lungs", "mass", "masses", "left", "shows", "show", "display", "in"]
    for i in range(80):  # ties; every eighth hypothesis is a reference, which METEOR treats apart
        some = rng.sample(few, rng.randrange(2, len(few)))
        references = [rng.choices(some, k=rng.randrange(1, 40)) for _ in range(1 + i % 2)]
        items.append({"h": references[-1] if i % 8 == 0 else rng.choices(some, k=rng.randrange(1, 40)), "r": references})
    for i in range(60):  # marks
        some = MARKS + ["a", "lesion"]
        items.append({"h": rng.choices(some, k=rng.randrange(1, 14)), "r": [rng.choices(some, k=rng.randrange(1, 14)) for _ in range(1 + i % 2)]})
    items += [{"h": h.split(), "r": [x.split() for x in r]} for h, r in (
        ("", ["a b"]), ("a b", [""]), ("a", ["a"]), ("the", ["of"]), ("the", ["the", "a"]), ("a b c", ["c b a"]), ("no effusion", ["no effusion", "no effusion"]))]
    # Words of different parts of speech whose sets of WordNet happen to have equal offsets, in METEOR's copy or in Debian's.
    items += [{"h": [a], "r": [[b]]} for a, b in (("catch", "low"), ("cream", "last"), ("stunning", "unburden"), ("canicular", "implicate"),
                                                 ("bound", "demotic"), ("play", "uncharted"), ("snort", "symbololatry"), ("bellow", "fortuitous"))]
    return [{k: [" ".join(x) for x in v] if k == "r" else " ".join(v) for k, v in item.items()} for item in items], lines


def table(lines):
    """Paraphrases of one to four words, some both ways, some twice."""
    rng, out = random.Random(2), []
    def phrase():
        line = rng.choice(lines)
        at = rng.randrange(len(line))
        return " ".join(line[at:at + rng.randrange(1, 5)])
    common = ["the", "of the", "in the", "shows", "showing", "left", "right", "of", "in", "with", "a", "and", "mass", "lungs", "lung", "show the", "in a"]
    for i in range(3000):
        a, b = (rng.choice(common) if rng.random() < p else phrase() for p in (0.5, 0.3))
        out += [(0.5, a, b)] + [(0.25, b, a)] * (i % 3 == 0) + [(0.1, a, b)] * (i % 7 == 0)
    return "".join(f"{p}\n{a}\n{b}\n" for p, a, b in out)


class Meteor:
    def __init__(self, *stages):
        self.process = subprocess.Popen(["java", "-jar", "-Xmx2G", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm", *stages],
                                        cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8")

    def ask(self, line, answers=1):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return [self.process.stdout.readline().strip() for _ in range(answers)]

    def score(self, pairs):
        """Scores, whole, counts in the jar's order."""
        counts = [self.ask(" ||| ".join(["SCORE", *references, hypothesis]))[0] for hypothesis, references in pairs]
        scores = [float(x) for x in self.ask(" ||| ".join(["EVAL", *counts]), len(pairs) + 1)]
        return {"items": scores[:-1], "whole": scores[-1]}, [[int(float(x)) for x in c.split()] for c in counts]


def main():
    items, lines = texts()
    paraphrases = table(lines)
    pairs = [(i["h"], i["r"]) for i in items]
    with tempfile.NamedTemporaryFile(suffix=".gz") as own:
        own.write(gzip.compress(paraphrases.encode()))
        own.flush()
        two = Meteor("-m", "exact stem", "-w", "1.0 0.6")
        out = {"stem": two.score(pairs)[0], "synonym": Meteor("-m", "exact stem synonym", "-w", "1.0 0.6 0.8").score(pairs)[0],
               "paraphrase": Meteor("-a", own.name).score(pairs)[0], "distributed": Meteor().score(pairs)[0]}
    paired = items[:PAIRED]
    out["paired"] = [two.score([(i[side], i["r"]) for i in paired])[1] for side in ("h", "against")]
    for name in ("stem", "synonym", "paraphrase", "distributed"):
        print(name, out[name]["whole"])
    for item in items[PAIRED:]:
        item.pop("against", None)
    out.update(texts=items, table=paraphrases)
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as f:
        f.write(json.dumps(out, ensure_ascii=False, sort_keys=True).encode())
    with open(sys.argv[1], "wb") as f:
        f.write(raw.getvalue())


main()
