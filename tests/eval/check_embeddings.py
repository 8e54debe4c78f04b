"""`suture eval embeddings` against NumPy, written from the definitions in float64, and from the outside as a user sees it.

    check_embeddings.py SUTURE
"""
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import unittest

import numpy as np

SUTURE = os.path.abspath(sys.argv[1])
EXACT = 1e-6  # what the contract promises against NumPy
NAMES = ("image", "text", "lateral")


# --- the reference ---------------------------------------------------------------------------------------------------

def unit(z):
    z = z.astype(np.float64)
    return z / np.sqrt((z * z).sum(1, keepdims=True))


def off_diagonal_mean(z):
    s = z @ z.T
    return (s.sum() - np.trace(s)) / (len(z) * (len(z) - 1))


def at_least_own(x, y):
    """[i, j]: does candidate j score at least as high as i's own? Whole numbers are compared exactly: <x_i, y_j> / |y_j|
    >= <x_i, y_i> / |y_i| squared and cleared of fractions, so ties are ties."""
    if np.issubdtype(x.dtype, np.integer):
        s, own = x @ y.T, (x * y).sum(1)[:, None]
        square = (y * y).sum(1)
        return s * abs(s) * square[:, None] >= own * abs(own) * square[None, :]
    s = unit(x) @ unit(y).T
    return s >= np.diag(s)[:, None] - 1e-12


def retrieval(x, y, texts):
    over = at_least_own(x, y)
    rank = over.sum(1)
    out = {"r%d" % k: float((rank <= k).mean()) for k in (1, 5, 10)}
    out.update(median_rank=float(np.median(rank)), mrr=float((1 / rank).mean()))
    if texts:
        folded = [" ".join(t.split()).lower() or i for i, t in enumerate(texts)]
        s = unit(x) @ unit(y).T
        ranks = []
        for i in range(len(x)):
            own = np.array([f == folded[i] for f in folded])
            best = s[i][own].max()
            ranks.append(1 + (s[i][~own] >= best - 1e-12).sum())
        out["duplicates_hit"] = {"r%d" % k: float((np.array(ranks) <= k).mean()) for k in (1, 5, 10)}
    else:
        out["duplicates_hit"] = None
    return out


def pair(x, y):
    a, b = unit(x), unit(y)
    p = (1 - (a * b).sum(1)).mean()
    i = ((1 - off_diagonal_mean(a)) + (1 - off_diagonal_mean(b))) / 2
    return {
        "gap": float(np.linalg.norm(a.mean(0) - b.mean(0))),
        "gap_floor": float(np.sqrt((a - b).var(0, ddof=1).sum() / len(a))),
        "cos_true_pairs": float((a * b).sum(1).mean()),
        "rmg": float(p / (p + i)),
    }


def reference(streams, texts=None):
    names = list(streams)
    out = {"pool": len(streams[names[0]]), "streams": names, "retrieval": {}, "angular_value": {}}
    for name in names:
        out["angular_value"][name] = float(off_diagonal_mean(unit(streams[name])))
    for i, a in enumerate(names):
        for b in names[i + 1:]:
            for key, value in pair(streams[a], streams[b]).items():
                if len(names) == 2:
                    out[key] = value
                else:
                    out.setdefault(key, {})[a + "-" + b] = value
            out["retrieval"][a + "_to_" + b] = retrieval(streams[a], streams[b], texts)
            out["retrieval"][b + "_to_" + a] = retrieval(streams[b], streams[a], texts)
    return out


def knn_accuracy(streams, labels, groups, k=5):
    z = np.concatenate([unit(s) for s in streams])
    y = np.tile(labels, len(streams))
    group = groups if groups else [str(i) for i in range(len(labels))]
    tested = np.tile([int.from_bytes(hashlib.sha256(g.encode()).digest()[:8], "big") % 5 == 0 for g in group], len(streams))
    known, hits = y[~tested], 0
    for row, label in zip(z[tested], y[tested]):
        near = known[np.argsort(-(z[~tested] @ row), kind="stable")[:k]]
        votes = {c: (near == c).sum() for c in near}
        hits += next(c for c in near if votes[c] == max(votes.values())) == label
    return hits / tested.sum()


def v_measure(a, b):
    def entropy(*columns):
        _, counts = np.unique(np.stack(columns), axis=1, return_counts=True)
        p = counts / counts.sum()
        return -(p * np.log(p)).sum()
    both = entropy(a, b)
    h, c = 1 - (both - entropy(b)) / entropy(a), 1 - (both - entropy(a)) / entropy(b)
    return 2 * h * c / (h + c)


# --- running the command ---------------------------------------------------------------------------------------------

class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="suture-eval-")
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def lines(self, name, items):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.writelines(str(i) + "\n" for i in items)
        return self.path(name)

    def run_suture(self, *arguments):
        return subprocess.run([SUTURE, "eval", "embeddings", *arguments], capture_output=True, text=True)

    def streams_option(self, streams):
        for name, z in streams.items():
            z = z.astype(np.float32) if np.issubdtype(z.dtype, np.integer) else z
            np.save(self.path(name + ".npy"), z)
        return ",".join("%s=%s" % (name, self.path(name + ".npy")) for name in streams)

    def evaluate(self, streams, *more):
        done = self.run_suture("--streams", self.streams_option(streams), "--json", "-", *more)
        self.assertEqual(done.returncode, 0, done.stderr)
        def refuse(constant):
            raise AssertionError("%s in the JSON" % constant)
        return json.loads(done.stdout, parse_constant=refuse)

    def assert_matches(self, document, wanted, where="document"):
        for key, value in wanted.items():
            self.assertIn(key, document, where)
            if isinstance(value, dict):
                self.assert_matches(document[key], value, where + "." + key)
            elif isinstance(value, float):
                self.assertAlmostEqual(document[key], value, delta=EXACT, msg=where + "." + key)
            else:
                self.assertEqual(document[key], value, where + "." + key)

    def check(self, streams, texts=None, *more):
        if texts:
            more += ("--texts", self.lines("texts.txt", texts))
        document = self.evaluate(streams, "--draws", "20", *more)
        self.assert_matches(document, reference(streams, texts))
        return document


def views(rng, n, width, count=2, noise=1.0):
    shared = rng.normal(size=(n, width))
    return {NAMES[m]: (shared + noise * rng.normal(size=(n, width)) + m).astype(np.float32) for m in range(count)}


class AgainstNumPy(Case):
    def test_random_pools_of_every_odd_size(self):
        rng = np.random.default_rng(1)
        for n, width in ((2, 1), (2, 3), (3, 2), (7, 8), (63, 9), (64, 64), (65, 31), (191, 5), (193, 257), (487, 512)):
            with self.subTest(n=n, width=width):
                self.check(views(rng, n, width, noise=2.0))

    def test_three_streams_have_a_score_per_pair(self):
        document = self.check(views(np.random.default_rng(2), 111, 24, 3))
        self.assertEqual(sorted(document["gap"]), ["image-lateral", "image-text", "text-lateral"])
        self.assertEqual(len(document["retrieval"]), 6)

    def test_unit_rows_and_scaled_rows_score_alike(self):
        streams = views(np.random.default_rng(3), 90, 40)
        scaled = {k: z * np.float32(37.5) for k, z in streams.items()}
        normal = {k: unit(z).astype(np.float32) for k, z in streams.items()}
        for other in (scaled, normal):
            self.assert_matches(self.check(other), reference(streams))

    def test_ties_of_quantised_embeddings_take_the_pessimistic_rank(self):
        rng = np.random.default_rng(4)
        for n, width, levels in ((50, 3, 1), (120, 6, 1), (200, 8, 2), (301, 4, 3)):
            with self.subTest(n=n, width=width, levels=levels):
                shared = rng.integers(-levels, levels + 1, size=(n, width))
                streams = {}
                for name in NAMES[:2]:
                    z = np.clip(shared + rng.integers(-1, 2, size=(n, width)), -levels, levels)
                    z[(z == 0).all(1)] = 1
                    streams[name] = z
                over = at_least_own(streams["image"], streams["text"])
                strictly = unit(streams["image"]) @ unit(streams["text"]).T
                strictly = (strictly > np.diag(strictly)[:, None] + 1e-9).sum(1) + 1
                self.assertGreater((over.sum(1) > strictly).mean(), 0.1, "the case has too few ties to prove anything")
                self.check(streams)
                self.check(streams, ["text %d" % (i // 2) for i in range(n)])

    def test_half_precision_and_double_and_fortran_files(self):
        streams = views(np.random.default_rng(5), 60, 16)
        half = {k: z.astype(np.float16) for k, z in streams.items()}
        self.check(half)
        self.check({k: z.astype(np.float64) for k, z in streams.items()})
        self.check({k: np.asfortranarray(z) for k, z in streams.items()})
        self.check({k: z.astype(">f4") for k, z in streams.items()})

    def test_exact_duplicates_with_their_texts(self):
        rng = np.random.default_rng(6)
        streams = views(rng, 150, 20, noise=0.7)
        texts = ["finding number %d" % i for i in range(150)]
        for i in range(0, 60, 3):  # two more samples with the same text, embedded the same
            for other in (i + 1, i + 2):
                streams["text"][other] = streams["text"][i]
                texts[other] = ("  Finding   NUMBER %d" % i) if other % 2 else texts[i]
        document = self.check(streams, texts)
        for direction in document["retrieval"].values():
            self.assertGreater(direction["duplicates_hit"]["r1"], direction["r1"])
        everything = views(rng, 40, 8)
        self.check(everything, ["normal"] * 40)
        self.check(views(rng, 487, 9, noise=3.0), ["report %d" % (i % 3 if i < 400 else i) for i in range(487)])

    def test_texts_without_duplicates_change_nothing(self):
        streams = views(np.random.default_rng(7), 80, 12, noise=2.0)
        document = self.check(streams, ["%d" % i for i in range(80)])
        for direction in document["retrieval"].values():
            self.assertEqual(direction["duplicates_hit"], {k: direction[k] for k in ("r1", "r5", "r10")})


class Clusters(Case):
    def problem(self, n=160, classes=4):
        rng = np.random.default_rng(8)
        centres = 6 * rng.normal(size=(classes, 10))
        true = rng.integers(classes, size=n)
        streams = {name: (centres[true] + rng.normal(size=(n, 10))).astype(np.float32) for name in NAMES[:2]}
        shown = np.where(rng.random(n) < 0.3, rng.integers(classes, size=n), true)
        return streams, true, shown

    def test_v_measure_of_separated_clusters_under_noisy_labels(self):
        streams, true, shown = self.problem()
        document = self.evaluate(streams, "--draws", "0", "--labels", self.lines("l", ["class %d" % c for c in shown]))
        wanted = v_measure(np.tile(shown, 2), np.tile(true, 2))
        self.assertLess(wanted, 0.9)
        self.assertAlmostEqual(document["clustering"]["v_measure"], wanted, delta=EXACT)
        self.assertEqual(document["clustering"]["classes"], 4)

    def test_nearest_neighbours_and_groups(self):
        streams, _, shown = self.problem()
        noisy = {k: z + np.random.default_rng(9).normal(scale=8, size=z.shape).astype(np.float32) for k, z in streams.items()}
        groups = ["patient %d" % (i // 3) for i in range(len(shown))]
        labels = self.lines("l", shown)
        alone = self.evaluate(noisy, "--draws", "0", "--labels", labels)
        grouped = self.evaluate(noisy, "--draws", "0", "--labels", labels, "--groups", self.lines("g", groups))
        self.assertAlmostEqual(alone["clustering"]["knn_accuracy"], knn_accuracy(noisy.values(), shown, None), delta=EXACT)
        self.assertAlmostEqual(grouped["clustering"]["knn_accuracy"], knn_accuracy(noisy.values(), shown, groups), delta=EXACT)
        self.assertNotEqual(alone["clustering"]["knn_accuracy"], grouped["clustering"]["knn_accuracy"])

    def test_samples_without_a_label_are_left_out(self):
        streams, _, shown = self.problem()
        with_label = np.arange(len(shown)) % 5 != 0
        text = ["" if not w else "c%d" % c for w, c in zip(with_label, shown)]
        np.save(self.path("labels.npy"), np.where(with_label, shown, -1).astype(np.int16))
        some = self.evaluate(streams, "--draws", "0", "--labels", self.lines("l", text))
        numbers = self.evaluate(streams, "--draws", "0", "--labels", self.path("labels.npy"))
        fewer = self.evaluate({k: z[with_label] for k, z in streams.items()}, "--draws", "0",
                              "--labels", self.lines("fewer", shown[with_label]))
        self.assertEqual(some["clustering"], numbers["clustering"])
        self.assertAlmostEqual(some["clustering"]["v_measure"], fewer["clustering"]["v_measure"], delta=EXACT)

    def test_one_class_is_no_clustering(self):
        streams, _, _ = self.problem()
        self.assertIsNone(self.evaluate(streams, "--draws", "0", "--labels", self.lines("l", ["a"] * 160))["clustering"])


class Intervals(Case):
    def test_they_agree_with_an_independent_bootstrap(self):
        self.compare_bootstraps(n=200, width=6, draws=20000, noise=1.5)
        self.compare_bootstraps(n=600, width=70, draws=5000, noise=4.0)

    def compare_bootstraps(self, n, width, draws, noise):
        rng = np.random.default_rng(10)
        streams = views(rng, n, width, noise=noise)
        document = self.evaluate(streams, "--draws", str(draws))
        a, b = unit(streams["image"]), unit(streams["text"])
        counts = rng.multinomial(n, np.full(n, 1 / n), size=draws)
        gap2 = (((counts @ (a - b)) / n) ** 2).sum(1)
        gap2 = np.maximum(0, gap2 - gap2.mean() + document["gap"] ** 2)
        def close(shown, values, grain=0.0):
            low, high = np.percentile(values, [2.5, 97.5])
            for got, wanted in zip(shown, (low, high)):
                self.assertAlmostEqual(got, wanted, delta=0.08 * (high - low) + grain)
        close(document["gap_ci95"], np.sqrt(gap2))
        close(document["cos_true_pairs_ci95"], counts @ (a * b).sum(1) / n)
        for x, y, key in ((a, b, "image_to_text"), (b, a, "text_to_image")):
            s = x @ y.T
            rank = (s >= np.diag(s)[:, None] - 1e-12).sum(1)
            for k in (1, 5, 10):
                close(document["retrieval"][key]["r%d_ci95" % k], counts @ (rank <= k) / n, 1 / n)

    def test_the_gap_interval_covers_the_populations_gap(self):
        """95 % intervals of 60 pools from one population: the gap that the population has lies in most of them."""
        rng = np.random.default_rng(11)
        def pool(n):
            z = rng.normal(size=(n, 3))
            return {"image": z + [1.5, 0, 0], "text": z + 0.5 * rng.normal(size=(n, 3)) + [0, 1.5, 0]}
        big = pool(400000)
        truth = np.linalg.norm(unit(big["image"]).mean(0) - unit(big["text"]).mean(0))
        covered = 0
        for _ in range(60):
            low, high = self.evaluate({k: v.astype(np.float32) for k, v in pool(150).items()}, "--draws", "400")["gap_ci95"]
            covered += low <= truth <= high
        self.assertGreaterEqual(covered, 50)

    def test_without_draws_they_are_null(self):
        document = self.evaluate(views(np.random.default_rng(12), 20, 5), "--draws", "0")
        self.assertIsNone(document["gap_ci95"])
        self.assertIsNone(document["retrieval"]["image_to_text"]["r10_ci95"])
        self.assertIsNone(document["receipt"]["interval"])


class AsAUserSeesIt(Case):
    def setUp(self):
        super().setUp()
        self.streams = views(np.random.default_rng(13), 30, 8)

    def failure(self, *arguments):
        done = self.run_suture(*arguments)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stdout, "")
        self.assertTrue(done.stderr.startswith("suture eval embeddings: "), done.stderr)
        return done

    def test_receipt_names_files_and_policy(self):
        option = self.streams_option(self.streams)
        done = self.run_suture("--streams", option, "--seed", "7", "--json", "-")
        receipt = json.loads(done.stdout)["receipt"]
        with open(self.path("image.npy"), "rb") as f:
            self.assertEqual(receipt["files"]["image"]["sha256"], hashlib.sha256(f.read()).hexdigest())
        self.assertEqual(receipt["files"]["image"]["shape"], [30, 8])
        self.assertEqual((receipt["seed"], receipt["pool"], receipt["interval"]["draws"]), (7, 30, 1000))
        self.assertEqual(receipt["command"], "suture eval embeddings --streams %s --seed 7 --json -" % option)
        for key in ("dataset_sha256", "split", "tokenizer_sha256", "model_sha256"):
            self.assertIsNone(receipt[key])
        self.assertEqual(receipt["duplicates"], "strict")
        self.assertTrue(receipt["version"])

    def test_table_shows_what_the_json_holds(self):
        option = self.streams_option(self.streams)
        table = self.run_suture("--streams", option, "--json", self.path("out.json"))
        self.assertEqual(table.returncode, 0, table.stderr)
        with open(self.path("out.json")) as f:
            document = json.load(f)
        for wanted in ("pool of 30 samples", "%.4f [%.4f, %.4f]" % (document["gap"], *document["gap_ci95"]),
                       "%.1f %% [" % (100 * document["retrieval"]["text_to_image"]["r10"]), "text to image"):
            self.assertIn(wanted, table.stdout)

    def test_safetensors_tensor_is_picked_by_name(self):
        z = self.streams["image"]
        header = json.dumps({"image": {"dtype": "F32", "shape": [30, 8], "data_offsets": [0, z.nbytes]},
                             "text": {"dtype": "F32", "shape": [30, 8], "data_offsets": [z.nbytes, 2 * z.nbytes]}}).encode()
        with open(self.path("e:1.safetensors"), "wb") as f:  # a colon in the file's own name
            f.write(len(header).to_bytes(8, "little") + header + z.tobytes() + self.streams["text"].tobytes())
        e = self.path("e:1.safetensors")
        wanted = self.evaluate(self.streams)
        for option in ("image=%s,text=%s" % (e, e), "image=%s:image,text=%s:text" % (e, e)):
            done = self.run_suture("--streams", option, "--json", "-")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(json.loads(done.stdout)["gap"], wanted["gap"])
        self.assertIn("no tensor 'other'", self.failure("--streams", "image=%s:other,text=%s" % (e, e)).stderr)

    def test_different_shapes_are_an_error_that_names_both(self):
        for other in (np.ones((29, 8)), np.ones((30, 9))):
            done = self.failure("--streams", self.streams_option({"image": self.streams["image"], "text": other}))
            self.assertEqual(done.returncode, 1)
            for part in (self.path("image.npy") + " is [30, 8]", self.path("text.npy") + " is [%d, %d]" % other.shape):
                self.assertIn(part, done.stderr)

    def test_zero_and_nan_rows_are_errors_that_name_stream_and_row(self):
        for value, what in ((0, "is zero"), (np.nan, "NaN"), (np.inf, "NaN or an infinity")):
            streams = {k: v.copy() for k, v in self.streams.items()}
            streams["text"][17] = value
            done = self.failure("--streams", self.streams_option(streams))
            self.assertIn("stream 'text', row 17 (from 0)", done.stderr)
            self.assertIn(what, done.stderr)

    def test_extras_must_have_a_line_a_sample(self):
        option = self.streams_option(self.streams)
        for extra in ("--labels", "--texts", "--groups"):
            done = self.failure("--streams", option, extra, self.lines("short", range(29)))
            self.assertIn("29", done.stderr)
            self.assertIn("30 samples", done.stderr)

    def test_wrong_usage_ends_with_2(self):
        image = self.path("image.npy")
        self.streams_option(self.streams)
        for option in ("image", "image=", "=x.npy", "image=" + image, "a=%s,a=%s" % (image, image), "a b=%s,c=%s" % (image, image),
                       ",".join("s%d=%s" % (i, image) for i in range(9)), "image=%s,," % image):
            self.assertEqual(self.failure("--streams", option).returncode, 2, option)
        self.assertEqual(self.failure().returncode, 2)

    def test_missing_and_foreign_files_are_named(self):
        option = self.streams_option(self.streams)
        self.assertIn("nowhere.npy", self.failure("--streams", "image=nowhere.npy,text=nowhere.npy").stderr)
        self.lines("text.npy", ["hello"] * 30)
        self.assertIn(self.path("text.npy"), self.failure("--streams", option).stderr)

    def test_same_command_prints_the_same_bytes(self):
        option = self.streams_option(self.streams)
        outputs = {self.run_suture("--streams", option, "--json", "-").stdout for _ in range(3)}
        self.assertEqual(len(outputs), 1)

    def test_help_has_examples(self):
        done = self.run_suture("--help")
        self.assertEqual(done.returncode, 0)
        self.assertIn("suture eval embeddings --streams image=", done.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
