#!/usr/bin/env python3
"""Golden losses, gradients and optimiser steps, by PyTorch's autograd in float64.

    python3 make_losses.py OUT.safetensors

Every case is a group of tensors "kind.number/field"; tests/nn/test_loss.c and test_optimiser.c read them. The formulas are
written here as the papers have them, on whole N x N matrices, so that they share nothing with the tiled code under test.
Needs torch and safetensors.
"""
import math
import sys

import torch
from safetensors.torch import save_file

torch.manual_seed(20240607)
torch.set_default_dtype(torch.float64)
out = {}


def scalar(x):
    return torch.as_tensor(x, dtype=torch.float64).detach().reshape(1)


def put(case, **fields):
    for name, value in fields.items():
        out[f"{case}/{name}"] = value.detach().clone().contiguous()


def unit(n, d):
    return torch.nn.functional.normalize(torch.randn(n, d), dim=1)


def infonce(x, y, log_scale):
    s = log_scale.exp() * x @ y.T
    diagonal = torch.arange(len(x))
    return 0.5 * (torch.nn.functional.cross_entropy(s, diagonal) + torch.nn.functional.cross_entropy(s.T, diagonal))


def cu(z, raw):
    mu = torch.stack(z).mean(0)
    if not raw:
        mu = torch.nn.functional.normalize(mu, dim=1)
    n = len(mu)
    i, j = torch.triu_indices(n, n, 1)
    e = torch.exp(-2 * ((mu[i] - mu[j]) ** 2).sum(1))
    return torch.log(2 * e.sum() / n) if raw else torch.log(e.mean())


for k, (n, d, s) in enumerate([(2, 1, 0.0), (7, 5, math.log(1 / 0.07)), (33, 8, math.log(100)), (65, 3, 1.5)]):
    x, y = unit(n, d).requires_grad_(), unit(n, d).requires_grad_()
    log_scale = scalar(s).requires_grad_()
    loss = infonce(x, y, log_scale)
    loss.backward()
    put(f"infonce.{k}", x=x, y=y, log_scale=log_scale, loss=scalar(loss), dx=x.grad, dy=y.grad, d_log_scale=log_scale.grad)

for k, (n, d) in enumerate([(2, 1), (7, 5), (17, 8)]):
    x, y = unit(n, d).requires_grad_(), unit(n, d).requires_grad_()
    loss = ((x - y) ** 2).sum(1).mean()
    loss.backward()
    put(f"atp.{k}", x=x, y=y, loss=scalar(loss), dx=x.grad, dy=y.grad)

k = 0
for streams in (2, 3, 8):
    for n, d in [(2, 3), (7, 5), (17, 8)]:
        for raw in (False, True):
            z = [unit(n, d).requires_grad_() for _ in range(streams)]
            loss = cu(z, raw)
            loss.backward()
            put(f"cu.{k}", z=torch.stack(z), raw=scalar(raw), loss=scalar(loss), dz=torch.stack([a.grad for a in z]))
            k += 1

for k, (rows, classes, smoothing) in enumerate([(9, 11, 0.0), (9, 11, 0.1), (5, 67, 0.1)]):
    logits = (3 * torch.randn(rows, classes)).requires_grad_()
    targets = torch.randint(0, classes, (rows,))
    targets[1] = -1
    losses = torch.nn.functional.cross_entropy(
        logits, targets, ignore_index=-1, label_smoothing=smoothing, reduction="none")
    losses.sum().backward()
    put(f"cross_entropy.{k}", logits=logits, targets=targets.int(), smoothing=scalar(smoothing), losses=losses,
        loss=scalar(losses.sum()), dlogits=logits.grad)

for k, (lr, decay, scale) in enumerate([(1e-2, 0.1, 1.0), (3e-3, 0.0, 0.25)]):
    steps, n = 20, 37
    w = torch.nn.Parameter(torch.randn(n))
    g = torch.randn(steps, n)
    optimiser = torch.optim.AdamW([w], lr=lr, betas=(0.9, 0.98), eps=1e-8, weight_decay=decay)
    path = [w.detach().clone()]
    for step in range(steps):
        w.grad = scale * g[step]
        optimiser.step()
        path.append(w.detach().clone())
    put(f"adamw.{k}", g=g, w=torch.stack(path), options=torch.tensor([lr, 0.9, 0.98, 1e-8, decay, scale]))

save_file(out, sys.argv[1])
