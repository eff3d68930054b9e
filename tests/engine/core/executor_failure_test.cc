// An executor that lies, breaks or hangs: the engine says so, ends every stream and refuses the rest.
#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "engine/core/progress_watch.h"
#include "engine/core/run_delay.h"
#include "tests/engine/core/engine_fixture.h"

namespace megakernel::testing {
namespace {

class LyingExecutor : public ::testing::TestWithParam<FakeLie> {};

TEST_P(LyingExecutor, IsFoundOut) {
  EngineSetup setup;
  setup.fake.step_time = absl::Microseconds(100);
  Mutex mutex;
  absl::Status reported;
  setup.engine.on_failure = [&](const EngineFailure& failure) {
    MutexLock lock(&mutex);
    reported = failure.status;
  };
  TestEngine engine(setup);
  auto other = engine.Read(TestEngine::Request(Range(50, 5), 400));
  ASSERT_TRUE(other->WaitTokens(0, 1));
  engine.fake().Lie(GetParam());
  // The lie may be told, and found out, in the other's events before this one is taken.
  auto stream = engine->Generate(TestEngine::Request(Range(10, 5), 3));
  if (stream.ok()) {
    ASSERT_TRUE(Reader(*std::move(stream)).WaitDone());
  } else {
    EXPECT_EQ(ReasonOf(stream.status()), ErrorReason::kExecutorFailed) << stream.status();
  }
  ASSERT_TRUE(other->WaitDone());
  EXPECT_EQ(ReasonOf(other->finished().status), ErrorReason::kExecutorFailed) << other->finished().status;
  EXPECT_EQ(other->tokens(), engine.Expected(Range(50, 5), static_cast<int>(other->tokens().size())));
  EXPECT_EQ(ReasonOf(engine->Health()), ErrorReason::kExecutorFailed);
  EXPECT_EQ(ReasonOf(engine->Generate(TestEngine::Request({5}, 1)).status()), ErrorReason::kExecutorFailed);
  EXPECT_EQ(ReasonOf(engine.Create().status()), ErrorReason::kExecutorFailed);
  MutexLock lock(&mutex);
  EXPECT_EQ(ReasonOf(reported), ErrorReason::kExecutorFailed);
}

INSTANTIATE_TEST_SUITE_P(Lies, LyingExecutor,
                         ::testing::Values(FakeLie::kWrongLane, FakeLie::kWrongEpoch, FakeLie::kWrongPosition,
                                           FakeLie::kTokenOutOfRange, FakeLie::kKvLengthTooLarge,
                                           FakeLie::kEventAfterFinish, FakeLie::kFinishTwice, FakeLie::kWrongCause));

TEST(ExecutorFailureTest, ABrokenExecutorEndsEveryStream) {
  EngineSetup setup;
  setup.fake.step_time = absl::Milliseconds(1);
  TestEngine engine(setup);
  auto reader = engine.Read(TestEngine::Request(Range(10, 5), 400));
  ASSERT_TRUE(reader->WaitTokens(0, 1));
  engine.fake().Fail(absl::InternalError("the device is gone"));
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_EQ(ReasonOf(reader->finished().status), ErrorReason::kExecutorFailed);
  EXPECT_NE(std::string(reader->finished().status.message()).find("the device is gone"), std::string::npos);
}

// What the engine reports, and when.
class Report {
 public:
  explicit Report(EngineSetup& setup) {
    setup.engine.on_failure = [this](const EngineFailure& failure) {
      MutexLock lock(&mutex_);
      failures_.push_back(failure);
    };
  }
  // The failure, waited for.
  EngineFailure Wait() {
    MutexLock lock(&mutex_);
    const auto any = [this] { return !failures_.empty(); };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(any, absl::Seconds(30)));
    return failures_.empty() ? EngineFailure() : failures_.front();
  }
  std::size_t count() {
    MutexLock lock(&mutex_);
    return failures_.size();
  }

 private:
  Mutex mutex_;
  std::vector<EngineFailure> failures_;
};

TEST(ExecutorFailureTest, AnExecutorThatStandsStillIsNoticedWithinTwoSeconds) {
  EngineSetup setup;
  setup.fake.step_time = absl::Milliseconds(1);
  Report report(setup);
  TestEngine engine(setup);
  auto reader = engine.Read(TestEngine::Request(Range(10, 5), 500));
  ASSERT_TRUE(reader->WaitTokens(0, 1));
  const absl::Time stalled = absl::Now();
  engine.fake().Stall(true);
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_LT(absl::Now() - stalled, absl::Seconds(2));
  EXPECT_EQ(ReasonOf(reader->finished().status), ErrorReason::kExecutorFailed);
  const EngineFailure failure = report.Wait();
  EXPECT_EQ(ReasonOf(failure.status), ErrorReason::kExecutorFailed);
  ASSERT_EQ(failure.state.size(), 2u);  // the engine, and the choice that ran
  EXPECT_NE(failure.state[1].find("state=running lane="), std::string::npos) << failure.state[1];
  EXPECT_EQ(ReasonOf(engine->Generate(TestEngine::Request({5}, 1)).status()), ErrorReason::kExecutorFailed);
  EXPECT_EQ(report.count(), 1u);
}

// A step that takes ten times as long as the limit; then a stall, which the same limit finds.
TEST(ExecutorFailureTest, ALongStepIsNoStall) {
  EngineSetup setup;
  setup.engine.stall_timeout = absl::Milliseconds(300);
  setup.fake.step_time = absl::Seconds(3);
  Report report(setup);
  TestEngine engine(setup);
  auto reader = engine.Read(TestEngine::Request(Range(10, 5), 1));
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_TRUE(reader->finished().status.ok()) << reader->finished().status;
  EXPECT_EQ(report.count(), 0u);
  auto second = engine.Read(TestEngine::Request(Range(20, 5), 1));
  engine.fake().Stall(true);
  ASSERT_TRUE(second->WaitDone());
  EXPECT_EQ(ReasonOf(second->finished().status), ErrorReason::kExecutorFailed);
}

// The executor takes the engine thread with it: no stream can be ended by the engine, but the report comes and new work
// is refused.
TEST(ExecutorFailureTest, AnExecutorThatHoldsTheEngineThreadIsReportedWithoutIt) {
  EngineSetup setup;
  setup.fake.step_time = absl::Milliseconds(1);
  Report report(setup);
  TestEngine engine(setup);
  auto reader = engine.Read(TestEngine::Request(Range(10, 5), 500));
  ASSERT_TRUE(reader->WaitTokens(0, 1));
  const absl::Time stalled = absl::Now();
  engine.fake().Hang(true);
  const EngineFailure failure = report.Wait();
  EXPECT_LT(absl::Now() - stalled, absl::Milliseconds(2300));
  EXPECT_EQ(ReasonOf(failure.status), ErrorReason::kExecutorFailed);
  EXPECT_NE(failure.state[0].find("thread=hangs"), std::string::npos) << failure.state[0];
  EXPECT_EQ(ReasonOf(engine->Generate(TestEngine::Request({5}, 1)).status()), ErrorReason::kExecutorFailed);
  engine.fake().Hang(false);
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_EQ(report.count(), 1u);
}

TEST(ExecutorFailureTest, AnIdleEngineIsNotWatched) {
  EngineSetup setup;
  setup.engine.stall_timeout = absl::Milliseconds(300);
  Report report(setup);
  TestEngine engine(setup);
  engine.fake().Stall(true);
  absl::SleepFor(absl::Seconds(1));  // what must not happen takes time to not happen
  EXPECT_TRUE(engine->Health().ok());
  EXPECT_EQ(report.count(), 0u);
  engine.fake().Stall(false);
}

// The progress of what is watched, told second by second.
class ProgressWatchTest : public ::testing::Test {
 protected:
  // How long it stood still, after looking every 100 ms for `duration`.
  absl::Duration LookFor(absl::Duration duration, bool busy = true) {
    absl::Duration still;
    for (absl::Duration at; at < duration; at += absl::Milliseconds(100)) {
      now_ += absl::Milliseconds(100);
      still = watch_.Look(now_, count_, busy);
    }
    return still;
  }

  ProgressWatch watch_{absl::Milliseconds(200)};
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
  std::uint64_t count_ = 7;
};

TEST_F(ProgressWatchTest, AStepOfTenSecondsThatMovesInsideIsNoStall) {
  for (int part = 0; part < 10; ++part) {
    EXPECT_LE(LookFor(absl::Seconds(1)), absl::Seconds(1));
    ++count_;
  }
}

TEST_F(ProgressWatchTest, StandingStillIsCounted) {
  LookFor(absl::Milliseconds(100));
  EXPECT_EQ(LookFor(absl::Milliseconds(1500)), absl::Milliseconds(1500));
  ++count_;
  EXPECT_EQ(LookFor(absl::Milliseconds(100)), absl::ZeroDuration());
}

TEST_F(ProgressWatchTest, TimeInWhichNobodyLookedIsNotCounted) {
  LookFor(absl::Milliseconds(600));
  now_ += absl::Hours(3);  // stopped, suspended, or the clock was set
  EXPECT_LE(LookFor(absl::Milliseconds(100)), absl::Milliseconds(800));
  now_ -= absl::Hours(5);
  EXPECT_LE(LookFor(absl::Milliseconds(100)), absl::Milliseconds(800));
}

TEST_F(ProgressWatchTest, TimeWithoutAProcessorIsNotCounted) {
  LookFor(absl::Milliseconds(100));
  absl::Duration still;
  for (int i = 0; i < 50; ++i) {
    now_ += absl::Milliseconds(100);
    still = watch_.Look(now_, count_, true, absl::Milliseconds(90));
  }
  EXPECT_EQ(still, absl::Milliseconds(500));
  now_ += absl::Milliseconds(100);
  EXPECT_EQ(watch_.Look(now_, count_, true, absl::Seconds(3)), still);
}

// Two threads that want the same processor: one of them waits.
TEST(RunDelayTest, SeesThreadsThatWaitForAProcessor) {
  if (!std::ifstream("/proc/self/schedstat").good()) GTEST_SKIP() << "the kernel does not count run delays";
  cpu_set_t usable, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof usable, &usable), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu) {
    if (CPU_ISSET(cpu, &usable)) CPU_SET(cpu, &one);
  }
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      sched_setaffinity(0, sizeof one, &one);
      while (!stop.load(std::memory_order_relaxed)) {
      }
    });
  }
  RunDelay delay;
  EXPECT_EQ(delay.Look(), absl::ZeroDuration());
  absl::SleepFor(absl::Milliseconds(500));
  EXPECT_GT(delay.Look(), absl::Milliseconds(100));
  delay.Forget();
  EXPECT_EQ(delay.Look(), absl::ZeroDuration());
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ProgressWatchTest, WithoutWorkNothingIsCounted) {
  EXPECT_EQ(LookFor(absl::Seconds(5), /*busy=*/false), absl::ZeroDuration());
  EXPECT_EQ(LookFor(absl::Milliseconds(100)), absl::ZeroDuration());  // it has just got some
}

}  // namespace
}  // namespace megakernel::testing
