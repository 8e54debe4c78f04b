#!/usr/bin/env python3
"""Trains the objectives on ROCO figures with one recipe and prints their table; or measures what the loader feeds a GPU.

    python3 bench/gpu/roco.py --pairs ROCO/pairs.csv --out OUT                 three trainings, within eight minutes
    python3 bench/gpu/roco.py --pairs ROCO/pairs.csv --out OUT --probe 12      the same, after 12 epochs of each recipe
    python3 bench/gpu/roco.py --pairs ROCO/pairs.csv --out OUT --only loader
    python3 bench/gpu/roco.py --device cpu --preset tiny --recipe RECIPE.json ...

Needs `suture` and, for the loader, `bench_loader` (cmake -DSUTURE_BENCH=ON); nothing else, and no network. OUT/data is imported
from --pairs where it is missing. A recipe is a configuration for `suture train --config` that names its epochs and its
batch (what it says of an objective but the name holds for all); those beside this script, in roco/, are tried in the order of their names, and without --probe the first is taken.

probe    Every recipe trains --probe epochs with its own number of warm-up steps, on --probe-objective, without a seventh of the
         training articles. That with the best MRR on those after the last epoch is taken: the split that is reported (val) chooses
         nothing. What an epoch took decides how many fit into --minutes, if the recipe's own number does not.
train    Each objective: the recipe, all training pairs, the last epoch's weights, scored on val. `suture compare` gives the table.
loader   bench_loader: images a second of the loader alone. Then trainings that leave nearly all work to the image tower: images a
         second that the loader feeds them, and for how long they waited for it. Two trainings of different length, whose
         difference counts: what happens once, at the start and at the end, is in neither figure.

OUT/roco.json has every figure: configurations, run.json, eval.json, losses by epoch, seconds by part.
"""
import argparse
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

from run import smi  # bench/gpu/run.py

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
# The image towers that the loader feeds; a text tower so small that it does not count.
FED = {"as in the preset": {}, "two layers, patches of 32": {"patch": 32, "width": 192, "depth": 2, "heads": 3, "mlp": 768}}
SMALL_TEXT = {"width": 64, "depth": 1, "heads": 1, "mlp": 128, "max_tokens": 16, "dropout": 0, "attention_dropout": 0}


def read_json(path):
    return json.loads(path.read_text()) if path.exists() else {}


def last_line(path):
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"


def by_epoch(log):
    """Means over each epoch's steps, and its holdout's scores: what log.jsonl says."""
    epochs = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        line = json.loads(line)
        e = epochs.setdefault(line["epoch"], {"loss": [], "infonce": [], "grad_norm": []})
        for key in ("loss", "infonce", "grad_norm"):
            if key in line:
                e[key].append(line[key])
        if "val" in line:
            e["val"] = line["val"]
    return [{k: sum(v) / len(v) if isinstance(v, list) and v else v for k, v in e.items()} for _, e in sorted(epochs.items())]


class Bench:
    def __init__(self, a):
        self.a, self.end, self.failed = a, time.monotonic() + 60 * a.minutes, False
        self.figures = {"gpu": smi("name") if a.device.startswith("cuda") else a.device, "cores": os.cpu_count(), "options": vars(a),
                        "seconds": {}, "probe": {}, "train": {}, "loader": {}}

    def left(self):
        return self.end - time.monotonic()

    def keep(self):
        (self.a.out / "roco.json").write_text(json.dumps(self.figures, indent=1, default=str))

    def suture(self, *words):
        done = subprocess.run([self.a.suture, *map(str, words), "--quiet"], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"suture {' '.join(map(str, words))}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def data(self):
        data = self.a.data or self.a.out / "data"
        if not (data / "manifest.json").exists():
            if not self.a.pairs:
                sys.exit(f"{data} is no packed dataset: give --pairs, the table of figures and captions that it is made from")
            start = time.monotonic()
            self.suture("data", "import", "csv", self.a.pairs, "--out", data, "--group-column", self.a.group, "--size", self.a.size,
                        "--threads", self.a.threads)
            self.figures["seconds"]["import"] = time.monotonic() - start
            print(f"== imported in {time.monotonic() - start:.0f} s", flush=True)
        return data

    def train(self, name, config, objective, *more):
        """{"wall", "run", "eval", "epochs"} or, beside them, {"failed": why}. It is asked to stop when the time is over."""
        a, run = self.a, self.a.out / name
        settings, messages = a.out / f"{name}.json", a.out / f"{name}.txt"
        config = {**config, "objective": {**config.get("objective", {}), "name": objective}}
        settings.write_text(json.dumps(config))
        command = [a.suture, "train", "--data", self.data(), "--out", run, "--preset", a.preset, "--config", settings, "--seed", a.seed, "--device",
                   a.device, "--threads", a.threads, *(["--vocab", a.vocab] if a.vocab else []), *more]
        start = time.monotonic()
        with messages.open("w") as errors:
            process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=errors)
            try:
                process.wait(max(1, self.left()))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)  # saves a checkpoint
                process.wait()
        result = {"wall": time.monotonic() - start, "config": config, "run": read_json(run / "run.json"), "eval": read_json(run / "eval.json"),
                  "epochs": by_epoch(run / "log.jsonl")}
        if process.returncode:
            result["failed"] = last_line(messages)
            self.failed = True
        self.tell(name, result)
        return result

    @staticmethod
    def tell(name, result):
        epochs, run = result["epochs"], result["run"]
        shown = [epochs[round(i * (len(epochs) - 1) / 5)]["infonce"] for i in range(6)] if len(epochs) > 5 else [e["infonce"] for e in epochs]
        text = f"   {name:24} {result['wall']:5.0f} s; InfoNCE " + " ".join("-" if not isinstance(x, float) else f"{x:.2f}" for x in shown)
        if run:
            text += (f"; {run['steps'] / max(1e-9, run['seconds'] - run['checkpoint_seconds']):.1f} steps/s; waited for input "
                     f"{run['input_wait_seconds']:.1f} s, checkpoints {run['checkpoint_seconds']:.1f} s")
        if epochs and "val" in epochs[-1]:
            text += f"; held out: MRR {epochs[-1]['val']['mrr']:.4f}, R@10 {100 * epochs[-1]['val']['r10']:.1f} % of {epochs[-1]['val']['pool']}"
        print(text + (f"; FAILED: {result['failed']}" if "failed" in result else ""), flush=True)

    # --- probe and train

    def probe(self):
        """Tries every recipe; returns the best one's file and result, or (None, None)."""
        a, best = self.a, (None, None)
        print(f"== probe: {a.probe} epochs of each recipe, {a.probe_objective}", flush=True)
        for recipe in a.recipe:
            config = read_json(recipe)
            warmup = min(0.5, config.get("warmup", 0.1) * config["epochs"] / a.probe)
            result = self.train(f"probe-{recipe.stem}", {**config, "epochs": a.probe, "warmup": warmup, "holdout": 1 / 7, "keep_best": False},
                                a.probe_objective, "--evaluate", "none")
            self.figures["probe"][recipe.stem] = result
            self.keep()
            if "failed" in result or "val" not in result["epochs"][-1]:
                continue
            if best[1] is None or result["epochs"][-1]["val"]["mrr"] > best[1]["epochs"][-1]["val"]["mrr"]:
                best = recipe, result
        return best

    def epochs_that_fit(self, wanted, probe):
        """Of each objective, by what a step of the probe took, with a tenth to spare."""
        run = probe["run"]
        working = run["seconds"] - run["checkpoint_seconds"]
        once = probe["wall"] - working + 5  # start and checkpoints; val, and one checkpoint more
        epoch = working / run["steps"] * ((run["pairs"] + run["holdout_pairs"]) // probe["config"]["batch"])
        return max(1, min(wanted, int((0.9 * self.left() / len(self.a.objectives) - once) / epoch)))

    def trainings(self):
        a, recipe, probe = self.a, self.a.recipe[0], None
        start = time.monotonic()
        if a.probe:
            recipe, probe = self.probe()
            self.figures["seconds"]["probe"] = time.monotonic() - start
            if not recipe:
                sys.exit("no recipe's probe came to its end")
        config = {**read_json(recipe), "holdout": 0}
        if a.epochs:
            config["epochs"] = a.epochs
        elif probe:
            config["epochs"] = self.epochs_that_fit(config["epochs"], probe)
        self.figures["recipe"] = {"name": recipe.stem, "config": config}
        print(f"== train: recipe {recipe.stem}, {config['epochs']} epochs; {self.left():.0f} s left", flush=True)
        done, took = [], 0
        for objective in a.objectives:
            if took > self.left():
                print(f"   {objective}: not begun, because {self.left():.0f} s are left and the one before took {took:.0f}")
                self.failed = True
                continue
            result = self.figures["train"][objective] = self.train(objective, config, objective)
            took = self.figures["seconds"][objective] = result["wall"]
            if "failed" not in result:
                done.append(a.out / objective)
            self.keep()
        if done:
            self.figures["compare"] = json.loads(self.suture("compare", *done, "--json", "-"))
            table(self.figures["compare"], config)

    # --- loader

    def loader(self):
        a = self.a
        print("== loader alone: images a second, augmented and plain, by threads", flush=True)
        vocab = a.vocab or TOP / "datasets/sample/bert-base-uncased-vocab.txt"
        words = [a.bench_loader, self.data(), vocab, a.size, a.loader_seconds]
        done = subprocess.run([*map(str, words)], capture_output=True, text=True) if a.bench_loader.exists() else None
        if done and not done.returncode:
            print(done.stdout, end="", flush=True)
            rows = [line.split() for line in done.stdout.splitlines()[1:]]
            self.figures["loader"]["alone"] = [{"threads": int(t), "images": kind, "per_second": float(r), "per_core": float(c)} for t, kind, r, c in rows]
        else:
            print("   not measured: " + (done.stderr.strip() if done else f"there is no {a.bench_loader} (cmake -DSUTURE_BENCH=ON)"), flush=True)
            self.failed = True
        print(f"== loader and training, batch {a.fed_batch}: images a second", flush=True)
        for i, (name, image) in enumerate(FED.items()):
            config = {"batch": a.fed_batch, "holdout": 0, "keep_best": False, "model": {"streams": [image, SMALL_TEXT]}}
            runs = [self.train(f"fed-{i}-{epochs}", {**config, "epochs": epochs}, "clip-ft", "--evaluate", "none") for epochs in a.fed_epochs]
            if any("failed" in r for r in runs):
                continue
            short, long = (r["run"] for r in runs)
            seconds = (long["seconds"] - long["checkpoint_seconds"]) - (short["seconds"] - short["checkpoint_seconds"])
            waited = long["input_wait_seconds"] - short["input_wait_seconds"]
            images = (long["steps"] - short["steps"]) * a.fed_batch
            self.figures["loader"][name] = {"images": images, "seconds": seconds, "waited": waited}
            print(f"   image tower {name}: {images / seconds:,.0f}/s over {images:,} images; waited for input {waited:.2f} of {seconds:.2f} s "
                  f"({100 * waited / seconds:.1f} %)", flush=True)
            self.keep()


def shown(e, scale=1, digits=3, interval=True):
    text = f"{scale * e['mean']:.{digits}f}"
    return text + (f" [{scale * e['ci95'][0]:.{digits}f}, {scale * e['ci95'][1]:.{digits}f}]" if interval and e["ci95"] else "")


def table(compare, config):
    floors = [g["gap_floor"]["mean"] for g in compare["groups"]]
    print(f"\nPool of {compare['pool']} ({compare['split']}); R@10 by chance {1000 / compare['pool']:.1f} %.\n")
    print(f"| {config['epochs']} epochs | Gap (floor {min(floors):.2f} to {max(floors):.2f}) | CosTP | RMG | AV image / text | "
          "R@10 image to text, % | R@10 text to image, % |\n|---|---|---|---|---|---|---|")
    for g in compare["groups"]:
        av, r = g["angular_value"], g["retrieval"]
        print(f"| {g['objective']} | {shown(g['gap'])} | {shown(g['cos_true_pairs'])} | {shown(g['rmg'], interval=False)} | "
              f"{shown(av['image'], interval=False)} / {shown(av['text'], interval=False)} | {shown(r['image_to_text']['r10'], 100, 1)} | "
              f"{shown(r['text_to_image']['r10'], 100, 1)} |")
    print()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=pathlib.Path, required=True, help="folder of the runs and of roco.json")
    p.add_argument("--pairs", type=pathlib.Path, help="CSV table with the columns image, text, split and --group")
    p.add_argument("--data", type=pathlib.Path, help="a packed dataset (OUT/data, made from --pairs where it is missing)")
    p.add_argument("--group", default="article", help="column whose values stay together (article)")
    p.add_argument("--size", type=int, default=224, help="of packed images, px (224)")
    p.add_argument("--suture", type=pathlib.Path, default=TOP / "build/suture")
    p.add_argument("--bench-loader", type=pathlib.Path, help="(bench/bench_loader beside suture)")
    p.add_argument("--vocab", type=pathlib.Path, help="(suture's default)")
    p.add_argument("--device", default="cuda")
    p.add_argument("--threads", type=int, default=0, help="of each training's loader and CPU work (all cores)")
    p.add_argument("--preset", default="base")
    p.add_argument("--recipe", type=pathlib.Path, nargs="+", default=sorted((HERE / "roco").glob("*.json")))
    p.add_argument("--objectives", nargs="+", default=["clip-lt", "clip-ft", "closegap"])
    p.add_argument("--epochs", type=int, help="(the recipe's)")
    p.add_argument("--probe", type=int, default=0, metavar="EPOCHS", help="try every recipe so long first (0: take the first)")
    p.add_argument("--probe-objective", default="closegap")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--minutes", type=float, default=8, help="for all of it (8)")
    p.add_argument("--only", default="train", choices=["train", "loader", "train,loader"], help="(train)")
    p.add_argument("--fed-batch", type=int, default=512, help="of the trainings that the loader feeds (512)")
    p.add_argument("--fed-epochs", type=int, nargs=2, default=[3, 23], help="of the short and the long one (3 23)")
    p.add_argument("--loader-seconds", type=float, default=3, help="of each row of bench_loader (3)")
    a = p.parse_args()
    a.bench_loader = a.bench_loader or a.suture.parent / "bench/bench_loader"
    a.out.mkdir(parents=True, exist_ok=True)
    start, bench = time.monotonic(), Bench(a)
    bench.data()
    if "train" in a.only:
        bench.trainings()
    if "loader" in a.only:
        bench.loader()
    bench.figures["seconds"]["all"] = time.monotonic() - start
    bench.keep()
    print(f"== {bench.figures['gpu']}, {os.cpu_count()} cores: " + ", ".join(f"{k} {v:.0f} s" for k, v in bench.figures["seconds"].items())
          + f"; figures in {a.out / 'roco.json'}")
    sys.exit(1 if bench.failed else 0)


if __name__ == "__main__":
    main()
