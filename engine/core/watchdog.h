// Notices an executor that does not move, and an engine thread that does not come round.
//
// On a thread of its own: the engine thread may be the one that hangs, inside a call into the executor. The executor's
// heartbeat is progress inside a step, so a step may take as long as it likes. Time in which this process, or one of
// its threads that wanted to, could not run is not counted (progress_watch.h, run_delay.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/base/mutex.h"
#include "engine/executor/executor.h"

namespace megakernel {

// Between two looks; a stall is noticed this much after its limit.
inline constexpr absl::Duration kWatchInterval = absl::Milliseconds(100);

class Watchdog {
 public:
  // The engine thread's answer to a stall: what it must do within this time, else it counts as hung too.
  static constexpr absl::Duration kAnswerTime = absl::Milliseconds(250);
  // A round of the engine thread may take this long: a session of gigabytes is copied in one.
  static constexpr absl::Duration kRoundLimit = absl::Seconds(10);

  // `on_stall` is called once, on the watchdog's thread, after `limit` without a heartbeat while work was pending;
  // `on_hang`, once, when the engine thread has not called Answered() in time after it, or has not come round for
  // kRoundLimit. `executor` and `clock` outlive this.
  Watchdog(const Executor* executor, const Clock* clock, absl::Duration limit,
           std::function<void(const absl::Status&)> on_stall, std::function<void(const absl::Status&)> on_hang);
  ~Watchdog();  // Stop()
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // From the engine thread, each time it comes round. `busy`: the executor has something to do.
  void Round(bool busy) {
    busy_.store(busy, std::memory_order_relaxed);
    rounds_.store(rounds_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  // The engine thread has taken note of a failure, whoever found it: nothing is left to watch.
  void Answered() { answered_.store(true, std::memory_order_relaxed); }

  // For how long the heartbeat has stood still in spite of work, as of the last look. Any thread.
  absl::Duration heartbeat_age() const { return absl::Nanoseconds(age_ns_.load(std::memory_order_relaxed)); }

  // Looks no more. Not for the callbacks. Idempotent.
  void Stop();

 private:
  void Watch();
  // False until the time is over; true when Stop was called meanwhile.
  bool Sleep(absl::Duration duration);
  void AwaitAnswer(const absl::Status& stall);

  const Executor* const executor_;
  const Clock* const clock_;
  const absl::Duration limit_;
  const std::function<void(const absl::Status&)> on_stall_;
  const std::function<void(const absl::Status&)> on_hang_;

  std::atomic<std::uint64_t> rounds_{0};
  std::atomic<bool> busy_{false};
  std::atomic<bool> answered_{false};
  std::atomic<std::int64_t> age_ns_{0};

  Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace megakernel
