#!/usr/bin/env python3
"""`suture eval caption` against pycocoevalcap with its Java programs: the same pairs, in turns, in one run.

    python3 bench/captions.py build/suture --paraphrases paraphrase-en.gz --shared ../shared [--pairs 100000] [--rounds 1]

Needs pycocoevalcap and java. Both start from captions as written: PTB tokens, BLEU-1..4, ROUGE-L, CIDEr; then the same with METEOR
1.5, all four stages, on both sides. SPICE runs on neither. Ours is the whole command, files read and receipt written included;
pycocoevalcap gets its dictionaries ready-made. Figures must be equal to 1e-9, or nothing is printed. Captions are halves of two
ROCO captions each, so that no two are alike. Memory is the peak of the process; of pycocoevalcap, of Python and of its largest Java.
"""

import argparse
import csv
import json
import multiprocessing
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


SPAWN = """import json, os, sys, time
start = time.perf_counter()
_, status, use = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[
    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]), 0)
print(json.dumps([time.perf_counter() - start, use.ru_utime + use.ru_stime, use.ru_maxrss]))
sys.exit(status != 0)
"""


def used(start, clock, before):
    """Seconds by the clock and of the processor since, of this process and its children."""
    now = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return clock - start, sum(u.ru_utime + u.ru_stime for u in now) - before


def ours(program, folder, *more):
    command = [program, "eval", "caption", "--hypotheses", f"{folder}/h", "--references", f"{folder}/r", "--json", f"{folder}/json",
               "--quiet", *more]
    # From a small process: a child's peak of memory begins with that of the one that it is forked from.
    done = subprocess.run([sys.executable, "-S", "-c", SPAWN, *command], stdout=subprocess.PIPE, check=True)
    clock, processor, memory = json.loads(done.stdout)
    with open(f"{folder}/json", encoding="utf-8") as f:
        document = json.load(f)
    return clock, processor, f"{memory / 1024:.0f}", document["bleu"] + [document["rouge_l"], document["cider"], document["meteor"]]


def theirs_here(hypotheses, references, with_meteor, pipe):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
    start = time.perf_counter()
    before = sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
    gts, res = (PTBTokenizer().tokenize(side) for side in (references, hypotheses))
    bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
    figures = [float(x) for x in (*bleu, Rouge().compute_score(gts, res)[0], Cider().compute_score(gts, res)[0])]
    if with_meteor:
        meteor = Meteor()
        figures.append(meteor.compute_score(gts, res)[0])
        del meteor  # waits for its Java, whose time counts from then on
    else:
        figures.append(None)
    clock, processor = used(start, time.perf_counter(), before)
    memory = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    pipe.send((clock, processor, "{:.0f} + {:.0f}".format(*memory), figures))


def theirs(*arguments):
    """In a process of its own, for its memory."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=theirs_here, args=(*arguments, there))
    process.start()
    result = here.recv()
    process.join()
    return result


def check(runs, wanted):
    for name, results in runs.items():
        for *_, figures in results:
            if any((a is None) != (b is None) or (a is not None and abs(a - b) > 1e-9) for a, b in zip(figures, wanted)):
                sys.exit(f"{name}: {figures} is not {wanted}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="suture")
    parser.add_argument("--shared", default="../shared", help="folder that holds data/roco")
    parser.add_argument("--paraphrases", required=True, help="METEOR's table, pycocoevalcap/meteor/data/paraphrase-en.gz")
    parser.add_argument("--pairs", type=int, default=100000)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    hypotheses, references = pairs_of(args.shared, args.pairs)
    sides = [{i: [{"caption": c}] for i, c in enumerate(side)} for side in (hypotheses, references)]
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for name, key, side in (("h", "caption", hypotheses), ("r", "captions", [[c] for c in references])):
            with open(f"{folder}/{name}", "w", encoding="utf-8") as f:
                f.writelines(json.dumps({"id": i, key: c}) + "\n" for i, c in enumerate(side))
        for title, meteor, options in (("without METEOR", False, ["--no-meteor"]), ("with METEOR", True, ["--paraphrases", args.paraphrases])):
            def suture(*more, options=options):
                return ours(args.program, folder, *options, *more)
            kinds = {"suture, all cores": lambda f=suture: f("--draws", "0"),
                     "suture, 1 thread": lambda f=suture: f("--draws", "0", "--threads", "1"),
                     "suture, all cores, 1,000 bootstrap draws": lambda f=suture: f(),
                     "pycocoevalcap": lambda m=meteor: theirs(*sides, m)}
            runs = {}
            for _ in range(args.rounds):
                for name, work in kinds.items():
                    runs.setdefault(name, []).append(work())
            check(runs, runs["pycocoevalcap"][0][-1])
            parts.append((title, runs))
    print(f"{args.pairs} pairs, {os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}, {args.rounds} rounds in turns, medians")
    for title, runs in parts:
        print(f"\n{title:42}  {'clock':>10}  {'processor':>10}  {'memory, MB':>12}  ratios")
        clock, processor = (statistics.median(r[k] for r in runs["pycocoevalcap"]) for k in (0, 1))
        for name, results in runs.items():
            c, p = (statistics.median(r[k] for r in results) for k in (0, 1))
            print(f"{name:42}  {c:8.2f} s  {p:8.2f} s  {results[0][2]:>12}  {clock / c:.1f} x  {processor / p:.1f} x")


main()
