"""A disk without space, a folder without permission: the command says which path and what to do, what was there stays as it was.

    test_full_disk.py SUTURE

Space is taken away in two ways: a small tmpfs (as root, where mounting is allowed) and a limit on a file's size ('ulimit -f'). The
limit is raised step by step, so that every write of a command is once the one that fails; in the end there is room, and the command,
given again, comes to the bytes of one that was never short of it.
"""
import json
import os
import resource
import shutil
import subprocess

from common import SMALL, Case, main, make_source, make_vocabulary, read, same_files, without_override, write
from test_kill import whole

REMEDY = ("free some", "write to another", "write elsewhere", "choose another", "'ulimit -f'", "free space")


def limited(size):
    def in_child():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return in_child


class FullDisk(Case):
    made = False

    def setUp(self):
        """Once: everything that the commands read, and what they write where there is room."""
        p = self.path
        if FullDisk.made:
            return
        FullDisk.made = True
        make_source(p("source"), 48)
        make_vocabulary(p("vocab.txt"))
        write(p("small.json"), json.dumps(SMALL))
        write(p("lines.txt"), "a lung\na heart\n")
        os.mkdir(p("room"))
        for name, words in self.jobs("room").items():
            self.suture(*words)

    def jobs(self, folder):
        """Every command that writes, in an order in which each finds what it needs."""
        data, run = self.path("room/data"), self.path("room/run")
        out = lambda name: self.path(folder, name)
        return {
            "data": ("data", "import", "csv", self.path("source/pairs.csv"), "--out", out("data"), "--size", 32),
            "run": (*self.train_words(data, out("run"), self.path("small.json"), self.path("vocab.txt")), "--resume"),
            "index": ("index", "--model", run, "--data", data, "--out", out("index")),
            "rows": ("embed", "--model", run, "--data", data, "--out", out("rows")),
            "lines": ("embed", "--model", run, "--text", self.path("lines.txt"), "--out", out("lines")),
            "scores": ("eval", "align", "--model", run, "--data", data, "--draws", 9, "--json", out("scores")),
            "page": ("compare", run, "--html", out("page")),
            "info": ("data", "info", data, "--json", out("info")),
        }

    def check_unwritten(self, folder):
        """Under a final name is a whole file or none."""
        for top, _, files in os.walk(self.path(folder)):
            for name in files:
                if ".tmp-" not in name and name != "log.jsonl" and name.endswith((".json", ".jsonl", ".safetensors")):
                    self.assertTrue(whole(f"{top}/{name}"), f"{top}/{name}")

    def complains(self, words, **options):
        """Fails, naming a path in its --out folder and a remedy."""
        done = self.suture(*words, code=(0, 1), **options)
        if done.returncode == 0:
            return False
        complaints = [line for line in done.stderr.splitlines() if self.is_complaint(line)]
        self.assertEqual(len(complaints), 1, done.stderr)
        self.assertTrue(any(remedy in complaints[0] for remedy in REMEDY), complaints[0])
        self.assertIn(self.folder, complaints[0])
        return True

    def check_same(self, name, folder):
        a, b = self.path("room", name), self.path(folder, name)
        if name == "index":  # the folder of the run is part of it, and is the same
            self.assertEqual(same_files(a, b), [])
        elif name == "data":
            self.assertEqual(same_files(a, b), [])
        elif name == "run":
            self.assertLessEqual(set(same_files(a, b)), {"run.json", "eval.json"})
        elif name in ("rows", "lines", "info"):
            self.assertEqual(read(a), read(b))

    def test_a_limit_on_files_stops_every_command_at_every_write(self):
        for name, words in self.jobs("limited").items():
            with self.subTest(name):
                os.makedirs(self.path("limited"), exist_ok=True)
                sizes = sorted({os.path.getsize(f"{top}/{f}") for top, _, files in os.walk(self.path("room", name)) for f in files} or
                               {os.path.getsize(self.path("room", name))})
                failures = 0
                for size in [0, 1] + [s - 1 for s in sizes if s > 2]:
                    failures += self.complains(words, preexec_fn=limited(size))
                    self.check_unwritten("limited")
                self.assertGreaterEqual(failures, 2)
                self.suture(*words)
                self.check_same(name, "limited")

    def test_a_full_disk_stops_every_command_and_it_goes_on_when_there_is_room(self):
        small = self.path("small")
        os.makedirs(small, exist_ok=True)
        mount = lambda size, *more: subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}" + "".join(more), "none", small],
                                                   capture_output=True).returncode == 0
        if os.geteuid() != 0 or not mount("4k"):
            self.skipTest("mounting is not allowed here")
        try:
            for name, words in self.jobs("small").items():
                with self.subTest(name):
                    kilobytes = 4
                    self.assertTrue(mount(f"{kilobytes}k", ",remount"))
                    write(f"{small}/ballast", bytes(4096))
                    failures = self.complains(words)
                    self.check_unwritten("small")
                    os.remove(f"{small}/ballast")
                    while self.complains(words):
                        failures += 1
                        self.check_unwritten("small")
                        kilobytes = kilobytes * 3 // 2 + 4
                        self.assertTrue(mount(f"{kilobytes}k", ",remount"))
                    self.assertGreaterEqual(failures, 1)
                    self.check_same(name, "small")
                    for left in os.listdir(small):
                        shutil.rmtree(f"{small}/{left}") if os.path.isdir(f"{small}/{left}") else os.remove(f"{small}/{left}")
        finally:
            subprocess.run(["umount", small], check=True)

    def test_a_write_that_fails_leaves_the_old_file(self):
        for name in ("rows", "scores", "page", "info"):
            old = read(self.path("room", name))
            words = self.jobs("room")[name]
            self.assertTrue(self.complains(words, preexec_fn=limited(len(old) - 1)), name)
            self.assertEqual(read(self.path("room", name)), old)
        self.assertFalse([n for n in os.listdir(self.path("room")) if ".tmp-" in n])

    def test_a_folder_without_permission_is_named(self):
        os.makedirs(self.path("closed"), exist_ok=True)
        os.chmod(self.path("closed"), 0o555)
        probe = subprocess.run(["touch", self.path("closed/probe")], preexec_fn=without_override, capture_output=True)
        if probe.returncode == 0:
            self.skipTest("permissions bind no one here")
        for name, words in self.jobs("closed").items():
            with self.subTest(name):
                complaint = self.refused(*words, names=self.path("closed"), preexec_fn=without_override)
                self.assertRegex(complaint, "no permission")
        self.assertEqual(os.listdir(self.path("closed")), [])

    def test_an_output_where_a_file_or_nothing_is(self):
        write(self.path("file"), "mine")
        for name, words in self.jobs("file").items():
            with self.subTest(name):
                self.refused(*words, names=self.path("file"), code=(1, 2))
        self.assertEqual(read(self.path("file")), b"mine")
        for name in ("rows", "lines", "scores", "page", "info"):
            self.refused(*self.jobs("nowhere")[name], names=self.path("nowhere"))

    def test_standard_output_without_space_is_an_error(self):
        full = self.path("full")
        if os.geteuid() == 0:  # a device of our own: a writer gone wrong must not replace the machine's
            try:
                os.mknod(full, 0o20666, os.makedev(1, 7))
                open(full, "wb").close()
            except OSError:
                self.skipTest("no device can be made here")
        else:
            full = "/dev/full"
        p = self.path
        for words in (("data", "info", p("room/data")), ("model", "info", p("room/run")), ("compare", p("room/run")),
                      ("search", "--index", p("room/index"), "--text", "a lung"), ("doctor",), ("--help",), ("search", "--help")):
            with open(full, "w") as out:
                for more in ((), ("--json", "-")) if "help" not in words[-1] else ((),):
                    process = subprocess.run(self.command(words + more), stdout=out, stderr=subprocess.PIPE, text=True)
                    self.check(words + more, process.returncode, process.stderr)
                    self.assertEqual(process.returncode, 1, words + more)
                    self.assertIn("standard output", process.stderr)
            if words[0] not in ("--help", "doctor") and words[-1] != "--help":
                complaint = self.refused(*words, "--json", full, names=full)
                self.assertIn("no space left on the device", complaint)


if __name__ == "__main__":
    main()
