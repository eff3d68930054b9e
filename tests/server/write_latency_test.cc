#include "server/write_latency.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace megakernel {
namespace {

TEST(WriteLatency, EmptyIsZero) {
  WriteLatency latency;
  EXPECT_EQ(latency.count(), 0);
  EXPECT_EQ(latency.Quantile(0.5), absl::ZeroDuration());
}

TEST(WriteLatency, QuantilesCountTokens) {
  WriteLatency latency;
  latency.Record(absl::Microseconds(10), 99);
  latency.Record(absl::Milliseconds(5), 1);
  EXPECT_EQ(latency.count(), 100);
  EXPECT_LT(latency.Quantile(0.99), absl::Microseconds(11));
  EXPECT_GE(latency.Quantile(0.99), absl::Microseconds(10));
  EXPECT_GE(latency.Quantile(1), absl::Milliseconds(5));
}

// A quantile is never below the value and at most 6.25 % above it.
TEST(WriteLatency, BucketsAreNarrow) {
  for (std::int64_t ns = 0; ns < (std::int64_t{1} << 59); ns += ns / 3 + 1) {
    WriteLatency latency;
    latency.Record(absl::Nanoseconds(ns), 1);
    const std::int64_t quantile = absl::ToInt64Nanoseconds(latency.Quantile(0.5));
    EXPECT_GE(quantile, ns);
    EXPECT_LE(quantile, ns + ns / 16 + 1) << ns;
  }
}

TEST(WriteLatency, ClocksThatGoBackCountAsZero) {
  WriteLatency latency;
  latency.Record(-absl::Seconds(1), 1);
  EXPECT_EQ(latency.Quantile(1), absl::ZeroDuration());
}

}  // namespace
}  // namespace megakernel
