"""The PTB tokenizer against the recorded answers of Stanford's PTBTokenizer (tests/golden/make_ptb.py).

    check_ptb.py PTB_LINES SUTURE

The shared data folder's texts (environment SUTURE_SHARED, else ../shared beside the checkout) are skipped without it.
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/golden"))
import ptb_texts  # noqa: E402

PTB_LINES, SUTURE = (os.path.abspath(p) for p in sys.argv[1:3])
SHARED = os.environ.get("SUTURE_SHARED") or os.path.join(ROOT, "../shared")


def tokens(lines):
    with tempfile.NamedTemporaryFile() as f:
        f.write("\n".join(lines).encode())
        f.flush()
        return subprocess.run([PTB_LINES, f.name], stdout=subprocess.PIPE, check=True).stdout.decode().split("\n")[:-1]


class Tokens(unittest.TestCase):
    maxDiff = None

    def compare(self, texts):
        with open(ptb_texts.BLOCKS, encoding="ascii") as f:
            wanted = {words[0]: words[1:] for words in map(str.split, f)}
        for name, lines in texts.items():
            self.assertEqual(len(lines), int(wanted[name][0]), name)
            for i, (got, want) in enumerate(zip(ptb_texts.blocks(tokens(lines)), wanted[name][1:], strict=True)):
                first = i * ptb_texts.BLOCK
                self.assertEqual(got, want, f"{name}: among lines {first + 1} to {first + ptb_texts.BLOCK}")

    def test_hard_lines_have_the_tokens_of_java(self):
        pairs = ptb_texts.hard()
        for (line, wanted), got in zip(pairs, tokens([line for line, _ in pairs]), strict=True):
            self.assertEqual(got, wanted, line)

    def test_captions_and_generated_lines_have_the_tokens_of_java(self):
        self.compare(ptb_texts.here())

    def test_all_shared_captions_reports_and_questions_have_the_tokens_of_java(self):
        if not os.path.isdir(os.path.join(SHARED, "data/roco")):
            self.skipTest("no " + SHARED)
        self.compare(ptb_texts.shared(SHARED))


class Command(unittest.TestCase):
    def bleu(self, hypothesis, reference, *more):
        with tempfile.TemporaryDirectory() as folder:
            h, r = os.path.join(folder, "h"), os.path.join(folder, "r")
            with open(h, "w", encoding="utf-8") as f:
                f.write("".join(json.dumps({"id": i, "caption": t}) + "\n" for i, t in enumerate(hypothesis)))
            with open(r, "w", encoding="utf-8") as f:
                f.write("".join(json.dumps({"id": i, "captions": [t]}) + "\n" for i, t in enumerate(reference)))
            done = subprocess.run([SUTURE, "eval", "caption", "--hypotheses", h, "--references", r, "--json", "-", *more],
                                  capture_output=True, text=True, check=True)
        document = json.loads(done.stdout)
        return document["bleu"][0], document["receipt"]["tokenizer"]

    def test_ptb_is_what_eval_caption_does_unless_told_otherwise(self):
        pair = ['The LEFT lobe, "seen" on MR: T1-weighted.'], ["the left lobe seen on mr t1-weighted"]
        figure, name = self.bleu(*pair)
        self.assertEqual(name, "ptb")
        self.assertAlmostEqual(figure, 1, 6)
        self.assertLess(self.bleu(*pair, "--tokenizer", "whitespace")[0], 0.5)

    def test_a_last_period_depends_on_the_next_caption_of_its_file_as_in_pycocoevalcap(self):
        """"A." keeps its period but in front of a line that begins a sentence; that of the other file changes nothing."""
        self.assertAlmostEqual(self.bleu(["lobe A.", "The end of it"], ["lobe a", "end of it the"])[0], 1, 6)
        self.assertLess(self.bleu(["lobe A.", "end of it"], ["lobe a", "end of it"])[0], 0.9)
        self.assertLess(self.bleu(["end of it", "lobe A."], ["The end of it", "lobe a"])[0], 0.9)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=1)
