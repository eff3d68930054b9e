// The CUDA runtime behind the gate: every call says what it is, is refused while the kernel is resident unless it is on
// the allow-list, and turns into a status that names it.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/cuda/call_gate.h"

namespace megakernel {

// OK, or Internal (ResourceExhausted when memory is short) naming the call and CUDA's error.
inline absl::Status CudaStatus(CudaCall call, cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string text =
      absl::StrCat(CudaCallName(call), ": ", cudaGetErrorName(error), " (", cudaGetErrorString(error), ")");
  return error == cudaErrorMemoryAllocation ? absl::ResourceExhaustedError(text) : absl::InternalError(text);
}

// gate.Enter(call), then `function`, which returns a cudaError_t.
template <class Function>
absl::Status CallCuda(const CallGate& gate, CudaCall call, Function&& function) {
  if (absl::Status status = gate.Enter(call); !status.ok()) return status;
  return CudaStatus(call, std::forward<Function>(function)());
}

}  // namespace megakernel
