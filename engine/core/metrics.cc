#include "engine/core/metrics.h"

#include <algorithm>
#include <numeric>

#include "engine/base/check.h"

namespace megakernel {
namespace {

// By 100 us up to 1 ms: what one token takes on a GPU.
constexpr double kTokenBounds[] = {0.0001, 0.0002, 0.0003, 0.0004, 0.0005, 0.0006, 0.0007, 0.0008, 0.0009,
                                   0.001,  0.0015, 0.002,  0.003,  0.005,  0.0075, 0.01,   0.02,   0.03,
                                   0.05,   0.1,    0.2,    0.5,    1,      2,      5,      10};
constexpr double kRequestBounds[] = {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5,
                                     1,      2,     5,     10,    20,   50,   100,  200, 500, 1000};

}  // namespace

std::uint64_t HistogramSnapshot::count() const {
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

DurationHistogram::DurationHistogram(std::span<const double> bounds) : bounds_(bounds) {
  MK_CHECK(bounds.size() <= kMaxBounds && std::is_sorted(bounds.begin(), bounds.end()));
}

void DurationHistogram::Add(absl::Duration duration) {
  const std::int64_t ns = std::max<std::int64_t>(0, absl::ToInt64Nanoseconds(duration));
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), static_cast<double>(ns) * 1e-9);
  counts_[static_cast<std::size_t>(bucket - bounds_.begin())].fetch_add(1, std::memory_order_relaxed);
  sum_ns_.fetch_add(ns, std::memory_order_relaxed);
}

HistogramSnapshot DurationHistogram::Snapshot() const {
  HistogramSnapshot snapshot;
  snapshot.bounds.assign(bounds_.begin(), bounds_.end());
  for (std::size_t i = 0; i <= bounds_.size(); ++i) {
    snapshot.counts.push_back(counts_[i].load(std::memory_order_relaxed));
  }
  snapshot.sum = static_cast<double>(sum_ns_.load(std::memory_order_relaxed)) * 1e-9;
  return snapshot;
}

EngineMetrics::EngineMetrics()
    : queue_time(kRequestBounds),
      time_to_first_token(kRequestBounds),
      inter_token_time(kTokenBounds),
      request_time(kRequestBounds) {}

}  // namespace megakernel
