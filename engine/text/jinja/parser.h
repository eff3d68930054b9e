// Tokens to a template that can be evaluated.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/text/jinja/ast.h"

namespace megakernel::jinja {

// Parses a whole template. Every filter, test, method, function and statement is looked up here, so that what is not
// supported is refused before anything is rendered. Errors: InvalidArgument "line N: ...".
absl::StatusOr<Body> Parse(std::string_view source);

}  // namespace megakernel::jinja
