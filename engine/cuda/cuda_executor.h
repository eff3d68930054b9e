// The executor on a GPU: packs a model for the resident kernel, uploads it and runs it.
//
// This header needs no CUDA; what it declares exists in builds with MEGAKERNEL_CUDA.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/cuda/device_check.h"
#include "engine/cuda/program_plan.h"
#include "engine/executor/executor.h"
#include "engine/model/model.h"
#include "kernels/host/resident.h"

namespace megakernel {

// The device's facts when driver, device and environment suit a resident kernel; FailedPrecondition saying what does
// not. Makes a CUDA context.
absl::StatusOr<DeviceFacts> FindCudaDevice(int device);

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
