#!/usr/bin/env python3
"""Writes a dump (logits.py) of transformers' logits on a random checkpoint, for tests that run without torch.

    transformers_logits.py --config configs/models/qwen3-tiny.json --seed 1 --tokens 300 --positions 0,6,63,64,299 \
        --out tests/kernels/goldens/qwen3-tiny

The checkpoint is make_checkpoint.py's for that config and seed (bf16), the tokens are random_tokens(seed, ...).
Needs torch and transformers; CPU suffices for the tiny presets.
"""
import argparse
import json
import os
import tempfile

import make_checkpoint
from logits import TransformersModel, random_tokens, write_dump


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--positions", required=True, help="comma-separated")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", required=True, help="prefix of the dump")
    args = parser.parse_args()

    with open(args.config) as file:
        vocab = json.load(file)["vocab_size"]
    positions = [int(p) for p in args.positions.split(",")]
    sequences = [{"tokens": random_tokens(args.seed, args.tokens, vocab), "positions": positions}]
    with tempfile.TemporaryDirectory() as checkpoint:
        make_checkpoint.write_checkpoint(args.config, args.seed, checkpoint)
        rows = TransformersModel(checkpoint, args.dtype, args.device).logits(sequences)
    import transformers
    preset = os.path.splitext(os.path.basename(args.config))[0]
    write_dump(args.out, f"transformers {transformers.__version__} {args.dtype}, {preset} seed {args.seed} bf16",
               sequences, rows)


if __name__ == "__main__":
    main()
