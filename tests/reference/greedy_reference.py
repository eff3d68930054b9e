#!/usr/bin/env python3
"""Greedy text of transformers (float32, CPU) on the dequantised weights of the test model.

Writes tests/engine/cpu/goldens/greedy.bin; the format is in the README beside it.
Usage: greedy_reference.py MODEL.gguf OUTPUT.bin
"""
import struct
import sys

import numpy as np
import torch

import smollm2

NEW_TOKENS = 128
FULL_LOGITS = [(0, 0), (7, 63), (19, 127)]  # (prompt, step)

CHAT = [
    "What is gravity?",
    "Write a short poem about the sea.",
    "Explain how photosynthesis works to a ten-year-old.",
    "List three uses of copper, with one sentence each.",
    "What is 17 + 25? Explain step by step.",
    "Translate to French: The weather is nice today.",
    "Why is the sky blue?",
    "Give me a recipe for pancakes.",
    "Who wrote Hamlet, and what is it about?",
    "Write a Python function that reverses a string.",
]
PLAIN = [
    "Once upon a time, in a village between two mountains,",
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "In 1969, the first humans",
    "Water boils at 100 degrees Celsius because",
    "SELECT name, age FROM users WHERE",
    "The three laws of motion are as follows. First,",
    "Dear Sir or Madam,\n\nI am writing to",
    "# Introduction\n\nMachine learning is",
    "A long time ago the oceans were full of creatures that no one has ever seen. Scientists know about them only "
    "from the shapes that they left in stone, and from those shapes they have learned how they moved, what they ate "
    "and how they died. The most famous of them is",
]


def main(model_path, output_path):
    reader = smollm2.open_gguf(model_path)
    tokenizer = smollm2.load_tokenizer(reader)
    template = smollm2.load_template(reader)
    prompts = [
        template.render(messages=[{"role": "user", "content": line}], add_generation_prompt=True) for line in CHAT
    ] + PLAIN
    model = smollm2.load_model(reader)
    torch.set_num_threads(2)
    vocab = model.config.vocab_size

    body = b""
    full = b""
    for index, prompt in enumerate(prompts):
        tokens = tokenizer.encode(prompt, add_special_tokens=False).ids
        body += struct.pack("<II", len(tokens), NEW_TOKENS) + np.array(tokens, dtype="<i4").tobytes()
        feed, cache = tokens, None
        with torch.no_grad():
            for step in range(NEW_TOKENS):
                out = model(torch.tensor([feed]), past_key_values=cache, use_cache=True)
                cache = out.past_key_values
                logits = out.logits[0, -1]
                values, ids = torch.topk(logits, 2)
                body += struct.pack("<iiff", int(ids[0]), int(ids[1]), float(values[0]), float(values[1]))
                if (index, step) in FULL_LOGITS:
                    full += struct.pack("<II", index, step) + logits.numpy().astype("<f4").tobytes()
                feed = [int(ids[0])]
        print(index, len(tokens), flush=True)

    with open(output_path, "wb") as file:
        file.write(b"MKGREEDY" + struct.pack("<IIII", 1, vocab, len(prompts), len(FULL_LOGITS)) + body + full)


if __name__ == "__main__":
    main(*sys.argv[1:])
