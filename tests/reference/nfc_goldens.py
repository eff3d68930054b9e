#!/usr/bin/env python3
"""Hashes of form C of every character in front of, between and behind marks, by the Hugging Face tokenizers library.

Usage: nfc_goldens.py > tests/engine/text/goldens/nfc.json
"""
import json

from corpus import fnv
from tokenizers import normalizers

BLOCK = 0x1000
nfc = normalizers.NFC().normalize_str


def block_text(first):
    characters = [chr(c) for c in range(first, first + BLOCK) if not 0xD800 <= c < 0xE000]
    return "".join(f"a{c}\u0301\u0323{c}\u0327 \u1100{c}{c}\u11a8\u0f71{c}\u0338{c}\u0300 \u00c5\u0323{c}" for c in characters)


print(json.dumps([f"{fnv(nfc(block_text(first)).encode()):016x}" for first in range(0, 0x30000, BLOCK)]))
