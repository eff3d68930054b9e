// What passes between the engine's thread and the executor's: commands one way, events the other.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/executor/executor.h"

namespace megakernel::cpu {

// Thread-safe. The standard library's mutex, because the thread sanitizer sees through it; it does not see through the
// distribution's Abseil.
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
  std::mutex mutex_;  // guards all but commands_waiting_
  std::condition_variable commands_arrived_;
  std::condition_variable events_arrived_;
  std::atomic<bool> commands_waiting_{false};
  std::vector<Command> commands_;
  std::vector<Event> events_;
  bool notified_ = false;
};

}  // namespace megakernel::cpu
