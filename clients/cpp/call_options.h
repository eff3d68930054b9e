// How long a call may take, and how to stop it from outside.
#pragma once

#include <set>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace grpc {
class ClientContext;
}

namespace megakernel::client {

class CallScope;

// Stops calls from another thread. May be given to several calls; must outlive them. Thread-safe.
class CancelToken {
 public:
  CancelToken() = default;
  CancelToken(const CancelToken&) = delete;
  CancelToken& operator=(const CancelToken&) = delete;

  // Ends the calls that run with this token with CANCELLED, and those that start later at once. Does not block. Not for
  // signal handlers: it takes a lock.
  void Cancel();
  bool cancelled() const;

 private:
  friend class CallScope;
  void Attach(grpc::ClientContext* context);
  void Detach(grpc::ClientContext* context);

  mutable absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<grpc::ClientContext*> contexts_ ABSL_GUARDED_BY(mutex_);
};

// Of one call. Plain data.
struct CallOptions {
  // The call ends with DEADLINE_EXCEEDED after this time. Default: never.
  absl::Duration timeout = absl::InfiniteDuration();
  // Stops the call. Not owned. Default: nothing does.
  CancelToken* cancel = nullptr;
};

}  // namespace megakernel::client
