// The end of a server: signals, draining, and a limit to how long it may take.
#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/core/engine.h"
#include "server/loading.h"
#include "server/server.h"

namespace megakernel {

// Blocks SIGINT, SIGTERM and the signal of NotifyFailure in this thread and those that it starts. Call first in main.
void BlockSignals();

// Ends RunUntilSignal as a failure. Any thread; once the executor has failed.
void NotifyFailure();

// Waits until `loading` has a result, and returns it. A signal before that ends the process with status 0: nobody is
// served yet, and reading a model cannot be interrupted.
absl::Status AwaitLoaded(const Loading& loading, Server& server);

// Serves until a signal, then drains: new work is refused, what runs may go on for `drain_timeout`; a second signal
// ends it at once. Ends the process with status 1 if even that does not come to an end. False when the executor has
// failed.
bool RunUntilSignal(Server& server, Engine& engine, absl::Duration drain_timeout);

}  // namespace megakernel
