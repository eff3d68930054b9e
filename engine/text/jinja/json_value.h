// JSON to the values of a template.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/text/jinja/value.h"

namespace megakernel::jinja {

// Members keep their order, as in Python. InvalidArgument, without the name of the text, when it is not JSON, nests
// deeper or has more members than limits.h allows, repeats a key, or holds an integer beyond 64 bits.
absl::StatusOr<Value> ParseJson(std::string_view text);

}  // namespace megakernel::jinja
