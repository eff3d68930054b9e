// One small generation before the first client's: what a first step pays for once is paid for here.
#pragma once

#include "absl/status/status.h"
#include "engine/core/engine.h"

namespace megakernel {

// Reads one token and generates one. Waits for it; the engine's watchdog bounds the wait. Counted like a request.
absl::Status WarmUp(Engine& engine);

}  // namespace megakernel
