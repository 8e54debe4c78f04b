"""Golden towers, objectives and trainings: what PyTorch and transformers compute, for tests/align.

    python make_towers.py OUT_FOLDER

writes (all computed in float64 from weights that are float32 values):
    vit.safetensors, bert.safetensors    weights, inputs, pooled outputs, every parameter's gradient, pooled by
                                         class token ("cls/...") and by mean ("mean/...")
    positions.safetensors                bicubic interpolation of position grids
    objective2.safetensors               image + text: losses and gradients of the whole objective, both forms of
                                         L_CU, then 20 AdamW steps with a learned temperature
    objective3.safetensors               frontal + lateral + text, anchor text: the same, fixed temperature,
                                         scheduled weights of L_ATP and L_CU
    bert_folder/                         a BERT as Hugging Face saves it, with texts and their embeddings

Needs torch, transformers, numpy and safetensors. Made with torch 2.15 and transformers 5.23.
"""

import json
import math
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from transformers import BertConfig, BertModel, BertTokenizer, ViTConfig, ViTModel

torch.set_default_dtype(torch.float64)
MEAN, STD = (0.5, 0.4375, 0.53125), (0.25, 0.28125, 0.234375)  # exact in binary


# Attention is "sdpa": "eager" takes its softmax in float32 whatever the model's type.


# --- towers ---------------------------------------------------------------------------------------------------

def vit(width, heads, depth, mlp, image, patch, channels, act="gelu"):
    return ViTModel(ViTConfig(hidden_size=width, num_attention_heads=heads, num_hidden_layers=depth,
                              intermediate_size=mlp, image_size=image, patch_size=patch, num_channels=channels,
                              hidden_act=act, layer_norm_eps=1e-6, hidden_dropout_prob=0.0,
                              attention_probs_dropout_prob=0.0, attn_implementation="sdpa"),
                    add_pooling_layer=False).double().train()


def bert(width, heads, depth, mlp, vocabulary, positions):
    return BertModel(BertConfig(hidden_size=width, num_attention_heads=heads, num_hidden_layers=depth,
                                intermediate_size=mlp, vocab_size=vocabulary, max_position_embeddings=positions,
                                type_vocab_size=2, hidden_act="gelu", layer_norm_eps=1e-12,
                                hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                                attn_implementation="sdpa"),
                     add_pooling_layer=False).double().train()


VIT_NAMES = [("layers.", "encoder.layer."), ("attention.q_proj", "attention.attention.query"),
             ("attention.k_proj", "attention.attention.key"), ("attention.v_proj", "attention.attention.value"),
             ("attention.o_proj", "attention.output.dense"), ("mlp.fc1", "intermediate.dense"),
             ("mlp.fc2", "output.dense")]


def checkpoint_name(model, name):
    """transformers 5 renamed ViT's modules; checkpoints keep the names of transformers 4."""
    if isinstance(model, ViTModel) and "encoder.layer" not in name:
        for new, old in VIT_NAMES:
            name = name.replace(new, old)
    return name


def randomise(parameters, generator):
    """Large enough that attention is far from uniform and every path counts; float32 values."""
    for name, p in parameters:
        x = torch.randn(p.shape, generator=generator)
        if "norm" in name.lower() and name.endswith("weight"):
            x = 1 + 0.2 * x
        elif p.ndim == 1:
            x = 0.1 * x
        elif "embeddings" in name and "patch" not in name:
            x = 0.5 * x
        else:
            x = x * (1.5 / math.sqrt(p[0].numel()))
        with torch.no_grad():
            p.copy_(x.float().double())


def pixels(images, channels):
    """uint8 [B, H, W, C] -> normalised [B, C, H, W]"""
    x = torch.from_numpy(images).double() / 255
    return ((x - torch.tensor(MEAN[:channels])) / torch.tensor(STD[:channels])).permute(0, 3, 1, 2)


def pool_vit(model, images, pooling):
    x = model(pixel_values=pixels(images, images.shape[3])).last_hidden_state
    return x[:, 0] if pooling == "cls" else x[:, 1:].mean(1)


def pool_bert(model, ids, lengths, pooling):
    mask = torch.arange(ids.shape[1])[None] < torch.from_numpy(lengths)[:, None]
    x = model(input_ids=torch.from_numpy(ids).long(), attention_mask=mask.long()).last_hidden_state
    m = mask[..., None].double()
    return x[:, 0] if pooling == "cls" else (x * m).sum(1) / m.sum(1)


def random_images(rng, batch, size, channels):
    return rng.integers(0, 256, (batch, size, size, channels), dtype=np.uint8)


def random_ids(rng, lengths, max_tokens, vocabulary):
    ids = np.zeros((len(lengths), max_tokens), np.int32)
    for row, n in zip(ids, lengths):
        row[:n] = rng.integers(1, vocabulary, n)
    return ids


def f32(t):
    return t.detach().numpy().astype(np.float32)


def tower_golden(path, model, prefix, run, inputs, generator):
    out = dict(inputs)
    randomise(model.named_parameters(), generator)
    for name, p in model.named_parameters():
        out[prefix + checkpoint_name(model, name)] = f32(p)
    for pooling in ("cls", "mean"):
        model.zero_grad()
        pooled = run(model, pooling)
        upstream = torch.randn(pooled.shape, generator=generator).float().double()
        pooled.backward(upstream)
        out[pooling + "/pooled"] = pooled.detach().numpy()
        out[pooling + "/upstream"] = f32(upstream)
        for name, p in model.named_parameters():
            out[f"{pooling}/grad/{prefix}{checkpoint_name(model, name)}"] = p.grad.numpy().copy()
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, path)


def towers(folder):
    generator, rng = torch.Generator().manual_seed(11), np.random.default_rng(11)
    images = random_images(rng, 3, 40, 3)
    tower_golden(f"{folder}/vit.safetensors", vit(36, 3, 3, 52, 40, 8, 3), "image.",
                 lambda m, p: pool_vit(m, images, p), {"images": images}, generator)
    lengths = np.array([17, 1, 8, 2], np.int32)
    ids = random_ids(rng, lengths, 20, 97)
    tower_golden(f"{folder}/bert.safetensors", bert(40, 5, 3, 52, 97, 24), "text.",
                 lambda m, p: pool_bert(m, ids, lengths, p), {"ids": ids, "lengths": lengths}, generator)


def positions(folder):
    generator, out, width = torch.Generator().manual_seed(12), {}, 5
    for g, h in ((3, 5), (5, 3), (4, 7), (6, 6)):
        table = torch.randn(1, 1 + g * g, width, generator=generator)
        grid = table[:, 1:].reshape(1, g, g, width).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=(h, h), mode="bicubic", align_corners=False)
        to = torch.cat([table[:, :1], grid.permute(0, 2, 3, 1).reshape(1, h * h, width)], 1)
        out[f"{g}to{h}/from"], out[f"{g}to{h}/to"] = table.numpy(), to.numpy()
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, f"{folder}/positions.safetensors")


# --- objective [method: eq 1, 7, 8, 11] -----------------------------------------------------------------------

def objective(z, anchor, log_scale, lambda_atp, lambda_cu, centroids):
    m, n = len(z), len(z[0])
    others = [i for i in range(m) if i != anchor]
    target = torch.arange(n)
    infonce = atp = 0.0
    for i in others:
        logits = log_scale.exp() * z[anchor] @ z[i].T
        infonce = infonce + (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2 / len(others)
        atp = atp + ((z[i] - z[anchor]) ** 2).sum(1).mean() / len(others)
    mu = sum(z) / m
    if centroids == "normalised":
        cu = torch.log(torch.exp(-2 * torch.pdist(F.normalize(mu, dim=1)) ** 2).mean())
    else:
        cu = torch.log(torch.exp(-2 * torch.pdist(mu) ** 2).sum() * 2 / n)
    return infonce + lambda_atp * atp + lambda_cu * cu, infonce, atp, cu


class Model(torch.nn.Module):
    """Towers by stream name, projections, logit scale: names as in Suture's table."""

    def __init__(self, streams, dim, generator):
        super().__init__()
        self.streams, self.names = streams, {}
        self.towers = torch.nn.ModuleDict({name: tower for name, (tower, _) in streams.items()})
        self.projections = torch.nn.ParameterDict({
            name: torch.nn.Parameter(torch.empty(dim, tower.config.hidden_size)) for name, (tower, _) in streams.items()})
        self.logit_scale = torch.nn.Parameter(torch.empty(1))
        for name, (tower, _) in streams.items():
            for part, p in tower.named_parameters():
                self.names[f"{name}.{checkpoint_name(tower, part)}"] = p
            self.names[f"{name}.projection.weight"] = self.projections[name]
        randomise(self.names.items(), generator)
        self.names["logit_scale"] = self.logit_scale
        with torch.no_grad():
            self.logit_scale.fill_(float(np.float32(math.log(1 / 0.07))))

    def embed(self, batch):
        z = []
        for name, (tower, pooling) in self.streams.items():
            if isinstance(tower, ViTModel):
                pooled = pool_vit(tower, batch[name], pooling)
            else:
                pooled = pool_bert(tower, batch["ids"], batch["lengths"], pooling)
            z.append(F.normalize(pooled @ self.projections[name].T, dim=1))
        return z


def decays(name):
    """Matrices and BERT's embedding tables; no bias, no norm, no ViT class token or positions, no temperature."""
    if name == "logit_scale" or name.endswith(".bias") or "norm" in name.lower():
        return False
    return not name.endswith(("cls_token", "position_embeddings"))


def schedule(step, warmup, steps):
    if step <= warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - 1 - warmup) / (steps - warmup)))


def train(model, batches, anchor, centroids, rates, learn, weights, steps=20, warmup=4):
    """rates: peak learning rate by stream name, "projection" and "logit_scale"."""
    groups = []
    for name, p in model.names.items():
        if name == "logit_scale" and not learn:
            p.requires_grad_(False)
            continue
        kind = name if name == "logit_scale" else "projection" if "projection.weight" in name and \
            "patch" not in name else name.split(".")[0]
        groups.append({"params": [p], "peak": rates[kind], "weight_decay": 0.05 if decays(name) else 0.0})
    adam = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.98), eps=1e-8)
    parameters = [g["params"][0] for g in groups]
    losses, norms = [], []
    for step in range(1, steps + 1):
        adam.zero_grad()
        lambda_atp, lambda_cu = weights((step - 1) / steps)
        parts = objective(model.embed(batches[(step - 1) % len(batches)]), anchor, model.logit_scale, lambda_atp,
                          lambda_cu, centroids)
        parts[0].backward()
        # clip_grad_norm_ divides by norm + 1e-6; the limit is raised by as much, so that it divides by the norm.
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        torch.nn.utils.clip_grad_norm_(parameters, 1.0 * float((norm + 1e-6) / norm))
        for g in adam.param_groups:
            g["lr"] = g["peak"] * schedule(step, warmup, steps)
        adam.step()
        losses.append([float(x.detach()) for x in parts])
        norms.append(float(norm))
    return np.array(losses), np.array(norms)


def objective_golden(path, streams, anchor, rates, learn, weights, train_form, seed):
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    model = Model(streams, 16, generator)
    out = {name: f32(p) for name, p in model.names.items()}
    batch, batches = 9, []
    for i in range(3):
        lengths = rng.integers(3, 13, batch).astype(np.int32)
        lengths[0] = 12
        b = {"ids": random_ids(rng, lengths, 12, 53), "lengths": lengths}
        for name, (tower, _) in streams.items():
            if isinstance(tower, ViTModel):
                b[name] = random_images(rng, batch, 24, 1)
        batches.append(b)
        out.update({f"batch{i}/{k}": v for k, v in b.items()})
    for form in ("normalised", "raw"):
        model.zero_grad()
        parts = objective(model.embed(batches[0]), anchor, model.logit_scale, 1.0, 1.0, form)
        parts[0].backward()
        out[f"{form}/losses"] = np.array([float(x.detach()) for x in parts])
        for name, p in model.names.items():
            out[f"{form}/grad/{name}"] = p.grad.numpy().copy()
    out["train/losses"], out["train/norms"] = train(model, batches, anchor, train_form, rates, learn, weights)
    for name, p in model.names.items():
        out["train/final/" + name] = p.detach().numpy() if len(streams) == 2 else f32(p)
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, path)
    print(path, "losses", out["train/losses"][:, 0].round(3), "norms", out["train/norms"].round(2))


def objectives(folder):
    image = lambda act="gelu": vit(24, 3, 2, 36, 24, 8, 1, act)
    text = lambda: bert(20, 2, 2, 36, 53, 14)
    objective_golden(f"{folder}/objective2.safetensors", {"image": (image(), "mean"), "text": (text(), "cls")}, 1,
                     {"image": 2e-3, "text": 4e-3, "projection": 4e-3, "logit_scale": 1e-2}, True,
                     lambda progress: (1.0, 1.0), "normalised", 21)

    def weights(progress):  # 1 until 0.25 then linear to 0; 1 until 0.5 then linear to 2
        return (1 - max(0, progress - 0.25) / 0.75, 1 + max(0, progress - 0.5) / 0.5)
    objective_golden(f"{folder}/objective3.safetensors",
                     {"frontal": (image(), "cls"), "lateral": (image("quick_gelu"), "mean"), "text": (text(), "mean")}, 2,
                     {"frontal": 4e-3, "lateral": 1e-3, "text": 4e-3, "projection": 4e-3}, False, weights, "raw", 22)


# --- a folder as Hugging Face writes it -----------------------------------------------------------------------

WORDS = """chest x-ray ct mri of the left right lung heart shows a an in no with and lobe upper lower effusion nodule
pneumonia fracture opacity mass small large""".split()


def bert_folder(folder):
    folder = f"{folder}/bert_folder"
    os.makedirs(f"{folder}/1_Pooling", exist_ok=True)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + WORDS + list("abcdefghijklmnopqrstuvwxyz0123456789.,-") + \
        ["##" + c for c in "abcdefghijklmnopqrstuvwxyz"]
    tokens = list(dict.fromkeys(tokens))
    with open(f"{folder}/vocab.txt", "w") as f:
        f.write("\n".join(tokens) + "\n")
    model = bert(20, 4, 1, 28, len(tokens), 24)
    model.config.pad_token_id = 0
    randomise(model.named_parameters(), torch.Generator().manual_seed(31))
    model = model.eval()
    model.float().save_pretrained(folder)
    model.double()
    with open(f"{folder}/1_Pooling/config.json", "w") as f:
        json.dump({"word_embedding_dimension": 20, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, f)
    with open(f"{folder}/sentence_bert_config.json", "w") as f:
        json.dump({"max_seq_length": 16, "do_lower_case": False}, f)
    texts = ["Chest X-ray of the left lung.", "a small nodule", "",
             "MRI shows no fracture in the upper lobe, and a large mass with effusion of the right lung and heart", "CT 12"]
    tokenizer = BertTokenizer(f"{folder}/vocab.txt", do_lower_case=True)
    rows = tokenizer(texts, truncation=True, max_length=16, padding="max_length", return_tensors="np")
    ids, lengths = rows["input_ids"].astype(np.int32), rows["attention_mask"].sum(1).astype(np.int32)
    with torch.no_grad():
        z = F.normalize(pool_bert(model, ids, lengths, "mean"), dim=1)
    with open(f"{folder}/texts.txt", "w") as f:
        f.write("\n".join(texts) + "\n")
    save_file({"ids": ids, "lengths": lengths, "z": z.numpy()}, f"{folder}/texts.safetensors")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    os.makedirs(sys.argv[1], exist_ok=True)
    towers(sys.argv[1])
    positions(sys.argv[1])
    objectives(sys.argv[1])
    bert_folder(sys.argv[1])
