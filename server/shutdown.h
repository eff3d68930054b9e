// The end of a server: signals, draining, and a limit to how long it may take.
#pragma once

#include "absl/time/time.h"
#include "engine/core/engine.h"
#include "server/server.h"

namespace megakernel {

// Blocks SIGINT, SIGTERM and the signal of NotifyFailure in this thread and those that it starts. Call first in main.
void BlockSignals();

// Ends RunUntilSignal as a failure. Any thread; once the executor has failed.
void NotifyFailure();

// Serves until a signal, then drains: new work is refused, what runs may go on for `drain_timeout`; a second signal
// ends it at once. Ends the process with status 1 if even that does not come to an end. False after NotifyFailure.
bool RunUntilSignal(Server& server, Engine& engine, absl::Duration drain_timeout);

}  // namespace megakernel
