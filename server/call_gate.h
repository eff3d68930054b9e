// Whether calls may come in yet. A server listens before its model is loaded.
#pragma once

#include <atomic>

#include "absl/status/status.h"
#include "engine/core/error.h"
#include "server/call_context.h"

namespace megakernel {

// Thread-safe.
class CallGate {
 public:
  // What all calls share; null before Open: then Refusal() is the answer to every call.
  CallContext* calls() const { return calls_.load(std::memory_order_acquire); }

  // `calls` outlives every call.
  void Open(CallContext& calls) { calls_.store(&calls, std::memory_order_release); }

  static absl::Status Refusal() {
    return MakeError(absl::StatusCode::kUnavailable, ErrorReason::kStarting, "the model is being loaded");
  }

 private:
  std::atomic<CallContext*> calls_{nullptr};
};

}  // namespace megakernel
