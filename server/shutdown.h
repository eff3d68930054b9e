// The end of a server: signals, draining, and a limit to how long it may take.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/core/engine.h"
#include "server/loading.h"
#include "server/server.h"

namespace megakernel {

// Blocks SIGINT, SIGTERM, SIGHUP and the signal of NotifyFailure in this thread and those that it starts. Call first in
// main.
void BlockSignals();

// Ends RunUntilSignal as a failure. Any thread; once the executor has failed.
void NotifyFailure();

// Waits until `loading` has a result, and returns it. A signal before that ends the process with status 0: nobody is
// served yet, and reading a model cannot be interrupted.
absl::Status AwaitLoaded(const Loading& loading, Server& server);

struct EndOptions {
  absl::Duration drain_delay;            // NOT_SERVING, and calls still come in
  absl::Duration drain_timeout;          // then: what runs may go on
  std::function<void()> reload = [] {};  // on SIGHUP
};

// Serves until SIGINT or SIGTERM, then ends in order: delay, drain, what is left ends with DRAINING; a second signal
// ends it at once. Ends the process with status 1 if even that does not come to an end. False when the executor has
// failed.
bool RunUntilSignal(Server& server, Engine& engine, const EndOptions& options);

}  // namespace megakernel
