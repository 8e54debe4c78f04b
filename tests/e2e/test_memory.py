"""Memory of a training from the outside: what is planned is told, kept, and lowered when there is less.

    test_memory.py SUTURE

Levels of activation checkpointing are tried with --memory, which the plan may not pass; models and logs must be the same files.
"""
import json
import os
import re
import subprocess
import unittest

from common import ENVIRONMENT, SUTURE, Case, main, make_source, make_vocabulary, read, write

TOWER = {"width": 64, "depth": 6, "heads": 2, "mlp": 256}
CONFIG = {"batch": 32, "epochs": 1, "holdout": 0,
          "model": {"dim": 16, "streams": [dict(TOWER, name="image", kind="vit", image_size=32, patch=4, drop_path=0.2),
                                           dict(TOWER, name="text", kind="bert", max_tokens=16)]}}
LEVELS = ("none", "selective", "full")
SANITIZED = b"__asan_init" in read(SUTURE)


class Memory(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        make_source(cls.path("source"), 60)
        write(cls.path("config.json"), json.dumps(CONFIG))
        make_vocabulary(cls.path("vocab.txt"))
        subprocess.run([SUTURE, "data", "import", "csv", cls.path("source/pairs.csv"), "--out", cls.path("data"), "--size", "32"],
                       check=True, capture_output=True)
        for level in LEVELS:
            cls.plain(level, "--checkpointing", level)

    runs = {}

    @classmethod
    def words(cls, run, *more):
        return ["train", "--data", cls.path("data"), "--out", cls.path(run), "--config", cls.path("config.json"), "--vocab",
                cls.path("vocab.txt"), "--evaluate", "none", "--threads", "1", *map(str, more)]

    @classmethod
    def plain(cls, run, *more):
        """Trains; (level, planned MB, peak MB of the process)."""
        with open(cls.path(f"{run}.txt"), "w+") as told:
            process = subprocess.Popen([SUTURE, *cls.words(run, *more)], stdout=subprocess.DEVNULL, stderr=told, env=ENVIRONMENT)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            told.seek(0)
            text = told.read()
        assert process.returncode == 0, text
        cls.runs[run] = (*cls.plan(text), usage.ru_maxrss / 1024)
        return cls.runs[run]

    @staticmethod
    def plan(text):
        found = re.search(r"memory planned: (\d+) MB [a-z, ]+ \+ (\d+) MB activations .*checkpointing (\w+)", text)
        assert found, text
        return found[3], int(found[1]) + int(found[2])

    def assert_same(self, run, other):
        for name in ("model.safetensors", "log.jsonl"):
            self.assertEqual(read(self.path(run, name)), read(self.path(other, name)), f"{run} and {other}: {name}")

    def test_every_level_trains_to_the_same_bits_in_less_memory(self):
        for i, level in enumerate(LEVELS):
            self.assertEqual(self.runs[level][0], level)
            self.assert_same(level, "none")
            if i:
                self.assertLess(self.runs[level][1], 0.8 * self.runs[LEVELS[i - 1]][1])

    @unittest.skipIf(SANITIZED, "a sanitizer keeps memory of its own")
    def test_what_is_planned_is_what_is_taken(self):
        # Beside the plan stands the same in every run: what one takes less than another is what its plan is less.
        none, full = self.runs["none"], self.runs["full"]
        self.assertAlmostEqual(none[2] - full[2], (none[1] - full[1]) * 1e6 / 2**20, delta=0.1 * none[1])

    def test_a_limit_chooses_the_lowest_level_below_it(self):
        planned = [self.runs[level][1] for level in LEVELS]
        self.assertEqual(self.plain("roomy", "--memory", (planned[0] + 2) / 1000)[0], "none")
        for i, level in enumerate(LEVELS[1:], 1):
            limit = (planned[i - 1] + planned[i]) / 2
            chosen, mb, _ = self.plain(f"below{i}", "--memory", limit / 1000)
            self.assertEqual(chosen, level)
            self.assertLess(mb, limit)
            self.assert_same(f"below{i}", "none")

    def test_a_limit_that_no_level_keeps_is_refused_before_anything_is_written(self):
        limit = self.runs["full"][1] * 0.8 / 1000
        self.assertRegex(self.refused(*self.words("small", "--memory", limit), names="--memory"),
                         r"planned with --checkpointing full, more than .* a smaller --micro-batch needs less")
        self.assertFalse(os.path.exists(self.path("small", "checkpoint.safetensors")))
        limit = self.runs["selective"][1] / 1000  # enough, but not for the level that is asked for
        self.refused(*self.words("forced", "--memory", limit, "--checkpointing", "none"), names="--checkpointing none")
        self.assertIn("auto, none, selective or full", self.refused(*self.words("odd", "--checkpointing", "2"), names="2", code=2))

    def test_a_caption_decoder_and_its_image_tower_follow_the_limit(self):
        write(self.path("caption.json"), json.dumps({
            "epochs": 1, "batch": 16, "holdout": 0, "model": {"streams": [{"lr_factor": 0.1}, {}]}, "caption": {"max_tokens": 12}}))
        words = ["train", "--caption", "--from", self.path("none"), "--data", self.path("data"), "--config", self.path("caption.json"),
                 "--threads", "1"]

        def train(run, *more):
            done = self.suture(*words, "--out", self.path(run), *more)
            found = re.search(r"memory planned: (\d+) MB parameters \+ (\d+) MB activations .*checkpointing (\w+)", done.stderr)
            return found[3], int(found[1]) + int(found[2])

        level, whole = train("captions")
        self.assertEqual(level, "none")
        level, less = train("captions-less", "--memory", 0.6 * whole / 1000)
        self.assertNotEqual(level, "none")
        self.assertLess(less, 0.6 * whole)
        self.assert_same("captions-less", "captions")


if __name__ == "__main__":
    main()
