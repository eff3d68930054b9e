#!/usr/bin/env python3
"""Writes goldens of transformers' rotary embedding (float32, CPU) to position 32,767.

    rope_goldens.py --config configs/models/qwen3-0.6b.json --out tests/reference/goldens/rope-qwen3-0.6b

PREFIX.json: {"source", "config", "positions"}. PREFIX.rows, little-endian float32: head_dim / 2 frequencies, then for
each position head_dim / 2 cosines, as many sines, and a head rotated there (head_dim values). The
head is weights(seed 1, "head", mean 0, std 1) of make_checkpoint.py. Every position is computed alone and among all
32,768; the script fails when the two differ.
"""
import argparse
import json
import os

import numpy as np

import make_checkpoint

POSITIONS = [0, 1, 2, 3, 6, 7, 63, 64, 127, 128, 299, 511, 512, 1023, 2047, 4095, 4096, 8191, 8192, 10007, 16383, 20011,
             24593, 32766, 32767]
CONTEXT = 32768


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--out", required=True, help="prefix of the goldens")
    args = parser.parse_args()

    import torch
    import transformers
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

    with open(args.config, encoding="utf-8") as file:
        raw = json.load(file)
    config = transformers.AutoConfig.for_model(**raw)
    rotary = {"qwen3": Qwen3RotaryEmbedding, "llama": LlamaRotaryEmbedding}[raw["model_type"]](config=config)
    head_dim = config.head_dim
    head = torch.from_numpy(make_checkpoint.weights(1, "head", 0.0, 1.0, 0, head_dim))
    like = torch.zeros(1, dtype=torch.float32)
    cos, sin = rotary(like, torch.arange(CONTEXT)[None])
    rows = [rotary.inv_freq.numpy()]
    for position in POSITIONS:
        one_cos, one_sin = rotary(like, torch.tensor([[position]]))
        assert torch.equal(one_cos[0, 0], cos[0, position]) and torch.equal(one_sin[0, 0], sin[0, position])
        rotated, _ = apply_rotary_pos_emb(head[None, None, None], head[None, None, None], one_cos, one_sin)
        rows += [one_cos[0, 0, :head_dim // 2].numpy(), one_sin[0, 0, :head_dim // 2].numpy(), rotated[0, 0, 0].numpy()]
    name = os.path.splitext(os.path.basename(args.config))[0]
    with open(args.out + ".json", "w", encoding="utf-8") as file:
        json.dump({"source": f"transformers {transformers.__version__} fp32", "config": name, "positions": POSITIONS}, file)
        file.write("\n")
    np.concatenate(rows).astype("<f4").tofile(args.out + ".rows")


if __name__ == "__main__":
    main()
