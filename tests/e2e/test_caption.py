"""Captions from the outside: a folder of anything, killed and gone on with; evidence that is named and never one's own.

    test_caption.py SUTURE

A small alignment and a decoder with evidence are trained here. The folder holds pictures, and files that are none of every kind.
"""
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import unittest
import zlib

import numpy

from common import ENVIRONMENT, MORE, SECONDS, SUTURE, Case, encode, json_lines, main, make_source, picture, read, write

CAPTION_RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scripts/caption-results")
KILLS = 8 * MORE
CAPTION = {"epochs": 3, "batch": 8, "holdout": 0, "checkpoint_steps": 2,
           "caption": {"evidence": 2, "max_tokens": 12, "evidence_tokens": 8}}


def png_claims(width, height):
    """A PNG whose header claims a size that its few bytes cannot hold."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + \
        chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def size(out):
    """How many bytes of captions there are so far."""
    return os.path.getsize(f"{out}.partial") if os.path.exists(f"{out}.partial") else 0


class Caption(Case):
    GOOD, BAD = 40, {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        rng = numpy.random.default_rng(8)
        make_source(cls.path("source"), 60)
        for i in range(cls.GOOD):
            form, end = (("PNG", "png"), ("JPEG", "jpg"))[i % 2]
            where = "deep/er" if i % 7 == 3 else "."
            write(cls.path("folder", where, f"{i:03}.{end}"), encode(picture(rng), form))
        whole = encode(picture(rng), "JPEG")
        cls.BAD = {"cut.jpg": whole[:len(whole) // 2], "empty.png": b"", "notes.txt": b"patient: none\n",
                   "enormous.png": png_claims(60000, 60000), "zip.jpg": b"PK\x03\x04" + bytes(200),
                   "flipped.png": b"\x88" + encode(picture(rng))[1:], "deep/table.csv": b"a,b\n1,2\n"}
        for name, data in cls.BAD.items():
            write(cls.path("folder", name), data)
        os.mkfifo(cls.path("folder/pipe.png"))
        os.symlink("nowhere.png", cls.path("folder/dangling.png"))
        os.symlink(".", cls.path("folder/deep/loop"))
        write(cls.path("folder/.hidden.png"), whole)
        with open(os.fsencode(cls.path("folder")) + b"/odd\xe9.png", "wb"):  # a name that is no UTF-8
            pass
        cls.BAD = set(cls.BAD) | {"pipe.png", "dangling.png", "deep/loop", "odd%E9.png"}

    made = False

    def setUp(self):
        if Caption.made:
            return
        Caption.made = True
        data, run = self.path("data"), self.path("align")
        self.suture("data", "import", "csv", self.path("source/pairs.csv"), "--out", data, "--group-column", "patient", "--size", 32,
                    "--quiet")
        self.make_run(data, run, "--quiet")
        write(self.path("caption.config.json"), json.dumps(CAPTION))
        self.suture("train", "--caption", "--from", run, "--data", data, "--out", self.path("run"), "--config",
                    self.path("caption.config.json"), "--quiet")

    def caption(self, out, *more, code=0, **options):
        return self.suture("caption", "--model", self.path("run"), self.path("folder"), "--json", out, "--batch", 4, "--quiet", *more,
                           code=code, **options)

    def test_the_good_are_captioned_and_the_others_listed_in_order(self):
        out = self.path("all.jsonl")
        done = self.caption(out)
        self.assertIn(f"{self.GOOD} captioned, {len(self.BAD)} could not be", done.stdout)
        lines = json_lines(out)
        names = [os.path.relpath(line["file"], self.path("folder")) for line in lines]
        self.assertEqual(names, sorted(names))
        self.assertEqual({n for n, line in zip(names, lines) if "error" in line}, self.BAD)
        self.assertEqual(len(lines), self.GOOD + len(self.BAD))
        for line in lines:
            if "error" in line:
                self.assertEqual(set(line), {"file", "error"})
                self.assertIn(os.path.basename(line["file"]), line["error"])
            else:
                self.assertEqual(set(line), {"file", "caption", "log_prob", "verified", "evidence", "flags"})
                self.assertLess(line["log_prob"], 0)
                self.assertIs(line["verified"], False)
                self.assertEqual(len(line["evidence"]), 2)
        self.assertFalse([n for n in os.listdir(self.folder) if "partial" in n])
        # One file alone, in another order, with other threads: the same line.
        for line in [line for line in lines if "%E9" not in line["file"]][::9]:
            alone = self.suture("caption", "--model", self.path("run"), line["file"], "--json", "-", "--threads", 3, "--quiet",
                                code=1 if "error" in line else 0).stdout
            self.assertEqual(json.loads(alone), line)

    def test_killed_at_any_moment_it_goes_on_without_repeating_or_losing_one(self):
        whole, out = self.path("whole.jsonl"), self.path("killed.jsonl")
        slow = "--beam", "32", "--threads", "1"  # so that a kill finds it at work
        self.caption(whole, *slow)
        rng, kills, seen = random.Random(4), 0, 0
        words = ("caption", "--model", self.path("run"), self.path("folder"), "--json", out, "--batch", "2", *slow, "--resume",
                 "--quiet")
        while not os.path.exists(out):
            begun = size(out)
            process = subprocess.Popen(self.command(words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                       env=ENVIRONMENT)
            if kills < KILLS:  # a moment after the start, or after the first line more
                end, line = time.monotonic() + SECONDS, rng.random() < 0.7
                while line and process.poll() is None and size(out) <= begun and time.monotonic() < end:
                    time.sleep(0.001)
                time.sleep(rng.uniform(0, 0.005))
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
            errors = process.communicate(timeout=SECONDS)[1]
            self.check(words, 0 if process.returncode == -signal.SIGKILL else process.returncode, errors)
            if os.path.exists(f"{out}.partial"):  # nothing is lost, and what is there is a beginning of the whole
                text = read(f"{out}.partial")
                self.assertTrue(read(whole).startswith(text))
                done = text.rfind(b"\n") + 1  # the last line may be torn
                self.assertGreaterEqual(done, seen)
                seen = done
                if rng.random() < 0.5 and text:  # as if the kill had torn a line
                    os.truncate(f"{out}.partial", len(text) - rng.randrange(len(text.splitlines()[-1])))
                    seen = 0
        self.assertGreater(kills, 3)
        self.assertEqual(read(out), read(whole))
        self.assertFalse(os.path.exists(f"{out}.partial.json"))
        self.assertIn("nothing is left to do", self.suture(*words).stdout)
        self.assertEqual(read(out), read(whole))

    def test_an_interrupted_file_is_continued_only_as_it_began(self):
        out = self.path("began.jsonl")
        self.caption(out)
        lines = read(out).splitlines(keepends=True)
        os.remove(out)
        write(f"{out}.partial", b"".join(lines[:5]))
        settings = {"schema": "suture.caption.settings/1"}
        write(f"{out}.partial.json", json.dumps(settings))
        self.assertIn("--resume", self.refused("caption", "--model", self.path("run"), self.path("folder"), "--json", out, "--quiet",
                                               names="began.jsonl.partial", code=2))
        self.assertIn("other settings", self.refused("caption", "--model", self.path("run"), self.path("folder"), "--json", out,
                                                     "--resume", "--quiet", names="began.jsonl.partial", code=2))
        os.remove(f"{out}.partial")
        # Ctrl-C: what is under way is finished, 130, and --resume ends with the same bytes.
        words = ("caption", "--model", self.path("run"), self.path("folder"), "--json", out, "--batch", "1", "--threads", "1", "--quiet")
        process = subprocess.Popen(self.command(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        deadline = time.monotonic() + SECONDS
        while not (os.path.exists(f"{out}.partial") and read(f"{out}.partial")) and process.poll() is None:
            self.assertLess(time.monotonic(), deadline)
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=SECONDS)[1]
        self.assertIn(process.returncode, (0, 130), stderr)
        if process.returncode == 130:
            self.assertIn("--resume", stderr)
            self.caption(out, "--resume")
        self.assertEqual(read(out), b"".join(lines))

    def test_evidence_is_named_and_never_ones_own(self):
        out = self.path("train.jsonl")
        self.suture("caption", "--model", self.path("run"), "--data", self.path("data"), "--split", "train", "--json", out, "--quiet")
        records = {r["id"]: r for r in json_lines(self.path("data/records.jsonl"))}
        pieces = 0
        for line in json_lines(out):
            for piece in line["evidence"]:
                pieces += 1
                self.assertEqual(piece["caption"], records[piece["id"]]["text"])
                self.assertEqual(records[piece["id"]]["split"], "train")
                self.assertNotEqual(records[piece["id"]]["group"], records[line["id"]]["group"])
        self.assertEqual(pieces, 2 * sum(r["split"] == "train" for r in records.values()))
        # The training pictures as files have neither an id nor a group; their pixels are known.
        done = self.suture("caption", "--model", self.path("run"), self.path("source/images"), "--json", "-", "--quiet")
        for text in done.stdout.splitlines():
            line = json.loads(text)
            self.assertNotIn(os.path.basename(line["file"]), [os.path.basename(p["file"]) for p in line["evidence"]])
        without = self.suture("caption", "--model", self.path("run"), self.path("folder/000.png"), "--json", "-", "--evidence", 0, "--quiet")
        self.assertEqual(set(json.loads(without.stdout)), {"file", "caption", "log_prob", "verified"})
        self.refused("caption", "--model", self.path("run"), self.path("folder/000.png"), "--evidence", 3, names="2 pieces", code=2)

    def test_lines_of_a_dataset_hold_their_own_reference(self):
        out = self.path("val.jsonl")
        data = ("--data", self.path("data"), "--split", "val")
        self.suture("caption", "--model", self.path("run"), *data, "--json", out, "--quiet")
        texts = {r["id"]: r["text"] for r in json_lines(self.path("data/records.jsonl")) if r["split"] == "val"}
        self.assertEqual({line["id"]: line["captions"] for line in json_lines(out)}, {i: [text] for i, text in texts.items()})
        self.assertIn("reference: ", self.suture("caption", "--model", self.path("run"), *data, "--quiet").stdout)
        score = json.loads(self.suture("eval", "caption", "--hypotheses", out, "--references", out, "--tokenizer", "whitespace", "--json",
                                       "-", "--quiet").stdout)
        self.assertEqual(score["n"], len(texts))
        self.assertLess(score["bleu"][0], 0.9)  # scored against the references, not against itself

    def test_rules_and_confidence(self):
        def one(*more, code=0):
            return self.suture("caption", "--model", self.path("run"), self.path("folder/000.png"), "--json", "-", "--quiet", *more, code=code)
        line = json.loads(one("--confidence", "--max-tokens", 5, "--beam", 1).stdout)
        self.assertLessEqual(len(line["tokens"]), 5)
        self.assertAlmostEqual(sum(numpy.log(p) for _, p in line["tokens"]), line["log_prob"], 6)
        words = line["caption"].split()
        forbidden = json.loads(one("--forbid", *words).stdout)["caption"].split()
        self.assertFalse(set(words) & set(forbidden))
        required = json.loads(one("--require", "pleural effusion", "knee", "--max-tokens", 8).stdout)["caption"]
        self.assertIn("pleural effusion", required)
        self.assertIn("knee", required)
        drawn = [one("--sample", "--seed", s, "--temperature", 2).stdout for s in (1, 1, 2)]
        self.assertEqual(drawn[0], drawn[1])
        self.assertNotEqual(drawn[0], drawn[2])
        for wrong in (("--sample", "--beam", 3), ("--max-tokens", 13), ("--min-tokens", 12), ("--require", "knee", "--forbid", "knee"),
                      ("--beam", 0), ("--resume",)):
            self.assertEqual(one(*wrong, code=2).stdout, "")

    def test_what_a_person_sees(self):
        done = self.suture("caption", "--model", self.path("run"), self.path("folder/000.png"), self.path("folder/empty.png"), "--quiet")
        self.assertIn("could not be captioned", done.stdout)
        self.assertIn("1 captioned, 1 could not be", done.stdout)
        self.assertIn("    draft:     ", done.stdout)
        self.assertIn("evidence", done.stdout)
        self.refused("caption", "--model", self.path("run"), self.path("folder/empty.png"), "--json", self.path("none.jsonl"),
                     names="none of the 1 files")
        self.refused("caption", "--model", self.path("align"), self.path("folder/000.png"), names="train --caption")
        self.refused("caption", "--model", self.path("run"), names="--data", code=2)

    def test_caption_results_says_what_eval_caption_says_and_what_costs_nothing(self):
        data, out, runs = self.path("data"), self.path("results"), [self.path("run"), self.path("run2")]
        self.suture("train", "--caption", "--from", self.path("align"), "--data", data, "--out", runs[1], "--config",
                    self.path("caption.config.json"), "--seed", 5, "--quiet")
        done = subprocess.run([sys.executable, CAPTION_RESULTS, "--data", data, "--out", out, "--caption=--sample --max-tokens 9", *runs],
                              capture_output=True, text=True, timeout=SECONDS, env=dict(ENVIRONMENT, SUTURE=SUTURE))
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = {cells[1].strip(): [c.strip() for c in cells[2:-1]]
                for cells in (line.split("|") for line in done.stdout.splitlines() if line.startswith("|"))}
        self.assertEqual([name.rpartition(" --")[0] or name for name in rows],
                         ["captions", "---", "most frequent", "nearest image, closegap", "closegap --sample", "closegap --sample"])
        records = json_lines(self.path("data/records.jsonl"))
        train, val = ([r for r in records if r["split"] == s] for s in ("train", "val"))
        # The decoders' row: the mean and t-interval of what the command itself says.
        scores = []
        for run in runs:
            file = f"{out}/{os.path.basename(run)}-sample-max-tokens-9.jsonl"
            self.suture("caption", "--model", run, "--data", data, "--split", "val", "--sample", "--max-tokens", 9, "--json",
                        f"{run}.val.jsonl", "--quiet")
            self.assertEqual(read(file), read(f"{run}.val.jsonl"))
            scores.append(100 * json.loads(self.suture("eval", "caption", "--hypotheses", file, "--references", file, "--json", "-",
                                                       "--quiet").stdout)["bleu"][0])
        mean, half = numpy.mean(scores), 12.706 * numpy.std(scores, ddof=1) / 2 ** 0.5
        row = rows["closegap --sample --max-tokens 9"]
        self.assertEqual(row[:2], ["2", f"{mean:.1f} [{mean - half:.1f}, {mean + half:.1f}]"])
        # Dealt: the same captions, each beside another image's reference.
        own, dealt = (json_lines(f"{out}/run-sample-max-tokens-9{end}.jsonl") for end in ("", "-dealt"))
        self.assertEqual(sorted(x["caption"] for x in own), sorted(x["caption"] for x in dealt))
        self.assertEqual([x["captions"] for x in dealt], [[r["text"]] for r in val])
        self.assertNotEqual([x["caption"] for x in own], [x["caption"] for x in dealt])
        # Nearest: brute force over what `suture embed` wrote.
        z = []
        for split in ("train", "val"):
            self.suture("embed", "--model", self.path("align"), "--data", data, "--split", split, "--out", self.path(f"{split}.safetensors"), "--quiet")
            raw = read(self.path(f"{split}.safetensors"))
            size = int.from_bytes(raw[:8], "little")
            image = json.loads(raw[8:8 + size])["image"]
            z.append(numpy.frombuffer(raw[8 + size:], "<f4", numpy.prod(image["shape"]), image["data_offsets"][0]).reshape(image["shape"]))
        nearest = [max(range(len(train)), key=lambda i: z[0][i] @ v) for v in z[1]]
        self.assertEqual([x["caption"] for x in json_lines(f"{out}/nearest-align.jsonl")], [train[i]["text"] for i in nearest])


if __name__ == "__main__":
    main()
