"""`suture compare` on runs made here: groups, means and t-intervals against their definitions, refusals, the page.

    check_compare.py SUTURE
"""
import html.parser
import json
import os
import subprocess
import sys
import tempfile
import unittest

SUTURE = os.path.abspath(sys.argv[1])
T95 = {1: 12.706205, 2: 4.302653}


def scores(gap, r10=0.3, streams=("image", "text"), pool=487, dataset="d" * 64, split="val"):
    """A document as `suture eval align` writes it; every number can be foretold."""
    pairs = [(a, b) for i, a in enumerate(streams) for b in streams[i + 1:]]
    def of_pairs(value):
        return value if len(streams) == 2 else {a + "-" + b: value for a, b in pairs}
    def direction(x):
        return {"r1": x / 10, "r5": x / 2, "r10": x, "median_rank": 20.0, "mrr": x / 4, "r1_ci95": [x / 10 - .01, x / 10 + .01],
                "r5_ci95": [x / 2 - .02, x / 2 + .02], "r10_ci95": [x - .03, x + .03], "duplicates_hit": None}
    return {"schema": "suture.eval.align/1", "pool": pool, "streams": list(streams), "gap": of_pairs(gap),
            "gap_ci95": of_pairs([gap - .02, gap + .03]), "gap_floor": of_pairs(.05), "cos_true_pairs": of_pairs(1 - gap),
            "cos_true_pairs_ci95": of_pairs([.9 - gap, 1.1 - gap]), "rmg": of_pairs(gap / 2),
            "angular_value": {s: gap / 10 for s in streams}, "clustering": None,
            "retrieval": {a + "_to_" + b: direction(r10) for a in streams for b in streams if a != b},
            "receipt": {"dataset_sha256": dataset, "split": split, "duplicates": "strict", "model_sha256": "e" * 64, "version": "0"}}


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="suture-compare-")
        self.addCleanup(self.folder.cleanup)

    def write(self, path, document):
        path = os.path.join(self.folder.name, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            json.dump(document, f)
        return path

    def make_run(self, name, objective, seed, document, epochs=5, log=True, **settings):
        config = {"schema": "suture.config/1", "seed": seed, "epochs": epochs, "preset": "tiny",
                  "objective": {"name": objective, "temperature": 0.07}, "model": {"streams": [{"name": "image", "lr_factor": 1.0}]}}
        config.update(settings)
        self.write(name + "/config.json", config)
        self.write(name + "/run.json", {"schema": "suture.run/1", "objective": objective, "seed": seed, "preset": "tiny",
                                        "epochs": epochs, "data_sha256": "d" * 64, "seconds": 12.5, "pairs": 900})
        if document is not None:
            self.write(name + "/eval.json", document)
        if log:
            with open(os.path.join(self.folder.name, name, "log.jsonl"), "w") as f:
                for step in range(1, 501):
                    f.write(json.dumps({"step": step, "epoch": 1 + step // 100, "loss": 5 - step / 200, "infonce": 5 - step / 200,
                                        "atp": None if objective != "closegap" else 1 / step, "cu": None, "tau": 0.07}) + "\n")
                    if step % 100 == 0:
                        f.write(json.dumps({"step": step, "epoch": step // 100, "val": {"gap": 0.5 - step / 2000, "r10": step / 1000}}) + "\n")
        return os.path.join(self.folder.name, name)

    def suture(self, *arguments):
        return subprocess.run([SUTURE, "compare", *arguments], capture_output=True, text=True)

    def compare(self, *arguments):
        done = self.suture(*arguments, "--json", "-")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)


class Groups(Case):
    def test_runs_that_differ_in_the_seed_are_one_row_with_a_t_interval(self):
        gaps = (0.40, 0.44, 0.36)
        runs = [self.make_run("a%d" % i, "clip-lt", i, scores(g, r10=.1 + g)) for i, g in enumerate(gaps)]
        document = self.compare(*runs)
        self.assertEqual(document["schema"], "suture.compare/1")
        (group,) = document["groups"]
        self.assertEqual((group["seeds"], group["runs"], group["interval"]), ([0, 1, 2], runs, "t over seeds"))
        half = T95[2] * 0.04 / 3 ** 0.5
        self.assertAlmostEqual(group["gap"]["mean"], 0.40, places=9)
        self.assertAlmostEqual(group["gap"]["ci95"][0], 0.40 - half, delta=1e-6)
        self.assertAlmostEqual(group["gap"]["ci95"][1], 0.40 + half, delta=1e-6)
        self.assertAlmostEqual(group["retrieval"]["text_to_image"]["r10"]["mean"], 0.5, places=9)
        self.assertAlmostEqual(group["angular_value"]["text"]["mean"], 0.04, places=9)

    def test_a_single_run_keeps_its_bootstrap_interval(self):
        (group,) = self.compare(self.make_run("a", "clip-lt", 0, scores(0.4)))["groups"]
        self.assertEqual(group["interval"], "bootstrap over samples")
        for key, wanted in (("gap", [.38, .43]), ("cos_true_pairs", [.5, .7])):
            for got, value in zip(group[key]["ci95"], wanted):
                self.assertAlmostEqual(got, value, places=9)
        self.assertAlmostEqual(group["retrieval"]["image_to_text"]["r10"]["ci95"][0], .27, places=9)
        self.assertIsNone(group["rmg"]["ci95"])

    def test_groups_with_one_objective_are_told_apart_by_their_settings(self):
        runs = [self.make_run("a", "closegap", 0, scores(.2)), self.make_run("b", "closegap", 0, scores(.1), epochs=25),
                self.make_run("c", "clip-lt", 0, scores(.4))]
        labels = [g["label"] for g in self.compare(*runs)["groups"]]
        self.assertEqual(labels, ["closegap epochs=5", "closegap epochs=25", "clip-lt"])

    def test_a_setting_that_an_older_run_does_not_name_has_its_default(self):
        runs = [self.make_run("old", "clip-lt", 0, scores(.4)), self.make_run("new", "clip-lt", 1, scores(.5), weight_decay=0.05),
                self.make_run("other", "clip-lt", 2, scores(.6), weight_decay=0.1)]
        groups = self.compare(*runs)["groups"]
        self.assertEqual([(g["label"], g["seeds"]) for g in groups],
                         [("clip-lt weight_decay=0.05", [0, 1]), ("clip-lt weight_decay=0.1", [2])])

    def test_three_streams_have_a_row_per_pair(self):
        runs = [self.make_run("a%d" % s, "closegap", s, scores(.2 + s / 10, streams=("image", "text", "lateral"))) for s in (0, 1)]
        (group,) = self.compare(*runs)["groups"]
        self.assertAlmostEqual(group["gap"]["text-lateral"]["mean"], .25, places=9)
        table = self.suture(*runs).stdout
        for title in ("image-text", "image-lateral", "text-lateral", "lateral to text"):
            self.assertIn("\n" + title, table)

    def test_a_document_from_elsewhere_is_a_row_of_its_own(self):
        path = self.write("pretrained.json", scores(.7, dataset=None, split=None))
        labels = [g["label"] for g in self.compare(self.make_run("a", "clip-lt", 0, scores(.4)), path)["groups"]]
        self.assertEqual(labels, ["clip-lt", "pretrained.json"])


class Verdicts(Case):
    def test_intervals_decide(self):
        runs = [self.make_run("a", "clip-lt", 0, scores(.40, r10=.30)), self.make_run("b", "closegap", 0, scores(.12, r10=.31)),
                self.make_run("c", "clip-ft", 0, scores(.42, r10=.50)), self.make_run("d", "custom", 0, scores(.38, r10=.26))]
        table = self.suture(*runs).stdout
        for line in ("gap image-text is smaller beyond both intervals (0.120 against 0.400)",
                     "R@10 image to text cannot be told apart (31.0 % against 30.0 %)",
                     "gap image-text cannot be told apart (0.420 against 0.400)",
                     "gap image-text cannot be told apart (0.380 against 0.400)",
                     "R@10 text to image is larger beyond both intervals (50.0 % against 30.0 %)"):
            self.assertIn(line, table)

    def test_the_table_shows_every_group_and_its_seeds(self):
        runs = [self.make_run("a%d" % s, "clip-lt", s, scores(.4 + s / 50)) for s in (0, 1)]
        table = self.suture(*runs, self.make_run("b", "closegap", 0, scores(.1))).stdout
        half = T95[1] * (0.02 ** 2 / 2) ** .5 / 2 ** .5
        self.assertIn("0.410 [%.3f, %.3f]" % (.41 - half, .41 + half), table)
        self.assertIn("t over seeds, for one seed bootstrap over samples", table)
        rows = [line for line in table.splitlines() if line.startswith(("clip-lt ", "closegap "))]
        self.assertEqual({line.split()[-1] for line in rows if line.startswith("clip-lt ")}, {"2"})


class Refusals(Case):
    def test_scores_of_different_pools_are_found_and_only_forced_together(self):
        a = self.make_run("a", "clip-lt", 0, scores(.4))
        for other, what in ((scores(.4, pool=100), "pool"), (scores(.4, dataset="c" * 64), "dataset"), (scores(.4, split="test"), "split")):
            b = self.make_run("b", "closegap", 0, other)
            done = self.suture(a, b, "--json", "-")
            self.assertEqual((done.returncode, done.stdout), (3, ""))
            self.assertIn(what, done.stderr)
            self.assertIn(b, done.stderr)
            forced = self.suture(a, b, "--force", "--json", "-")
            self.assertEqual(forced.returncode, 0)
            self.assertEqual(len(json.loads(forced.stdout)["mismatches"]), 1)

    def failure(self, *arguments):
        done = self.suture(*arguments)
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        return done.stderr

    def test_one_training_twice_is_no_second_seed(self):
        a, b = (self.make_run(n, "clip-lt", 3, scores(.4)) for n in "ab")
        self.assertIn("one training twice (seed 3)", self.failure(a, b))

    def test_other_streams_are_not_compared(self):
        a = self.make_run("a", "clip-lt", 0, scores(.4))
        self.assertIn("different streams", self.failure(a, self.make_run("b", "closegap", 0, scores(.4, streams=("x", "y")))))

    def test_what_is_missing_is_named_with_its_remedy(self):
        a = self.make_run("a", "clip-lt", 0, None)
        self.assertIn("eval.json is missing: suture eval align", self.failure(a))
        os.remove(os.path.join(a, "run.json"))
        self.assertIn("run.json is missing: the training did not end", self.failure(a))
        self.assertIn("nowhere", self.failure(os.path.join(self.folder.name, "nowhere")))

    def test_foreign_documents_are_refused(self):
        self.assertIn("schema", self.failure(self.write("x.json", {"schema": "other/1"})))
        self.assertIn("streams", self.failure(self.write("y.json", {"schema": "suture.eval.align/1", "streams": [1, 2], "pool": 5})))
        done = self.suture()
        self.assertEqual(done.returncode, 2)


class Links(html.parser.HTMLParser):
    """Collects what a page would load, and checks that tags close in order."""
    VOID = {"meta", "line", "circle", "path", "polyline", "br"}

    def __init__(self):
        super().__init__()
        self.loads, self.open, self.tags = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [v for k, v in attributes if k in ("src", "href", "data", "action", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag


class Page(Case):
    def page(self, *runs):
        path = os.path.join(self.folder.name, "report.html")
        done = self.suture(*runs, "--html", path, "--json", "-")
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(path, encoding="utf-8") as f:
            text = f.read()
        links = Links()
        links.feed(text)
        self.assertEqual((links.open, links.loads), ([], []))
        for forbidden in ("http", "@import", "url(", "<script", "nan", "inf"):
            self.assertNotIn(forbidden, text.lower().replace("infonce", ""), forbidden)
        return text, links, done

    def test_it_loads_nothing_and_shows_charts_and_curves(self):
        runs = [self.make_run("a%d" % s, "clip-lt", s, scores(.4 + s / 50)) for s in (0, 1)]
        text, links, _ = self.page(*runs, self.make_run("b", "closegap", 0, scores(.1)))
        self.assertEqual(links.tags.count("svg"), 4 + 5)  # gap, CosTP, two directions; InfoNCE, ATP, tau, holdout gap and R@10
        self.assertEqual(links.tags.count("polyline"), 3 + 1 + 3 + 3 + 3)
        self.assertIn("0.410<small>", text)
        longest = max(len(line.split('points="')[1].split('"')[0].split()) for line in text.splitlines() if 'points="' in line)
        self.assertEqual(longest, 200)

    def test_names_cannot_break_out_of_the_text(self):
        run = self.make_run('x"><script>alert(1)<', 'a"&<b>', 0, scores(.4))
        text, _, _ = self.page(run)
        self.assertIn("a&quot;&amp;&lt;b&gt;", text)

    def test_a_damaged_log_costs_the_curves_only(self):
        run = self.make_run("a", "clip-lt", 0, scores(.4))
        with open(os.path.join(run, "log.jsonl"), "a") as f:
            f.write('{"step": 501, "inf')
        text, _, done = self.page(run)
        self.assertNotIn("polyline", text)
        self.assertIn("no training curves", done.stderr)
        os.remove(os.path.join(run, "log.jsonl"))
        self.assertEqual(self.page(run)[2].stderr, "")

    def test_scores_without_intervals_are_drawn(self):
        document = scores(0.0, r10=0.0)
        for d in document["retrieval"].values():
            for k in list(d):
                if k.endswith("ci95"):
                    d[k] = None
        document["gap_ci95"] = document["cos_true_pairs_ci95"] = None
        document["rmg"] = None
        self.page(self.make_run("a", "clip-lt", 0, document))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
