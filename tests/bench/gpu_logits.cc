#include "tests/bench/gpu_logits.h"

#include <algorithm>
#include <string>
#include <thread>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/cuda/cuda_executor.h"
#include "engine/cuda/resident_executor.h"

namespace megakernel::bench {

absl::Status GpuLogits::Load(const Model& model, std::int32_t max_context, int kv_layout) {
  CudaOptions options;
  options.max_context = max_context;
  options.max_lanes = 1;
  options.num_pages = layout::PagesFor(max_context, options.page_tokens);
  options.kv_layout = kv_layout == 0 ? layout::KvLayout::kTokenMajor : layout::KvLayout::kHeadMajor;
  options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  options.park_after_us = 0;
  MK_ASSIGN_OR_RETURN(LoadedDevice loaded, LoadCudaDevice(model, options));
  device_ = static_cast<CudaDevice*>(loaded.device.get());
  executor_ = NewResidentExecutor(loaded.program, loaded.name, std::move(loaded.device), ResidentOptions());
  driver_ = std::make_unique<LaneDriver>(*executor_);
  MK_ASSIGN_OR_RETURN(pages_, driver_->PagesOf(0, 1, max_context));
  return absl::OkStatus();
}

absl::Status GpuLogits::Prefill(const std::vector<TokenId>& tokens) {
  return driver_->Prefill(tokens, pages_);
}

absl::StatusOr<GpuLogits::Row> GpuLogits::Last(const std::vector<TokenId>& tokens, const SamplingParams& sampling) {
  MK_ASSIGN_OR_RETURN(const LaneTimes times, driver_->Generate({tokens}, {pages_}, 1, sampling));
  MK_RETURN_IF_ERROR(AwaitParked());
  Row row;
  row.token = times.tokens[0].back();
  row.logits.resize(static_cast<std::size_t>(executor_->info().vocab));
  MK_RETURN_IF_ERROR(device_->ReadLogits(0, row.logits.data(), row.logits.size()));
  return row;
}

absl::StatusOr<GpuLogits::Row> GpuLogits::Run(const std::vector<TokenId>& tokens, const SamplingParams& sampling) {
  MK_RETURN_IF_ERROR(Prefill(tokens));
  return Last(tokens, sampling);
}

absl::Status GpuLogits::AwaitParked() {
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

}  // namespace megakernel::bench
