"""The other side of bench/gpu/run.py: the same work, written for PyTorch and transformers.

    pytorch.py SETTING ROUNDS WHAT...            SETTING: eager, compile or max-autotune

WHAT is one of
    train:MODEL:BATCH  image:MODEL:BATCH  text:MODEL:BATCH      bf16 autocast, scaled_dot_product_attention, fused AdamW, weights in float32;
                                                                texts are full, so that no mask stands in the way of the fused kernels
    loss:N:high  loss:N:bf16                                    InfoNCE + L_CU, forward and backward, products in TF32 or in bf16
    search:QUERIES:ROWS                                         products in bf16, million by million of rows, and topk
    caption:MODEL:BATCH:BEAMS:TOKENS  decode:...                transformers' generate() in bf16, from pixels or from image tokens
    limits                                                      bytes a second of a copy, operations a second of a bf16 product

Prints "what WHAT", then lines as bench_gpu does ("limits": a line "limit BYTES OPERATIONS"), or "failed WHY". "plan" is the peak of what the GPU has given away.
Without a GPU it runs on the CPU, for trying it out.
"""
import gc
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

SHAPES = {  # image: width, depth, heads, mlp, pixels, patch; text: width, depth, heads, mlp, tokens
    "base": ((768, 12, 12, 3072, 224, 16), (768, 12, 12, 3072, 77)),
    "large": ((1024, 24, 16, 4096, 224, 14), (768, 12, 12, 3072, 256)),
    "giant": ((1408, 40, 16, 6144, 224, 14), (768, 12, 12, 3072, 128)),
    "small": ((64, 2, 2, 128, 64, 16), (64, 2, 2, 128, 16)),
}
DIM = 512


class Block(nn.Module):
    def __init__(self, width, heads, mlp, pre):
        super().__init__()
        self.heads, self.pre = heads, pre
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, mlp), nn.Linear(mlp, width)
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)

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


class Image(nn.Module):
    def __init__(self, width, depth, heads, mlp, size, patch):
        super().__init__()
        self.grid, self.side = size // patch, patch
        self.patch = nn.Linear(3 * patch * patch, width)
        self.cls, self.position = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.randn(1, self.grid ** 2 + 1, width) * 0.02)
        self.blocks = nn.Sequential(*[Block(width, heads, mlp, True) for _ in range(depth)])
        self.norm, self.projection = nn.LayerNorm(width), nn.Linear(width, DIM, bias=False)

    def forward(self, pixels):
        b, g, s = pixels.shape[0], self.grid, self.side
        x = (pixels.float() / 255 - 0.5) / 0.25
        x = x.view(b, g, s, g, s, 3).permute(0, 1, 3, 5, 2, 4).reshape(b, g * g, 3 * s * s)
        x = torch.cat([self.cls.expand(b, -1, -1), self.patch(x)], 1) + self.position
        return F.normalize(self.projection(self.norm(self.blocks(x))[:, 0]).float())


class Text(nn.Module):
    def __init__(self, width, depth, heads, mlp, tokens):
        super().__init__()
        self.word, self.position, self.kind = nn.Embedding(30522, width), nn.Embedding(512, width), nn.Embedding(2, width)
        self.blocks = nn.Sequential(*[Block(width, heads, mlp, False) for _ in range(depth)])
        self.norm, self.projection = nn.LayerNorm(width), nn.Linear(width, DIM, bias=False)

    def forward(self, ids):
        x = self.word(ids) + self.position.weight[:ids.shape[1]] + self.kind.weight[0]
        return F.normalize(self.projection(self.blocks(self.norm(x))[:, 0]).float())


def pairs_loss(a, b, scale):
    s = scale.exp() * a @ b.T
    labels = torch.arange(len(a), device=a.device)
    mu = F.normalize((a + b) / 2)
    apart = torch.exp(-2 * (2 - 2 * mu @ mu.T).clamp_min(0))  # |u - v|^2 of unit rows; the diagonal, 1, is taken out again
    n = len(a)
    return (F.cross_entropy(s, labels) + F.cross_entropy(s.T, labels)) / 2 + ((apart.sum() - apart.diagonal().sum()) / (n * (n - 1))).log()


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def compiled(f, setting):
    return f if setting == "eager" else torch.compile(f, mode=None if setting == "compile" else "max-autotune")


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def timed(rounds, f):
    """f: one round, which returns two numbers."""
    for _ in range(rounds):
        wait()
        start = time.perf_counter()
        x, y = f()
        wait()
        print(f"round {time.perf_counter() - start:.6f} {float(x):.9g} {float(y):.17g}", flush=True)


def pinned(x):
    return x.pin_memory() if DEVICE == "cuda" else x


def towers(what, model, batch, rounds, setting):
    image_shape, text_shape = SHAPES[model]
    image, text = Image(*image_shape).to(DEVICE), Text(*text_shape).to(DEVICE)
    scale = nn.Parameter(torch.tensor(2.659, device=DEVICE))
    image, text = compiled(image, setting), compiled(text, setting)
    parameters = [*image.parameters(), *text.parameters(), scale]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    size, tokens = image_shape[4], text_shape[4]
    pixels = pinned(torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8))
    ids = pinned(torch.randint(1000, 21000, (batch, tokens)))

    def train():
        x, y = pixels.to(DEVICE, non_blocking=True), ids.to(DEVICE, non_blocking=True)
        with torch.autocast(DEVICE, torch.bfloat16):
            a, b = image(x), text(y)
        loss = pairs_loss(a, b, scale) + (a - b).square().sum(1).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        return loss.detach(), norm

    def embed():
        with torch.inference_mode(), torch.autocast(DEVICE, torch.bfloat16):
            image(pixels.to(DEVICE, non_blocking=True)) if what == "image" else text(ids.to(DEVICE, non_blocking=True))
        return 0, 0

    timed(rounds, train if what == "train" else embed)


def noise(i):
    """bench.h's noise of int64 numbers below 2^32."""
    u = (i * 2654435761) & 0xFFFFFFFF
    u = u ^ (u >> 15)
    u = (u * 2246822519) & 0xFFFFFFFF
    u = u ^ (u >> 13)
    return (u >> 8).float() * 2.0 ** -24 - 0.5


def loss(n, precision, rounds, setting):
    at = torch.arange(n * DIM, device=DEVICE).view(n, DIM)
    x = noise(2 * at)
    y = F.normalize((x + 1.5 * noise(2 * at + 1)).double()).float().requires_grad_()
    x = F.normalize(x.double()).float().requires_grad_()
    scale = torch.tensor(1 / 0.07, device=DEVICE).log().requires_grad_()
    del at
    f = compiled(pairs_loss, setting)

    def step():
        x.grad = y.grad = scale.grad = None
        with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bf16"):
            value = f(x, y, scale)
        value.backward()
        return value.detach(), (x.grad.square().sum() + y.grad.square().sum()).sqrt()

    timed(rounds, step)


def search(queries, n, rounds):
    x = torch.empty(n, DIM, dtype=torch.bfloat16, device=DEVICE)
    for part in x.split(1 << 20):
        part.copy_((torch.rand(part.shape, device=DEVICE) - 0.5) * 0.153)
    q = ((torch.rand(queries, DIM, device=DEVICE) - 0.5) * 0.153).bfloat16()

    def step():
        best, row = None, None
        with torch.inference_mode():
            for i, part in enumerate(x.split(1 << 20)):
                s, r = (q @ part.T).topk(10)
                r += i << 20
                if best is not None:
                    s, at = torch.cat([best, s], 1).topk(10)
                    r = torch.cat([row, r], 1).gather(1, at)
                best, row = s, r
        return best.sum().cpu(), 0

    timed(rounds, step)


def caption(what, model, batch, beams, tokens, rounds):
    from transformers import BertConfig, BertLMHeadModel, ViTConfig, ViTModel, VisionEncoderDecoderModel
    from transformers.modeling_outputs import BaseModelOutput
    from transformers.utils import logging
    logging.set_verbosity_error()
    width, depth, heads, mlp, size, patch = SHAPES[model][0]
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    vit = ViTModel(ViTConfig(hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=mlp, image_size=size,
                             patch_size=patch, layer_norm_eps=1e-6, **off), add_pooling_layer=False)
    lm = BertLMHeadModel(BertConfig(hidden_size=width, num_hidden_layers=6, num_attention_heads=heads, intermediate_size=mlp, vocab_size=30522,
                                    max_position_embeddings=64, type_vocab_size=1, is_decoder=True, add_cross_attention=True, **off))
    m = VisionEncoderDecoderModel(encoder=vit, decoder=lm).eval().to(DEVICE, torch.bfloat16)
    m.generation_config.eos_token_id = m.config.eos_token_id = None  # none ends early
    pixels = pinned(torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8))

    def seen():
        return {"pixel_values": ((pixels.to(DEVICE, non_blocking=True).bfloat16() / 255 - 0.5) / 0.25).permute(0, 3, 1, 2)}

    with torch.inference_mode():
        memory = m.encoder(**seen()).last_hidden_state

    def step():
        x = seen() if what == "caption" else {"encoder_outputs": BaseModelOutput(last_hidden_state=memory)}
        with torch.inference_mode():
            ids = m.generate(**x, num_beams=beams, max_new_tokens=tokens, length_penalty=0.6, early_stopping=False, do_sample=False,
                             decoder_start_token_id=101, bos_token_id=101, pad_token_id=0, use_cache=True)
        return ids.shape[0] * (ids.shape[1] - 1), 0

    timed(rounds, step)


def limits(rounds):
    a = torch.zeros(1 << 30 if DEVICE == "cuda" else 1 << 20, dtype=torch.bfloat16, device=DEVICE)
    b, side = torch.empty_like(a), 8192 if DEVICE == "cuda" else 512
    x, y = (torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    best = []
    for f in (lambda: b.copy_(a), lambda: x @ y):
        seconds = []
        for _ in range(rounds + 2):
            wait()
            start = time.perf_counter()
            for _ in range(5):
                f()
            wait()
            seconds.append((time.perf_counter() - start) / 5)
        best.append(statistics.median(seconds[2:]))
    print(f"limit {2 * a.nbytes / best[0]:.4g} {2 * side ** 3 / best[1]:.4g}", flush=True)


def given_away():
    if DEVICE == "cpu":
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved() + torch.cuda.max_memory_reserved()


def main():
    setting, rounds = sys.argv[1], int(sys.argv[2])
    torch.set_float32_matmul_precision("high")
    for spec in sys.argv[3:]:
        what, *sizes = spec.split(":")
        sizes = [int(x) if x.isdigit() else x for x in sizes]
        print(f"what {spec}", flush=True)
        torch.manual_seed(1)
        try:
            if what == "limits":
                limits(rounds)
            elif what == "loss":
                loss(*sizes, rounds, setting)
            elif what == "search":
                search(*sizes, rounds)
            elif what in ("caption", "decode"):
                caption(what, *sizes, rounds)
            else:
                towers(what, *sizes, rounds, setting)
            print(f"plan {given_away()}", flush=True)
        except Exception as error:
            print("failed", "out of memory" if isinstance(error, torch.OutOfMemoryError) else (str(error) or repr(error)).splitlines()[0][:70],
                  flush=True)
        torch.compiler.reset()
        gc.collect()
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main()
