// What happens when the kernel stops, hangs, dies or does not start: the documented state, within 2 seconds.
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "kernels/host/watchdog.h"
#include "tests/engine/cuda/resident_fixture.h"

namespace megakernel::test {
namespace {

constexpr absl::Duration kLimit = absl::Seconds(2);

struct Failure {
  SimulatedFault fault;
  const char* message;
};

class ResidentFailureTest : public ::testing::TestWithParam<Failure> {};

TEST_P(ResidentFailureTest, EndsEverySequenceAndSaysWhy) {
  ResidentRig rig;
  Executor& executor = rig.runner.executor();
  const std::uint32_t first = rig.runner.Start(Prompt(5, 4000));
  const std::uint32_t second = rig.runner.Start(Prompt(50, 4000));
  rig.runner.UntilTokens(first, 20);
  rig.device->Inject(GetParam().fault);
  const absl::Time injected = absl::Now();
  const Outcome& outcome = rig.runner.Finish(first);
  EXPECT_LT(absl::Now() - injected, kLimit);
  EXPECT_EQ(outcome.cause, FinishCause::kFailed);
  EXPECT_EQ(rig.runner.Finish(second).cause, FinishCause::kFailed);
  EXPECT_TRUE(absl::StrContains(executor.Health().message(), GetParam().message)) << executor.Health();
  EXPECT_EQ(executor.Submit(Park{}).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(executor.Submit(Stop{}).code(), absl::StatusCode::kUnavailable);
}

INSTANTIATE_TEST_SUITE_P(
    All, ResidentFailureTest,
    ::testing::Values(Failure{SimulatedFault::kLostToken, "kernel fault 4: the scheduler got no results of step"},
                      Failure{SimulatedFault::kFrozen, "the kernel has not moved for 15"},
                      Failure{SimulatedFault::kTrap, "kernel fault 1: sums of the residual did not become complete"}));

TEST(ResidentExecutorStopTest, ARefusedLaunchIsTold) {
  ResidentRig rig;
  rig.device->Inject(SimulatedFault::kRefuseLaunch);
  const absl::Status status = rig.runner.executor().Submit(SetPolicy{});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(status.message(), "the launch was refused")) << status;
  EXPECT_FALSE(rig.runner.executor().Health().ok());
}

TEST(ResidentExecutorStopTest, StopDuringAStepEndsEveryLaneAndTheKernel) {
  SimulatedOptions options = SmallDevice();
  options.step_time = std::chrono::milliseconds(100);
  ResidentRig rig(options);
  const std::uint32_t first = rig.runner.Start(Prompt(5, 100));
  const std::uint32_t second = rig.runner.Start(Prompt(5, 100));
  rig.runner.UntilTokens(first, 1);
  ASSERT_TRUE(rig.runner.executor().Submit(Stop{}).ok());
  const absl::Time sent = absl::Now();
  while (!rig.runner.stopped() && absl::Now() - sent < kLimit) rig.runner.Pump();
  EXPECT_TRUE(rig.runner.stopped());
  EXPECT_LT(absl::Now() - sent, kLimit);
  EXPECT_TRUE(rig.Returned());
  EXPECT_EQ(rig.runner.outcome(first).cause, FinishCause::kCancelled);
  EXPECT_EQ(rig.runner.outcome(second).cause, FinishCause::kCancelled);
  EXPECT_EQ(rig.runner.executor().Submit(Park{}).code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(rig.runner.executor().Health().ok());
}

TEST(ResidentExecutorStopTest, StopOfAKernelThatNeverRan) {
  ResidentRig rig;
  ASSERT_TRUE(rig.runner.executor().Submit(Stop{}).ok());
  rig.runner.Pump();
  EXPECT_TRUE(rig.runner.stopped());
}

TEST(ResidentExecutorStopTest, StopOfAParkedKernel) {
  ResidentRig rig;
  rig.runner.Run(Prompt(3, 3));
  ASSERT_TRUE(rig.runner.executor().Submit(Park{}).ok());
  const absl::Time parked = absl::Now();
  while (!rig.Returned() && absl::Now() - parked < kLimit) rig.runner.Pump();
  ASSERT_TRUE(rig.runner.executor().Submit(Stop{}).ok());
  while (!rig.runner.stopped() && absl::Now() - parked < 2 * kLimit) rig.runner.Pump();
  EXPECT_TRUE(rig.runner.stopped());
}

TEST(ResidentExecutorStopTest, DestructionEndsARunningKernel) {
  const absl::Time start = absl::Now();
  {
    ResidentRig rig;
    rig.runner.UntilTokens(rig.runner.Start(Prompt(5, 4000)), 3);
  }
  EXPECT_LT(absl::Now() - start, kLimit);
}

TEST(ResidentExecutorStopTest, DestructionDoesNotWaitForAFrozenKernel) {
  const absl::Time start = absl::Now();
  {
    ResidentRig rig;
    rig.runner.UntilTokens(rig.runner.Start(Prompt(5, 4000)), 3);
    rig.device->Inject(SimulatedFault::kFrozen);
  }
  EXPECT_LT(absl::Now() - start, absl::Seconds(3));
}

host::HeartSample Sample(std::int64_t now_ms, std::uint64_t heartbeat, bool running = true) {
  return {.running = running, .now_ms = now_ms, .heartbeat = heartbeat, .steps = 7};
}

TEST(WatchdogTest, ARestingHeartIsToldOnlyWhileAKernelRuns) {
  host::Watchdog watchdog;
  EXPECT_EQ(watchdog.Look(Sample(0, 5)), "");
  EXPECT_EQ(watchdog.Look(Sample(1499, 5)), "");
  EXPECT_EQ(watchdog.Look(Sample(1500, 6)), "");
  EXPECT_EQ(watchdog.Look(Sample(2999, 6)), "");
  EXPECT_EQ(watchdog.Look(Sample(3000, 6)), "the kernel has not moved for 1500 ms, after 7 steps");
  EXPECT_EQ(watchdog.Look(Sample(3001, 6, false)), "");
  EXPECT_EQ(watchdog.Look(Sample(9000, 6)), "");  // launched again: a new beginning
  EXPECT_EQ(watchdog.Look(Sample(10500, 6)), "the kernel has not moved for 1500 ms, after 7 steps");
}

TEST(WatchdogTest, AFaultIsDescribed) {
  host::HeartSample sample = Sample(0, 1);
  sample.fault = std::uint64_t{2} << 32 | 131u << 16 | 9u;
  sample.fault_detail = 12345;
  EXPECT_EQ(host::Watchdog().Look(sample), "kernel fault 2: a packet did not come, of epoch 12345 (block 131, warp 9)");
}

}  // namespace
}  // namespace megakernel::test
