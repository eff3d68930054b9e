// An executor that lies, breaks or hangs: the engine says so, ends every stream and refuses the rest.
#include <gtest/gtest.h>

#include "tests/engine/core/engine_fixture.h"

namespace megakernel::testing {
namespace {

class LyingExecutor : public ::testing::TestWithParam<FakeLie> {};

TEST_P(LyingExecutor, IsFoundOut) {
  EngineSetup setup;
  setup.fake.step_time = absl::Microseconds(100);
  Mutex mutex;
  absl::Status reported;
  setup.engine.on_failure = [&](const absl::Status& status) {
    MutexLock lock(&mutex);
    reported = status;
  };
  TestEngine engine(setup);
  auto other = engine.Read(TestEngine::Request(Range(50, 5), 400));
  ASSERT_TRUE(other->WaitTokens(0, 1));
  engine.fake().Lie(GetParam());
  auto reader = engine.Read(TestEngine::Request(Range(10, 5), 3));
  ASSERT_TRUE(reader->WaitDone() && other->WaitDone());
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

TEST(ExecutorFailureTest, AHungExecutorIsNoticedByItsHeartbeat) {
  EngineSetup setup;
  setup.fake_clock = true;
  setup.engine.stall_timeout = absl::Seconds(10);
  setup.fake.step_time = absl::Milliseconds(1);
  TestEngine engine(setup);
  auto reader = engine.Read(TestEngine::Request(Range(10, 5), 500));
  ASSERT_TRUE(reader->WaitTokens(0, 1));
  engine.fake().Stall(true);
  for (int i = 0; i < 12; ++i) {
    engine.Advance(absl::Seconds(2));
    (void)engine.List(1, "");  // one round of the engine thread
  }
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_EQ(ReasonOf(reader->finished().status), ErrorReason::kExecutorFailed);
}

}  // namespace
}  // namespace megakernel::testing
