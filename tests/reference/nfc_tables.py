#!/usr/bin/env python3
"""Writes engine/text/nfc_compositions.cc and nfc_replacements.cc: Unicode's form C as Hugging Face computes it.

Needs: pip install tokenizers==0.23.*. The library carries tables of its own (compositions as of Unicode 9 to 13, combining
classes of Unicode 9), so it is asked about every code point instead of taking a version of the Unicode database.
Usage: nfc_tables.py engine/text
"""
import sys
import unicodedata

from tokenizers import normalizers

PROBE_CLASS_1 = "\u0334"
FIRST_HANGUL, LAST_HANGUL = 0xAC00, 0xD7A3  # composed by arithmetic
nfd = normalizers.NFD().normalize_str
nfc = normalizers.NFC().normalize_str


def code_points():
    return (c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and not FIRST_HANGUL <= c <= LAST_HANGUL)


def combining_class(c):
    """0 unless the library moves the character over one of class 1."""
    python = unicodedata.combining(chr(c))
    if python <= 1:
        return python
    return python if nfd(chr(c) + PROBE_CLASS_1) != nfd(chr(c)) + PROBE_CLASS_1 else 0


def tables():
    compositions, replacements, classes = [], [], []
    for c in code_points():
        full = nfd(chr(c))
        if full != chr(c):
            if nfc(chr(c)) != chr(c):
                replacements.append((c, [ord(x) for x in full]))
                continue
            first = nfc(full[:-1])
            assert len(first) == 1, hex(c)
            compositions.append((c, ord(first), ord(full[-1])))
            continue
        value = combining_class(c)
        if value and classes and classes[-1][1] == c - 1 and classes[-1][2] == value:
            classes[-1][1] = c
        elif value:
            classes.append([c, c, value])
    return compositions, replacements, classes


def check(compositions):
    """No other pair composes, and no composite begins with something that composes backwards."""
    pairs = {(first, second): c for c, first, second in compositions}
    seconds = sorted({second for _, second in pairs})
    for first in sorted({first for first, _ in pairs} | {c for c, _, _ in compositions}):
        for second in seconds:
            composed = nfc(chr(first) + chr(second))
            if unicodedata.combining(chr(second)) and unicodedata.combining(nfd(chr(first))[-1]):
                continue  # may be reordered
            assert (len(composed) == 1) == ((first, second) in pairs), (hex(first), hex(second))
    assert not {nfd(chr(c))[0] for c, _, _ in compositions} & {chr(second) for second in seconds}


def write(path, body):
    with open(path, "w") as file:
        print("// Written by tests/reference/nfc_tables.py; do not edit.", file=file)
        print('#include "engine/text/nfc_tables.h"\n\nnamespace megakernel {\nnamespace {\n\n// clang-format off', file=file)
        print(body + "\n\n}  // namespace megakernel", file=file)


def array(kind, name, entries):
    lines, line = [], "   "
    for entry in entries:
        if len(line) + len(entry) + 1 > 120:
            lines.append(line)
            line = "   "
        line += " " + entry
    lines.append(line)
    return f"constexpr {kind} {name}[] = {{\n" + "\n".join(lines) + "\n};"


def main(folder):
    compositions, replacements, classes = tables()
    check(compositions)
    write(f"{folder}/nfc_compositions.cc",
          array("Composition", "kCompositions", [f"{{0x{a:x},0x{b:x},0x{c:x}}}," for a, b, c in compositions])
          + "\n\n" + array("CombiningRange", "kClasses", [f"{{0x{a:x},0x{b:x},{c}}}," for a, b, c in classes])
          + "\n// clang-format on\n\n}  // namespace\n\nstd::span<const Composition> Compositions() { return kCompositions; }\n"
          "std::span<const CombiningRange> CombiningRanges() { return kClasses; }")
    write(f"{folder}/nfc_replacements.cc",
          array("std::uint32_t", "kReplacements",
                [",".join([f"0x{c:x}", str(len(r))] + [f"0x{x:x}" for x in r]) + "," for c, r in replacements])
          + "\n// clang-format on\n\n}  // namespace\n\nstd::span<const std::uint32_t> Replacements() { return kReplacements; }")
    print(len(compositions), "compositions,", len(replacements), "replacements,", len(classes), "ranges of classes")


if __name__ == "__main__":
    main(sys.argv[1])
