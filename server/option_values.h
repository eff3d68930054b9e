// Sizes in bytes as people write them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace megakernel {

// "1048576", "512KiB", "2MiB", "1.5GiB", "1TiB"; K, M, G and T alone mean the same. InvalidArgument otherwise.
absl::StatusOr<std::int64_t> ParseSize(std::string_view text);

// The shortest form that ParseSize reads back: "512MiB", "1000".
std::string FormatSize(std::int64_t bytes);

// For people, three digits: "96.6 MB", "1.19 GB".
std::string HumanBytes(std::int64_t bytes);

}  // namespace megakernel
