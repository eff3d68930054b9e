// The streaming calls that are open: so that a drain can end the idle ones and wait for the rest.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"

namespace megakernel {

class LiveCall {
 public:
  virtual ~LiveCall() = default;
  // The server drains: end now if nothing runs, else when it has ended. At most once; on the draining thread.
  virtual void OnDrain() = 0;
  // The executor has failed and the engine does not end the call: end now with `status`. Any thread.
  virtual void OnFailure(const absl::Status& status) = 0;
  // Some time has passed: end if the client does not read. On the ticking thread.
  virtual void OnTick() = 0;
};

// The end of a call whose client has taken nothing for `limit`.
absl::Status NotReadError(absl::Duration limit);

// Thread-safe.
class LiveCalls {
 public:
  // Calls OnDrain, on this thread, if the drain has begun.
  void Add(const std::shared_ptr<LiveCall>& call);
  void Remove(const LiveCall* call);

  void Drain();
  // OnFailure of every call.
  void Fail(const absl::Status& status);
  // OnTick of every call.
  void Tick();
  // False when `timeout` passes before the last call is removed.
  bool WaitEmpty(absl::Duration timeout);
  std::size_t size() const;

 private:
  std::vector<std::shared_ptr<LiveCall>> All() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  std::unordered_map<const LiveCall*, std::weak_ptr<LiveCall>> calls_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace megakernel
