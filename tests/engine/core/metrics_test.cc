// Histograms and counters, and that the engine adds to the right ones.
#include "engine/core/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/engine/core/engine_fixture.h"

namespace megakernel::testing {
namespace {

using ::testing::ElementsAre;

TEST(DurationHistogramTest, ABoundBelongsToItsBucket) {
  static constexpr double kBounds[] = {0.001, 0.002, 0.5};
  DurationHistogram histogram(kBounds);
  for (const double ms : {-5.0, 0.0, 1.0, 1.5, 2.0, 2.0001, 499.0, 501.0}) histogram.Add(absl::Milliseconds(ms));
  const HistogramSnapshot snapshot = histogram.Snapshot();
  EXPECT_THAT(snapshot.bounds, ElementsAre(0.001, 0.002, 0.5));
  EXPECT_THAT(snapshot.counts, ElementsAre(3u, 2u, 2u, 1u));
  EXPECT_EQ(snapshot.count(), 8u);
  EXPECT_NEAR(snapshot.sum, 1.0065001, 1e-9);
}

TEST(DurationHistogramTest, LosesNothingUnderConcurrentAdds) {
  static constexpr double kBounds[] = {0.001};
  DurationHistogram histogram(kBounds);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) histogram.Add(absl::Milliseconds(i % 2 * 2));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(histogram.Snapshot().counts, ElementsAre(2000u, 2000u));
}

TEST(EngineMetricsTest, BucketsOfATokenAre100Microseconds) {
  const HistogramSnapshot snapshot = EngineMetrics().inter_token_time.Snapshot();
  for (int i = 0; i < 10; ++i) EXPECT_DOUBLE_EQ(snapshot.bounds[i], 1e-4 * (i + 1));
}

TEST(EngineMetricsTest, AGenerationIsCountedOnceInEach) {
  TestEngine engine;
  ASSERT_TRUE(engine.Read(TestEngine::Request(Range(10, 11), 30))->WaitDone());
  GenerateRequest two = TestEngine::Request(Range(40, 11), 5);
  two.n = 2;
  two.sampling.temperature = 1;
  ASSERT_TRUE(engine.Read(two)->WaitDone());
  engine.Idle();
  const EngineMetrics& metrics = engine->metrics();
  EXPECT_EQ(metrics.queue_time.Snapshot().count(), 2u);
  EXPECT_EQ(metrics.request_time.Snapshot().count(), 2u);
  EXPECT_EQ(metrics.time_to_first_token.Snapshot().count(), 3u);
  EXPECT_EQ(metrics.inter_token_time.Snapshot().count(), 29u + 2 * 4u);
  EXPECT_EQ(metrics.finished[FinishReason::kLength], 3u);
  for (const FinishReason reason : {FinishReason::kStopToken, FinishReason::kStopString, FinishReason::kFailed}) {
    EXPECT_EQ(metrics.finished[reason], 0u);
  }
}

TEST(EngineMetricsTest, TimesAreThoseOfTheClock) {
  EngineSetup setup;
  setup.fake_clock = true;
  setup.fake.manual = true;
  TestEngine engine(setup);
  auto reader = engine.Read(TestEngine::Request(Range(10, 11), 2));
  engine.Advance(absl::Seconds(3));
  const auto run_rows = [&](std::uint64_t rows) {
    while (engine.fake().num_rows() < rows) {
      if (!engine.fake().Step()) absl::SleepFor(absl::Milliseconds(1));
    }
  };
  run_rows(11);
  ASSERT_TRUE(reader->WaitTokens(0, 1));
  engine.Advance(absl::Microseconds(250));
  run_rows(12);
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_NEAR(engine->metrics().time_to_first_token.Snapshot().sum, 3, 1e-9);
  const HistogramSnapshot between = engine->metrics().inter_token_time.Snapshot();
  EXPECT_NEAR(between.sum, 250e-6, 1e-9);
  EXPECT_EQ(between.counts[2], 1u);  // (200, 300] us
}

TEST(EngineMetricsTest, ErrorsByReason) {
  TestEngine engine;
  GenerateRequest bad = TestEngine::Request({1}, 5);
  bad.sampling.top_p = 7;
  EXPECT_FALSE(engine->Generate(bad).ok());
  ASSERT_TRUE(engine.Read(TestEngine::Request({1}, 5, "no such session"))->WaitDone());
  auto cancelled = engine.Read(TestEngine::Request({1}, 400));
  cancelled->stream().Cancel();
  ASSERT_TRUE(cancelled->WaitDone());
  engine.Idle();
  const EngineMetrics& metrics = engine->metrics();
  EXPECT_EQ(metrics.errors[ErrorReason::kSessionNotFound], 1u);
  EXPECT_EQ(metrics.errors[ErrorReason::kInvalidField] + metrics.errors[ErrorReason::kUnsupported], 1u);
  EXPECT_LE(metrics.errors[ErrorReason::kCancelled], 1u);  // it may have ended before
  EXPECT_EQ(metrics.errors[ErrorReason::kCancelled], metrics.finished[FinishReason::kCancelled]);
  EXPECT_EQ(metrics.errors[ErrorReason::kExecutorFailed], 0u);
}

}  // namespace
}  // namespace megakernel::testing
