// Logits of the resident kernel, for `verify`: the prompt is read in steps of up to 8 rows, then every position of
// interest runs once more as a step of one row over those keys and values.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "tests/bench/gpu_logits.h"
#include "tests/bench/logit_source.h"

namespace megakernel::bench {
namespace {

class CudaSource : public LogitSource {
 public:
  CudaSource(const Model& model, const LogitSourceOptions& options) : model_(model), options_(options) {}

  absl::StatusOr<std::vector<float>> Rows(const std::vector<test::LogitSequence>& sequences) override {
    std::int32_t longest = 0;
    for (const auto& sequence : sequences) longest = std::max(longest, sequence.positions.back() + 2);
    GpuLogits gpu;
    MK_RETURN_IF_ERROR(gpu.Load(model_, longest, options_.kv_layout));
    std::vector<float> rows;
    for (const auto& sequence : sequences) MK_RETURN_IF_ERROR(Append(gpu, sequence, rows));
    return rows;
  }

 private:
  static absl::Status Append(GpuLogits& gpu, const test::LogitSequence& sequence, std::vector<float>& rows) {
    SamplingParams likeliest;  // drawn, so that logits are written, from one token
    likeliest.temperature = 1.0f;
    likeliest.top_k = 1;
    const auto begin = sequence.tokens.begin();
    MK_RETURN_IF_ERROR(gpu.Prefill({begin, begin + sequence.positions.back() + 1}));
    for (const std::int32_t position : sequence.positions) {
      MK_ASSIGN_OR_RETURN(const GpuLogits::Row row, gpu.Last({begin, begin + position + 1}, likeliest));
      rows.insert(rows.end(), row.logits.begin(), row.logits.end());
    }
    return absl::OkStatus();
  }

  const Model& model_;
  const LogitSourceOptions options_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LogitSource>> MakeCudaSource(const Model& model, const LogitSourceOptions& options) {
  if (options.precision != "default") {
    return absl::InvalidArgumentError(
        absl::StrCat("--precision is \"", options.precision, "\"; the GPU has \"default\""));
  }
  if (options.float_angles) return absl::InvalidArgumentError("--float-angles: the GPU's RoPE angles are exact");
  return std::make_unique<CudaSource>(model, options);
}

}  // namespace megakernel::bench
