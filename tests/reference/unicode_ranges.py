#!/usr/bin/env python3
"""Writes engine/text/unicode_ranges.cc: the letters and numbers of Unicode 16.0.

Needs: pip install unicodedata2==16.0.0. Oniguruma in the Hugging Face `tokenizers` library (0.20 to 0.23) has the same
version: \\p{L}, \\p{N} and \\s were compared there for every code point, without a difference.
Usage: unicode_ranges.py > engine/text/unicode_ranges.cc
"""
import unicodedata2

VERSION = "16.0.0"
PER_LINE = 5

HEADER = f"""// Written by tests/reference/unicode_ranges.py from Unicode {VERSION}; do not edit.
#include "engine/text/unicode_ranges.h"

namespace megakernel {{
namespace {{
"""

FOOTER = """
}  // namespace

std::span<const CodePointRange> LetterRanges() { return kLetters; }
std::span<const CodePointRange> NumberRanges() { return kNumbers; }

}  // namespace megakernel"""


def ranges(category):
    found = []
    for code_point in range(0x110000):
        if unicodedata2.category(chr(code_point))[0] != category:
            continue
        if found and found[-1][1] == code_point - 1:
            found[-1][1] = code_point
        else:
            found.append([code_point, code_point])
    return found


def print_array(name, category):
    print(f"\nconstexpr CodePointRange {name}[] = {{")
    pairs = [f"{{0x{first:x}, 0x{last:x}}}," for first, last in ranges(category)]
    for i in range(0, len(pairs), PER_LINE):
        print("    " + " ".join(pairs[i : i + PER_LINE]))
    print("};")


assert unicodedata2.unidata_version == VERSION, unicodedata2.unidata_version
print(HEADER + "\n// clang-format off", end="")
print_array("kLetters", "L")
print_array("kNumbers", "N")
print("// clang-format on")
print(FOOTER)
