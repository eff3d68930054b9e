// What passes between the engine's thread and the executor's: commands one way, events the other.
#pragma once

#include <atomic>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/executor/executor.h"

namespace megakernel::cpu {

// Thread-safe.
class Mailbox {
 public:
  // --- The engine's side ---
  void Send(Command command);
  void Drain(std::vector<Event>& events);
  // Until events are there, Notify was called or the time is over.
  void WaitForEvents(absl::Duration timeout);
  void Notify();

  // --- The executor's side ---
  // Replaces `commands` by those that wait. Returns when there are some, or at once when not `wait`.
  void TakeCommands(bool wait, std::vector<Command>& commands);
  // Moves `events` out.
  void Publish(std::vector<Event>& events);

 private:
  bool HasCommands() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !commands_.empty(); }
  bool HasEvents() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !events_.empty() || notified_; }

  absl::Mutex mutex_;
  std::atomic<bool> commands_waiting_{false};
  std::vector<Command> commands_ ABSL_GUARDED_BY(mutex_);
  std::vector<Event> events_ ABSL_GUARDED_BY(mutex_);
  bool notified_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace megakernel::cpu
