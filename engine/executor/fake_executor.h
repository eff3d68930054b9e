// An executor without a model: tokens are a function of the tokens before them, steps take as long as told.
//
// For tests of everything above it: FakeMachine, which plans with the same kernels/layout/plan.h as the real ones, run
// by a thread of its own, or by the test itself.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "engine/executor/executor.h"
#include "engine/executor/fake_machine.h"

namespace megakernel {

// What the fake generates after `prompt`, worked out directly: the expected output of a test. Ends after the first stop
// token. Knows nothing of options.next_token.
std::vector<TokenId> FakeGenerate(const FakeOptions& options, std::vector<TokenId> prompt,
                                  const SamplingParams& sampling, int max_tokens);

class FakeExecutor final : public Executor {
 public:
  explicit FakeExecutor(FakeOptions options);
  ~FakeExecutor() override;

  const ExecutorInfo& info() const override;
  absl::Status Submit(Command command) override;
  void Drain(std::vector<Event>& events) override;
  void Wait(absl::Duration timeout) override;
  void Notify() override;
  std::uint64_t Heartbeat() const override;
  absl::Status Health() const override;

  // --- For tests; any thread ---

  // Runs one step (commands first). False when there was nothing to run. REQUIRES: manual.
  bool Step();
  // No step runs and the heartbeat rests until it is set to false.
  void Stall(bool stalled);
  // Calls that need the executor's lock wait too: a stall that takes the engine thread with it. Until it is set to
  // false, which must come before the executor is destroyed.
  void Hang(bool hung);
  // Health() becomes `status`; nothing runs any more.
  void Fail(absl::Status status);
  void Lie(FakeLie lie);
  // So far: steps, rows, and positions that rows looked back at.
  std::uint64_t num_steps() const;
  std::uint64_t num_rows() const;
  std::uint64_t num_checks() const;

 private:
  void Run();
  void ApplyCommands() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StepMachine() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool RunStep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool CanRun() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const FakeOptions options_;
  const ExecutorInfo info_;

  mutable Mutex mutex_;
  FakeMachine machine_ ABSL_GUARDED_BY(mutex_);
  std::vector<Command> commands_ ABSL_GUARDED_BY(mutex_);
  std::vector<Event> events_ ABSL_GUARDED_BY(mutex_);
  bool notified_ ABSL_GUARDED_BY(mutex_) = false;
  bool stalled_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> hung_{false};
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<std::uint64_t> heartbeat_{0};
  mutable std::atomic<std::uint64_t> manual_beats_{0};
  std::thread thread_;  // none when manual
};

}  // namespace megakernel
