#include "engine/core/watchdog.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/core/progress_watch.h"
#include "engine/core/run_delay.h"

namespace megakernel {
namespace {

// Counted of the time between two looks: a look that comes late may find that nobody had the processor.
constexpr absl::Duration kLongestGap = absl::Milliseconds(200);
// A thread that waited for a processor for less than this of the time between two looks was not kept from its work:
// those that only wake up to look wait a little each time.
constexpr absl::Duration kStarved = absl::Milliseconds(50);

}  // namespace

Watchdog::Watchdog(const Executor* executor, const Clock* clock, absl::Duration limit,
                   std::function<void(const absl::Status&)> on_stall, std::function<void(const absl::Status&)> on_hang)
    : executor_(executor),
      clock_(clock),
      limit_(limit),
      on_stall_(std::move(on_stall)),
      on_hang_(std::move(on_hang)),
      thread_([this] { Watch(); }) {}

Watchdog::~Watchdog() {
  Stop();
}

void Watchdog::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

bool Watchdog::Sleep(absl::Duration duration) {
  MutexLock lock(&mutex_);
  const auto stopping = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_; };
  return mutex_.AwaitWithTimeout(stopping, duration);
}

void Watchdog::Watch() {
  ProgressWatch executor(kLongestGap);
  ProgressWatch engine(kLongestGap);
  RunDelay delay;
  std::uint64_t last = executor_->Heartbeat();
  while (!Sleep(kWatchInterval) && !answered_.load(std::memory_order_relaxed)) {
    const absl::Time now = clock_->Now();
    const bool busy = busy_.load(std::memory_order_relaxed);
    const std::uint64_t heartbeat = executor_->Heartbeat();
    absl::Duration starved;
    if (busy && heartbeat == last) {
      starved = delay.Look();
    } else {
      delay.Forget();
    }
    last = heartbeat;
    const absl::Duration age =
        executor.Look(now, heartbeat, busy, starved >= kStarved ? starved : absl::ZeroDuration());
    age_ns_.store(absl::ToInt64Nanoseconds(age), std::memory_order_relaxed);
    if (age >= limit_) {
      const absl::Status stall = absl::InternalError(
          absl::StrCat("the executor has not moved for ", absl::FormatDuration(age), " although it has work"));
      on_stall_(stall);
      return AwaitAnswer(stall);
    }
    const absl::Duration round = engine.Look(now, rounds_.load(std::memory_order_relaxed), true);
    if (round < kRoundLimit) continue;
    return on_hang_(
        absl::InternalError(absl::StrCat("the engine thread has not come round for ", absl::FormatDuration(round))));
  }
}

void Watchdog::AwaitAnswer(const absl::Status& stall) {
  for (absl::Duration waited; waited < kAnswerTime; waited += kAnswerTime / 10) {
    if (answered_.load(std::memory_order_relaxed) || Sleep(kAnswerTime / 10)) return;
  }
  if (!answered_.load(std::memory_order_relaxed)) on_hang_(stall);
}

}  // namespace megakernel
