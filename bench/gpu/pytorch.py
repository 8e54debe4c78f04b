"""The other side of bench/gpu/run.py: the same two towers, the same step, written for PyTorch.

    pytorch.py MODEL train|image|text BATCH ROUNDS SETTING       eager, compile or max-autotune

Prints lines as bench_gpu does. bf16 autocast, scaled_dot_product_attention, fused AdamW, weights in float32; texts are full, so that no
mask stands in the way of the fused kernels.
"""
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


def loss_of(a, b, scale):
    s = scale.exp() * a @ b.T
    labels = torch.arange(len(a), device=a.device)
    mu = F.normalize((a + b) / 2)
    apart = torch.exp(-2 * (2 - 2 * mu @ mu.T).clamp_min(0))  # |u - v|^2 of unit rows; the diagonal, 1, is taken out again
    n = len(a)
    return (F.cross_entropy(s, labels) + F.cross_entropy(s.T, labels)) / 2 + (a - b).square().sum(1).mean() \
        + ((apart.sum() - apart.diagonal().sum()) / (n * (n - 1))).log()


def main():
    model, what, batch, rounds, setting = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    image_shape, text_shape = SHAPES[model]
    image, text = Image(*image_shape).cuda(), Text(*text_shape).cuda()
    scale = nn.Parameter(torch.tensor(2.659, device="cuda"))
    if setting != "eager":
        mode = None if setting == "compile" else "max-autotune"
        image, text = torch.compile(image, mode=mode), torch.compile(text, mode=mode)
    parameters = [*image.parameters(), *text.parameters(), scale]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    size, tokens = image_shape[4], text_shape[4]
    pixels = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8).pin_memory()
    ids = torch.randint(1000, 21000, (batch, tokens)).pin_memory()
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        x, y = pixels.cuda(non_blocking=True), ids.cuda(non_blocking=True)
        loss = norm = torch.zeros(())
        if what == "train":
            with torch.autocast("cuda", torch.bfloat16):
                a, b = image(x), text(y)
            loss = loss_of(a, b, scale)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
        else:
            with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
                image(x) if what == "image" else text(y)
        torch.cuda.synchronize()
        print(f"round {time.perf_counter() - start:.6f} {float(loss):.9g} {float(norm):.17g}", flush=True)
    print(f"plan {torch.cuda.max_memory_reserved()}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except torch.OutOfMemoryError as error:
        print(error, file=sys.stderr)
        sys.exit(3)
