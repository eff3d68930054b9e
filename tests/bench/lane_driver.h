// Drives an executor by hand, without an engine: prompts into pages once, then runs from them as often as wanted, with
// the time of every token.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/executor/executor.h"

namespace megakernel::bench {

// Seconds since the run's first submission at which the host saw each token, by lane.
struct LaneTimes {
  std::vector<std::vector<double>> seconds;
  std::vector<std::vector<TokenId>> tokens;
};

class LaneDriver {
 public:
  // `executor` outlives this object, which alone submits and drains.
  // Epochs start at `first_epoch`: an executor must not see one twice.
  explicit LaneDriver(Executor& executor, std::uint32_t first_epoch = 1)
      : executor_(executor), next_epoch_(first_epoch) {}
  std::uint32_t next_epoch() const { return next_epoch_; }

  // Pages of lane i: its share of the executor's. InvalidArgument when they do not hold `positions`.
  absl::StatusOr<std::vector<PageId>> PagesOf(std::int32_t lane, std::int32_t num_lanes, std::int32_t positions) const;

  // Writes keys and values of all but the last token.
  absl::Status Prefill(const std::vector<TokenId>& tokens, const std::vector<PageId>& pages);

  // Lane i goes on from prompts[i], whose keys are in pages[i] up to the last token, for `num_tokens` tokens.
  absl::StatusOr<LaneTimes> Generate(const std::vector<std::vector<TokenId>>& prompts,
                                     const std::vector<std::vector<PageId>>& pages, int num_tokens,
                                     const SamplingParams& sampling);

  // Seconds from submitting an admission that has nothing to run, and its cancellation, to its last event.
  absl::StatusOr<double> RoundTrip(PageId page);

 private:
  using Clock = std::chrono::steady_clock;
  Admit NewAdmit(std::int32_t lane, const std::vector<TokenId>& tokens, const std::vector<PageId>& pages);
  // Until `lanes` lanes have finished.
  absl::Status Collect(int lanes, Clock::time_point start, LaneTimes& times);

  Executor& executor_;
  std::uint32_t next_epoch_;
};

}  // namespace megakernel::bench
