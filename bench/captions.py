#!/usr/bin/env python3
"""`suture eval caption` against pycocoevalcap with its Java tokenizer: the same pairs, in turns, in one run.

    python3 bench/captions.py build/suture --shared ../shared [--pairs 100000] [--rounds 2]    (needs pycocoevalcap and java)

Both start from captions as written: PTB tokens, BLEU-1..4, ROUGE-L, CIDEr. Ours is the whole command, files read and receipt
written included; pycocoevalcap gets its dictionaries ready-made. METEOR and SPICE run on neither side. Figures must be equal to
1e-9, or nothing is printed. Captions are halves of two ROCO captions each, so that no two are alike.
"""

import argparse
import csv
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time


def pairs_of(shared, count):
    captions = []
    for name in ("pairs.csv", "captions_extra.csv"):
        with open(f"{shared}/data/roco/{name}", encoding="utf-8", newline="") as f:
            captions += [" ".join(row["text"].split()) for row in csv.DictReader(f)]
    rng = random.Random(4)
    halves = [c.split() for c in captions]

    def splice(a, b):
        return " ".join(a[:len(a) // 2] + b[len(b) // 2:])

    hypotheses, references = [], []
    for i in range(count):
        a, b, c = halves[i % len(halves)], rng.choice(halves), rng.choice(halves)
        references.append(splice(a, b))
        hypotheses.append(splice(a, c) if i % 2 else splice(c, b))
    return hypotheses, references


def processor_seconds(who):
    use = resource.getrusage(who)
    return use.ru_utime + use.ru_stime


def timed(work):
    start, own, children = time.perf_counter(), processor_seconds(resource.RUSAGE_SELF), processor_seconds(resource.RUSAGE_CHILDREN)
    result = work()
    return (time.perf_counter() - start,
            processor_seconds(resource.RUSAGE_SELF) - own + processor_seconds(resource.RUSAGE_CHILDREN) - children, result)


def ours(program, folder, *more):
    done = subprocess.run([program, "eval", "caption", "--hypotheses", f"{folder}/h", "--references", f"{folder}/r", "--json", "-",
                           "--quiet", *more], stdout=subprocess.PIPE, check=True)
    document = json.loads(done.stdout)
    return document["bleu"] + [document["rouge_l"], document["cider"]]


def theirs(hypotheses, references):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
    gts, res = (PTBTokenizer().tokenize(side) for side in (references, hypotheses))
    bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
    return [float(x) for x in (*bleu, Rouge().compute_score(gts, res)[0], Cider().compute_score(gts, res)[0])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="suture")
    parser.add_argument("--shared", default="../shared", help="folder that holds data/roco")
    parser.add_argument("--pairs", type=int, default=100000)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    hypotheses, references = pairs_of(args.shared, args.pairs)
    sides = [{i: [{"caption": c}] for i, c in enumerate(side)} for side in (hypotheses, references)]
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, key, side in (("h", "caption", hypotheses), ("r", "captions", [[c] for c in references])):
            with open(f"{folder}/{name}", "w", encoding="utf-8") as f:
                f.writelines(json.dumps({"id": i, key: c}) + "\n" for i, c in enumerate(side))
        kinds = {"suture, all cores": lambda: ours(args.program, folder, "--draws", "0"),
                 "suture, 1 thread": lambda: ours(args.program, folder, "--draws", "0", "--threads", "1"),
                 "suture, all cores, 1,000 bootstrap draws": lambda: ours(args.program, folder),
                 "pycocoevalcap": lambda: theirs(*sides)}
        for _ in range(args.rounds):
            for name, work in kinds.items():
                runs.setdefault(name, []).append(timed(work))
    wanted = runs["pycocoevalcap"][0][2]
    for name, results in runs.items():
        for _, _, figures in results:
            if max(abs(a - b) for a, b in zip(figures, wanted)) > 1e-9:
                sys.exit(f"{name}: {figures} is not {wanted}")
    print(f"{args.pairs} pairs, {os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}, {args.rounds} rounds in turns, medians")
    clock, processor = (statistics.median(r[k] for r in runs["pycocoevalcap"]) for k in (0, 1))
    for name, results in runs.items():
        c, p = (statistics.median(r[k] for r in results) for k in (0, 1))
        print(f"{name:42}  {c:8.2f} s  {p:8.2f} s of processor  {clock / c:6.1f} x  {processor / p:6.1f} x")


main()
