#include "engine/cpu/mailbox.h"

#include <iterator>
#include <utility>

namespace megakernel::cpu {

void Mailbox::Send(Command command) {
  absl::MutexLock lock(&mutex_);
  commands_.push_back(std::move(command));
  commands_waiting_.store(true, std::memory_order_release);
}

void Mailbox::Drain(std::vector<Event>& events) {
  absl::MutexLock lock(&mutex_);
  std::move(events_.begin(), events_.end(), std::back_inserter(events));
  events_.clear();
}

void Mailbox::WaitForEvents(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(this, &Mailbox::HasEvents), timeout);
  notified_ = false;
}

void Mailbox::Notify() {
  absl::MutexLock lock(&mutex_);
  notified_ = true;
}

void Mailbox::TakeCommands(bool wait, std::vector<Command>& commands) {
  commands.clear();
  // Between two steps there is mostly nothing: one load, no lock.
  if (!wait && !commands_waiting_.load(std::memory_order_acquire)) return;
  absl::MutexLock lock(&mutex_);
  if (wait) mutex_.Await(absl::Condition(this, &Mailbox::HasCommands));
  commands.swap(commands_);
  commands_waiting_.store(false, std::memory_order_relaxed);
}

void Mailbox::Publish(std::vector<Event>& events) {
  if (events.empty()) return;
  absl::MutexLock lock(&mutex_);
  std::move(events.begin(), events.end(), std::back_inserter(events_));
  events.clear();
}

}  // namespace megakernel::cpu
