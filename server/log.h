// Logging to standard error, one line an event: time, level, event, key=value.
#pragma once

#include <string>

#include "server/request_record.h"

namespace megakernel {

// `level` is one of --log-level's choices. What gRPC itself has to say appears at debug level, its errors as warnings.
void StartLog(const std::string& level);

// One line of what is known of a call that has ended: ids, counts and times, nothing of what was said.
void LogRequest(const RequestRecord& record);

}  // namespace megakernel
