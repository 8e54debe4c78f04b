"""What other programs rely on: --json documents, exit codes, quiet streams, and no word of a report where it does not belong.

    test_json.py SUTURE

The contract is written down here, member by member; numbers are compared with what can be counted by hand.
"""
import json
import re
import subprocess

import numpy

from common import Case, encode, json_lines, main, make_source, make_vocabulary, picture, read, write

HASH = re.compile("^[0-9a-f]{64}$")
SHARE = "a number from 0 to 1"
INTERVAL = "[low, high]"


def rows_of(path):
    """The first tensor of a safetensors file of embeddings."""
    data = read(path)
    size = int.from_bytes(data[:8], "little")
    tensor = next(t for name, t in json.loads(data[8:8 + size]).items() if name != "__metadata__")
    begin, end = tensor["data_offsets"]
    return numpy.frombuffer(data[8 + size + begin:8 + size + end], "<f4").reshape(tensor["shape"])


class Contract(Case):
    made = False

    def setUp(self):
        """Once: a dataset, a run, an index."""
        self.data, self.run_, self.idx = self.path("data"), self.path("run"), self.path("index")
        if Contract.made:
            return
        Contract.made = True
        make_source(self.path("source"), 48)
        self.import_words = ("data", "import", "csv", self.path("source/pairs.csv"), "--out", self.data, "--size", 32)
        Contract.imported = self.document(*self.import_words)
        Contract.trained = self.make_run(self.data, self.run_, "--json", "-")
        self.suture("index", "--model", self.run_, "--data", self.data, "--out", self.idx)

    def document(self, *words, code=0, **options):
        """The one JSON document on stdout; with --quiet not a word on stderr."""
        done = self.suture(*words, "--json", "-", "--quiet", code=code, **options)
        self.assertEqual(done.stderr, "")
        return json.loads(done.stdout)

    def same_in_a_file(self, words, document, code=0):
        """--json FILE writes the same document, and the table is still printed."""
        path = self.path("document.json")
        done = self.suture(*words, "--json", path, code=code)
        self.assertNotEqual(done.stdout, "")
        self.assertFalse(done.stdout.lstrip().startswith("{"))
        found = json.loads(read(path))
        for o in (found, document):
            o.get("receipt", {}).pop("command", None)
        self.assertEqual(found, document)

    def check_shape(self, value, shape, at):
        """shape: a type, a constant, a pattern, [the shape of every element], or members that must all be there."""
        if isinstance(shape, dict):
            self.assertIsInstance(value, dict, at)
            self.assertLessEqual(set(shape), set(value), at)
            for key, inner in shape.items():
                self.check_shape(value[key], inner, f"{at}.{key}")
        elif isinstance(shape, list):
            self.assertIsInstance(value, list, at)
            for i, element in enumerate(value):
                self.check_shape(element, shape[0], f"{at}[{i}]")
        elif shape == SHARE:
            self.assertTrue(isinstance(value, (int, float)) and 0 <= value <= 1, f"{at} is {value}")
        elif shape == INTERVAL:
            self.assertTrue(len(value) == 2 and value[0] <= value[1], f"{at} is {value}")
        elif isinstance(shape, type):
            self.assertIsInstance(value, (int, float) if shape is float else shape, at)
        elif isinstance(shape, re.Pattern):
            self.assertRegex(value, shape, at)
        else:
            self.assertEqual(value, shape, at)

    DIRECTION = {"r1": SHARE, "r5": SHARE, "r10": SHARE, "r1_ci95": INTERVAL, "r5_ci95": INTERVAL, "r10_ci95": INTERVAL,
                 "median_rank": float, "mrr": SHARE}

    def check_align(self, document, pool, streams=("image", "text")):
        a, b = streams
        self.check_shape(document, {
            "schema": "suture.eval.align/1", "pool": pool, "streams": list, "gap": float, "cos_true_pairs": float, "rmg": float,
            "angular_value": {a: float, b: float}, "retrieval": {f"{a}_to_{b}": self.DIRECTION, f"{b}_to_{a}": self.DIRECTION},
            "receipt": {"pool": pool, "seed": int, "command": str, "version": str, "duplicates": str, "interval": dict}}, "document")
        self.assertEqual(document["streams"], list(streams))
        self.assertIn("clustering", document)

    # --- documents ---

    def test_eval_align(self):
        words = ("eval", "align", "--model", self.run_, "--data", self.data, "--split", "val", "--draws", 50)
        document = self.document(*words)
        self.check_align(document, 16)
        self.check_shape(document["receipt"], {"dataset_sha256": HASH, "model_sha256": HASH, "tokenizer_sha256": HASH, "split": "val"}, "receipt")
        self.assertTrue(document["receipt"]["command"].startswith("suture eval align --model "))
        self.same_in_a_file(words, document)

    def test_eval_embeddings_of_three_streams_with_classes(self):
        rng = numpy.random.default_rng(2)
        for name in "abc":
            numpy.save(self.path(f"{name}.npy"), rng.standard_normal((40, 8)).astype("f4"))
        write(self.path("classes.txt"), "\n".join(str(i % 3) for i in range(40)))
        streams = ",".join(f"{name}={self.path(name)}.npy" for name in "abc")
        document = self.document("eval", "embeddings", "--streams", streams, "--labels", self.path("classes.txt"), "--draws", 20)
        pairs = {"a-b": float, "a-c": float, "b-c": float}
        self.check_shape(document, {"schema": "suture.eval.align/1", "pool": 40, "gap": pairs, "cos_true_pairs": pairs, "rmg": pairs,
                                    "angular_value": {n: float for n in "abc"}, "clustering": {"v_measure": SHARE, "knn_accuracy": SHARE},
                                    "retrieval": {f"{m}_to_{n}": self.DIRECTION for m in "abc" for n in "abc" if m != n}}, "document")

    def test_search(self):
        document = self.document("search", "--index", self.idx, "--text", "left lung \"nodule\"", "-k", 7)
        self.assertEqual(document["query"], "left lung \"nodule\"")
        self.assertEqual(len(document["hits"]), 7)
        self.check_shape(document["hits"], [{"id": str, "kind": re.compile("^(image|text)$"), "score": float, "file": str, "text": str}], "hits")
        scores = [hit["score"] for hit in document["hits"]]
        self.assertEqual(scores, sorted(scores, reverse=True))
        image = self.path("source/images/003.jpg")
        document = self.document("search", "--index", self.idx, "--image", image, "--kind", "image", "-k", 1)
        self.assertEqual((document["query"], document["hits"][0]["file"]), (image, "images/003.jpg"))  # it finds itself
        self.assertGreater(document["hits"][0]["score"], 0.999)
        self.assertEqual(self.document("search", "--index", self.idx, "--text", "x", "--where", "split=none")["hits"], [])

    def test_tokenize_writes_a_line_for_every_line(self):
        vocabulary = make_vocabulary(self.path("vocab.txt"))
        lines = "Chest CT\n\n  lung, lung \n\x01\nno end"
        done = self.suture("text", "tokenize", "--vocab", vocabulary, "--json", "-", input=lines)
        self.assertEqual(done.stderr, "")
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([a["tokens"] for a in answers], [["chest", "ct"], [], ["lung", "[UNK]", "lung"], [], ["no", "e", "##n", "##d"]])
        words = read(vocabulary).decode().split("\n")
        for answer in answers:
            self.assertEqual(set(answer), {"ids", "tokens"})
            self.assertEqual([words[i] for i in answer["ids"]], answer["tokens"])

    def test_data(self):
        self.check_shape(self.imported, {"samples": 48, "streams": list, "sha256": HASH, "skipped": {"items": 0}, "recipe": {"size": 32},
                                         "splits": {"train": {"samples": 32}, "val": {"samples": 16}}, "groups_across_splits": {"leak": False}},
                         "imported")
        document = self.document("data", "info", self.data)
        imported = {k: v for k, v in self.imported.items() if k != "groups_across_splits"}
        self.assertEqual(document, imported)
        self.same_in_a_file(("data", "info", self.data), document)
        document = self.document("data", "audit", self.data)
        self.check_shape(document, {"schema": "suture.data.audit/1", "leak": False, "damage": False, "samples": 48, "damaged": []}, "audit")
        self.same_in_a_file(("data", "audit", self.data), document)

    def test_a_leak_is_exit_code_3_in_both_forms(self):
        rows = read(self.path("source/pairs.csv")).decode().splitlines()
        leaky = [rows[0]] + [row.replace(",val,", ",train,") if i % 2 else row for i, row in enumerate(rows[1:])]
        self.suture("data", "import", "csv", write(self.path("source/leaky.csv"), "\n".join(leaky) + "\n"), "--out", self.path("leaky"), "--size", 32)
        self.assertTrue(self.document("data", "audit", self.path("leaky"), code=3)["leak"])
        self.assertIn("LEAK", self.suture("data", "audit", self.path("leaky"), code=3).stdout)

    def test_the_others(self):
        trained = json.loads(self.trained.stdout)
        self.check_shape(trained, {"schema": "suture.train/1", "steps": 16, "epochs": 4, "seconds": float}, "train")
        self.check_align(trained["eval"], 16)
        self.check_shape(self.document("model", "info", self.run_), {"schema": "suture.model.info/1", "parameters": int, "temperature": float,
                                                                     "model_sha256": HASH, "vocabulary_sha256": HASH}, "model")
        out = self.path("rows.safetensors")
        document = self.document("embed", "--model", self.run_, "--data", self.data, "--split", "all", "--out", out)
        self.assertEqual(document, {"schema": "suture.embed/1", "out": out, "width": 16, "rows": {"image": 48, "text": 48}, "skipped": []})
        records = json_lines(f"{self.data}/records.jsonl")
        self.assertEqual(json_lines(self.path("rows.rows.jsonl")), [{"id": r["id"], "split": r["split"], "group": r["group"]} for r in records])
        document = self.document("index", "--model", self.run_, "--data", self.data, "--split", "val", "--out", self.path("second"))
        self.assertEqual((document["rows"], document["width"]), (32, 16))
        document = self.document("compare", self.run_)
        self.check_shape(document, {"schema": "suture.compare/1", "pool": 16, "groups": [{"label": str, "runs": [str], "gap": {"mean": float}}]},
                         "compare")
        self.check_shape(self.document("doctor"), {"schema": "suture.doctor/1", "ok": True}, "doctor")

    def test_embed_goes_on_past_files_that_are_no_images(self):
        bad = write(self.path("no.jpg"), "text")
        good = self.path("source/images/000.png")
        done = self.suture("embed", "--model", self.run_, "--images", bad, good, "--out", self.path("two"), "--json", "-", "--quiet")
        document = json.loads(done.stdout)
        self.assertEqual(document["rows"], {"image": 1})
        self.assertEqual([s["file"] for s in document["skipped"]], [bad])
        self.refused("embed", "--model", self.run_, "--images", bad, "--out", self.path("none"), names="none of the 1 files")

    def test_embed_names_the_rows_of_a_folder(self):
        folder = self.path("pictures")
        rng = numpy.random.default_rng(3)
        for i in range(70):  # more than are read at a time
            write(f"{folder}/{i:02}.png", "text" if i % 9 == 4 else encode(picture(rng)))
        self.suture("embed", "--model", self.run_, "--images", folder, "--out", self.path("folder.safetensors"), "--quiet")
        names = [f"{folder}/{i:02}.png" for i in range(70) if i % 9 != 4]
        self.assertEqual([row["file"] for row in json_lines(self.path("folder.rows.jsonl"))], names)
        z, alone = rows_of(self.path("folder.safetensors")), self.path("alone.safetensors")
        self.assertEqual(len(z), len(names))
        for i in (0, 33, 61):
            self.suture("embed", "--model", self.run_, "--images", names[i], "--out", alone, "--quiet")
            self.assertLess(numpy.abs(rows_of(alone)[0] - z[i]).max(), 1e-5)
        write(self.path("lines.txt"), "one\ntwo\n")
        self.suture("embed", "--model", self.run_, "--text", self.path("lines.txt"), "--out", self.path("lines"), "--quiet")
        self.assertEqual(json_lines(self.path("lines.rows.jsonl")), [{"line": 1}, {"line": 2}])

    # --- streams and exit codes ---

    def test_a_failed_command_prints_no_document(self):
        for words in (("data", "info", "none"), ("eval", "align", "--model", "none", "--data", self.data), ("compare", "none"),
                      ("search", "--index", "none", "--text", "x"), ("model", "info", "none"), ("index", "--model", "none", "--data", self.data, "--out", "x"),
                      ("embed", "--model", self.run_, "--text", "none", "--out", "x"), ("data", "import", "csv", "none", "--out", "x")):
            self.refused(*words, "--json", "-", names="none")

    def test_no_text_of_a_report_is_said_by_a_command_that_was_not_asked_for_it(self):
        texts = [r["text"] for r in json_lines(f"{self.data}/records.jsonl")]
        for words in ((*self.train_words(self.data, self.path("told"), self.run_ + ".config.json", self.run_ + ".vocab.txt"),),
                      ("index", "--model", self.run_, "--data", self.data, "--out", self.path("third")),
                      ("data", "import", "csv", self.path("source/pairs.csv"), "--out", self.path("told2"), "--size", 48),
                      ("data", "info", self.data), ("data", "audit", self.data)):
            done = self.suture(*words)
            for text in texts:
                self.assertNotIn(text, done.stderr + done.stdout)
            self.assertNotIn(self.folder, done.stderr)

    def test_progress_without_a_terminal_is_plain_lines(self):
        done = self.suture("index", "--model", self.run_, "--data", self.data, "--out", self.path("plain"))
        self.assertNotIn("\r", done.stderr)
        self.assertNotIn("\x1b", done.stderr)
        self.assertTrue(done.stderr.endswith("\n"))

    def test_wrong_usage_is_exit_code_2_with_a_suggestion(self):
        data, run = self.data, self.run_
        for words, suggestion in (
                (("serach", "--index", "x"), "did you mean 'suture search'?"),
                (("data", "imort", "csv", "x"), "did you mean 'suture data import csv'?"),
                (("train", "--epohcs", "3"), "did you mean '--epochs'?"),
                (("train", "--data", data), "--out RUN"),
                (("train", "--data", data, "--out", "x", "--preset", "tinny"), "tiny, small, base or eva-g"),
                (("train", "--data", data, "--out", "x", "--objective", "clip"), "clip-lt, clip-ft or closegap"),
                (("train", "--data", data, "--out", "x", "--epochs", "many"), "whole number"),
                (("train", "--data", data, "--out", "x", "--epochs", "0"), "1 to"),
                (("train", "--data", data, "--out", "x", "--lr", "1e400"), "--lr"),
                (("train", "--data", data, "--out", "x", "--init", "txt=y"), "image, text"),
                (("train", "--data", data, "--out", "x", "--config", write(self.path("typo.json"), '{"epohcs": 3}')), 'did you mean "epochs"?'),
                (("data", "import", "csv", self.path("source/pairs.csv"), "--out", "x", "--text-column", "txt"), "there are: image, text"),
                (("data", "import", "csv", self.path("source/pairs.csv"), "--out", "x", "--fit", "stretch"), "pad or crop"),
                (("data", "info"), "1 argument is missing"),
                (("data", "info", data, data), "one argument too many"),
                (("search", "--index", self.idx), "--text T or --image FILE"),
                (("search", "--index", self.idx, "--text", "a", "--image", "b"), "--text T or --image FILE"),
                (("search", "--index", self.idx, "--text", " "), "say what to search for"),
                (("search", "--index", self.idx, "--text", "a", "--kind", "video"), "image, text or any"),
                (("search", "--index", self.idx, "--text", "a", "--where", "licence like x"), "character 9: expected =, != or ~"),
                (("search", "--index", self.idx, "--text", "a", "--where", "colour=red"), "licence"),
                (("search", "--index", self.idx, "--text", "a", "-k", "0"), "1 to"),
                (("eval", "embeddings", "--streams", "image=a.npy"), "two streams"),
                (("eval", "align", "--model", run), "--data DS"),
                (("embed", "--model", run, "--out", "x"), "one of --data DS, --images FILE|DIR... and --text FILE"),
                (("index", "--model", run, "--data", data, "--out", self.idx), "already holds an index"),
                (("data", "import", "csv", self.path("source/pairs.csv"), "--out", data, "--size", 64), "give another --out"),
                (("text", "tokenize"), "--vocab")):
            with self.subTest(" ".join(words[:2]), words=words):
                done = self.suture(*words, code=2, stdin=subprocess.DEVNULL)
                self.assertEqual(done.stdout, "")
                self.assertIn(suggestion, done.stderr)

    def test_a_split_that_is_not_there_is_answered_with_those_that_are(self):
        self.assertIn("train, val", self.refused("eval", "align", "--model", self.run_, "--data", self.data, "--split", "dev", names="dev"))


if __name__ == "__main__":
    main()
