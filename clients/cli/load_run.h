// One run of a load: makes the calls and measures them.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "clients/cli/load_result.h"
#include "clients/cli/load_settings.h"
#include "clients/cpp/call_loop.h"

namespace megakernel::cli {

// What all runs of the program share.
struct LoadTarget {
  std::vector<std::unique_ptr<client::Client>> connections;  // calls take turns
  client::CallOptions call_options;
  std::int32_t vocab_size = 0;
  std::vector<std::int32_t> eos_token_ids;
  // Set from another thread: no further call begins.
  const std::atomic<bool>* stop = nullptr;
};

// Single use, single thread.
class LoadRun {
 public:
  // How far it is: the share that is done, and calls that run.
  using OnProgress = std::function<void(double share, std::int64_t running, const LoadResult& result)>;

  // `concurrency` callers, or, when `rate` is above 0, calls at random times. `settings` and `target` outlive it.
  LoadRun(const LoadSettings& settings, LoadTarget& target, std::int32_t concurrency, double rate);
  ~LoadRun();

  // Calls of a warm-up do not count: their result is empty. `on_progress` may be null.
  LoadResult Run(std::int64_t calls, double seconds, OnProgress on_progress);

 private:
  using Clock = client::CallLoop::Clock;
  struct Caller;
  struct Call;

  bool MayBegin(Clock::time_point due) const;
  void ScheduleArrival(Clock::time_point due);
  void ScheduleProgress();
  // The caller's next call, on a new session if it needs one; nothing if no further call may begin.
  void Next(const std::shared_ptr<Caller>& caller, Clock::time_point due);
  void Send(const std::shared_ptr<Caller>& caller, Clock::time_point due);
  void End(const std::shared_ptr<Caller>& caller, Call& call, const client::Error& error, Clock::time_point ended);
  void LeaveSession(const std::shared_ptr<Caller>& caller, std::function<void()> then);
  void Count(Call& call, const client::Error& error);
  void CountTimes(Call& call);
  v1::GenerateRequest MakeRequest(const Caller& caller);
  client::Client& NextConnection();

  const LoadSettings& settings_;
  LoadTarget& target_;
  const std::int32_t concurrency_;
  const double rate_;
  client::CallLoop loop_;
  std::mt19937_64 random_;
  std::vector<std::int32_t> prefix_;
  std::size_t next_connection_ = 0;

  std::int64_t calls_ = 0;  // to begin; 0: until deadline_
  Clock::time_point begin_, deadline_, last_end_;
  std::int64_t begun_ = 0;
  std::int64_t running_ = 0;
  bool arrivals_over_ = true;
  OnProgress on_progress_;
  LoadResult result_;
};

}  // namespace megakernel::cli
