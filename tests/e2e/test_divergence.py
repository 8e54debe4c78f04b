"""A training that diverges stops, says where and on what, and keeps its last checkpoint.

    test_divergence.py SUTURE

A learning rate of 10 with a weight decay of 10 multiplies every weight by -99 a step, so that float32 overflows within twenty.
"""
import os
import re

from common import SMALL, Case, json_lines, main, make_source, read
from test_kill import whole

ABSURD = dict(SMALL, lr=10, weight_decay=10, warmup=0, checkpoint_steps=2)


class Divergence(Case):
    def test_it_stops_at_the_step_and_names_the_samples(self):
        p = self.path
        make_source(p("source"), 48)
        self.suture("data", "import", "csv", p("source/pairs.csv"), "--out", p("data"), "--size", 32)
        done = self.make_run(p("data"), p("run"), config=ABSURD, code=1)
        self.assertEqual(done.stdout, "")
        complaint = [line for line in done.stderr.splitlines() if self.is_complaint(line)]
        self.assertEqual(len(complaint), 1, done.stderr)
        step = int(re.search(r"step (\d+) \(epoch \d+, batch \d+", complaint[0])[1])
        named = re.search(r"samples ([^)]*)\)", complaint[0])[1].split(", ")
        records = {r["id"]: r["split"] for r in json_lines(p("data/records.jsonl"))}
        self.assertEqual(len(named), SMALL["batch"])
        self.assertEqual({records[name] for name in named}, {"train"})
        self.assertRegex(complaint[0], "not a number|infinite|not finite")
        self.assertIn("--lr", complaint[0])

        log = json_lines(p("run/log.jsonl"))
        self.assertEqual([line["step"] for line in log], list(range(1, step)))
        self.assertTrue(whole(p("run/checkpoint.safetensors")))
        for name in ("model.safetensors", "run.json", "eval.json"):
            self.assertFalse(os.path.exists(p("run", name)), name)

        # Gone on with, it meets the same batch again, and the checkpoint is still the same.
        checkpoint = read(p("run/checkpoint.safetensors"))
        again = self.make_run(p("data"), p("run"), "--resume", config=ABSURD, code=1)
        self.assertEqual([line for line in again.stderr.splitlines() if self.is_complaint(line)], complaint)
        self.assertEqual(read(p("run/checkpoint.safetensors")), checkpoint)
        self.refused("compare", p("run"), names="run.json")
        self.refused("model", "info", p("run"), names=p("run"))


if __name__ == "__main__":
    main()
