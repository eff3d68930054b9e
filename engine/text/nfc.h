// Unicode's normalization form C, for tokenizers whose files ask for it.
#pragma once

#include <string>
#include <string_view>

namespace megakernel {

// Whether NormalizeNfc would return the text as it is, as far as one look at each character can tell: true is certain,
// false may be too careful.
bool IsSurelyNfc(std::string_view text);

// The text in form C as the Hugging Face tokenizers library computes it (nfc_tables.h). Bytes that are not UTF-8 stay
// what they are and combine with nothing. O(n log n) at worst (one long run of combining marks), linear otherwise.
// Source: Unicode Standard Annex 15, section 3.11 of the standard (D117: composition; Hangul: section 3.12).
std::string NormalizeNfc(std::string_view text);

}  // namespace megakernel
