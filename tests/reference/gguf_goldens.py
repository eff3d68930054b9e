#!/usr/bin/env python3
"""Writes small random GGUF files of every element type, and goldens of transformers' logits on their dequantised weights.

    gguf_goldens.py --out tests/engine/cpu/goldens/gguf

F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 are written by PyPI `gguf`; IQ4_NL and the K-quants come from
llama.cpp's quantiser (PyPI `llama-cpp-python`) on an F32 file. K-quants need rows that are a multiple of 256; narrow_*
have rows of 96, for which the quantiser takes other types. q4_k_m mixes types from tensor to tensor as published files
do. NAME.json and NAME.rows are those of parity_goldens.py, 64 tokens long.

Needs gguf, llama-cpp-python, torch, transformers and accelerate.
"""
import argparse
import ctypes
import dataclasses
import os
import sys

import gguf
import numpy as np
from gguf.quants import quantize

import make_checkpoint
import parity_goldens
from logits import TransformersModel

SEED = 5
CONTEXT = 64


@dataclasses.dataclass
class Shape:
    architecture: str
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    layers: int = 1
    vocab: int = 264


PLAIN = Shape("llama", hidden=64, ffn=96, heads=2, kv_heads=1, head_dim=32)
WIDE = Shape("llama", hidden=256, ffn=256, heads=8, kv_heads=1, head_dim=32)
# transformers takes a head_dim of 128 for files of qwen3, whatever they say.
WIDE_HEADS = Shape("qwen3", hidden=256, ffn=256, heads=2, kv_heads=1, head_dim=128)
NARROW = Shape("qwen2", hidden=96, ffn=160, heads=3, kv_heads=1, head_dim=32, layers=2)

BY_GGUF = {name.lower(): gguf.GGMLQuantizationType[name]
           for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")}
# name: (shape, number of llama.cpp's enum llama_ftype, every tensor of that one type)
BY_LLAMA_CPP = {
    "iq4_nl": (PLAIN, 25, True),
    "q4_k": (WIDE, 14, True),
    "q5_k": (WIDE, 16, True),
    "q6_k": (WIDE, 18, True),
    "q4_k_m": (WIDE_HEADS, 15, False),
    "narrow_q4_k_m": (NARROW, 15, False),
    "narrow_q5_k_m": (NARROW, 17, False),
}


def tensors(shape: Shape):
    """(name, float32 values) with the scales of make_checkpoint.py."""

    def draw(name, sizes, mean, std):
        count = int(np.prod(sizes))
        return name, make_checkpoint.weights(SEED, name, mean, std, 0, count).reshape(sizes)

    def matrix(name, rows, cols, gain):
        return draw(name, (rows, cols), 0.0, gain / np.sqrt(cols))

    yield matrix("token_embd.weight", shape.vocab, shape.hidden, 2.5)
    yield draw("output_norm.weight", (shape.hidden,), 1.0, 0.1)
    q_width, kv_width = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    for layer in range(shape.layers):
        p = f"blk.{layer}."
        yield draw(p + "attn_norm.weight", (shape.hidden,), 1.0, 0.1)
        yield matrix(p + "attn_q.weight", q_width, shape.hidden, 1.25)
        yield matrix(p + "attn_k.weight", kv_width, shape.hidden, 1.25)
        yield matrix(p + "attn_v.weight", kv_width, shape.hidden, 1.0)
        if shape.architecture == "qwen2":
            for part, width in (("q", q_width), ("k", kv_width), ("v", kv_width)):
                yield draw(f"{p}attn_{part}.bias", (width,), 0.0, 0.5)
        if shape.architecture == "qwen3":
            yield draw(p + "attn_q_norm.weight", (shape.head_dim,), 1.25, 0.125)
            yield draw(p + "attn_k_norm.weight", (shape.head_dim,), 1.25, 0.125)
        yield matrix(p + "attn_output.weight", shape.hidden, q_width, 0.5)
        yield draw(p + "ffn_norm.weight", (shape.hidden,), 1.0, 0.1)
        yield matrix(p + "ffn_gate.weight", shape.ffn, shape.hidden, 1.0)
        yield matrix(p + "ffn_up.weight", shape.ffn, shape.hidden, 1.0)
        yield matrix(p + "ffn_down.weight", shape.hidden, shape.ffn, 0.5)


def byte_tokens():
    """The 256 letters of the byte-level alphabet."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def write_file(path: str, shape: Shape, kind: gguf.GGMLQuantizationType) -> None:
    writer = gguf.GGUFWriter(path, shape.architecture)
    writer.add_name(f"random {shape.architecture}")
    writer.add_vocab_size(shape.vocab)
    writer.add_context_length(512)
    writer.add_block_count(shape.layers)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm" if shape.architecture == "llama" else "qwen2")
    letters = byte_tokens() + ["ab"]
    special = [f"<|{i}|>" for i in range(shape.vocab - len(letters))]
    writer.add_token_list(letters + special)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(letters) + [gguf.TokenType.CONTROL] * len(special))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(len(letters))
    writer.add_eos_token_id(len(letters) + 1)
    for name, values in tensors(shape):
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def requantize(source: str, target: str, ftype: int, pure: bool) -> None:
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.pure, params.nthread = ftype, pure, 1
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)) != 0:
        sys.exit(f"{target}: llama.cpp's quantiser failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder")
    args = parser.parse_args()

    import transformers
    os.makedirs(args.out, exist_ok=True)
    for name, kind in BY_GGUF.items():
        write_file(os.path.join(args.out, name + ".gguf"), PLAIN, kind)
    for name, (shape, ftype, pure) in BY_LLAMA_CPP.items():
        target = os.path.join(args.out, name + ".gguf")
        source = target + ".f32"
        write_file(source, shape, gguf.GGMLQuantizationType.F32)
        requantize(source, target, ftype, pure)
        os.remove(source)
    for name in [*BY_GGUF, *BY_LLAMA_CPP]:
        prefix = os.path.join(args.out, name)
        kinds = {tensor.tensor_type.name for tensor in gguf.GGUFReader(prefix + ".gguf").tensors if len(tensor.shape) > 1}
        print(name, *sorted(kinds), os.path.getsize(prefix + ".gguf"), "bytes", flush=True)
        reference = TransformersModel(args.out, "fp32", "cpu", gguf_file=name + ".gguf")
        meta = {"source": f"transformers {transformers.__version__} fp32", "config": ""}
        parity_goldens.write(reference, meta, SEED, CONTEXT, prefix)


if __name__ == "__main__":
    main()
