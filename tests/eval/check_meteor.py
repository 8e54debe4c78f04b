"""METEOR of `suture eval caption` against the Java program's recorded scores.

    check_meteor.py SUTURE

Synonyms need Debian's wordnet-base. SUTURE_PARAPHRASES names METEOR's own table (paraphrase-en.gz), with which the
scores of pycocoevalcap are compared as they are; the shared data folder (SUTURE_SHARED) adds nlg-eval's cases.
"""
import gzip
import json
import os
import shutil
import sys
import unittest

import numpy

import check_captions as captions

WORDNET = "/usr/share/wordnet"
OWN_TABLE = os.environ.get("SUTURE_PARAPHRASES")
SYNONYMS = unittest.skipUnless(os.path.exists(WORDNET), "no " + WORDNET)
RECORDED = unittest.skipUnless(OWN_TABLE, "SUTURE_PARAPHRASES names no table")

with gzip.open(os.path.join(captions.ROOT, "tests/golden/meteor.json.gz")) as f:
    GOLDEN = json.load(f)


def score(rows):
    """METEOR of sums of the Java program's counts [..., 23], from the formula."""
    c = numpy.moveaxis(numpy.asarray(rows, float), -1, 0)
    shares = []
    for side in (0, 1):
        words, function = c[side], c[2 + side]
        content = sum(w * c[4 + 4 * k + side] for k, w in enumerate((1, 0.6, 0.8, 0.6)))
        others = sum(w * c[6 + 4 * k + side] for k, w in enumerate((1, 0.6, 0.8, 0.6)))
        shares.append((0.75 * content + 0.25 * others) / (0.75 * (words - function) + 0.25 * function))
    p, r = shares
    return p * r / (0.85 * p + 0.15 * r) * (1 - 0.6 * (c[20] / ((c[21] + c[22]) / 2)) ** 0.2)


class Meteor(captions.Case):
    def run_meteor(self, *more, texts=GOLDEN["texts"], key="h"):
        return self.evaluate(self.hypotheses([t[key] for t in texts], key), self.references([t["r"] for t in texts]), "--draws", "0", *more)


class Scores(Meteor):
    def check(self, name, *more):
        got, wanted = self.run_meteor(*more), GOLDEN[name]
        self.assertEqual(len(got["items"]), len(wanted["items"]))
        for i, (item, score) in enumerate(zip(got["items"], wanted["items"])):
            self.close(item["meteor"], score, f"item {i}: {GOLDEN['texts'][i]}")
        self.close(got["meteor"], wanted["whole"], "whole")
        return got

    def table(self, name="table.gz"):
        return self.file(name, gzip.compress(GOLDEN["table"].encode()) if name.endswith("gz") else GOLDEN["table"])

    def stages(self, document, *wanted):
        self.assertEqual(document["meteor_stages"], list(wanted))
        self.assertEqual(document["receipt"]["meteor"]["stages"], list(wanted))

    def test_words_and_stems_score_as_in_java(self):
        self.stages(self.check("stem", "--wordnet", "none"), "exact", "stem")

    @SYNONYMS
    def test_synonyms_score_as_in_java(self):
        got = self.check("synonym")
        self.stages(got, "exact", "stem", "synonym")
        self.assertEqual(got["receipt"]["meteor"]["wordnet"]["path"], WORDNET + "/index.noun")

    @SYNONYMS
    def test_paraphrases_score_as_in_java(self):
        got = self.check("paraphrase", "--paraphrases", self.table())
        self.stages(got, "exact", "stem", "synonym", "paraphrase")
        self.assertEqual(got["receipt"]["meteor"]["paraphrases"]["path"], self.path("table.gz"))
        plain = self.run_meteor("--paraphrases", self.table("table"))
        self.assertEqual(plain["items"], got["items"])

    @SYNONYMS
    @RECORDED
    def test_the_distributed_table_scores_as_in_java(self):
        self.check("distributed", "--paraphrases", OWN_TABLE)

    @SYNONYMS
    @RECORDED
    def test_the_shared_cases_score_as_recorded(self):
        path = os.path.join(captions.RECORDED, "nlg_eval_cases.json")
        if not os.path.exists(path):
            self.skipTest("no " + path)
        with open(path, encoding="utf-8") as f:
            cases = json.load(f)["cases"]
        for case in cases:
            got = self.run_meteor("--paraphrases", OWN_TABLE, texts=[{"h": h, "r": r} for h, r in zip(case["hyps"], case["refs"])])
            self.assertLess(abs(got["meteor"] - case["expected"]["METEOR"]), 5e-6)  # recorded to five places and more

    def test_the_table_says_which_stages_ran(self):
        h, r = self.hypotheses(["a b"]), self.references([["a b"]])
        done = self.suture("--hypotheses", h, "--references", r, "--wordnet", "none")
        self.assertIn("METEOR    1.0000", done.stdout)
        self.assertIn("stages: exact, stem; not run: synonym, paraphrase", done.stdout)

    def test_without_meteor_its_figures_are_null_and_the_others_the_same(self):
        texts = GOLDEN["texts"][:20]
        got, wanted = (self.run_meteor(*more, texts=texts) for more in (["--no-meteor"], []))
        self.assertEqual((got.pop("meteor"), got.pop("meteor_stages"), got.pop("receipt")["meteor"]), (None, None, None))
        self.assertTrue(all(i.pop("meteor") is None for i in got["items"]))
        for document in [wanted, *wanted["items"]]:
            self.assertIsNotNone(document.pop("meteor"))
        del wanted["meteor_stages"], wanted["receipt"]
        self.assertEqual(got, wanted)
        both = self.evaluate(self.path("h"), self.path("r.jsonl"), "--no-meteor", "--against", self.path("h"), "--draws", "10")
        against = both["against"]
        self.assertEqual([d[k] for d, k in ((both, "meteor_ci95"), (against, "meteor"), (against["p"], "meteor"), (against["difference"], "meteor"),
                                            (against["difference_ci95"], "meteor_ci95"))], [None] * 5)
        done = self.suture("--hypotheses", self.path("h"), "--references", self.path("r.jsonl"), "--no-meteor", "--against", self.path("h"), "--draws", "10")
        self.assertNotIn("METEOR", done.stdout)
        self.assertEqual(self.suture("--hypotheses", self.path("h"), "--references", self.path("r.jsonl"), "--no-meteor", "--wordnet", "none").returncode, 2)

    def test_any_number_of_threads_scores_the_same(self):
        one, *others = [self.run_meteor("--paraphrases", self.table(), "--threads", str(t)) for t in (1, 2, 5)]
        for other in others:
            self.assertEqual((other["items"], other["meteor"]), (one["items"], one["meteor"]))


class Resampling(Meteor):
    N, DRAWS, SEED = len(GOLDEN["paired"][0]), 200, 11

    def test_intervals_and_p_are_those_of_the_same_draws_in_numpy(self):
        texts = GOLDEN["texts"][:self.N]
        self.hypotheses([t["against"] for t in texts], "against")
        got = self.evaluate(self.hypotheses([t["h"] for t in texts]), self.references([t["r"] for t in texts]), "--against", self.path("against"),
                            "--wordnet", "none", "--draws", str(self.DRAWS), "--seed", str(self.SEED))
        a, b = (numpy.array(rows, float) for rows in GOLDEN["paired"])
        for rows in (a, b):  # a whole match adds no chunk to a sum
            whole = (rows[:, 21] == rows[:, 0]) & (rows[:, 22] == rows[:, 1]) & (rows[:, 20] == 1)
            rows[whole, 20] = 0
        observed = score(a.sum(0)) - score(b.sum(0))
        self.close(got["meteor"], score(a.sum(0)), "whole")
        self.close(got["against"]["difference"]["meteor"], observed, "difference")
        drawn, extreme = [], 0
        for d in range(self.DRAWS):
            words = captions.philox(self.SEED, d, "caption bootstrap", (self.N + 3) // 4).ravel()[:self.N]
            drawn.append((words * numpy.uint64(self.N) >> numpy.uint64(32)).astype(int))
            words = captions.philox(self.SEED, d, "caption swap", (self.N + 127) // 128).ravel()
            swap = (words[numpy.arange(self.N) // 32] >> (numpy.arange(self.N) % 32).astype(numpy.uint64) & numpy.uint64(1)).astype(bool)[:, None]
            difference = score(numpy.where(swap, b, a).sum(0)) - score(numpy.where(swap, a, b).sum(0))
            extreme += abs(difference) >= abs(observed) - 1e-12
        fa, fb = (score(rows[numpy.stack(drawn)].sum(1)) for rows in (a, b))
        for ci, values in ((got["meteor_ci95"], fa), (got["against"]["meteor_ci95"], fb), (got["against"]["difference_ci95"]["meteor_ci95"], fa - fb)):
            for x, wanted in zip(ci, numpy.percentile(values, (2.5, 97.5))):
                self.close(x, wanted, "interval")
        self.close(got["against"]["p"]["meteor"], (1 + extreme) / (1 + self.DRAWS), "p")


class Files(Meteor):
    def fails(self, *words, naming):
        done = self.suture("--hypotheses", self.hypotheses(["a"]), "--references", self.references([["a"]]), *words)
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        for text in naming:
            self.assertIn(text, done.stderr)

    @SYNONYMS
    def test_a_damaged_wordnet_is_an_error_that_names_file_and_remedy(self):
        folder = self.path("wordnet")
        self.fails("--wordnet", folder, naming=[folder, "wordnet-base"])
        shutil.copytree(WORDNET, folder)
        self.file("wordnet/index.verb", "go v 30 1 @ 1 0 00000001\n")
        self.fails("--wordnet", folder, naming=["index.verb: line 1", "wordnet-base"])
        self.file("wordnet/index.verb", "go v 1 1 @ 1 0 0000000x\n")
        self.fails("--wordnet", folder, naming=["index.verb: line 1"])
        os.remove(folder + "/adj.exc")
        self.file("wordnet/index.verb", "go v 1 1 @ 1 0 00000001\n")
        self.fails("--wordnet", folder, naming=["adj.exc"])

    def test_a_damaged_table_is_an_error_that_names_it(self):
        good = gzip.compress(b"0.5\na\nb\n" * 10000)
        for name, content, place in (("cut.gz", good[:-20], "line"), ("bits.gz", good[:30] + b"\xff\xff" + good[32:], "line"), ("empty", b"", "line 0"),
                                     ("words", b"hello\n", "line 1"), ("short", b"0.5\na\n", "line 2"), ("long", b"0.5\n" + b"a " * 70000, "line 2"),
                                     ("many", b"0.5\n" + b"a " * 70 + b"\nb\n", "line 3")):
            self.fails("--paraphrases", self.file(name, content), "--wordnet", "none", naming=[name, place])
        self.fails("--paraphrases", self.path("not there"), "--wordnet", "none", naming=["not there"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=1)
