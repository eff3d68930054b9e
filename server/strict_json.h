// JSON files that people write: comments are allowed, a key that stands twice is not.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace megakernel {

// An object. InvalidArgument names `source` and where the text is wrong; it quotes the text only with `may_quote`: not
// when it holds secrets.
absl::StatusOr<nlohmann::json> ParseStrictJson(const std::string& text, const std::string& source, bool may_quote);

}  // namespace megakernel
