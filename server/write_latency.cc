#include "server/write_latency.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace megakernel {

// Values below 16 have a bucket each; above, the bucket is the power of two and the next four bits.
int WriteLatency::BucketOf(std::uint64_t ns) {
  constexpr std::uint64_t kSubs = 1u << kSubBits;
  if (ns < kSubs) return static_cast<int>(ns);
  const int shift = std::bit_width(ns) - 1 - kSubBits;
  const int bucket = ((shift + 1) << kSubBits) + static_cast<int>((ns >> shift) - kSubs);
  return std::min(bucket, kBuckets - 1);
}

std::uint64_t WriteLatency::EndOf(int bucket) {
  constexpr int kSubs = 1 << kSubBits;
  if (bucket < kSubs) return static_cast<std::uint64_t>(bucket);
  const int shift = (bucket >> kSubBits) - 1;
  const std::uint64_t start = static_cast<std::uint64_t>(kSubs + (bucket & (kSubs - 1))) << shift;
  return start + (std::uint64_t{1} << shift) - 1;
}

void WriteLatency::Record(absl::Duration latency, std::int64_t tokens) {
  const std::int64_t ns = std::max<std::int64_t>(0, absl::ToInt64Nanoseconds(latency));
  counts_[static_cast<std::size_t>(BucketOf(static_cast<std::uint64_t>(ns)))].fetch_add(tokens,
                                                                                        std::memory_order_relaxed);
}

void WriteLatency::Reset() {
  for (auto& count : counts_) count.store(0, std::memory_order_relaxed);
}

std::int64_t WriteLatency::count() const {
  std::int64_t total = 0;
  for (const auto& count : counts_) total += count.load(std::memory_order_relaxed);
  return total;
}

absl::Duration WriteLatency::Quantile(double q) const {
  const std::int64_t total = count();
  if (total == 0) return absl::ZeroDuration();
  const std::int64_t rank =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(q * static_cast<double>(total))));
  std::int64_t seen = 0;
  for (int bucket = 0; bucket < kBuckets; ++bucket) {
    seen += counts_[static_cast<std::size_t>(bucket)].load(std::memory_order_relaxed);
    if (seen >= rank) return absl::Nanoseconds(EndOf(bucket));
  }
  return absl::Nanoseconds(EndOf(kBuckets - 1));
}

}  // namespace megakernel
