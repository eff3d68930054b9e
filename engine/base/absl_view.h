// std::string_view for Abseil's string functions.
#pragma once

#include <string_view>

#include "absl/strings/string_view.h"

namespace megakernel {

// The distributions build Abseil with a string_view of its own, which std::string_view does not convert to.
inline absl::string_view AbslView(std::string_view text) {
  return {text.data(), text.size()};
}

}  // namespace megakernel
