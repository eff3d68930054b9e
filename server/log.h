// Logging to standard error, one line an event: time, level, event, key=value.
#pragma once

#include <string>

namespace megakernel {

// `level` is one of --log-level's choices. What gRPC itself has to say appears at debug level, its errors as warnings.
void StartLog(const std::string& level);

}  // namespace megakernel
