#!/usr/bin/env python3
"""Captions of preset small on the CPU against transformers' generate(), on the same weights, in one run.

    cmake -S . -B build -DSUTURE_BENCH=ON && cmake --build build
    python bench/caption.py build/bench/bench_caption

python needs PyPI's torch, transformers and safetensors. ViT-S/16 at 224 px and a decoder of 6 layers, 384 wide, 12 heads, over
30,522 tokens, with random weights; beam 3, 40 tokens, length penalty 0.6. Both sides float32, the same threads; transformers with
sdpa attention, its cache, and the fastest of several batch sizes. Rounds alternate; the captions must be the same tokens.

"from pixels" is the whole of it. "from image tokens" leaves the image tower out on both sides. Memory is the peak of each process.
"""
import argparse, resource, statistics, subprocess, tempfile, time

VIT_NAMES = [("layers.", "encoder.layer."), ("attention.q_proj", "attention.attention.query"),
             ("attention.k_proj", "attention.attention.key"), ("attention.v_proj", "attention.attention.value"),
             ("attention.o_proj", "attention.output.dense"), ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense")]


def model(torch, end_bias):
    from transformers import BertConfig, BertLMHeadModel, ViTConfig, ViTModel, VisionEncoderDecoderModel
    torch.manual_seed(1)
    vit = ViTModel(ViTConfig(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536, image_size=224,
                             patch_size=16, layer_norm_eps=1e-6, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
                   add_pooling_layer=False)
    lm = BertLMHeadModel(BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
                                    vocab_size=30522, max_position_embeddings=64, type_vocab_size=1, is_decoder=True,
                                    add_cross_attention=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # larger than at the start of a training, so that captions differ
        for name, p in list(vit.named_parameters()) + list(lm.named_parameters()):
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=generator) * (0.3 if "embeddings" in name and "patch" not in name
                                                                     else 1.5 / p[0].numel() ** 0.5))
        lm.cls.predictions.bias[102] += end_bias
    return VisionEncoderDecoderModel(encoder=vit, decoder=lm).eval()


def save(torch, m, pixels, path):
    from safetensors.torch import save_file
    out = {"pixels": pixels.contiguous()}
    for name, p in m.encoder.named_parameters():
        if "encoder.layer" not in name:
            for new, old in VIT_NAMES:
                name = name.replace(new, old)
        out["image." + name] = p.detach().clone().contiguous()
    for name, p in m.decoder.named_parameters():
        out["decoder." + name.removeprefix("bert.")] = p.detach().clone().contiguous()
    save_file(out, path)


class Suture:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line, answers=1):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return [self.process.stdout.readline() for _ in range(answers)]

    def seconds(self, what):
        return [float(x) for x in self.ask(what)[0].split()]


def theirs(torch, m, what, pixels, memory, batch, beams, tokens):
    from transformers.modeling_outputs import BaseModelOutput
    wall, processor, out = time.perf_counter(), time.process_time(), []
    with torch.inference_mode():
        for first in range(0, len(pixels), batch):
            if what == "image":
                x = {"pixel_values": ((pixels[first:first + batch].float() / 255 - 0.5) / 0.25).permute(0, 3, 1, 2)}
            else:
                x = {"encoder_outputs": BaseModelOutput(last_hidden_state=memory[first:first + batch])}
            ids = m.generate(**x, num_beams=beams, max_new_tokens=tokens, length_penalty=0.6, early_stopping=False, do_sample=False,
                             decoder_start_token_id=101, bos_token_id=101, eos_token_id=102, pad_token_id=0, use_cache=True)
            for row in ids[:, 1:].tolist():
                out.append(row[:row.index(102) + 1] if 102 in row else row)
    return time.perf_counter() - wall, time.process_time() - processor, out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("bench_caption")
    p.add_argument("--images", type=int, default=64)
    p.add_argument("--beams", type=int, default=3)
    p.add_argument("--tokens", type=int, default=40)
    p.add_argument("--slots", type=int, default=32)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--batches", type=int, nargs="*", default=[8, 32])
    p.add_argument("--end-bias", type=float, default=0.0, help="makes captions end, at different lengths")
    a = p.parse_args()
    import torch, transformers
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(a.threads)
    m = model(torch, a.end_bias)
    pixels = torch.randint(0, 256, (a.images, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    with tempfile.TemporaryDirectory() as folder:
        save(torch, m, pixels, f"{folder}/weights.safetensors")
        ours = Suture([a.bench_caption, f"{folder}/weights.safetensors", str(a.beams), str(a.tokens), str(a.slots), str(a.threads)])
        with torch.inference_mode():
            memory = torch.cat([m.encoder(((x.float() / 255 - 0.5) / 0.25).permute(0, 3, 1, 2)).last_hidden_state
                                for x in pixels.split(8)])
        ours.seconds("image")  # warm-up, and the image tokens
        print(f"{a.images} images, beam {a.beams}, {a.tokens} tokens, {a.threads} threads, {a.slots} slots; torch "
              f"{torch.__version__}, transformers {transformers.__version__}; medians of {a.rounds} rounds, by the clock / processor")
        for what in ("image", "tokens"):
            mine, other = [], {b: [] for b in a.batches}
            for _ in range(a.rounds):
                mine.append(ours.seconds(what))
                for b in a.batches:
                    *seconds, captions = theirs(torch, m, what, pixels, memory, b, a.beams, a.tokens)
                    other[b].append(seconds)
            own = [[int(x) for x in line.split()] for line in ours.ask("captions", a.images)]
            same = sum(x == y for x, y in zip(own, captions))
            median = lambda rows: [statistics.median(r[i] for r in rows) for i in (0, 1)]
            best = min(a.batches, key=lambda b: median(other[b])[1])
            o, t = median(mine), median(other[best])
            print(f"from {'pixels' if what == 'image' else 'image tokens':13} Suture {a.images / o[0]:7.2f} / {a.images / o[1]:7.2f} captions/s   "
                  f"transformers (batch {best}) {a.images / t[0]:7.2f} / {a.images / t[1]:7.2f}   ratio {t[0] / o[0]:.2f} / {t[1] / o[1]:.2f}   "
                  f"same captions {same} of {a.images}; mean length {sum(map(len, own)) / len(own):.1f}", flush=True)
        ours.process.stdin.close()
        ours.process.wait()
        own, other = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
        print(f"peak memory of the process: Suture {own:.0f} MiB, transformers {other:.0f} MiB")


if __name__ == "__main__":
    main()
