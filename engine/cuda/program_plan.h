// From a model, a device and options to the program that runs: grid, context, pages. Pure; no CUDA.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "engine/cuda/device_check.h"
#include "engine/model/model.h"
#include "kernels/layout/program.h"
#include "kernels/reference/model_view.h"

namespace megakernel {

struct CudaOptions {
  int device = 0;
  std::int32_t persistent_blocks = 0;  // blocks of the grid; 0: as many as fit, at most one per SM
  std::int32_t max_lanes = 8;          // 1 to layout::kMaxLanes; a step has 8 rows
  std::int32_t max_context = 0;        // 0: the model's, at most 32,768, halved until it fits shared memory
  std::int32_t page_tokens = 64;       // a multiple of 64
  // KV memory: a number of pages, or bytes to fill with pages, or (both 0) half of what the weights leave, at most 4
  // whole contexts a lane.
  std::int32_t num_pages = 0;
  std::int64_t kv_bytes = 0;
  layout::KvLayout kv_layout = layout::KvLayout::kHeadMajor;
  std::uint32_t park_after_us = 200000;  // idle time after which the kernel returns; 0: only when told
  int threads = 1;                       // for packing
  // Told while weights are packed and uploaded, and when that is done: "pack", "upload", share done.
  std::function<void(const char* stage, double share)> progress;
};

// What NewCudaExecutor would run: the program for these options on that device. InvalidArgument or ResourceExhausted
// naming what does not fit and the limit.
absl::StatusOr<layout::Program> PlanCudaProgram(const reference::ModelView& view, const ModelConfig& config,
                                                const DeviceFacts& facts, const CudaOptions& options);

}  // namespace megakernel
