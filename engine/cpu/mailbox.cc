#include "engine/cpu/mailbox.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

namespace megakernel::cpu {
namespace {

// Longer waits end early: a caller that waits for more waits again. Keeps "forever" inside the clock's range.
constexpr absl::Duration kLongestWait = absl::Hours(1);

}  // namespace

void Mailbox::Send(Command command) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    commands_.push_back(std::move(command));
    commands_waiting_.store(true, std::memory_order_release);
  }
  commands_arrived_.notify_one();
}

void Mailbox::Drain(std::vector<Event>& events) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::move(events_.begin(), events_.end(), std::back_inserter(events));
  events_.clear();
}

void Mailbox::WaitForEvents(absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(mutex_);
  events_arrived_.wait_for(lock, absl::ToChronoMicroseconds(std::min(timeout, kLongestWait)),
                           [this] { return !events_.empty() || notified_; });
  notified_ = false;
}

void Mailbox::Notify() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    notified_ = true;
  }
  events_arrived_.notify_one();
}

void Mailbox::TakeCommands(bool wait, std::vector<Command>& commands) {
  commands.clear();
  // Between two steps there is mostly nothing: one load, no lock.
  if (!wait && !commands_waiting_.load(std::memory_order_acquire)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  if (wait) commands_arrived_.wait(lock, [this] { return !commands_.empty(); });
  commands.swap(commands_);
  commands_waiting_.store(false, std::memory_order_relaxed);
}

void Mailbox::Publish(std::vector<Event>& events) {
  if (events.empty()) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    std::move(events.begin(), events.end(), std::back_inserter(events_));
    events.clear();
  }
  events_arrived_.notify_one();
}

}  // namespace megakernel::cpu
