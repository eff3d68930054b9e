// Logits of the resident kernel, for `verify`: the prompt is read in steps of up to 8 rows, then every position of
// interest runs once more as a step of one row over those keys and values, and leaves its logits in the workspace.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/cuda/cuda_device.h"
#include "engine/cuda/cuda_executor.h"
#include "engine/cuda/resident_executor.h"
#include "tests/bench/lane_driver.h"
#include "tests/bench/logit_source.h"

namespace megakernel::bench {
namespace {

// Logits are written for rows that are drawn; of the single likeliest token, so that nothing depends on chance.
SamplingParams WithLogits() {
  SamplingParams sampling;
  sampling.temperature = 1.0f;
  sampling.top_k = 1;
  return sampling;
}

class CudaSource : public LogitSource {
 public:
  CudaSource(const Model& model, const LogitSourceOptions& options) : model_(model), options_(options) {}

  absl::StatusOr<std::vector<float>> Rows(const std::vector<test::LogitSequence>& sequences) override {
    std::int32_t longest = 0;
    for (const auto& sequence : sequences) longest = std::max(longest, sequence.positions.back() + 2);
    MK_RETURN_IF_ERROR(Load(longest));
    std::vector<float> rows;
    for (const auto& sequence : sequences) MK_RETURN_IF_ERROR(Append(sequence, rows));
    return rows;
  }

 private:
  absl::Status Load(std::int32_t max_context) {
    CudaOptions options;
    options.max_context = max_context;
    options.max_lanes = 1;
    options.num_pages = layout::PagesFor(max_context, options.page_tokens);
    options.kv_layout = options_.kv_layout == 0 ? layout::KvLayout::kTokenMajor : layout::KvLayout::kHeadMajor;
    options.threads = options_.threads;
    options.park_after_us = 0;
    MK_ASSIGN_OR_RETURN(LoadedDevice loaded, LoadCudaDevice(model_, options));
    device_ = static_cast<CudaDevice*>(loaded.device.get());
    executor_ = NewResidentExecutor(loaded.program, loaded.name, std::move(loaded.device), ResidentOptions());
    return absl::OkStatus();
  }

  absl::Status Append(const test::LogitSequence& sequence, std::vector<float>& rows) {
    LaneDriver driver(*executor_, next_epoch_);
    const std::int32_t needed = sequence.positions.back() + 1;
    MK_ASSIGN_OR_RETURN(const std::vector<PageId> pages, driver.PagesOf(0, 1, needed + 1));
    const auto begin = sequence.tokens.begin();
    MK_RETURN_IF_ERROR(driver.Prefill({begin, begin + needed}, pages));
    const std::size_t vocab = static_cast<std::size_t>(executor_->info().vocab);
    for (const std::int32_t position : sequence.positions) {
      MK_RETURN_IF_ERROR(driver.Generate({{begin, begin + position + 1}}, {pages}, 1, WithLogits()).status());
      MK_RETURN_IF_ERROR(AwaitParked());
      rows.resize(rows.size() + vocab);
      MK_RETURN_IF_ERROR(device_->ReadLogits(0, rows.data() + rows.size() - vocab, vocab));
    }
    next_epoch_ = driver.next_epoch();
    return absl::OkStatus();
  }

  absl::Status AwaitParked() {
    MK_RETURN_IF_ERROR(executor_->Submit(Park{}));
    std::vector<Event> events;
    std::string error;
    while (device_->State(error) == host::KernelState::kRunning) {
      executor_->Drain(events);
      MK_RETURN_IF_ERROR(executor_->Health());
    }
    executor_->Drain(events);
    return executor_->Health();
  }

  const Model& model_;
  const LogitSourceOptions options_;
  std::unique_ptr<Executor> executor_;
  CudaDevice* device_ = nullptr;  // of executor_
  std::uint32_t next_epoch_ = 1;
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
