#!/usr/bin/env python3
"""Writes a random-weight Hugging Face model directory: byte for byte what `megakernel-bench make-checkpoint` writes.

    make_checkpoint.py --config configs/models/qwen3-tiny.json --seed 1 --out DIR [--dtype bf16|f16|f32] [--shards N]

The values are defined in tests/support/weight_generator.h, the scales in tests/support/checkpoint.h. Needs numpy only.
"""
import argparse
import json
import math
import os
import struct
import sys

import numpy as np

SIGMA = 2421564.0  # standard deviation of the integer k
PIECE = 1 << 20    # elements generated at a time


def fnv1a64(data: bytes) -> int:
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def philox_words(seed: int, name_hash: int, first_block: int, num_blocks: int) -> np.ndarray:
    """Philox4x32-10 blocks with counters (block, low and high half of name_hash, 0), as [num_blocks * 4] uint32."""
    mask = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    c0 = np.arange(first_block, first_block + num_blocks, dtype=np.uint64)
    c1 = np.full(num_blocks, name_hash & 0xFFFFFFFF, dtype=np.uint64)
    c2 = np.full(num_blocks, name_hash >> 32, dtype=np.uint64)
    c3 = np.zeros(num_blocks, dtype=np.uint64)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ np.uint64(k0), p1 & mask, (p0 >> shift) ^ c3 ^ np.uint64(k1), p0 & mask
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32).reshape(-1)


def weights(seed: int, name: str, mean: float, std: float, first: int, count: int) -> np.ndarray:
    assert first % 4 == 0
    words = philox_words(seed, fnv1a64(name.encode()), first // 4, (count + 3) // 4)[:count]
    total = sum(((words >> np.uint32(8 * i)) & np.uint32(0xFF)).astype(np.int32) for i in range(4)) - 510
    fine = ((words * np.uint32(0x9E3779B1)) >> np.uint32(18)).astype(np.int32) - (1 << 13)
    k = total * (1 << 14) + fine
    return k.astype(np.float32) * np.float32(std / SIGMA) + np.float32(mean)


def to_bytes(values: np.ndarray, dtype: str) -> bytes:
    if dtype == "f32":
        return values.tobytes()
    if dtype == "f16":
        return values.astype(np.float16).tobytes()
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return rounded.astype(np.uint16).tobytes()


def plan_tensors(config: dict) -> list:
    """(name, shape, mean, std) of every tensor, in the order of the file."""
    hidden, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", heads)
    head_dim = config.get("head_dim") or hidden // heads
    qk_norm = config["model_type"] == "qwen3"
    q_width, kv_width = heads * head_dim, kv_heads * head_dim
    plan = []

    def matrix(name, rows, cols, gain):
        plan.append((name, [rows, cols], 0.0, gain / math.sqrt(float(cols))))

    def vector(name, size, mean, std):
        plan.append((name, [size], mean, std))

    matrix("model.embed_tokens.weight", vocab, hidden, 2.5)
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        a = p + "self_attn."
        qk_gain = 1.0 if qk_norm else 1.25
        vector(p + "input_layernorm.weight", hidden, 1.0, 0.1)
        matrix(a + "q_proj.weight", q_width, hidden, qk_gain)
        matrix(a + "k_proj.weight", kv_width, hidden, qk_gain)
        matrix(a + "v_proj.weight", kv_width, hidden, 1.0)
        if config["model_type"] == "qwen2":
            vector(a + "q_proj.bias", q_width, 0.0, 0.5)
            vector(a + "k_proj.bias", kv_width, 0.0, 0.5)
            vector(a + "v_proj.bias", kv_width, 0.0, 0.5)
        if qk_norm:
            vector(a + "q_norm.weight", head_dim, 1.25, 0.125)
            vector(a + "k_norm.weight", head_dim, 1.25, 0.125)
        matrix(a + "o_proj.weight", hidden, q_width, 0.5)
        vector(p + "post_attention_layernorm.weight", hidden, 1.0, 0.1)
        matrix(p + "mlp.gate_proj.weight", ffn, hidden, 1.0)
        matrix(p + "mlp.up_proj.weight", ffn, hidden, 1.0)
        matrix(p + "mlp.down_proj.weight", hidden, ffn, 0.5)
    vector("model.norm.weight", hidden, 1.0, 0.1)
    if not config.get("tie_word_embeddings", False):
        matrix("lm_head.weight", vocab, hidden, 2.5)
    return plan


def distribute(plan: list, element_bytes: int, max_shards: int) -> list:
    """Shards as lists of tensors: by the place of a tensor's first byte, no shard left out."""
    total = sum(math.prod(t[1]) for t in plan) * element_bytes
    shards, start = [[]], 0
    for tensor in plan:
        if start * max_shards // total >= len(shards):
            shards.append([])
        shards[-1].append(tensor)
        start += math.prod(tensor[1]) * element_bytes
    return shards


def write_shard(path: str, tensors: list, dtype: str, element_bytes: int, seed: int) -> int:
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _, _ in tensors:
        end = offset + math.prod(shape) * element_bytes
        header[name] = {"dtype": dtype.upper(), "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "xb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape, mean, std in tensors:
            elements = math.prod(shape)
            for first in range(0, elements, PIECE):
                file.write(to_bytes(weights(seed, name, mean, std, first, min(PIECE, elements - first)), dtype))
    return offset


def write_checkpoint(config_path: str, seed: int, out: str, dtype: str = "bf16", max_shards: int = 1) -> int:
    with open(config_path, "rb") as file:
        config_text = file.read()
    os.makedirs(out, exist_ok=True)
    if os.listdir(out):
        sys.exit(f"{out}: not an empty directory")
    element_bytes = 4 if dtype == "f32" else 2
    shards = distribute(plan_tensors(json.loads(config_text)), element_bytes, max_shards)
    names = ["model.safetensors"] if max_shards == 1 else [
        f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    total = 0
    for name, tensors in zip(names, shards):
        total += write_shard(os.path.join(out, name), tensors, dtype, element_bytes, seed)
    if max_shards > 1:
        weight_map = {t[0]: name for name, tensors in zip(names, shards) for t in tensors}
        with open(os.path.join(out, "model.safetensors.index.json"), "x") as file:
            file.write(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2) + "\n")
    with open(os.path.join(out, "config.json"), "xb") as file:
        file.write(config_text)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a config.json, or the name of a preset of configs/models")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--dtype", choices=["bf16", "f16", "f32"], default="bf16")
    parser.add_argument("--shards", type=int, default=1)
    args = parser.parse_args()
    config = args.config if os.path.exists(args.config) else f"configs/models/{args.config}.json"
    print(write_checkpoint(config, args.seed, args.out, args.dtype, args.shards), "bytes of tensors in", args.out)


if __name__ == "__main__":
    main()
