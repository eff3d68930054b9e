// What the engine counts and times for its operators, beside EngineStats. An exporter gives it names.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/time/time.h"
#include "engine/core/error.h"
#include "engine/core/token_stream.h"

namespace megakernel {

struct HistogramSnapshot {
  std::vector<double> bounds;         // upper bounds in seconds, ascending; the last bucket has none
  std::vector<std::uint64_t> counts;  // bounds.size() + 1, each of its bucket alone
  double sum = 0;                     // seconds

  std::uint64_t count() const;
};

// Durations in buckets. Any thread may add and read; a snapshot taken meanwhile may miss the latest.
class DurationHistogram {
 public:
  static constexpr std::size_t kMaxBounds = 32;

  // Upper bounds in seconds, ascending, at most kMaxBounds; they outlive the histogram.
  explicit DurationHistogram(std::span<const double> bounds);

  // Negative durations (a clock that was set back) count as 0.
  void Add(absl::Duration duration);
  HistogramSnapshot Snapshot() const;

 private:
  const std::span<const double> bounds_;
  std::array<std::atomic<std::uint64_t>, kMaxBounds + 1> counts_ = {};
  std::atomic<std::int64_t> sum_ns_{0};
};

// One number for each enumerator. Thread-safe.
template <typename Enum, std::size_t kSize>
class EnumCounts {
 public:
  void Add(Enum value) { counts_[static_cast<std::size_t>(value)].fetch_add(1, std::memory_order_relaxed); }
  std::uint64_t operator[](Enum value) const {
    return counts_[static_cast<std::size_t>(value)].load(std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<std::uint64_t>, kSize> counts_ = {};
};

// Thread-safe; counts since the start.
class EngineMetrics {
 public:
  EngineMetrics();

  DurationHistogram queue_time;           // accepted -> first row runs; of generations that got there
  DurationHistogram time_to_first_token;  // accepted -> first token; of choices
  DurationHistogram inter_token_time;     // token -> next token of the choice; preemptions included
  DurationHistogram request_time;         // accepted -> last Finished; of accepted generations, however they end
  EnumCounts<FinishReason, kNumFinishReasons> finished;  // of choices
  EnumCounts<ErrorReason, kNumErrorReasons> errors;  // generations that were refused or ended with an error, by reason
};

}  // namespace megakernel
