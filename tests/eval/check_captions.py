"""`suture eval caption` against pycocoevalcap's recorded figures, and from the outside as a user sees it.

    check_captions.py SUTURE

The shared data folder's cases (environment SUTURE_SHARED, else ../shared beside the checkout) are skipped without it.
"""
import collections
import gzip
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import unittest

import numpy

SUTURE = os.path.abspath(sys.argv[1])
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHARED = os.environ.get("SUTURE_SHARED") or os.path.join(ROOT, "../shared")
RECORDED = os.path.join(SHARED, "data/caption-metrics")
EXACT = 1e-9  # what the issue promises against pycocoevalcap


def golden(name):
    with gzip.open(os.path.join(ROOT, "tests/golden/captions.json.gz")) as f:
        return next(s for s in json.load(f)["sets"] if s["name"] == name)


# --- CIDEr from the definition ---------------------------------------------------------------------------------------

def grams(text, n):
    words = text.split()
    return collections.Counter(tuple(words[i:i + n]) for i in range(len(words) - n + 1))


def cider(hypotheses, references, corpus, clipped):
    out = []
    documents = [[grams(r, n) for r in refs for n in (1, 2, 3, 4)] for refs in corpus]
    seen = collections.Counter(g for bags in documents for g in set().union(*bags))

    def vector(text, n):
        return {g: c * (math.log(len(corpus)) - math.log(max(1, seen[g]))) for g, c in grams(text, n).items()}

    def length(v):
        return math.sqrt(sum(x * x for x in v.values()))

    for text, refs in zip(hypotheses, references):
        total = 0
        for ref in refs:
            delta = sum(grams(text, 2).values()) - sum(grams(ref, 2).values())
            for n in (1, 2, 3, 4):
                h, r = vector(text, n), vector(ref, n)
                dot = sum((min(h[g], r[g]) if clipped else h[g]) * r[g] for g in h if g in r)
                size = length(h) * length(r)
                total += (dot / size if size else dot) * (math.exp(-delta * delta / 72) if clipped else 1)
        out.append(10 * total / 4 / len(refs))
    return out


# --- resampling, with the same random numbers in NumPy ---------------------------------------------------------------

def philox(seed, step, name, blocks):
    """[blocks, 4]: Philox4x32-10 as base/rng.c keys it."""
    layer = 2166136261
    for c in name.encode():
        layer = (layer ^ c) * 16777619 & 0xFFFFFFFF
    mask = numpy.uint64(0xFFFFFFFF)
    shift = numpy.uint64(32)
    counter = numpy.arange(blocks, dtype=numpy.uint64)
    x = [counter & mask, counter >> shift, numpy.full(blocks, step, numpy.uint64), numpy.full(blocks, layer, numpy.uint64)]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        a, b = x[0] * numpy.uint64(0xD2511F53), x[2] * numpy.uint64(0xCD9E8D57)
        x = [(b >> shift) ^ x[1] ^ numpy.uint64(k0), b & mask, (a >> shift) ^ x[3] ^ numpy.uint64(k1), a & mask]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return numpy.stack(x, 1)


def counts(hypotheses, references):
    """[items, 10]: correct and possible n-grams, length, closest length, from which BLEU is made."""
    rows = []
    for h, refs in zip(hypotheses, references):
        row, n = [], len(h.split())
        for k in (1, 2, 3, 4):
            best = collections.Counter()
            for r in refs:
                best |= grams(r, k)
            row.append(sum((grams(h, k) & best).values()))
        row += [max(0, n - k + 1) for k in (1, 2, 3, 4)]
        rows.append(row + [n, min((abs(len(r.split()) - n), len(r.split())) for r in refs)[1]])
    return numpy.array(rows, float)


def figures(rows):
    """[draws, 6] of [draws, items or sums, 10 + 2]: BLEU-1..4, ROUGE-L, CIDEr."""
    s = rows.sum(1)
    product = numpy.cumprod((s[:, :4] + 1e-15) / (s[:, 4:8] + 1e-9), 1)
    ratio = (s[:, 8] + 1e-15) / (s[:, 9] + 1e-9)
    penalty = numpy.where(ratio < 1, numpy.exp(1 - 1 / ratio), 1)
    return numpy.concatenate([product ** (1 / numpy.arange(1, 5)) * penalty[:, None], s[:, 10:] / rows.shape[1]], 1)


def flat(document):
    return numpy.array(document["bleu"] + [document["rouge_l"], document["cider"]])


def flat_ci95(document):
    return numpy.array(document["bleu_ci95"] + [document["rouge_l_ci95"], document["cider_ci95"]]).T


# --- running the command ---------------------------------------------------------------------------------------------

class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="suture-captions-")
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def file(self, name, content):
        with open(self.path(name), "wb") as f:
            f.write(content if isinstance(content, bytes) else content.encode())
        return self.path(name)

    def lines(self, name, records):
        return self.file(name, "".join(json.dumps(r) + "\n" for r in records))

    def hypotheses(self, texts, name="h.jsonl"):
        return self.lines(name, [{"id": str(i), "caption": t} for i, t in enumerate(texts)])

    def references(self, texts, name="r.jsonl"):
        return self.lines(name, [{"id": str(i), "captions": t} for i, t in enumerate(texts)])

    def suture(self, *words):
        return subprocess.run([SUTURE, "eval", "caption", *words], capture_output=True, text=True)

    def evaluate(self, h, r, *more, tokenizer="whitespace"):
        """The document with "items" in it."""
        done = self.suture("--hypotheses", h, "--references", r, "--tokenizer", tokenizer, "--items", self.path("items"),
                           "--json", "-", *more)
        self.assertEqual(done.returncode, 0, done.stderr)
        document = json.loads(done.stdout)
        with open(self.path("items"), encoding="utf-8") as f:
            document["items"] = [json.loads(line) for line in f]
        self.stderr = done.stderr
        return document

    def close(self, got, wanted, at):
        self.assertLessEqual(abs(got - wanted), EXACT, at)

    def same_figures(self, got, wanted, at):
        for k in range(4):
            self.close(got["bleu"][k], wanted["bleu"][k], f"{at}: BLEU-{k + 1}")
        for key in ("rouge_l", "cider"):
            self.close(got[key], wanted[key], f"{at}: {key}")
        self.assertEqual(got["cider_d"], got["cider"])


class Figures(Case):
    def check(self, s, **options):
        got = self.evaluate(self.hypotheses(s["hypotheses"]), self.references(s["references"]), **options)
        self.assertEqual(got["n"], len(s["hypotheses"]))
        self.same_figures(got, s, "whole")
        self.assertEqual([i["id"] for i in got["items"]], [str(i) for i in range(got["n"])])
        for i, (a, b) in enumerate(zip(got["items"], s["items"])):
            self.same_figures(a, b, f"item {i}")
        return got

    def test_captions_of_the_sample_score_as_pycocoevalcap_scores_them(self):
        self.check(golden("sample"))

    def test_empty_lines_and_odd_spaces_score_as_pycocoevalcap_scores_them(self):
        self.check(golden("odd"))

    def test_raw_captions_score_as_with_the_java_tokenizer(self):
        self.check(golden("raw"), tokenizer="ptb")

    def test_the_cider_of_one_item_is_zero_and_a_hint_says_what_to_do(self):
        self.assertEqual(self.check(golden("one"))["cider"], 0)
        self.assertIn("--document-frequency", self.stderr)

    def test_cider_of_a_fixed_corpus_and_the_original_follow_the_definition(self):
        s = golden("sample")
        h, r, corpus = s["hypotheses"][:40], s["references"][:40], s["references"][20:]
        got = self.evaluate(self.hypotheses(h), self.references(r), "--document-frequency", self.references(corpus, "corpus"))
        for i, (a, d, o) in enumerate(zip(got["items"], cider(h, r, corpus, True), cider(h, r, corpus, False))):
            self.close(a["cider"], d, i)
            self.close(a["cider_original"], o, i)
        self.close(got["cider_original"], sum(cider(h, r, corpus, False)) / 40, "whole")
        self.assertEqual(got["receipt"]["documents"], len(corpus))
        one = self.evaluate(self.hypotheses(h[:1]), self.references(r[:1]), "--document-frequency", self.path("corpus"))
        self.assertEqual(one["items"][0]["cider"], got["items"][0]["cider"])
        self.assertGreater(one["cider"], 0)

    def test_the_shared_reports_score_as_recorded(self):
        if not os.path.isdir(RECORDED):
            self.skipTest("no " + RECORDED)
        for name in sorted(os.listdir(RECORDED)):
            with open(os.path.join(RECORDED, name), encoding="utf-8") as f:
                data = json.load(f) if name.endswith(".json") else {}
            if "per_item" in data:
                whole, items = data["recomputed_with_pycocoevalcap"], data["per_item"]
                figures = [{"bleu": [items[f"Bleu_{k}"][i] for k in (1, 2, 3, 4)], "rouge_l": items["ROUGE_L"][i],
                            "cider": items["CIDEr"][i]} for i in range(data["n"])]
                self.check({"hypotheses": data["hypotheses"], "references": data["references"], "items": figures,
                            "bleu": [whole[f"Bleu_{k}"] for k in (1, 2, 3, 4)], "rouge_l": whole["ROUGE_L"], "cider": whole["CIDEr"]})
            for case in data.get("cases", []):
                whole = case["recomputed_with_pycocoevalcap"]
                got = self.evaluate(self.hypotheses(case["hyps"]), self.references(case["refs"]))
                self.same_figures(got, {"bleu": [whole[f"Bleu_{k}"] for k in (1, 2, 3, 4)], "rouge_l": whole["ROUGE_L"],
                                        "cider": whole["CIDEr"]}, name)


class Resampling(Case):
    N, DRAWS, SEED = 150, 400, 5000000007

    def systems(self):
        s = golden("sample")
        r = s["references"][:self.N]
        a = s["hypotheses"][:self.N]
        b = [" ".join(w for k, w in enumerate(h.split()) if (k + i) % 5) if i % 3 else h for i, h in enumerate(a)]
        return a, b, r

    def run_both(self, *more):
        a, b, r = self.systems()
        one = self.evaluate(self.hypotheses(b, "b"), self.references(r))
        both = self.evaluate(self.hypotheses(a, "a"), self.references(r), "--against", self.path("b"), "--seed", str(self.SEED), *more)
        rows = [numpy.concatenate([counts(h, r), [[i["rouge_l"], i["cider"]] for i in d["items"]]], 1) for h, d in ((a, both), (b, one))]
        return both, one, rows

    def test_intervals_are_those_of_the_same_draws_in_numpy(self):
        got, other, (a, b) = self.run_both("--draws", str(self.DRAWS))
        self.assertEqual(list(flat(got["against"])), list(flat(other)))
        drawn = [(philox(self.SEED, d, "caption bootstrap", (self.N + 3) // 4).ravel()[:self.N] * numpy.uint64(self.N)
                  >> numpy.uint64(32)).astype(int) for d in range(self.DRAWS)]
        fa, fb = (figures(rows[numpy.stack(drawn)]) for rows in (a, b))
        for document, values in ((got, fa), (got["against"], fb), ({k: v for k, v in got["against"]["difference_ci95"].items()}, fa - fb)):
            wanted = numpy.percentile(values, (2.5, 97.5), axis=0)
            self.assertLess(abs(flat_ci95(document) - wanted).max(), EXACT)

    def test_p_is_that_of_the_same_swaps_in_numpy(self):
        got, _, (a, b) = self.run_both("--draws", str(self.DRAWS))
        observed = (figures(a[None]) - figures(b[None]))[0]
        self.assertLess(abs(flat(got["against"]["difference"]) - observed).max(), EXACT)
        extreme = 0
        for d in range(self.DRAWS):
            words = philox(self.SEED, d, "caption swap", (self.N + 127) // 128).ravel()
            swap = (words[numpy.arange(self.N) // 32] >> (numpy.arange(self.N) % 32).astype(numpy.uint64) & numpy.uint64(1)).astype(bool)
            x, y = numpy.where(swap[:, None], b, a), numpy.where(swap[:, None], a, b)
            extreme = extreme + (abs(figures(x[None]) - figures(y[None]))[0] >= abs(observed) - 1e-12)
        wanted = (1 + extreme) / (1 + self.DRAWS)
        self.assertLess(abs(flat(got["against"]["p"]) - wanted).max(), EXACT)

    def test_the_paired_test_agrees_with_scipys_permutation_test(self):
        """Recorded in the golden file: other random numbers, so within five standard errors of both."""
        s = golden("paired")
        got = self.evaluate(self.hypotheses(s["hypotheses"]), self.references(s["references"]), "--against",
                            self.hypotheses(s["against"], "b"), "--draws", str(s["trials"]))
        for key, p in s["scipy_p"].items():
            found = got["against"]["p"][key]
            self.assertGreater(p, 0.002)  # a case that tells something
            self.assertLess(abs(found - p), 5 * math.sqrt(2 * p * (1 - p) / s["trials"]), key)

    def test_a_system_against_itself_differs_by_nothing(self):
        a, _, r = self.systems()
        got = self.evaluate(self.hypotheses(a), self.references(r), "--against", self.hypotheses(a, "b"), "--draws", "50")
        self.assertEqual(list(flat(got["against"]["difference"])), [0] * 6)
        self.assertEqual(list(flat(got["against"]["p"])), [1] * 6)
        self.assertEqual(flat_ci95(got["against"]["difference_ci95"]).tolist(), [[0] * 6] * 2)

    def test_any_number_of_threads_draws_the_same(self):
        a, b, r = self.systems()
        h, o, r = self.hypotheses(a), self.hypotheses(b, "b"), self.references(r)
        one, *others = [self.evaluate(h, r, "--against", o, "--draws", "100", "--threads", str(t)) for t in (1, 2, 5)]
        for other in others:
            for d in (one, other):
                d.pop("receipt", None)
            self.assertEqual(other, one)

    def test_without_draws_there_are_neither_intervals_nor_p(self):
        a, b, r = self.systems()
        got = self.evaluate(self.hypotheses(a), self.references(r), "--against", self.hypotheses(b, "b"), "--draws", "0")
        self.assertFalse([k for d in (got, got["against"]) for k in d if k.endswith("ci95") or k == "p"])
        self.assertIsNone(got["receipt"]["interval"])

    def test_only_ids_of_both_systems_are_compared(self):
        a, b, r = self.systems()
        got = self.evaluate(self.hypotheses(a[:100]), self.references(r), "--against", self.hypotheses(b[:90], "b"), "--draws", "10")
        self.assertEqual(got["n"], 90)
        self.assertEqual(sum(not f["scored"] for f in got["flaws"]), 10 + 50)


class Files(Case):
    H = [{"id": "1", "caption": "a b c d"}, {"id": 2, "caption": "b c d e"}, {"id": "x", "caption": "e f g h"}]
    R = [{"id": 1, "captions": ["a b c d e"]}, {"id": "2", "captions": ["b c d", "c d e"]}, {"id": "x", "captions": ["e g h"]}]

    def plain(self):
        return self.evaluate(self.lines("h", self.H), self.lines("r", self.R))

    def figures(self, document):
        return {k: document[k] for k in ("n", "bleu", "rouge_l", "cider", "cider_original", "items")}

    def left_out(self, document):
        return [(f["file"], f.get("line", f.get("entry")), f["id"]) for f in document["flaws"] if not f["scored"]]

    def test_any_number_of_threads_gives_the_same_bytes(self):
        s = golden("sample")
        h, r = self.hypotheses(s["hypotheses"]), self.references(s["references"])
        one, *others = [self.figures(self.evaluate(h, r, "--threads", str(t))) for t in (1, 2, 5)]
        for other in others:
            self.assertEqual(other, one)

    def test_coco_files_score_as_they_are(self):
        wanted = self.plain()
        h = self.file("results.json", json.dumps([{"image_id": r["id"], "caption": r["caption"]} for r in self.H]))
        r = self.file("annotations.json", json.dumps({"info": {}, "images": [{"id": 1}], "annotations": [
            {"id": 90 + i, "image_id": r["id"], "caption": c} for i, r in enumerate(self.R) for c in r["captions"]]}, indent=1))
        got = self.evaluate(h, r)
        self.assertEqual(self.figures(got), self.figures(wanted))
        self.assertEqual(got["receipt"]["files"]["references"]["form"], "COCO")

    def test_the_receipt_names_files_tokenizer_source_and_version(self):
        receipt = self.plain()["receipt"]
        for role, name in (("hypotheses", "h"), ("references", "r")):
            with open(self.path(name), "rb") as f:
                self.assertEqual(receipt["files"][role]["sha256"], hashlib.sha256(f.read()).hexdigest())
        self.assertEqual(receipt["tokenizer"], "whitespace")
        self.assertIn("references", receipt["document_frequency"])
        self.assertTrue(receipt["version"] and receipt["command"].startswith("suture eval caption"))

    def test_bad_lines_are_left_out_counted_and_listed(self):
        h = self.file("bad.jsonl", b"\n".join([
            json.dumps(self.H[0]).encode(), b'{"id":"2","caption":"\xff\xfe"}', b'{"caption":"no id"}', b'{"id":"3"}',
            b'{"id":"4","caption":5}', b'[1]', json.dumps({"id": "1", "caption": "again"}).encode(), b'',
            json.dumps(self.H[2]).encode(), json.dumps({"id": "alone", "caption": "only here"}).encode(), b'{"id":1.5,"caption":"a"}',
            b'{"id":"9","caption":"\\u0000"}', b'{"id":"x2","caption":"cut']))
        got = self.evaluate(h, self.lines("r", self.R))
        self.assertEqual(got["n"], 2)
        self.assertEqual(sorted(self.left_out(got), key=str),
                         sorted([("hypotheses", 2, None), ("hypotheses", 3, None), ("hypotheses", 4, "3"), ("hypotheses", 5, "4"),
                                 ("hypotheses", 6, None), ("hypotheses", 7, "1"), ("hypotheses", 11, None), ("hypotheses", 12, None),
                                 ("hypotheses", 13, None), ("hypotheses", None, "alone"), ("references", None, "2")], key=str))
        self.assertTrue(all(f["reason"] for f in got["flaws"]))
        self.assertIn("line 2", self.stderr)
        good = self.evaluate(self.lines("h2", [self.H[0], self.H[2]]), self.lines("r2", [self.R[0], self.R[2]]))
        self.assertEqual(self.figures(got), self.figures(good))

    def test_a_long_file_reads_the_same_with_any_number_of_threads(self):
        count, broken = 9000, range(5, 9000, 97)  # lines and words of many rounds
        texts = [f"word{i * i % 4001} is near word{i} and word{i // 7}" for i in range(count)]
        lines = [json.dumps({"id": str(i), "caption": t}) for i, t in enumerate(texts)]
        h = self.file("h", "\n".join(l[:-3] if i in broken else l for i, l in enumerate(lines)))
        r = self.references([[t.replace("near", "behind")] for t in texts])
        one, *others = [self.evaluate(h, r, "--draws", "0", "--threads", str(t)) for t in (1, 2, 5)]
        for other in others:
            self.assertEqual((self.figures(other), other["flaws"]), (self.figures(one), one["flaws"]))
        self.assertEqual([line for file, line, _ in self.left_out(one) if file == "hypotheses"], [i + 1 for i in broken])
        kept = [i for i in range(count) if i not in broken]
        good = self.evaluate(self.lines("h2", [{"id": str(i), "caption": texts[i]} for i in kept]), r, "--draws", "0")
        self.assertEqual(self.figures(one), self.figures(good))

    def test_empty_captions_are_scored_and_remarked(self):
        got = self.evaluate(self.lines("h", [{"id": 1, "caption": ""}, {"id": 2, "caption": "a b"}]),
                            self.lines("r", [{"id": 1, "captions": ["a b", " "]}, {"id": 2, "captions": ["a b"]}, {"id": 3, "captions": []}]))
        self.assertEqual(got["n"], 2)
        self.assertEqual([(f["file"], f["line"], f["scored"]) for f in got["flaws"]],
                         [("hypotheses", 1, True), ("references", 1, True), ("references", 3, False)])

    def test_references_given_twice_are_added(self):
        got = self.evaluate(self.lines("h", self.H), self.lines("r", [
            {"id": 1, "captions": ["a b c d e"]}, {"id": 2, "captions": ["b c d"]}, {"id": "x", "captions": ["e g h"]}, {"id": 2, "captions": ["c d e"]}]))
        self.assertEqual(self.figures(got), self.figures(self.plain()))
        self.assertEqual([f["line"] for f in got["flaws"]], [4])

    def test_unusable_files_are_errors_that_name_them(self):
        good = self.lines("good", self.H)
        for name, content in (("empty", b""), ("blank", b" \n\n"), ("cut.json", b'[{"image_id":1,"caption":"a b'), ("words.txt", b"hello\n"),
                              ("object.json", b'{"a":1}'), ("cut2.json", b'{"annotations":[{"image_id":1,"capt'), ("latin.json", b'[{"image_id":1,"caption":"\xe9"}]')):
            for pair in ((self.file(name, content), self.lines("r", self.R)), (good, self.file(name, content))):
                done = self.suture("--hypotheses", pair[0], "--references", pair[1], "--tokenizer", "whitespace")
                self.assertEqual((done.returncode, done.stdout), (1, ""), name)
                self.assertIn(name, done.stderr)
        done = self.suture("--hypotheses", good, "--references", self.lines("r", [{"id": "other", "captions": ["a"]}]))
        self.assertEqual(done.returncode, 1)
        self.assertIn("share an id", done.stderr)
        self.assertEqual(self.suture("--hypotheses", good).returncode, 2)
        self.assertEqual(self.suture("--hypotheses", good, "--references", good, "--tokenizer", "bert").returncode, 2)
        self.assertEqual(self.suture("--hypotheses", self.path("not there"), "--references", good).returncode, 1)

    def test_no_caption_appears_in_a_message(self):
        done = self.suture("--hypotheses", self.file("h", b'{"id":"1","caption":"secret \xff"}\n{"id":"2","caption":"secret" x}\n{"id":"3","caption":"a"}'),
                           "--references", self.lines("r", [{"id": "3", "captions": ["a"]}]), "--tokenizer", "whitespace", "--json", "-")
        self.assertEqual(done.returncode, 0)
        self.assertNotIn("secret", done.stderr + done.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=1)
