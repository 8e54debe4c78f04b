"""`suture text tokenize` as its users call it: python3 test_tokenize.py SUTURE VOCAB.txt"""

import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest

SUTURE, VOCAB = sys.argv[1:3]


def run(data, *options, vocab=VOCAB):
    return subprocess.run([SUTURE, "text", "tokenize", "--vocab", vocab, *options], input=data, capture_output=True,
                          timeout=120, check=False)


def records(data):
    done = run(data, "--json", "-")
    assert done.returncode == 0 and done.stderr == b"", done
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


class Tokenize(unittest.TestCase):
    def test_prints_one_record_for_every_line(self):
        self.assertEqual(records(b"No pneumothorax.\n\nCaf\xc3\xa9\n"), [
            {"ids": [2053, 1052, 2638, 2819, 29288, 2527, 2595, 1012],
             "tokens": ["no", "p", "##ne", "##um", "##otho", "##ra", "##x", "."]},
            {"ids": [], "tokens": []},
            {"ids": [7668], "tokens": ["cafe"]}])

    def test_prints_tokens_and_spaces_without_json(self):
        done = run(b"No pneumothorax.\r\n\nlast")
        self.assertEqual(done.stdout, b"no p ##ne ##um ##otho ##ra ##x .\n\nlast\n")
        self.assertEqual((done.returncode, done.stderr), (0, b""))

    def test_takes_nul_invalid_bytes_and_a_last_line_without_newline(self):
        self.assertEqual([r["tokens"] for r in records(b"n\0o\n\xff\xfen\xc3o\n\"\\\nno")],
                         [["no"], ["no"], ['"', "\\"], ["no"]])

    def test_escapes_what_json_cannot_hold(self):
        with tempfile.NamedTemporaryFile(suffix=".txt") as f:
            f.write("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n\"\n\\\né\n中\n".encode())
            f.flush()
            done = run("\" \\ 中".encode(), "--json", "-", vocab=f.name)
        self.assertEqual(json.loads(done.stdout), {"ids": [5, 6, 8], "tokens": ['"', "\\", "中"]})

    def test_no_input_prints_nothing(self):
        self.assertEqual(records(b""), [])

    def test_special_tokens_in_a_text_are_text(self):
        self.assertEqual(records(b"[SEP]")[0]["tokens"], ["[", "sep", "]"])

    def test_long_lines_equal_their_parts(self):
        line = b"Pleural effusion, left. " * 20000  # 480 kB, many reads
        one = records(line + b"\n" + b"no")
        part = records(b"Pleural effusion, left.")[0]["ids"]
        self.assertEqual(one[0]["ids"], part * 20000)
        self.assertEqual(one[1]["ids"], [2053])

    def test_a_line_beyond_the_limit_is_an_error(self):
        done = run(b"a" * ((16 << 20) + 70000))
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"longer than 16 MB", done.stderr)

    def test_writes_json_to_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "out.jsonl")
            done = run(b"no\nno\n", "--json", path)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))
            with open(path, encoding="utf-8") as f:
                self.assertEqual([json.loads(line)["ids"] for line in f], [[2053], [2053]])
            self.assertEqual(os.listdir(folder), ["out.jsonl"])

    def test_answers_a_line_before_the_next_is_sent(self):
        with subprocess.Popen([SUTURE, "text", "tokenize", "--vocab", VOCAB], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as p:
            for word in (b"one\n", b"two\n"):
                p.stdin.write(word)
                p.stdin.flush()
                self.assertEqual(p.stdout.readline(), word)
            p.stdin.close()
            self.assertEqual(p.wait(10), 0)

    def test_stops_quietly_when_nobody_reads(self):
        with subprocess.Popen([SUTURE, "text", "tokenize", "--vocab", VOCAB], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
            p.stdout.close()
            try:
                for _ in range(100000):
                    p.stdin.write(b"no pneumothorax\n" * 64)
                self.fail("the command went on reading")
            except BrokenPipeError:
                pass
            try:
                p.stdin.close()
            except BrokenPipeError:
                pass
            self.assertEqual(p.stderr.read(), b"")
            self.assertEqual(p.wait(10), 0)

    @unittest.skipUnless(os.path.exists("/dev/full") and stat.S_ISCHR(os.stat("/dev/full").st_mode), "no /dev/full")
    def test_a_full_disk_is_an_error(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([SUTURE, "text", "tokenize", "--vocab", VOCAB], input=b"no\n", stdout=full,
                                  stderr=subprocess.PIPE, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"standard output: No space left", done.stderr)

    def test_says_what_is_wrong_with_the_call(self):
        def call(*words):
            return subprocess.run([SUTURE, "text", "tokenize", *words], input=b"", capture_output=True, timeout=60,
                                  check=False)
        missing = call()
        self.assertEqual(missing.returncode, 2)
        self.assertIn(b"--vocab VOCAB.txt", missing.stderr)
        absent = call("--vocab", "/no/such/file")
        self.assertEqual(absent.returncode, 1)
        self.assertIn(b"/no/such/file", absent.stderr)
        wrong = call("--vocab", __file__)
        self.assertEqual(wrong.returncode, 1)
        self.assertIn(b"no token [PAD]", wrong.stderr)
        self.assertEqual(call("--help").returncode, 0)
        self.assertIn(b"--vocab", call("--help").stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
