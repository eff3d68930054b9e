// How long tokens take from the executor to the network: from the moment the engine drained a token's event to the
// moment gRPC accepted the message that carries it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace megakernel {

// A histogram of counters, 16 to each power of two of nanoseconds: quantiles are exact to 6.25 %. Thread-safe,
// lock-free.
class WriteLatency {
 public:
  // `tokens` tokens took `latency`.
  void Record(absl::Duration latency, std::int64_t tokens);
  void Reset();

  std::int64_t count() const;
  // The latency that a fraction `q` of the tokens did not exceed, rounded up to a bucket's end; zero when there are
  // none.
  absl::Duration Quantile(double q) const;

 private:
  static constexpr int kSubBits = 4;
  static constexpr int kBuckets = (64 - kSubBits) << kSubBits;

  static int BucketOf(std::uint64_t ns);
  static std::uint64_t EndOf(int bucket);

  std::array<std::atomic<std::int64_t>, kBuckets> counts_{};
};

}  // namespace megakernel
