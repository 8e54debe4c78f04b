"""What pycocoevalcap says of captions: tests/golden/captions.json.gz.

    make_captions.py OUT.json.gz       needs pycocoevalcap 1.2, SciPy and java

Texts are captions of datasets/sample (CC BY, CC0; see its ATTRIBUTION.md) as they are (references) and damaged by a
seeded generator (hypotheses), and cases that metrics are known to differ on: empty lines, doubled spaces, other white
space, repeated n-grams, equal distances to two references.
"""
import csv
import gzip
import io
import json
import os
import random
import sys

import numpy
import scipy.stats
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ODD = [("", ["a b"]), ("a b", [""]), ("", [""]), ("a  b c", ["a b  c", " a b c "]), ("a\u00a0b\u2003c d", ["a b c d", "a\u00a0b c"]),
       ("the the the the the the the", ["the cat is on the mat", "there is a cat on the mat"]), ("a b c", ["a b", "a b c d"]),
       ("a", ["a"]), ("a b c d e f g", ["a b c d e f g"]), ("x\ty", ["x\ty z", "x y"]), ("é à ü", ["é à ü 中文"]), ("a a b b a a", ["a a a b", "b b a a b"]),
       ("no effusion", ["no effusion", "no effusion", "no effusion or pneumothorax"]), (" ", ["  "]), ("one", ["two three"])]


def damage(rng, words, other):
    words = list(words)
    for _ in range(rng.randrange(1, 2 + len(words) // 4)):
        at = rng.randrange(len(words)) if words else 0
        what = rng.randrange(4)
        if what == 0 and words:
            del words[at]
        elif what == 1 and words:
            words[at] = rng.choice(other)
        elif what == 2:
            words.insert(at, rng.choice(other))
        elif len(words) > 3:
            cut = rng.randrange(1, len(words))
            words = words[cut:] + words[:cut]
    return " ".join(words)


def score(hypotheses, references, tokenise=False):
    gts = {i: r for i, r in enumerate(references)}
    res = {i: [h] for i, h in enumerate(hypotheses)}
    if tokenise:
        gts, res = (PTBTokenizer().tokenize({i: [{"caption": c} for c in x] for i, x in side.items()}) for side in (gts, res))
    bleu, bleus = Bleu(4).compute_score(gts, res, verbose=0)
    rouge, rouges = Rouge().compute_score(gts, res)
    cider, ciders = Cider().compute_score(gts, res)
    return {"bleu": list(map(float, bleu)), "rouge_l": float(rouge), "cider": float(cider),
            "items": [{"bleu": [float(bleus[k][i]) for k in range(4)], "rouge_l": float(rouges[i]), "cider": float(ciders[i])}
                      for i in range(len(hypotheses))]}


def main():
    with open(os.path.join(ROOT, "datasets/sample/pairs.csv"), encoding="utf-8", newline="") as f:
        texts = [" ".join(row["text"].split()) for row in csv.DictReader(f)]
    rng = random.Random(4)
    hypotheses, references = [], []
    for i, text in enumerate(texts):
        other = texts[rng.randrange(len(texts))].split()
        references.append([text] + [damage(rng, text.split(), other) for _ in range(rng.randrange(3))])
        hypotheses.append(damage(rng, text.split(), other) if rng.random() < 0.9 else texts[rng.randrange(len(texts))])
    sets = [{"name": "sample", "hypotheses": hypotheses, "references": references},
            {"name": "odd", "hypotheses": [h for h, _ in ODD], "references": [r for _, r in ODD]},
            {"name": "one", "hypotheses": ["this is a good test"], "references": [["this is a test", "this is also a test"]]}]
    sets.append({"name": "raw", "hypotheses": hypotheses[:150], "references": references[:150]})
    for s in sets:
        s.update(score(s["hypotheses"], s["references"], s["name"] == "raw"))
    # Two systems of one kind: SciPy's paired permutation test of the mean differences of item scores.
    hypotheses, references = hypotheses[:150], references[:150]
    worse = [damage(rng, refs[0].split(), h.split() or ["a"]) for h, refs in zip(hypotheses, references)]
    items = [score(h, references)["items"] for h in (hypotheses, worse)]
    p = {key: float(scipy.stats.permutation_test([numpy.array([i[key] for i in x]) for x in items], lambda a, b, axis: (a - b).mean(axis),
                                                 permutation_type="samples", vectorized=True, n_resamples=20000,
                                                 random_state=1).pvalue) for key in ("rouge_l", "cider")}
    print(p)
    sets.append({"name": "paired", "hypotheses": hypotheses, "references": references, "against": worse, "trials": 20000, "scipy_p": p})
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as f:
        f.write(json.dumps({"sets": sets}, ensure_ascii=False, sort_keys=True).encode())
    with open(sys.argv[1], "wb") as f:
        f.write(raw.getvalue())


main()
