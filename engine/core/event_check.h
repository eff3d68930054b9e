// Whether an event of the executor can be true. A broken executor is found out here and stops the engine, before a
// wrong token reaches anybody or a page is given to two.
#pragma once

#include "absl/status/status.h"
#include "engine/core/generation.h"
#include "engine/executor/executor.h"

namespace megakernel {

// `choice` is what runs in event.lane; null when nothing does, or there is no such lane. Internal (EXECUTOR_FAILED)
// with what was expected and what came. kStopped is not for here.
absl::Status CheckEvent(const Event& event, const Choice* choice, const ExecutorInfo& info);

}  // namespace megakernel
