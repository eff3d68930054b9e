// Brings a server that listens into service: model, executor, one warm-up step; on a thread of its own.
#pragma once

#include <optional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "engine/base/clock.h"
#include "engine/base/mutex.h"
#include "server/options.h"
#include "server/server.h"
#include "server/startup.h"

namespace megakernel {

// Thread-safe.
class Loading {
 public:
  // Starts. Opens `server` when all is well; logs what it does. When the executor fails, then or later, the server is
  // NOT_SERVING, the engine's state is in the log, and NotifyFailure (shutdown.h) has been called. All outlive this.
  Loading(const ServerOptions& options, Server& server, Clock& clock, TenantQuotas* quotas = nullptr);
  // Waits until the thread has ended: it cannot be interrupted.
  ~Loading();
  Loading(const Loading&) = delete;
  Loading& operator=(const Loading&) = delete;

  // Empty while it loads; OK once the server serves.
  std::optional<absl::Status> result() const;
  // REQUIRES: result() is OK.
  Engine& engine() { return *stack_->engine; }

 private:
  void Run(const ServerOptions& options, Server& server, Clock& clock, TenantQuotas* quotas);
  absl::Status Load(const ServerOptions& options, Server& server, Clock& clock, TenantQuotas* quotas);

  std::optional<ServingStack> stack_;  // the thread's until there is a result
  mutable Mutex mutex_;
  std::optional<absl::Status> result_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace megakernel
