// Tables of Unicode's form C (NFC), written by tests/reference/nfc_tables.py.
#pragma once

#include <cstdint>
#include <span>

namespace megakernel {

// `first` followed by `second` becomes `composite`. Hangul syllables are not listed: they follow from arithmetic.
struct Composition {
  std::uint32_t composite;
  std::uint32_t first;
  std::uint32_t second;
};

// Characters [first, last] combine with the one before them; canonical order sorts a run of them by class, 1 to 240.
struct CombiningRange {
  std::uint32_t first;
  std::uint32_t last;
  std::uint8_t combining_class;
};

std::span<const Composition> Compositions();
std::span<const CombiningRange> CombiningRanges();
// Characters that form C never holds: character, count, then the `count` characters that replace it; and so on.
std::span<const std::uint32_t> Replacements();

}  // namespace megakernel
