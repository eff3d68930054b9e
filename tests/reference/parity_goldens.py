#!/usr/bin/env python3
"""Writes goldens of transformers' logits (float32, CPU) on one model, for `megakernel-bench verify --goldens`.

    parity_goldens.py --config configs/models/qwen3-0.6b.json --seed 1 --out tests/reference/goldens/qwen3-0.6b
    parity_goldens.py --gguf q4_k.gguf --seed 1 --out q4_k

With --config the model is make_checkpoint.py's for that config and seed (bf16), with --gguf the file's weights
dequantised by transformers. Sequences: 1, 7 and 300 random tokens with the logits after each of them, and 44 random
tokens with the 256 greedy tokens that follow and the logits that chose each. Positions are cut to --context tokens.

PREFIX.json: {"source", "config", "seed", "vocab", "top", "sampled", "sequences": [{"tokens", "first"}, ...]}; a row for
each token from index "first" on. The last greedy token is not among the tokens: the last row says it.
PREFIX.rows, little-endian, of every row: `top` int32 ids of the largest logits, largest first; `top` float32 logits of
these; float32 log of the sum of exponentials of all logits; `sampled` float32 logits of the ids
Draw(seed, row * sampled + i, vocab) (kernels/layout/sampling.h; rows counted over all sequences).

Needs torch and transformers, and gguf and accelerate for --gguf.
"""
import argparse
import json
import os
import tempfile

import numpy as np

import make_checkpoint
from logits import TransformersModel, random_tokens

TOP = 4
SAMPLED = 16
LENGTHS = (1, 7, 300)
GREEDY_PROMPT = 44
GREEDY_TOKENS = 256


def reduce_row(row: np.ndarray, sampled_ids: list) -> bytes:
    top = np.argsort(-row, kind="stable")[:TOP]
    wide = row.astype(np.float64)
    log_sum = np.log(np.exp(wide - wide.max()).sum()) + wide.max()
    return (top.astype("<i4").tobytes() + row[top].astype("<f4").tobytes() + np.float32(log_sum).tobytes()
            + row[sampled_ids].astype("<f4").tobytes())


def write(reference: TransformersModel, meta: dict, seed: int, context: int, out: str) -> None:
    vocab = reference.model.config.vocab_size
    sequences, all_rows = [], []
    for length in LENGTHS:
        tokens = random_tokens(seed + length, min(length, context), vocab)
        sequences.append({"tokens": tokens, "first": 0})
        all_rows.append(reference.logits([sequences[-1] | {"positions": range(len(tokens))}]))
    prompt = random_tokens(seed, GREEDY_PROMPT, vocab)
    tokens, rows = reference.greedy(prompt, min(GREEDY_TOKENS, context - GREEDY_PROMPT))
    sequences.append({"tokens": tokens[:-1], "first": GREEDY_PROMPT - 1})
    all_rows.append(rows)
    rows = np.concatenate(all_rows)
    ids = random_tokens(seed, len(rows) * SAMPLED, vocab)
    with open(out + ".json", "w", encoding="utf-8") as file:
        json.dump({**meta, "seed": seed, "vocab": vocab, "top": TOP, "sampled": SAMPLED, "sequences": sequences}, file)
        file.write("\n")
    with open(out + ".rows", "wb") as file:
        for i, row in enumerate(rows):
            file.write(reduce_row(row, ids[i * SAMPLED:(i + 1) * SAMPLED]))
    distinct = len(set(tokens[GREEDY_PROMPT:]))
    print(f"{out}: {len(rows)} rows, {distinct} distinct greedy tokens, logits of root mean square {rows.std():.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", help="of a random checkpoint: a config.json of configs/models")
    what.add_argument("--gguf", help="a file")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--context", type=int, default=300, help="longest sequence")
    parser.add_argument("--out", required=True, help="prefix of the goldens")
    args = parser.parse_args()

    import transformers
    source = f"transformers {transformers.__version__} fp32"
    if args.gguf:
        folder, name = os.path.split(os.path.abspath(args.gguf))
        reference = TransformersModel(folder, "fp32", "cpu", gguf_file=name)
        write(reference, {"source": source, "config": ""}, args.seed, args.context, args.out)
        return
    with tempfile.TemporaryDirectory() as checkpoint:
        make_checkpoint.write_checkpoint(args.config, args.seed, checkpoint)
        reference = TransformersModel(checkpoint, "fp32", "cpu")
        preset = os.path.splitext(os.path.basename(args.config))[0]
        write(reference, {"source": source, "config": preset}, args.seed, args.context, args.out)


if __name__ == "__main__":
    main()
