// One row of the resident kernel at a time: its token and the logits that it came from.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/cuda/cuda_device.h"
#include "engine/executor/executor.h"
#include "engine/model/model.h"
#include "tests/bench/lane_driver.h"

namespace megakernel::bench {

// Not thread-safe. Pages and context are those of one sequence.
class GpuLogits {
 public:
  // Loads the model for sequences of up to `max_context` positions; kv_layout 0 token-major, 1 head-major.
  absl::Status Load(const Model& model, std::int32_t max_context, int kv_layout);

  // Writes keys and values of all tokens but the last, in steps of up to 8 rows.
  absl::Status Prefill(const std::vector<TokenId>& tokens);

  struct Row {
    TokenId token = 0;          // sampled at position tokens.size()
    std::vector<float> logits;  // of the last token's row
  };
  // Runs the last token of `tokens` as a step of one row over what Prefill wrote. `sampling` is not greedy: only rows
  // that are drawn leave logits.
  absl::StatusOr<Row> Last(const std::vector<TokenId>& tokens, const SamplingParams& sampling);

  // Both.
  absl::StatusOr<Row> Run(const std::vector<TokenId>& tokens, const SamplingParams& sampling);

 private:
  // Until the kernel has returned: its workspace may be read then.
  absl::Status AwaitParked();

  std::unique_ptr<Executor> executor_;
  CudaDevice* device_ = nullptr;  // of executor_
  std::unique_ptr<LaneDriver> driver_;
  std::vector<PageId> pages_;
};

}  // namespace megakernel::bench
