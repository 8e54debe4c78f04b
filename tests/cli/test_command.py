"""What a person who types `suture` and not much else is told.

    python3 test_command.py path/to/suture
"""
import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest


class Command(unittest.TestCase):
    suture = None

    def say(self, *words, code, stdout="", stderr="", **options):
        """Runs the command; checks the exit code, and that each stream holds its text (None: must be empty)."""
        done = subprocess.run([self.suture, *words], capture_output=True, text=True, timeout=60, **options)
        self.assertEqual(done.returncode, code, done.stderr)
        for wanted, got in ((stdout, done.stdout), (stderr, done.stderr)):
            if wanted is None:
                self.assertEqual(got, "")
            else:
                self.assertIn(wanted, got)
        return done

    def test_no_command_shows_the_usage_on_stderr(self):
        self.say(code=2, stdout=None, stderr="usage: suture COMMAND")

    def test_help_lists_every_command_on_stdout(self):
        for word in ("--help", "-h", "help"):
            done = self.say(word, code=0, stdout="usage: suture COMMAND", stderr=None)
            for command in ("data import csv", "train", "eval align", "search", "doctor"):
                self.assertRegex(done.stdout, rf"(?m)^  {command} +\S")

    def test_version_is_one_line(self):
        self.assertRegex(self.say("--version", code=0, stderr=None).stdout, r"^suture \d+\.\d+\.\d+\n$")

    def test_an_unknown_command_is_named(self):
        self.say("nonsense", code=2, stdout=None, stderr="no command 'nonsense'")
        self.say("dat", code=2, stdout=None, stderr="no command 'dat'")

    def test_half_a_command_lists_its_family(self):
        done = self.say("data", code=2, stdout=None, stderr="data import csv")
        self.assertNotIn("doctor", done.stderr)
        self.say("data", "--help", code=0, stdout="data audit", stderr=None)
        self.say("data", "nonsense", code=2, stdout=None, stderr="no command 'nonsense'")

    def test_every_command_has_help_with_examples_and_refuses_unknown_options(self):
        listing = self.say("--help", code=0).stdout.splitlines()
        commands = [line[2:].split("  ")[0].split() for line in listing if line.startswith("  ")]
        self.assertGreater(len(commands), 10)
        reads_dicom = "SUTURE_DICOM=OFF" not in self.say("doctor", code=0, stderr=None).stdout
        for words in commands:
            with self.subTest(" ".join(words)):
                if words[0] == "dicom" and not reads_dicom:
                    self.say(*words, "--help", code=1, stdout=None, stderr="this build reads no DICOM")
                    continue
                done = self.say(*words, "--help", code=0, stdout=f"usage: suture {' '.join(words)}", stderr=None)
                self.assertIn("\nexamples:\n", done.stdout)
                self.assertIn("--json", done.stdout)
                self.say(*words, "--hlep", code=2, stdout=None, stderr="no option '--hlep'; did you mean '--help'?")

    def test_doctor_says_what_is_here(self):
        done = self.say("doctor", code=0, stderr=None)
        for label in ("suture", "processor", "cores", "memory", "device", "GPU", "libraries"):
            self.assertRegex(done.stdout, rf"(?m)^{label} +\S")
        self.assertTrue(done.stdout.endswith("Everything that Suture needs is here.\n"))

    def test_doctor_prints_one_json_document(self):
        done = self.say("doctor", "--json", "-", code=0, stderr=None)
        report = json.loads(done.stdout)
        self.assertEqual(report["schema"], "suture.doctor/1")
        self.assertTrue(report["ok"])
        self.assertGreaterEqual(report["processor"]["cores_usable"], 1)
        self.assertGreater(report["device"]["matmul_gflops"], 0)
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/report.json"
            self.say("doctor", "--json", path, code=0, stdout="processor", stderr=None)
            with open(path, encoding="utf-8") as file:
                self.assertEqual(json.load(file)["schema"], "suture.doctor/1")

    def test_doctor_finds_that_the_blas_is_missing(self):
        environment = {"SUTURE_BLAS": "/no/such/library.so"}
        self.say("doctor", code=3, stdout="cannot run here", stderr=None, env=environment)
        report = json.loads(self.say("doctor", "--json", "-", code=3, stderr=None, env=environment).stdout)
        self.assertFalse(report["ok"])
        self.assertIn("/no/such/library.so", report["device"]["error"])

    def test_doctor_finds_that_the_decoder_is_missing(self):
        if "SUTURE_DICOM=OFF" in self.say("doctor", code=0, stderr=None).stdout:
            self.skipTest("this build reads no DICOM")
        environment = os.environ | {"SUTURE_DECODE": "/no/such/decoder"}
        done = self.say("doctor", code=3, stdout="compressed cannot be read here", stderr=None, env=environment)
        self.assertRegex(done.stdout, r"(?m)^DICOM +no compressed pixels: /no/such/decoder")
        self.assertNotIn("Everything", done.stdout)
        report = json.loads(self.say("doctor", "--json", "-", code=3, stderr=None, env=environment).stdout)
        self.assertFalse(report["ok"])

    def test_a_full_disk_is_an_error(self):
        with tempfile.TemporaryDirectory() as folder:
            full = "/dev/full"
            if os.geteuid() == 0:  # root could replace the machine's own device if the writer were wrong
                full = f"{folder}/full"
                try:
                    os.mknod(full, stat.S_IFCHR | 0o666, os.makedev(1, 7))
                    open(full, "wb").close()
                except OSError:
                    self.skipTest("no device can be made here")
            self.say("doctor", "--json", full, code=1, stderr="no space left on the device")


if __name__ == "__main__":
    Command.suture = sys.argv.pop(1)
    unittest.main()
