// Lists of positions on a command line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace megakernel::bench {

// "0,6,63" or "0-255,256-4095:16": numbers, and ranges with an optional step. Ascending, without doubles.
// InvalidArgument when the text is something else or a position is not below `limit`.
absl::StatusOr<std::vector<std::int32_t>> ParsePositions(const std::string& text, std::int32_t limit);

}  // namespace megakernel::bench
