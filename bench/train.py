#!/usr/bin/env python3
"""Training step and embedding of a preset on the CPU, against PyTorch, in one run.

    cmake -S . -B build -DSUTURE_BENCH=ON && cmake --build build
    python bench/train.py build/bench/bench_step datasets/sample/bert-base-uncased-vocab.txt

python needs PyPI's torch. Both sides: the same shapes, float32, the same threads, no dropout, closegap, AdamW with clipping. PyTorch uses
scaled_dot_product_attention, the faster of its fused and foreach AdamW, and inference_mode for embedding. Rounds alternate in short bursts;
medians are printed, and their ratio.
"""
import argparse, os, resource, statistics, subprocess, sys, time


def towers(torch, preset):
    nn, F = torch.nn, torch.nn.functional
    shape = {"small": (384, 12, 6, 1536, 224, 384, 6, 12, 1536, 64), "tiny": (128, 4, 4, 512, 96, 128, 3, 4, 512, 40)}[preset]
    iw, idepth, ih, imlp, size, tw, tdepth, th, tmlp, tokens = shape

    class Block(nn.Module):
        def __init__(self, w, heads, mlp, pre):
            super().__init__()
            self.heads, self.pre = heads, pre
            self.qkv, self.out = nn.Linear(w, 3 * w), nn.Linear(w, w)
            self.up, self.down = nn.Linear(w, mlp), nn.Linear(mlp, w)
            self.n1, self.n2 = nn.LayerNorm(w), nn.LayerNorm(w)

        def attend(self, x):
            b, t, w = x.shape
            q, k, v = self.qkv(x).view(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
            return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, w))

        def forward(self, x):
            if self.pre:
                x = x + self.attend(self.n1(x))
                return x + self.down(F.gelu(self.up(self.n2(x))))
            x = self.n1(x + self.attend(x))
            return self.n2(x + self.down(F.gelu(self.up(x))))

    class Vit(nn.Module):
        def __init__(self):
            super().__init__()
            n = (size // 16) ** 2
            self.patch = nn.Linear(3 * 16 * 16, iw)
            self.cls, self.pos = nn.Parameter(torch.zeros(1, 1, iw)), nn.Parameter(torch.randn(1, n + 1, iw) * 0.02)
            self.blocks = nn.Sequential(*[Block(iw, ih, imlp, True) for _ in range(idepth)])
            self.norm, self.proj = nn.LayerNorm(iw), nn.Linear(iw, 512, bias=False)

        def forward(self, u8):
            b, g = u8.shape[0], size // 16
            x = (u8.float() / 255 - 0.5) / 0.25
            x = x.view(b, g, 16, g, 16, 3).permute(0, 1, 3, 5, 2, 4).reshape(b, g * g, 768)
            x = torch.cat([self.cls.expand(b, -1, -1), self.patch(x)], 1) + self.pos
            return F.normalize(self.proj(self.norm(self.blocks(x))[:, 0]))

    class Bert(nn.Module):
        def __init__(self):
            super().__init__()
            self.word, self.pos, self.kind = nn.Embedding(30522, tw), nn.Embedding(512, tw), nn.Embedding(2, tw)
            self.norm, self.proj = nn.LayerNorm(tw), nn.Linear(tw, 512, bias=False)
            self.blocks = nn.Sequential(*[Block(tw, th, tmlp, False) for _ in range(tdepth)])

        def forward(self, ids):
            x = self.word(ids) + self.pos.weight[: ids.shape[1]] + self.kind.weight[0]
            return F.normalize(self.proj(self.blocks(self.norm(x))[:, 0]))

    return Vit(), Bert(), size, tokens


def torch_side(preset, what, batch, rounds, threads, fused):
    import torch
    F = torch.nn.functional
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    vit, bert, size, tokens = towers(torch, preset)
    images = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8)
    ids = torch.randint(1000, 21000, (batch, tokens))
    params = list(vit.parameters()) + list(bert.parameters())
    optimiser = torch.optim.AdamW(params, lr=1e-4, betas=(0.9, 0.98), weight_decay=0.05, fused=fused, foreach=not fused)
    for _ in range(rounds):
        start = time.perf_counter()
        if what == "train":
            a, b = vit(images), bert(ids)
            s = a @ b.T / 0.07
            labels = torch.arange(batch)
            mu = F.normalize((a + b) / 2)
            d2 = torch.pdist(mu).square()
            loss = (F.cross_entropy(s, labels) + F.cross_entropy(s.T, labels)) / 2 + (a - b).square().sum(1).mean() \
                + torch.exp(-2 * d2).mean().log()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            optimiser.step()
        else:
            with torch.inference_mode():
                vit(images) if what == "image" else bert(ids)
        print(f"{time.perf_counter() - start:.6f}", flush=True)
    print(f"version {torch.__version__}", flush=True)


def run(command):
    """Seconds of each round but the first (warm-up), and the peak memory of the process in MB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines = process.stdout.read().split("\n")
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    return [float(x) for x in lines if x and x[0].isdigit()][1:], usage.ru_maxrss / 1024, [x for x in lines if x.startswith("version")]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("bench_step")
    p.add_argument("vocabulary")
    p.add_argument("--preset", default="small", choices=["small", "tiny"])
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--bursts", type=int, default=3)
    p.add_argument("--rounds", type=int, default=4, help="of a burst; the first is a warm-up")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--torch-side", nargs=2, metavar=("WHAT", "FUSED"), help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.torch_side:
        torch_side(a.preset, a.torch_side[0], a.batch, a.rounds, a.threads, a.torch_side[1] == "fused")
        return
    print(f"{a.preset}, batch {a.batch}, {a.threads} threads, medians of {a.bursts * (a.rounds - 1)} rounds")
    print(f"{'':8} {'Suture':>12} {'PyTorch':>12} {'ratio':>7}   {'memory MB':>20}")
    for what in ("train", "image", "text"):
        ours, theirs, memory = [], {"fused": [], "foreach": []}, [0, 0]
        for _ in range(a.bursts):
            seconds, peak, _v = run([a.bench_step, a.vocabulary, a.preset, what, str(a.batch), str(a.rounds), str(a.threads)])
            ours += seconds
            memory[0] = max(memory[0], peak)
            for kind in theirs if what == "train" else ["fused"]:
                seconds, peak, version = run([sys.executable, __file__, a.bench_step, a.vocabulary, "--preset", a.preset, "--batch",
                                              str(a.batch), "--rounds", str(a.rounds), "--threads", str(a.threads),
                                              "--torch-side", what, kind])
                theirs[kind] += seconds
                memory[1] = max(memory[1], peak)
        best = min(statistics.median(x) for x in theirs.values() if x)
        mine = statistics.median(ours)
        print(f"{what:8} {a.batch / mine:10.1f}/s {a.batch / best:10.1f}/s {best / mine:7.2f}   {memory[0]:9.0f} {memory[1]:10.0f}", flush=True)
    print("PyTorch", version[0].split()[1])


if __name__ == "__main__":
    main()
