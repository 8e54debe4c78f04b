#!/usr/bin/env python3
"""Suture's WordPiece against Hugging Face's Rust `tokenizers`: one core, the same texts, in turns, in one run.

    cmake -B build -DSUTURE_BENCH=ON && ninja -C build bench_tokenizer
    python3 bench/tokenizer.py build/bench/bench_tokenizer --shared ../shared      (needs transformers and tokenizers)

The Rust side is called as its users call it, and the faster of encode_batch and encode_batch_fast (no offsets) counts;
its ids are not fetched into Python. Ours writes its ids. Both are checked to give the same number of tokens.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"


def resident_kib():
    with open("/proc/self/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def texts_of(shared):
    captions = []
    for name in ("pairs.csv", "captions_extra.csv"):
        with open(f"{shared}/data/roco/{name}", encoding="utf-8", newline="") as f:
            captions += [row["text"] for row in csv.DictReader(f)]
    with open(f"{shared}/data/vocab/bert_uncased_squad_questions.jsonl", encoding="utf-8") as f:
        questions = [json.loads(line)["original"] for line in f]
    clean = lambda texts: [t.replace("\n", " ") for t in texts]
    return {"ROCO captions": clean(captions), "SQuAD questions": clean(questions)}


def cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        return next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.machine())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="bench_tokenizer")
    parser.add_argument("--shared", default="../shared", help="folder that holds data/vocab and data/roco")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()

    cpu = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    import tokenizers
    import transformers

    vocab = f"{args.shared}/data/vocab/bert-base-uncased-vocab.txt"
    before, start = resident_kib(), time.perf_counter()
    with open(vocab, encoding="utf-8") as f:
        tokenizer = transformers.BertTokenizerFast(vocab={t.rstrip("\n"): i for i, t in enumerate(f)})._tokenizer
    tokenizer.encode_special_tokens = True
    rust_load, rust_memory = time.perf_counter() - start, resident_kib() - before

    def rust(call, batch):
        start = time.perf_counter()
        encodings = call(batch, add_special_tokens=False)
        seconds = time.perf_counter() - start
        return sum(len(e) for e in encodings), seconds

    print(f"{cpu_name()}, one core ({cpu}), Python {platform.python_version()}, "
          f"tokenizers {tokenizers.__version__}, transformers {transformers.__version__}")
    for name, texts in texts_of(args.shared).items():
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="") as f:
            f.write("\n".join(texts) + "\n")
            f.flush()
            with subprocess.Popen([args.program, vocab, f.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True) as ours:
                loaded = json.loads(ours.stdout.readline())
                rows = []
                for _ in range(args.rounds + 1):
                    ours.stdin.write("\n")
                    ours.stdin.flush()
                    a = json.loads(ours.stdout.readline())
                    tokens, b = rust(tokenizer.encode_batch, texts)
                    tokens_fast, c = rust(tokenizer.encode_batch_fast, texts)
                    assert a["tokens"] == tokens == tokens_fast, "the two do not agree on the tokens"
                    rows.append((tokens / a["seconds"], tokens / min(b, c)))
                ours.stdin.close()
        rows = rows[1:]  # the first round warms both
        ratios = [a / b for a, b in rows]
        print(f"{name}: {len(texts)} texts, {tokens} tokens, {args.rounds} rounds in turns")
        for side, i in (("suture", 0), ("tokenizers", 1)):
            rates = [r[i] / 1e6 for r in rows]
            print(f"  {side:<11} {statistics.median(rates):7.2f} M tokens/s   ({min(rates):.2f} to {max(rates):.2f})")
        print(f"  ratio       {statistics.median(ratios):7.1f}              ({min(ratios):.1f} to {max(ratios):.1f})")
    print(f"vocabulary in memory: suture {loaded['memory_kib']} KiB in {loaded['load_seconds'] * 1e3:.1f} ms; "
          f"tokenizers {rust_memory} KiB in {rust_load * 1e3:.1f} ms (through transformers)")


if __name__ == "__main__":
    main()
