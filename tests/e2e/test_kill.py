"""Killed at any moment, an import or a training that is started again ends with the bytes of one that was not.

    test_kill.py SUTURE

The truth is an uninterrupted run. Moments are drawn from a seed over the time that such a run took; some kills wait for a file
that only the last phase makes. After every kill, what lies under a final name must be whole.
"""
import fcntl
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import time

from common import (ENVIRONMENT, MORE, SECONDS, SMALL, Case, csv_bytes, json_lines, main, make_source, make_vocabulary, read, same_files,
                    write)

KILLS = 10 * MORE


def is_temporary(name):
    return ".tmp-" in name


def whole(path):
    """A file under its final name, read to its last byte."""
    data = read(path)
    if path.endswith(".safetensors"):
        length, = struct.unpack("<Q", data[:8])
        header = json.loads(data[8:8 + length])
        ends = [t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"]
        return max(ends) == len(data) - 8 - length
    if path.endswith(".json"):
        return isinstance(json.loads(data), dict)
    if path.endswith(".jsonl"):
        return all(isinstance(json.loads(line), dict) for line in data.splitlines()) and data[-1:] in (b"\n", b"")
    return path.endswith("vocab.txt")


class Kill(Case):
    def start_and_kill(self, words, moment, number=signal.SIGKILL):
        """moment: seconds, or a function that says when. Returns the exit code: negative, the signal that ended it."""
        process = subprocess.Popen(self.command(words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        deadline = time.monotonic() + (SECONDS if callable(moment) else moment)
        while process.poll() is None and time.monotonic() < deadline and not (callable(moment) and moment()):
            time.sleep(0.0005)
        process.send_signal(number)
        stderr = process.communicate(timeout=SECONDS)[1]
        if process.returncode != -number:
            self.check(words, process.returncode, stderr)
        return process.returncode, stderr

    def timed(self, *words):
        start = time.monotonic()
        self.suture(*words)
        return time.monotonic() - start

    def check_whole(self, folder, torn=()):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if not is_temporary(name) and name not in torn:
                self.assertTrue(whole(f"{folder}/{name}"), f"{name} is half written")


class KilledImport(Kill):
    """Pictures of 1024 x 1024, so that 90 of them make three shards and a part can be gone on with."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        make_source(cls.path("source"), 50)
        rows = [["image", "text", "patient"]]
        for i in range(90):
            name = "none.png" if i % 33 == 7 else f"images/{i % 50:03}.{('png', 'jpg')[i % 2]}"
            rows.append([name, f"text of {i}", f"p{i // 3}"])
        write(cls.path("source/large.csv"), csv_bytes(rows))

    def words(self, out, *more):
        return ("data", "import", "csv", self.path("source/large.csv"), "--out", self.path(out), "--size", 1024, *more)

    def remove(self, out):
        for end in ("", ".partial"):
            shutil.rmtree(self.path(out + end), ignore_errors=True)

    def test_killed_at_random_it_ends_the_same_for_any_number_of_threads(self):
        seconds = self.timed(*self.words("reference"))
        self.assertEqual(len([n for n in os.listdir(self.path("reference")) if n.endswith(".safetensors")]), 3)
        rng, out, partial = random.Random(5), self.path("out"), self.path("out.partial")
        files = ("part-00002.json", "manifest.json")  # the last part; the last file of all
        moments = [lambda name=name: os.path.exists(f"{partial}/{name}") for name in files]
        kills = 0
        while kills < KILLS or moments:
            moment = rng.uniform(0, seconds / 3) if kills < KILLS else moments.pop(0)
            code, _ = self.start_and_kill(self.words("out", "--threads", 1 + kills % 3), moment)
            kills += code == -signal.SIGKILL
            self.check_whole(partial)
            if os.path.exists(out):  # it was faster than the kill
                self.assertEqual(same_files(out, self.path("reference")), [])
                self.remove("out")
        self.suture(*self.words("out"))
        self.assertEqual(same_files(out, self.path("reference")), [])
        self.assertFalse(os.path.exists(partial))

    def test_any_number_of_threads_imports_the_same_bytes(self):
        for threads in (1, 2, 3):
            self.suture("data", "import", "csv", self.path("source/pairs.csv"), "--out", self.path(f"threads{threads}"), "--size", 64,
                        "--threads", threads)
            self.assertEqual(same_files(self.path(f"threads{threads}"), self.path("threads1")), [])

    def test_finished_but_killed_before_it_said_so_it_is_not_imported_twice(self):
        words = ("data", "import", "csv", self.path("source/pairs.csv"), "--out", self.path("twice"), "--size", 32)
        first = self.suture(*words)
        before = {name: os.stat(self.path("twice", name)).st_mtime_ns for name in os.listdir(self.path("twice"))}
        second = self.suture(*words)
        self.assertEqual(first.stdout, second.stdout)
        self.assertIn("nothing to do", second.stderr)
        self.assertEqual(before, {name: os.stat(self.path("twice", name)).st_mtime_ns for name in os.listdir(self.path("twice"))})
        self.refused(*words, "--grey", names="twice", code=2)  # another import is not this one


    def test_an_import_that_another_process_is_writing_is_left_alone(self):
        os.mkdir(self.path("busy.partial"))
        lock = os.open(self.path("busy.partial"), os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        words = ("data", "import", "csv", self.path("source/pairs.csv"), "--out", self.path("busy"), "--size", 32)
        self.refused(*words, names="another process")
        self.assertEqual(os.listdir(self.path("busy.partial")), [])
        os.close(lock)
        self.suture(*words)


class KilledTraining(Kill):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        make_source(cls.path("source"), 90)
        cls.vocabulary = make_vocabulary(cls.path("vocab.txt"))

    def setUp(self):
        if not os.path.exists(self.path("data")):
            self.suture("data", "import", "csv", self.path("source/pairs.csv"), "--out", self.path("data"), "--size", 32)

    def words(self, run, config, *more):
        settings = write(self.path(f"{run}.json"), json.dumps(config))
        return (*self.train_words(self.path("data"), self.path(run), settings, self.vocabulary), *more)

    def same_run(self, run, reference="reference"):
        """Every file's bytes, except what tells time and command: run.json's three times, eval.json's command line."""
        told = f"{run} differs from {reference}"
        different = set(same_files(self.path(run), self.path(reference)))
        self.assertLessEqual(different, {"run.json", "eval.json"}, told)
        times = ("seconds", "input_wait_seconds", "checkpoint_seconds")
        for name, key in (("run.json", lambda d: [d.pop(k) for k in times]), ("eval.json", lambda d: d["receipt"].pop("command"))):
            a, b = (json.loads(read(self.path(folder, name))) for folder in (run, reference))
            for document in (a, b):
                key(document)
                document.pop("crc32", None)
                document.pop("device", None)  # names the threads
            self.assertEqual(a, b, told)

    def kill_and_resume(self, config):
        seconds = self.timed(*self.words("reference", config))
        rng, run = random.Random(7), self.path("run")
        moments = [lambda name=name: os.path.exists(f"{run}/{name}") for name in ("model.safetensors", "run.json")]
        kills = 0
        while kills < KILLS or moments:
            moment = rng.uniform(0, seconds / 3) if kills < KILLS else moments.pop(0)
            code, _ = self.start_and_kill(self.words("run", config, "--resume", "--threads", 1 + kills % 3), moment)
            kills += code == -signal.SIGKILL
            self.check_whole(run, torn={"log.jsonl"})  # a log is written line by line: its last line may be torn
            if code == 0 and kills < KILLS:
                self.same_run("run")
                shutil.rmtree(run)
        self.suture(*self.words("run", config, "--resume"))
        self.same_run("run")
        steps = [line["step"] for line in json_lines(f"{run}/log.jsonl") if "val" not in line]
        self.assertEqual(steps, list(range(1, len(steps) + 1)))
        for run in ("run", "reference"):
            shutil.rmtree(self.path(run))

    def test_killed_at_random_it_ends_the_same(self):
        self.kill_and_resume(dict(SMALL, epochs=12))

    def test_killed_at_random_with_a_holdout_it_keeps_the_same_best_epoch(self):
        self.kill_and_resume(dict(SMALL, epochs=8, holdout=0.3, micro_batch=3))

    def test_any_number_of_threads_trains_the_same_bytes(self):
        for threads in (1, 2, 3):
            self.suture(*self.words(f"threads{threads}", SMALL, "--threads", threads))
            self.same_run(f"threads{threads}", "threads1")

    def test_asked_to_stop_it_saves_and_goes_on_to_the_same_bytes(self):
        config = dict(SMALL, epochs=12, checkpoint_steps=0)
        self.suture(*self.words("unasked", config))
        log = self.path("asked/log.jsonl")
        for number in (signal.SIGTERM, signal.SIGINT):
            before = os.path.getsize(log) if os.path.exists(log) else 0
            code, stderr = self.start_and_kill(self.words("asked", config, "--resume"),
                                               lambda: os.path.exists(log) and os.path.getsize(log) != before, number)
            self.assertEqual(code, 130, stderr)
            self.assertIn("--resume goes on from here", stderr)
            self.assertTrue(whole(self.path("asked/checkpoint.safetensors")))
            self.assertFalse(os.path.exists(self.path("asked/run.json")))
        self.suture(*self.words("asked", config, "--resume"))
        self.same_run("asked", "unasked")

    def test_a_run_is_gone_on_with_only_when_asked_and_only_as_it_began(self):
        self.suture(*self.words("once", SMALL))
        self.refused(*self.words("once", SMALL), names="already holds a run", code=2)
        self.refused(*self.words("once", dict(SMALL, lr=0.5), "--resume"), names="config.json")
        self.suture(*self.words("once", SMALL, "--resume"))  # finished: nothing left to do, and no error

    def test_two_trainings_do_not_write_into_one_run(self):
        config = dict(SMALL, epochs=400)
        words = self.words("shared", config, "--resume")
        first = subprocess.Popen(self.command(words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
        try:
            while not os.path.exists(self.path("shared/log.jsonl")):
                self.assertIsNone(first.poll())
                time.sleep(0.01)
            self.refused(*words, names="another process")
        finally:
            first.kill()
            first.wait()


if __name__ == "__main__":
    main()
