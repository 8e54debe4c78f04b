"""No damage to what Suture has written is followed by a crash, a hang or a result that looks right.

    test_damaged_files.py SUTURE

A small dataset, run, index and embeddings are made here. Then each of their files is cut, its bits are flipped, it is emptied,
replaced by something else or taken away, and every command that reads it must end with exit code 1 and one message that names the
file. Places are drawn from a seed. Only a flip in the name of a checksum (then there is none to compare with) and one in the last
digits of a number that leaves it the same number may pass, and the command must say what it says of the whole file.
"""
import json
import os
import random
import re
import resource
import shutil
import struct

import numpy

from common import MORE, Case, main, make_source, read, write

CUTS, FLIPS = 6 * MORE, 8 * MORE


def tensors(path):
    data = read(path)
    length, = struct.unpack("<Q", data[:8])
    return json.loads(data[8:8 + length]), data[8 + length:]


def container(header, data, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def unhashed(text):
    """Without what may differ: hashes of files, which tell every change, also one that means nothing, and how long it took."""
    return re.sub(r"\bin [0-9]+ s\b", "in (time)", re.sub("[0-9a-f]{64}", "(hash)", text))


def same_document(a, b):
    try:
        return json.loads(a) == json.loads(b)
    except ValueError:
        return False


class Damage(Case):
    made = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        make_source(cls.path("source"), 48)

    def setUp(self):
        """Once: everything that the commands read, and what each says of it."""
        if Damage.made:
            return
        Damage.made = True
        p = self.path
        self.suture("data", "import", "csv", p("source/pairs.csv"), "--out", p("data"), "--size", 32)
        self.make_run(p("data"), p("run"))
        self.suture("index", "--model", p("run"), "--data", p("data"), "--out", p("index"))
        self.suture("embed", "--model", p("run"), "--data", p("data"), "--split", "all", "--out", p("rows.safetensors"))
        shutil.copytree(p("run"), p("unfinished"))
        for name in ("run.json", "eval.json"):
            os.remove(p("unfinished", name))

    # --- the commands ---

    def eval_align(self):
        return "eval", "align", "--model", self.path("run"), "--data", self.path("data"), "--draws", 20, "--json", "-"

    def embed(self):
        return "embed", "--model", self.path("run"), "--data", self.path("data"), "--split", "val", "--out", self.path("embedded")

    def index(self):
        return "index", "--model", self.path("run"), "--data", self.path("data"), "--out", self.path("again")

    def search(self):
        return "search", "--index", self.path("index"), "--text", "left lung nodule", "--json", "-"

    def model_info(self):
        return "model", "info", self.path("run"), "--json", "-"

    def compare(self):
        return "compare", self.path("run"), "--json", "-"

    def eval_embeddings(self):
        rows = self.path("rows.safetensors")
        return "eval", "embeddings", "--streams", f"image={rows}:image,text={rows}:text", "--draws", 20, "--json", "-"

    def resume(self):
        run = self.path("run")  # its settings lie beside it
        return (*self.train_words(self.path("data"), self.path("unfinished"), run + ".config.json", run + ".vocab.txt"), "--resume")

    def train(self):
        run = self.path("run")
        return self.train_words(self.path("data"), self.path("trained"), run + ".config.json", run + ".vocab.txt")

    def data_info(self):
        return "data", "info", self.path("data"), "--json", "-"

    def data_audit(self):
        return "data", "audit", self.path("data"), "--json", "-"

    # --- the damage ---

    def clear(self):
        """Removes what a command has written."""
        for name in ("embedded", "again", "trained"):
            path = self.path(name)
            if os.path.isdir(path):
                shutil.rmtree(path)
            elif os.path.exists(path):
                os.remove(path)

    def expect(self, words, name, damage, whole=None):
        """The command refuses; or, when whole is given, it says what it says of the whole file."""
        with self.subTest(f"{words[0]} {words[1]}", file=name, damage=damage):
            if whole is not None and (done := self.suture(*words, code=(0, 1))).returncode == 0:
                self.assertEqual(unhashed(done.stdout), unhashed(whole), f"{name}, {damage}: a result that only looks right")
            else:
                self.refused(*words, names=name)
                for left in ("embedded", "trained/model.safetensors", "again/index.json"):
                    self.assertFalse(os.path.exists(self.path(left)), left)
            self.clear()

    def damage(self, path, commands, also=(), needed=True):
        """Cuts, flips, empties, replaces and removes the file at path; commands: functions above. needed: it must be there."""
        path, name, data = self.path(path), os.path.basename(path), read(self.path(path))
        folder = os.path.dirname(path)
        rng = random.Random(name)
        seals = [range(8 * m.start(), 8 * m.end()) for m in re.finditer(b'"(header_)?crc32"', data)]
        try:
            for command in commands:
                words = command()
                whole = self.suture(*words).stdout
                self.clear()
                for cut in [0, len(data) - 2] + [rng.randrange(len(data) - 2) for _ in range(CUTS)]:
                    write(path, data[:cut])
                    self.expect(words, name, f"cut at {cut} of {len(data)}")
                header = data.index(b"}") if path.endswith(".safetensors") else len(data)  # its metadata stands first
                for i in range(FLIPS):
                    bit = rng.randrange(8 * (len(data) if i % 2 else header))
                    flipped = data[:bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1:]
                    write(path, flipped)
                    harmless = any(bit in seal for seal in seals) or same_document(flipped, data)
                    # The weights of an index's model are told from others by their hash: that message names the folder.
                    self.expect(words, (name, folder) if harmless else name, f"bit {bit} flipped", whole if harmless else None)
                for other in (b"\0" * 100, b"{}", b"[1]", b"\xff\xfe", b"version https://git-lfs.github.com/spec/v1\n", *also):
                    write(path, other)
                    self.expect(words, name, f"replaced by {other[:60]}")
                os.remove(path)
                if needed:
                    self.expect(words, (name, folder), "taken away")
                os.mkdir(path)
                self.expect(words, (name, folder), "a folder")
                os.rmdir(path)
                write(path, data)
        finally:
            if os.path.isdir(path):
                os.rmdir(path)
            write(path, data)

    def hostile(self, path):
        """The file's own tensors under headers that lie."""
        header, data = tensors(self.path(path))
        header.pop("__metadata__")
        first, last = list(header)[0], list(header)[-1]
        yield struct.pack("<Q", 2**63) + b"{}"
        yield struct.pack("<Q", 2**64 - 1) + b"{}" + bytes(100)
        yield struct.pack("<Q", 100_000_001) + bytes(100)
        yield container(header, data, length=len(json.dumps(header)) + len(data) + 1)
        def changed(name, **members):
            return container({n: dict(t, **members) if n == name else t for n, t in header.items()}, data)
        a, b = header[last]["data_offsets"]
        for offsets in ([-8, b], [a, 2**63 - 1], [a, 2**63], [b, a], [0, b - a] if a else [8, b + 8], [a + 0.5, b], [a], "0", None):
            yield changed(last, data_offsets=offsets)
        for shape in ([2**62, 4], [2**32, 2**32, 0], [-1], [2**63], [], None, "x", [1] * 9):
            yield changed(last, shape=shape)
        for dtype in ("F16", "f32", "", None, 7):
            yield changed(last, dtype=dtype)
        yield container({n: t for n, t in header.items() if n != first}, data)
        yield container(dict(header, more={"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}), data)
        yield container(json.dumps(header).replace("}", ',"x":' + "[" * 5000, 1).encode(), data)
        yield container(header, data + b"\0\0\0\0")
        yield container({"__metadata__": {"format": 7}, **header}, data)

    # --- the tests ---

    def test_weights(self):
        self.damage("run/model.safetensors", [self.eval_align, self.model_info, self.embed], self.hostile("run/model.safetensors"))
        self.damage("run/model.safetensors", [self.index, self.search])

    def test_model_and_vocabulary(self):
        self.damage("run/model.json", [self.model_info, self.embed, self.search])
        self.damage("run/vocab.txt", [self.eval_align, self.search])

    def test_a_model_that_claims_more_than_memory_is_refused_at_once(self):
        document = json.loads(read(self.path("run/model.json")))
        document.pop("crc32")
        kept = read(self.path("run/model.json"))
        try:
            for stream, member, value in ((0, "width", 16384), (0, "depth", 256), (0, "mlp", 65536), (0, "heads", 3), (0, "heads", 0),
                                          (0, "patch", 1), (0, "patch", 33), (1, "vocabulary", 1 << 24), (1, "vocabulary", 5),
                                          (1, "positions", 65536), (1, "max_tokens", 60000), (1, "width", -1), (0, "image_size", 0)):
                changed = json.loads(json.dumps(document))
                changed["model"]["streams"][stream][member] = value
                write(self.path("run/model.json"), json.dumps(changed))
                self.refused(*self.model_info(), names=("model.json", "model.safetensors", "vocab"), code=(1, 2))
                self.refused(*self.eval_align(), names=("model.json", "model.safetensors", "vocab"), code=(1, 2))
        finally:
            write(self.path("run/model.json"), kept)
        self.assertLess(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, 1 << 20, "a command took more than 1 GiB")

    def test_checkpoint(self):
        checkpoint = "unfinished/checkpoint.safetensors"
        self.damage(checkpoint, [self.resume], self.hostile(checkpoint), needed=False)
        whole = read(self.path(checkpoint))
        os.remove(self.path(checkpoint))
        self.assertIn("no checkpoint", self.suture(*self.resume()).stderr)  # it begins again, and comes to the same end
        self.assertEqual(read(self.path(checkpoint)), whole)

    def test_configuration_of_a_run_that_goes_on(self):
        path, whole = self.path("unfinished/config.json"), read(self.path("unfinished/config.json"))
        words = ("train", "--data", self.path("data"), "--out", self.path("unfinished"), "--vocab", self.path("run.vocab.txt"), "--resume")
        changes = [whole[:n] for n in (0, 1, 700, len(whole) - 3)] + [b"[]", b"\0"]
        changes += [whole.replace(b'"lr": 0.001', b'"lr": 0.003'), whole.replace(b'"seed": 1', b'"seed": 3'),
                    whole.replace(b'"lr"', b'"lq"'), whole.replace(b'"mlp": 48', b'"mlp": 49')]
        try:
            for content in changes:
                self.assertNotEqual(content, whole)
                write(path, content)
                self.refused(*words, names=("config.json", "checkpoint.safetensors"), code=(1, 2))
        finally:
            write(path, whole)

    def test_documents_of_a_run(self):
        self.damage("run/eval.json", [self.compare])
        self.damage("run/run.json", [self.compare])

    def test_manifest_and_records(self):
        self.damage("data/manifest.json", [self.data_info, self.eval_align, self.train])
        self.damage("data/records.jsonl", [self.data_info, self.data_audit, self.embed])

    def test_pixels(self):
        shard = "data/image-00000.safetensors"
        self.damage(shard, [self.eval_align, self.embed], self.hostile(shard))
        self.damage(shard, [self.index, self.train])

    def test_audit_finds_what_is_damaged(self):
        whole = self.suture(*self.data_audit(), code=(0, 3))
        self.assertFalse(json.loads(whole.stdout)["damage"])
        for name in ("image-00000.safetensors", "skipped.jsonl"):
            path, data = self.path("data", name), read(self.path("data", name))
            write(path, data[:-1] + bytes([(data or b"\0")[-1] ^ 1]))
            found = json.loads(self.suture(*self.data_audit(), code=3).stdout)
            self.assertEqual([d["file"] for d in found["damaged"]], [name])
            write(path, data)

    def test_index(self):
        self.damage("index/vectors.safetensors", [self.search], self.hostile("index/vectors.safetensors"))
        self.damage("index/items.jsonl", [self.search])
        self.damage("index/index.json", [self.search])

    def test_embeddings(self):
        self.damage("rows.safetensors", [self.eval_embeddings], self.hostile("rows.safetensors"))

    def test_npy(self):
        rows = numpy.random.default_rng(0).standard_normal((20, 8)).astype("f4")
        numpy.save(self.path("good.npy"), rows)
        data = read(self.path("good.npy"))
        words = ("eval", "embeddings", "--streams", f"a={self.path('good.npy')},b={self.path('bad.npy')}", "--draws", 0)
        header = data[:128]
        def claim(text):
            return data[:8] + struct.pack("<H", len(text) + 1) + text + b"\n" + data[128:]
        shape = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }"
        bad = [data[:n] for n in (0, 5, 7, 9, 40, 127, 128, 129, len(data) - 1)] + [data + b"x", header[:8] + b"\xff\xff" + data[10:]]
        bad += [claim((shape % s).encode()) for s in ("(20, 9)", "(2, 8)", "(-20, 8)", "(9223372036854775807, 8)", "(160,)", "()", "(20, 0)",
                                                      "(20, 8", "(4294967296, 4294967296)", "'x'")]
        bad += [data.replace(b"<f4", d) for d in (b"<f9", b"|O ", b"<c8", b"<i4")]
        for value in (numpy.nan, numpy.inf):
            spoilt = rows.copy()
            spoilt[7, 3] = value
            numpy.save(self.path("spoilt.npy"), spoilt)
            bad.append(read(self.path("spoilt.npy")))
        for content in bad:
            write(self.path("bad.npy"), content)
            self.refused(*words, names="bad.npy")


if __name__ == "__main__":
    main()
