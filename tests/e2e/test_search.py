"""`suture search` finds what a brute force in NumPy finds, filtered or not, and refuses another model.

    test_search.py SUTURE

The truth: the query's embedding by `suture embed`, the index's own vectors, one matrix product in float64, a stable sort. Scores are
float32, so two that differ by less than 1e-6 may change places; equal vectors must keep the order of their rows.
"""
import json
import random
import shutil
import struct

import numpy

from common import SMALL, Case, caption, csv_bytes, encode, json_lines, main, picture, read, write

NEAR = 1e-6


def tensor(path, name):
    data = read(path)
    length, = struct.unpack("<Q", data[:8])
    entry = json.loads(data[8:8 + length])[name]
    begin, end = entry["data_offsets"]
    assert entry["dtype"] == "F32"
    return numpy.frombuffer(data[8 + length + begin:8 + length + end], "<f4").reshape(entry["shape"])


class Search(Case):
    made = False

    def setUp(self):
        """Once: 240 items, a third of the captions said twice, some pictures twice, and two models."""
        p = self.path
        if not Search.made:
            Search.made = True
            rng, words = numpy.random.default_rng(3), random.Random(3)
            rows = [["image", "text", "patient", "split", "licence"]]
            for i in range(120):
                name = f"images/{i:03}.png"
                write(p("source", name), read(p("source", f"images/{i - 1:03}.png")) if i % 10 == 9 else encode(picture(rng)))
                rows.append([name, rows[-1][1] if i % 3 == 2 else caption(words), f"p{i // 10}", ("train", "val")[i // 10 % 4 == 3],
                             ("CC BY", "CC0", "")[i % 3]])
            write(p("source/pairs.csv"), csv_bytes(rows))
            self.suture("data", "import", "csv", p("source/pairs.csv"), "--out", p("data"), "--size", 32)
            self.make_run(p("data"), p("run"), config=dict(SMALL, epochs=2))
            self.make_run(p("data"), p("other"), config=dict(SMALL, epochs=2, seed=2))
            self.suture("index", "--model", p("run"), "--data", p("data"), "--out", p("index"))
        self.items = json_lines(p("index/items.jsonl"))
        self.vectors = tensor(p("index/vectors.safetensors"), "vectors").astype("f8")

    def embed_text(self, text):
        self.suture("embed", "--model", self.path("run"), "--text", write(self.path("query.txt"), text + "\n"), "--out", self.path("query"))
        return tensor(self.path("query"), "text")[0].astype("f8")

    def hits(self, *words, index="index", **options):
        done = self.suture("search", "--index", self.path(index), *words, "--json", "-", **options)
        return json.loads(done.stdout)["hits"]

    def check_hits(self, hits, query, k, keep=lambda item: True, said=""):
        """Every hit is an item with its own score; no item left out is better; equal vectors stand in order."""
        scores = self.vectors @ query
        rows = [i for i, item in enumerate(self.items) if keep(item)]
        best = sorted(rows, key=lambda i: -scores[i])[:k]
        self.assertEqual(len(hits), min(k, len(rows)), said)
        place = {(item["id"], item["kind"]): i for i, item in enumerate(self.items)}
        found = [place[hit["id"], hit["kind"]] for hit in hits]
        self.assertEqual(len(set(found)), len(found), said)
        self.assertTrue(all(keep(self.items[i]) for i in found), said)
        for hit, row, right in zip(hits, found, best):
            self.assertLess(abs(hit["score"] - scores[row]), NEAR, said)
            self.assertLess(abs(scores[row] - scores[right]), NEAR, said)
            for member in ("file", "text", "split", "licence"):
                self.assertEqual(hit[member], self.items[row][member])
        for a, b, one, two in zip(found, found[1:], hits, hits[1:]):
            self.assertGreaterEqual(one["score"], two["score"])
            if one["score"] == two["score"]:
                self.assertLess(a, b, said)
        left_out = set(rows) - set(found)
        if found and left_out:
            self.assertLess(max(scores[i] for i in left_out), scores[found[-1]] + NEAR, said)
            ties = [i for i in left_out if (self.vectors[i] == self.vectors[found[-1]]).all()]
            self.assertTrue(all(i > found[-1] for i in ties), said)

    def test_the_index_holds_every_image_and_every_text_as_unit_rows(self):
        self.assertEqual(len(self.items), 240)
        self.assertEqual([item["kind"] for item in self.items], ["image", "text"] * 120)
        self.assertLess(abs(numpy.linalg.norm(self.vectors, axis=1) - 1).max(), NEAR)
        self.suture("embed", "--model", self.path("run"), "--data", self.path("data"), "--split", "all", "--out", self.path("rows"))
        for kind, first in (("image", 0), ("text", 1)):
            self.assertLess(abs(tensor(self.path("rows"), kind) - self.vectors[first::2]).max(), NEAR)

    def test_texts_find_what_brute_force_finds(self):
        words = random.Random(9)
        for text in [caption(words, n) for n in (1, 2, 3, 5, 8, 20)] + [self.items[1]["text"], "zzz qqq", "CHEST Radiograph", "a'b\"c\\d"]:
            query = self.embed_text(text)
            for k in (1, 10, 239, 240, 1000):
                self.check_hits(self.hits("--text", text, "-k", k), query, k, said=text)

    def test_said_twice_is_found_twice_in_order(self):
        text = self.items[3]["text"]  # rows 3 and 5 are captions of the same words
        self.assertEqual(text, self.items[5]["text"])
        self.assertTrue((self.vectors[3] == self.vectors[5]).all(), "equal texts have equal vectors")
        hits = [hit for hit in self.hits("--text", text, "--kind", "text", "-k", 120) if hit["text"] == text]
        self.assertEqual([hit["id"] for hit in hits[:2]], [self.items[3]["id"], self.items[5]["id"]])
        self.assertEqual(hits[0]["score"], hits[1]["score"])
        self.assertGreater(hits[0]["score"], 1 - NEAR)

    def test_images_find_what_brute_force_finds(self):
        for name in ("000.png", "009.png", "077.png"):
            path = self.path("source/images", name)
            self.suture("embed", "--model", self.path("run"), "--images", path, "--out", self.path("query"))
            query = tensor(self.path("query"), "image")[0].astype("f8")
            for kind in ("image", "text", "any"):
                self.check_hits(self.hits("--image", path, "--kind", kind, "-k", 12), query, 12, lambda item: kind in ("any", item["kind"]), name)

    def test_filters_give_k_whenever_k_pass(self):
        query = self.embed_text("lung nodule")
        for where, keep in {
                "split=val": lambda i: i["split"] == "val",
                "split!=val": lambda i: i["split"] != "val",
                "licence='CC BY' and kind=text": lambda i: i["licence"] == "CC BY" and i["kind"] == "text",
                "licence=": lambda i: i["licence"] == "",
                "licence=''": lambda i: i["licence"] == "",
                "text~LUNG": lambda i: "lung" in i["text"].lower(),
                "text~'lung' and split=train and kind!=text": lambda i: "lung" in i["text"] and i["split"] == "train" and i["kind"] == "image",
                "group=p3": lambda i: i["group"] == "p3",
                "file~/07 AND stream=image": lambda i: "/07" in i["file"] and i["stream"] == "image",
                "id=images/050.png": lambda i: i["id"] == "images/050.png",
                "id=none": lambda i: False,
                "  split = val  and  kind = image ": lambda i: i["split"] == "val" and i["kind"] == "image",
        }.items():
            for k in (1, 5, 60):
                self.check_hits(self.hits("--text", "lung nodule", "--where", where, "-k", k), query, k, keep, where)

    def test_any_number_of_threads_finds_the_same(self):
        words = ("--text", "heart with contrast", "-k", 50)
        self.assertEqual(self.hits(*words, "--threads", 1), self.hits(*words, "--threads", 3))

    def test_an_index_of_one_split_holds_that_split(self):
        self.suture("index", "--model", self.path("run"), "--data", self.path("data"), "--split", "val", "--out", self.path("val"))
        hits = self.hits("--text", "brain", "-k", 500, index="val")
        self.assertEqual(len(hits), sum(item["split"] == "val" for item in self.items))
        self.assertEqual({hit["split"] for hit in hits}, {"val"})

    def test_another_model_is_refused_and_a_moved_one_is_found(self):
        words = ("search", "--index", self.path("index"), "--text", "brain", "--json", "-")
        self.assertIn("not the model that made this index", self.refused(*words, "--model", self.path("other"), names="other"))
        before = self.suture(*words).stdout
        shutil.move(self.path("run"), self.path("moved"))
        try:
            self.assertIn("--model RUN", self.refused(*words, names=self.path("run")))
            self.assertEqual(self.suture(*words, "--model", self.path("moved")).stdout, before)
            shutil.copytree(self.path("other"), self.path("run"))  # another run where the model was
            self.refused(*words, names="not the model that made this index")
            shutil.rmtree(self.path("run"))
        finally:
            shutil.move(self.path("moved"), self.path("run"))


if __name__ == "__main__":
    main()
