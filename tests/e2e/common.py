"""What the end-to-end tests share: the command, run with care; pictures, tables and a small model made from a seed.

A test is a script with the path of `suture` as its first argument. Nothing is read from outside its temporary folder.
"""
import ctypes
import csv
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

import numpy
from PIL import Image

SUTURE = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else None
SECONDS = 120  # a command that runs longer than this hangs
MORE = 8 if os.environ.get("SUTURE_FULL_TESTS") == "ON" else 1  # times as many kills, cuts, flips, items: scripts/test --full

# A crash must not look like exit code 1, and an allocation that is too large must fail as it does without the sanitizer.
ENVIRONMENT = dict(os.environ, ASAN_OPTIONS="abort_on_error=1:detect_leaks=1:allocator_may_return_null=1",
                   UBSAN_OPTIONS="print_stacktrace=1:abort_on_error=1", LC_ALL="C.UTF-8")

WORDS = ("chest radiograph showing pleural effusion left right lung normal heart fracture of the hand knee ct axial slice mri "
         "brain lesion no finding image with contrast arrow nodule mass").split()

# Two towers that train in a second. Dropout and augmentation stay on: they are part of what must come out the same.
TOWER = {"width": 32, "depth": 1, "heads": 2, "mlp": 48}
SMALL = {"batch": 8, "epochs": 4, "holdout": 0, "checkpoint_steps": 3,
         "model": {"dim": 16, "streams": [dict(TOWER, name="image", kind="vit", image_size=32, patch=8),
                                          dict(TOWER, name="text", kind="bert", max_tokens=16)]}}


def without_override():
    """In the child: root obeys permissions like everyone else (drops CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH)."""
    drop = 24  # PR_CAPBSET_DROP
    libc = ctypes.CDLL(None)
    for capability in (1, 2):
        libc.prctl(drop, capability, 0, 0, 0)


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())
    return path


def read(path):
    with open(path, "rb") as f:
        return f.read()


def json_lines(path):
    return [json.loads(line) for line in read(path).splitlines()]


def picture(rng, width=48, height=40, mode="RGB"):
    """A smooth random picture: no two are alike, and none is blank."""
    cells = rng.integers(0, 256, (5, 6, 3), dtype=numpy.uint8)
    return Image.fromarray(cells).resize((width, height), Image.BICUBIC).convert(mode)


def encode(image, form="PNG", **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def csv_text(rows, **options):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", **options).writerows(rows)
    return out.getvalue()


def csv_bytes(rows, **options):
    return csv_text(rows, **options).encode()


def caption(rng, length=7):
    return " ".join(rng.choice(WORDS) for _ in range(length))


def make_source(folder, count=60, seed=1):
    """count pictures (JPEG and PNG) and pairs.csv: two pictures a patient; every third patient is in val."""
    rng, words = numpy.random.default_rng(seed), random.Random(seed)
    rows = [["image", "text", "patient", "split", "licence"]]
    for i in range(count):
        form, end = (("PNG", "png"), ("JPEG", "jpg"))[i % 2]
        write(f"{folder}/images/{i:03}.{end}", encode(picture(rng), form))
        rows.append([f"images/{i:03}.{end}", f"{caption(words)} {i}", f"p{i // 2}", ("train", "train", "val")[i // 2 % 3],
                     ("CC BY", "CC0")[i % 5 == 0]])
    return write(f"{folder}/pairs.csv", csv_bytes(rows))


def make_vocabulary(path):
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    return write(path, "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters),
                                  *dict.fromkeys(WORDS)]) + "\n")


def same_files(a, b):
    """Names of the files that differ, or are in one folder only."""
    names = set(os.listdir(a)) | set(os.listdir(b))
    return sorted(n for n in names if not (os.path.isfile(f"{a}/{n}") and os.path.isfile(f"{b}/{n}")
                                           and read(f"{a}/{n}") == read(f"{b}/{n}")))


class Case(unittest.TestCase):
    """A temporary folder for the class, and the command."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="suture-e2e-")
        cls.addClassCleanup(cls.clean)

    @classmethod
    def clean(cls):
        for top, folders, _ in os.walk(cls.folder):
            for name in folders:
                if not os.path.islink(f"{top}/{name}"):
                    os.chmod(f"{top}/{name}", 0o700)
        shutil.rmtree(cls.folder)

    @classmethod
    def path(cls, *names):
        return os.path.join(cls.folder, *names)

    @classmethod
    def command(cls, words):
        return [SUTURE, *map(str, words)]

    def check(self, words, code, stderr):
        """No command is ever killed by a signal of its own, and a sanitizer has nothing to say."""
        told = f"suture {' '.join(map(str, words))}: exit {code}\n{stderr[-3000:]}"
        self.assertGreaterEqual(code, 0, told)
        self.assertNotIn("Sanitizer", stderr, told)
        self.assertNotIn("runtime error", stderr, told)
        return told

    def suture(self, *words, code=0, **options):
        """Runs the command to its end. code: the exit code that is right, or several."""
        try:
            done = subprocess.run(self.command(words), capture_output=True, text=True, errors="replace", timeout=SECONDS,
                                  env=ENVIRONMENT, **options)
        except subprocess.TimeoutExpired:
            self.fail(f"suture {' '.join(map(str, words))}: hangs")
        told = self.check(words, done.returncode, done.stderr)
        self.assertIn(done.returncode, code if isinstance(code, tuple) else (code,), told)
        return done

    def refused(self, *words, names, code=1, **options):
        """The command fails with one message that names the file (or one of several), and prints no result."""
        done = self.suture(*words, code=code, **options)
        told = f"suture {' '.join(map(str, words))}\n{done.stderr}"
        self.assertEqual(done.stdout, "", told)
        complaints = [line for line in done.stderr.splitlines() if self.is_complaint(line)]
        self.assertEqual(len(complaints), 1, told)
        names = (names,) if isinstance(names, str) else names
        self.assertTrue(any(name in complaints[0] for name in names), f"does not name {' or '.join(names)}:\n{told}")
        return complaints[0]

    @staticmethod
    def is_complaint(line):
        """Notes and warnings begin with 'suture: ', progress with its own name, a complaint with the command's."""
        return line.startswith("suture ")

    def make_run(self, data, run, *more, config=SMALL, code=0, **options):
        """Trains the small model; the configuration and the vocabulary lie beside the run."""
        settings = write(f"{run}.config.json", json.dumps(config))
        vocabulary = make_vocabulary(f"{run}.vocab.txt")
        return self.suture(*self.train_words(data, run, settings, vocabulary), *more, code=code, **options)

    @staticmethod
    def train_words(data, run, settings, vocabulary):
        return ("train", "--data", data, "--out", run, "--config", settings, "--vocab", vocabulary)


def main():
    sys.argv.pop(1)
    unittest.main()
