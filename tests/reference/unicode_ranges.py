#!/usr/bin/env python3
"""Writes engine/text/unicode_ranges.cc: the letters, numbers and word characters of Unicode 16.0.

Needs: pip install unicodedata2==16.0.0. Oniguruma in the Hugging Face `tokenizers` library (0.20 to 0.23) has the same
version: \\p{L}, \\p{N} and \\s were compared there for every code point, without a difference.
Usage: unicode_ranges.py > engine/text/unicode_ranges.cc
"""
import unicodedata2

VERSION = "16.0.0"
PER_LINE = 6

# Characters of category So that are Alphabetic: letters in circles and squares.
OTHER_ALPHABETIC = [(0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189)]
JOIN_CONTROL = (0x200C, 0x200D)

HEADER = f"""// Written by tests/reference/unicode_ranges.py from Unicode {VERSION}; do not edit.
#include "engine/text/unicode_ranges.h"

namespace megakernel {{
namespace {{
"""

FOOTER = """
}  // namespace

std::span<const CodePointRange> LetterRanges() { return kLetters; }
std::span<const CodePointRange> NumberRanges() { return kNumbers; }
std::span<const CodePointRange> WordRanges() { return kWords; }

}  // namespace megakernel"""


def is_word(code_point):
    """\\w of Rust's regex: Alphabetic, marks, decimal digits, connecting punctuation, joiners."""
    category = unicodedata2.category(chr(code_point))
    return (category[0] in "LM" or category in ("Nd", "Nl", "Pc") or code_point in JOIN_CONTROL
            or any(first <= code_point <= last for first, last in OTHER_ALPHABETIC))


def ranges(belongs):
    found = []
    for code_point in range(0x110000):
        if not belongs(code_point):
            continue
        if found and found[-1][1] == code_point - 1:
            found[-1][1] = code_point
        else:
            found.append([code_point, code_point])
    return found


def print_array(name, belongs):
    print(f"\nconstexpr CodePointRange {name}[] = {{")
    pairs = [f"{{0x{first:x}, 0x{last:x}}}," for first, last in ranges(belongs)]
    for i in range(0, len(pairs), PER_LINE):
        print("    " + " ".join(pairs[i : i + PER_LINE]))
    print("};")


assert unicodedata2.unidata_version == VERSION, unicodedata2.unidata_version
print(HEADER + "\n// clang-format off", end="")
print_array("kLetters", lambda c: unicodedata2.category(chr(c))[0] == "L")
print_array("kNumbers", lambda c: unicodedata2.category(chr(c))[0] == "N")
print_array("kWords", is_word)
print("// clang-format on")
print(FOOTER)
