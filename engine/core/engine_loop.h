// The engine thread and what other threads share with it.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "engine/base/mutex.h"
#include "engine/core/engine.h"
#include "engine/core/engine_core.h"
#include "engine/core/inbox.h"
#include "engine/core/watchdog.h"

namespace megakernel {

// Thread-safe unless said otherwise.
class EngineLoop {
 public:
  // Starts the thread.
  EngineLoop(const EngineOptions& options, std::int32_t max_context, const Model* model,
             std::unique_ptr<Executor> executor, const Clock* clock);
  ~EngineLoop();  // Shutdown(0)

  absl::StatusOr<std::shared_ptr<TokenStream>> Generate(GenerateRequest request);
  // Runs `task` on the engine thread. DRAINING or QUEUE_FULL when it cannot.
  absl::Status Post(absl::AnyInvocable<void(EngineCore&)> task);

  void Drain() { draining_.store(true, std::memory_order_relaxed); }
  // The error that refuses what comes after Drain.
  static absl::Status DrainingError();
  bool draining() const { return draining_.load(std::memory_order_relaxed); }
  bool WaitIdle(absl::Duration timeout);
  void Shutdown(absl::Duration grace);

  absl::Status Health() const;
  EngineStats Stats() const;
  const EngineMetrics& metrics() const { return metrics_; }
  void Wake() { inbox_->Wake(); }
  const ExecutorInfo& info() const { return executor_->info(); }
  const Model& model() const { return *model_; }
  std::int32_t max_context() const { return max_context_; }

 private:
  absl::StatusOr<std::shared_ptr<TokenStream>> Accept(GenerateRequest request);
  void Run();
  void TakeMessages();
  void Park();
  void Stop();
  void PublishStats();
  // The watchdog's findings: for the engine thread to act on, or without it.
  void OnStall(const absl::Status& stall);
  void OnHang(const absl::Status& cause);
  // Engine thread: fails the core if the watchdog says so.
  void TakeStall();
  void ReportFailure(EngineFailure failure);

  const EngineOptions options_;
  const std::int32_t max_context_;
  const Model* const model_;
  const std::unique_ptr<Executor> executor_;
  const Clock* const clock_;
  const std::shared_ptr<Inbox> inbox_;

  std::atomic<std::uint64_t> next_id_{1};
  std::atomic<int> waiting_{0};  // generations in the bounded queue
  std::atomic<bool> draining_{false};
  std::atomic<bool> stop_{false};

  mutable Mutex mutex_;
  int active_ ABSL_GUARDED_BY(mutex_) = 0;  // generations that have not ended
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);
  absl::Status health_ ABSL_GUARDED_BY(mutex_);  // the first failure
  absl::Status stall_ ABSL_GUARDED_BY(mutex_);   // as the watchdog found it
  bool reported_ ABSL_GUARDED_BY(mutex_) = false;

  EngineMetrics metrics_;

  // Engine thread only.
  EngineCore core_;
  std::vector<Message> messages_;
  std::vector<std::uint64_t> cancels_;
  absl::Time idle_since_ = absl::InfiniteFuture();
  bool parked_ = false;

  Mutex join_mutex_;
  Watchdog watchdog_;
  std::thread thread_;  // last: everything above exists before it runs
};

}  // namespace megakernel
