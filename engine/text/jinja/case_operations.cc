#include "engine/text/jinja/case_operations.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace megakernel::jinja {

bool ChangeCase(Case wanted, std::string& text) {
  if (std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) return false;
  bool begins_word = true;
  for (char& c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool upper = wanted == Case::kUpper || (wanted != Case::kLower && begins_word);
    c = upper ? absl::ascii_toupper(byte) : absl::ascii_tolower(byte);
    begins_word = wanted == Case::kTitle && !absl::ascii_isalpha(byte);
  }
  return true;
}

}  // namespace megakernel::jinja
