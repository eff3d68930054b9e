// The executor on a GPU: packs a model for the resident kernel, uploads it and runs it.
//
// This header needs no CUDA; what it declares exists in builds with MEGAKERNEL_CUDA.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/cuda/device_check.h"
#include "engine/executor/executor.h"
#include "engine/model/model.h"
#include "kernels/host/program_build.h"
#include "kernels/host/resident.h"

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

// The device's facts when driver, device and environment suit a resident kernel; FailedPrecondition saying what does
// not. Makes a CUDA context.
absl::StatusOr<DeviceFacts> FindCudaDevice(int device);

// What NewCudaExecutor would run: the program for these options on that device. InvalidArgument or ResourceExhausted
// naming what does not fit and the limit.
absl::StatusOr<layout::Program> PlanCudaProgram(const reference::ModelView& view, const ModelConfig& config,
                                                const DeviceFacts& facts, const CudaOptions& options);

// A device with the model's weights on it, kernel not launched.
struct LoadedDevice {
  layout::Program program;
  std::string name;
  std::int64_t inexact_weights = 0;  // values that fp16 with a scale per row does not hold exactly
  std::unique_ptr<host::ResidentDevice> device;
};
absl::StatusOr<LoadedDevice> LoadCudaDevice(const Model& model, const CudaOptions& options);

// Unimplemented naming what the kernel does not run of a model; ResourceExhausted naming need and have. `model` is not
// needed afterwards.
absl::StatusOr<std::unique_ptr<Executor>> NewCudaExecutor(const Model& model, const CudaOptions& options);

}  // namespace megakernel
