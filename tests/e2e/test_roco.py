"""bench/gpu/roco.py on the CPU: what it trains, chooses and prints is what the runs themselves say.

What only a GPU shows, time, is not looked at.
"""
import json
import os
import pathlib
import subprocess
import sys
import types

from common import ENVIRONMENT, SECONDS, SMALL, SUTURE, Case, main, make_source, make_vocabulary, read, write

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "bench/gpu/roco.py"
sys.path.insert(0, str(SCRIPT.parent))
import roco  # noqa: E402


class Roco(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.pairs = make_source(cls.path("source"))
        cls.vocabulary = make_vocabulary(cls.path("vocab.txt"))
        cls.learns = write(cls.path("learns.json"), json.dumps(dict(SMALL, objective={"temperature_lr": 0.25})))
        cls.stands = write(cls.path("stands.json"), json.dumps(dict(SMALL, lr=1e-12)))

    def script(self, out, *words, code=0, recipes=()):
        done = subprocess.run([sys.executable, str(SCRIPT), "--pairs", self.pairs, "--group", "patient", "--size", "96", "--suture", SUTURE, "--preset",
                               "tiny", "--device", "cpu", "--threads", "1", "--vocab", self.vocabulary, "--out", self.path(out),
                               "--recipe", *(recipes or [self.learns]), *map(str, words)],
                              capture_output=True, text=True, timeout=SECONDS, env=ENVIRONMENT)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout, json.loads(read(self.path(out, "roco.json")))

    def test_the_probe_chooses_by_the_holdout_and_the_table_says_what_the_runs_say(self):
        out, figures = self.script("all", "--probe", 6, "--objectives", "clip-ft", "closegap", recipes=[self.stands, self.learns])
        mrr = {name: r["epochs"][-1]["val"]["mrr"] for name, r in figures["probe"].items()}
        self.assertEqual(set(mrr), {"stands", "learns"})
        self.assertEqual(figures["recipe"]["name"], max(mrr, key=mrr.get))
        for name in mrr:
            self.assertFalse(os.path.exists(self.path("all", f"probe-{name}", "eval.json")))
        for objective in ("clip-ft", "closegap"):
            run, score, config = (json.loads(read(self.path("all", objective, name))) for name in ("run.json", "eval.json", "config.json"))
            self.assertEqual((config["objective"]["name"], config["objective"]["temperature_lr"]), (objective, 0.25))
            self.assertEqual((run["objective"], run["holdout_pairs"], run["epochs"]), (objective, 0, SMALL["epochs"]))
            row = [cell.strip() for line in out.splitlines() if line.startswith(f"| {objective} |") for cell in line.strip("|").split("|")]
            self.assertTrue(row[1].startswith(f"{score['gap']:.3f} ["), row)
            self.assertEqual(row[4], f"{score['angular_value']['image']:.3f} / {score['angular_value']['text']:.3f}")
            self.assertTrue(row[6].startswith(f"{100 * score['retrieval']['text_to_image']['r10']:.1f} ["), row)
            self.assertEqual(figures["train"][objective]["run"], run)
            log = [json.loads(line) for line in read(self.path("all", objective, "log.jsonl")).splitlines()]
            last = [line["infonce"] for line in log if line["epoch"] == SMALL["epochs"]]
            self.assertAlmostEqual(figures["train"][objective]["epochs"][-1]["infonce"], sum(last) / len(last))

    def test_every_recipe_is_a_configuration_of_base_and_says_how_long(self):
        self.suture("data", "import", "csv", self.pairs, "--out", self.path("small"), "--group-column", "patient", "--size", 32)
        recipes = sorted((SCRIPT.parent / "roco").glob("*.json"))
        self.assertGreaterEqual(len(recipes), 2)
        for recipe in recipes:
            config = json.loads(recipe.read_text())
            self.assertTrue(config["epochs"] > 0 and config["batch"] > 0)
            self.refused("train", "--preset", "base", "--config", recipe, "--data", self.path("small"), "--out", self.path("none"),
                         "--vocab", self.vocabulary, "--batch", 2, names="takes 224 px", code=2)  # what is looked at next

    def test_a_training_that_fails_or_runs_out_of_time_is_told(self):
        out, figures = self.script("failed", code=1, recipes=[write(self.path("wrong.json"), json.dumps(dict(SMALL, width=3)))])
        self.assertIn("width", figures["train"]["clip-lt"]["failed"])
        self.assertNotIn("compare", figures)
        out, figures = self.script("late", "--epochs", 1000000, "--minutes", 0.03, code=1)
        self.assertIn("stopped after step", figures["train"]["clip-lt"]["failed"])
        self.assertIn("closegap: not begun", out)

    def test_a_loader_that_feeds_trainings_is_timed_between_two_lengths(self):
        out, figures = self.script("fed", "--only", "loader", "--fed-batch", 8, "--fed-epochs", 1, 3, "--bench-loader", self.path("none"), code=1)
        self.assertIn("not measured", out)
        steps = [json.loads(read(self.path("fed", f"fed-0-{epochs}", "run.json")))["steps"] for epochs in (1, 3)]
        for name in roco.FED:
            self.assertEqual(figures["loader"][name]["images"], 8 * (steps[1] - steps[0]))

    def test_as_many_epochs_are_trained_as_fit(self):
        # 10 epochs of 20 steps took 20 s beside 5 s that come once: 2.4 s for an epoch of 24 steps.
        probe = {"wall": 25.0, "run": {"seconds": 22.0, "checkpoint_seconds": 2.0, "steps": 200, "pairs": 160, "holdout_pairs": 32},
                 "config": {"batch": 8}}
        bench = types.SimpleNamespace(a=types.SimpleNamespace(objectives="abc"), left=lambda: 3 * (10 + 25) / 0.9)
        self.assertEqual(roco.Bench.epochs_that_fit(bench, 60, probe), 10)
        self.assertEqual(roco.Bench.epochs_that_fit(bench, 7, probe), 7)


if __name__ == "__main__":
    main()
