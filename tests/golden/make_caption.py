"""Golden captions: what PyTorch and transformers make of a small decoder, for tests/caption.

    python make_caption.py OUT_FOLDER

writes
    decoder.safetensors    BertLMHeadModel as a decoder, weights that are float32 values: logits, loss with label
                           smoothing and every gradient, the image tokens' too, in float64
    generate.safetensors   another, image tokens for it, and logits to filter
    generate.json          what generate() gives for many settings: tokens and scores of every image; what the logits
                           become under temperature, top_k and top_p

Needs torch, transformers, numpy and safetensors. Made with torch 2.15 and transformers 5.24.
"""

import json
import math
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from transformers import (BertConfig, BertLMHeadModel, GenerationConfig, LogitsProcessorList, TemperatureLogitsWarper,
                          TopKLogitsWarper, TopPLogitsWarper, ViTConfig, ViTModel, VisionEncoderDecoderModel)
from transformers.modeling_outputs import BaseModelOutput

PAD, UNK, CLS, SEP, MASK = range(5)


def decoder(width, heads, depth, mlp, vocabulary, positions, types):
    return BertLMHeadModel(BertConfig(
        hidden_size=width, num_attention_heads=heads, num_hidden_layers=depth, intermediate_size=mlp,
        vocab_size=vocabulary, max_position_embeddings=positions, type_vocab_size=types, hidden_act="gelu",
        layer_norm_eps=1e-12, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, is_decoder=True,
        add_cross_attention=True, attn_implementation="sdpa", pad_token_id=PAD, bos_token_id=CLS, eos_token_id=SEP))


def named(model):
    """Suture's names; the output product's weight is the word embeddings', so it comes once."""
    for name, p in model.named_parameters():
        yield "decoder." + name.removeprefix("bert."), p


def randomise(model, generator, spread=1.5):
    for name, p in named(model):
        x = torch.randn(p.shape, generator=generator)
        if "norm" in name.lower() and name.endswith("weight"):
            x = 1 + 0.2 * x
        elif p.ndim == 1:
            x = 0.1 * x
        elif "embeddings" in name:
            x = 0.5 * x
        else:
            x = x * (spread / math.sqrt(p.shape[1]))
        with torch.no_grad():
            p.copy_(x.float().double())


def decoder_golden(folder):
    generator, rng = torch.Generator().manual_seed(41), np.random.default_rng(41)
    model = decoder(24, 3, 2, 40, 61, 20, 3).double().train()
    randomise(model, generator)
    lengths = np.array([13, 1, 7, 9], np.int32)
    batch, tokens = 4, 13
    ids = rng.integers(0, 61, (batch, tokens), dtype=np.int32)
    position = rng.integers(0, 20, (batch, tokens), dtype=np.int32)
    kind = rng.integers(0, 3, (batch, tokens), dtype=np.int32)
    targets = rng.integers(0, 61, (batch, tokens), dtype=np.int32)
    targets[0, :5] = targets[3, 2:4] = -1  # positions that ask for nothing, as evidence does
    for b in range(batch):
        targets[b, lengths[b]:] = -1
    memory = torch.randn(batch, 7, 24, generator=generator).float().double().requires_grad_()
    mask = torch.arange(tokens)[None] < torch.from_numpy(lengths)[:, None]
    logits = model(input_ids=torch.from_numpy(ids).long(), attention_mask=mask.long(),
                   position_ids=torch.from_numpy(position).long(), token_type_ids=torch.from_numpy(kind).long(),
                   encoder_hidden_states=memory).logits
    asked = torch.from_numpy(targets >= 0)
    loss = F.cross_entropy(logits[asked], torch.from_numpy(targets[targets >= 0]).long(), label_smoothing=0.1,
                           reduction="sum")
    (loss * 0.25).backward()
    out = {"ids": ids, "position": position, "type": kind, "lengths": lengths, "targets": targets,
           "memory": memory.detach().numpy(), "logits": logits[asked].detach().numpy(),
           "loss": loss.detach().numpy().reshape(1), "grad/memory": memory.grad.numpy()}
    for name, p in named(model):
        out[name] = p.detach().numpy().astype(np.float32)
        out["grad/" + name] = p.grad.numpy()
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, f"{folder}/decoder.safetensors")


# --- generation -----------------------------------------------------------------------------------------------

VOCABULARY, TOKENS, WIDTH, IMAGES = 83, 6, 32, 7
ALWAYS = [PAD, UNK, CLS, MASK]  # no caption holds them

SETTINGS = [
    {"beams": 1},
    {"beams": 1, "repetition_penalty": 1.4},
    {"beams": 1, "no_repeat_ngram": 2},
    {"beams": 1, "no_repeat_ngram": 1, "min_tokens": 9},
    {"beams": 1, "min_tokens": 12, "max_tokens": 17},
    {"beams": 1, "forbidden": [[7], [30, 9], [11, 12, 13]]},
    {"beams": 2, "length_penalty": 0.0},
    {"beams": 3, "length_penalty": 0.6},
    {"beams": 3, "length_penalty": 0.6, "max_tokens": 5},
    {"beams": 3, "length_penalty": 1.0, "no_repeat_ngram": 2},
    {"beams": 3, "length_penalty": 2.0, "repetition_penalty": 1.2},
    {"beams": 3, "length_penalty": -1.0, "min_tokens": 4},
    {"beams": 5, "length_penalty": 0.6, "min_tokens": 6, "no_repeat_ngram": 3},
    {"beams": 5, "length_penalty": 0.6, "forbidden": [[7], [30, 9], [11, 12, 13], [5], [6], [40, 41]]},
    {"beams": 8, "length_penalty": 0.3, "max_tokens": 20},
]


def suppress(settings, model, greedy):
    """Forbidden phrases of one token are always out; longer ones lose their last token after the others."""
    banned = [[t] for t in ALWAYS] + settings.get("forbidden", [])
    return GenerationConfig(
        num_beams=settings["beams"], do_sample=False, length_penalty=settings.get("length_penalty", 0.6),
        max_new_tokens=settings.get("max_tokens", 40), min_new_tokens=settings.get("min_tokens", 0) or None,
        no_repeat_ngram_size=settings.get("no_repeat_ngram", 0),
        repetition_penalty=settings.get("repetition_penalty", 1.0), bad_words_ids=banned, early_stopping=False,
        decoder_start_token_id=CLS, pad_token_id=PAD, bos_token_id=CLS, eos_token_id=SEP,
        return_dict_in_generate=True, output_scores=True, output_logits=True)


def generate_golden(folder):
    generator = torch.Generator().manual_seed(43)
    lm = decoder(WIDTH, 4, 2, 48, VOCABULARY, 44, 1)
    randomise(lm, generator, spread=2.0)
    with torch.no_grad():
        lm.cls.predictions.bias[SEP] += 2.2  # so that captions end, at different lengths
    encoder = ViTModel(ViTConfig(hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=4, intermediate_size=8,
                                 image_size=16, patch_size=16), add_pooling_layer=False)
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=lm).double().eval()
    memory = (2 * torch.randn(IMAGES, TOKENS, WIDTH, generator=generator)).float().double()
    cases = []
    for settings in SETTINGS:
        images = []
        for i in range(IMAGES):
            config = suppress(settings, model, settings["beams"] == 1)
            out = model.generate(encoder_outputs=BaseModelOutput(last_hidden_state=memory[i:i + 1]),
                                 generation_config=config)
            tokens = out.sequences[0, 1:].tolist()
            while tokens and tokens[-1] == PAD:
                tokens.pop()
            # What the model itself says of these tokens, without any rule.
            with torch.no_grad():
                logits = model(encoder_outputs=BaseModelOutput(last_hidden_state=memory[i:i + 1]),
                               decoder_input_ids=torch.tensor([[CLS] + tokens[:-1]])).logits[0]
            own = F.log_softmax(logits, -1)[range(len(tokens)), tokens]
            images.append({"tokens": tokens, "log_probs": own.tolist(),
                           "score": float(out.sequences_scores[0]) if settings["beams"] > 1 else None})
        cases.append({"settings": settings, "images": images})
    lengths = sorted({len(i["tokens"]) for c in cases for i in c["images"]})
    print("lengths:", lengths)
    rows = (3 * torch.randn(6, VOCABULARY, generator=generator)).float()
    filters = []
    for temperature, top_k, top_p in ((1.0, 0, 0.9), (0.7, 0, 0.5), (1.5, 10, 1.0), (0.9, 20, 0.8), (2.0, 5, 0.3),
                                      (1.0, 1, 1.0), (1.0, 0, 1.0), (0.05, 50, 0.99)):
        chain = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
        if top_k:
            chain.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            chain.append(TopPLogitsWarper(top_p))
        probs = F.softmax(chain(None, rows.clone()).double(), -1)
        filters.append({"temperature": temperature, "top_k": top_k, "top_p": top_p, "probabilities": probs.tolist()})
    out = {"memory": memory.numpy().astype(np.float32), "rows": rows.numpy()}
    for name, p in named(lm):
        out[name] = p.detach().numpy().astype(np.float32)
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, f"{folder}/generate.safetensors")
    with open(f"{folder}/generate.json", "w") as f:
        json.dump({"cases": cases, "filters": filters}, f)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    os.makedirs(sys.argv[1], exist_ok=True)
    decoder_golden(sys.argv[1])
    generate_golden(sys.argv[1])
