#!/usr/bin/env python3
"""Random blocks of every decoded tensor type and their values by PyPI `gguf`, for tests/engine/model.

Usage: dequantize_goldens.py > tests/engine/model/goldens/dequantize.json
"""
import json

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

BLOCKS = 6
# Halves of a block, and the byte where they stand.
SCALES = {"Q8_0": (1, 0), "Q4_0": (1, 0), "Q4_1": (2, 0), "Q5_0": (1, 0), "Q5_1": (2, 0), "IQ4_NL": (1, 0),
          "Q4_K": (2, 0), "Q5_K": (2, 0), "Q6_K": (1, 208)}

random = np.random.default_rng(3)
goldens = {}
for name in ("F32", "F16", "BF16", *SCALES):
    kind = GGMLQuantizationType[name]
    elements, size = GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (BLOCKS if elements > 1 else 64, size), dtype=np.uint8)
    if name in SCALES:
        count, at = SCALES[name]
        scales = random.normal(0, 0.1, (BLOCKS, count)).astype(np.float16)
        scales[1, 0] = np.float16(6e-8)  # subnormal
        scales[2, 0] = 0
        blocks[:, at : at + 2 * count] = scales.view(np.uint8).reshape(BLOCKS, -1)
    elif name == "F16":
        values = random.normal(0, 1, 64).astype(np.float16)
        values[:4] = [0, -0.0, 6e-8, 65504]
        blocks = values.view(np.uint8).reshape(64, 2)
    else:  # keep the exponent finite
        blocks[:, -1] &= 0xBF
    values = dequantize(blocks.reshape(1, -1), kind).astype(np.float32).reshape(-1)
    goldens[name] = {"bytes": blocks.tobytes().hex(), "float_bits": values.view(np.uint32).tolist()}
print(json.dumps(goldens))
