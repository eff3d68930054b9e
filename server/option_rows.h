// The rows of the table of options that stand in a file of their own.
#pragma once

#include <cstdint>
#include <vector>

#include "server/options.h"

namespace megakernel {

// A bound of durations, which are in milliseconds.
inline constexpr std::int64_t kHourMs = 3600 * 1000;

// Listening, security, the fake device, the configuration file.
std::vector<Option> ServiceOptionRows();

}  // namespace megakernel
