// The letters and numbers of Unicode, as sorted ranges. One version for every system, so that a text has the same
// tokens everywhere; see the generated source for the version.
#pragma once

#include <cstdint>
#include <span>

namespace megakernel {

struct CodePointRange {
  std::uint32_t first;
  std::uint32_t last;  // inclusive
};

std::span<const CodePointRange> LetterRanges();  // general category L
std::span<const CodePointRange> NumberRanges();  // general category N
std::span<const CodePointRange> WordRanges();    // what Rust's regex calls \w

}  // namespace megakernel
