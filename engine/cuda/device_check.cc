#include "engine/cuda/device_check.h"

#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace megakernel {
namespace {

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

template <typename... Parts>
absl::Status Refuse(const Parts&... parts) {
  return absl::FailedPreconditionError(absl::StrCat(parts...));
}

}  // namespace

CudaEnvironment ReadCudaEnvironment() {
  return {.launch_blocking = Variable("CUDA_LAUNCH_BLOCKING"),
          .max_connections = Variable("CUDA_DEVICE_MAX_CONNECTIONS"),
          .mps_thread_percentage = Variable("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"),
          .mps_pinned_memory = Variable("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT")};
}

absl::Status CheckEnvironment(const CudaEnvironment& environment) {
  if (!environment.launch_blocking.empty() && environment.launch_blocking != "0") {
    return Refuse("CUDA_LAUNCH_BLOCKING=", environment.launch_blocking,
                  ": the launch of a resident kernel would never return; unset it");
  }
  if (environment.max_connections == "1") {
    return Refuse("CUDA_DEVICE_MAX_CONNECTIONS=1: copies would queue behind the resident kernel; unset it");
  }
  if (!environment.mps_thread_percentage.empty() && environment.mps_thread_percentage != "100") {
    return Refuse("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=", environment.mps_thread_percentage,
                  ": MPS withholds SMs, and the resident kernel needs one per block; unset it or set it to 100");
  }
  if (!environment.mps_pinned_memory.empty()) {
    return Refuse("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=", environment.mps_pinned_memory,
                  ": MPS limits the memory that weights and KV pages are taken from; unset it");
  }
  return absl::OkStatus();
}

absl::Status CheckDevice(const DeviceFacts& facts) {
  if (facts.prohibited) return Refuse(facts.name, ": its compute mode prohibits its use (nvidia-smi -c DEFAULT)");
  if (absl::StrContains(facts.name, "MIG")) {
    return Refuse(facts.name, ": a MIG slice shares its memory bandwidth; give the process a whole GPU");
  }
  if (facts.compute_major != 9 || facts.compute_minor != 0) {
    return Refuse(facts.name, ": compute capability ", facts.compute_major, ".", facts.compute_minor,
                  ", the kernels are built for 9.0 (Hopper)");
  }
  if (facts.kernel_time_limit) {
    return Refuse(facts.name,
                  ": a display hangs on it and the driver ends kernels that run for seconds; use a GPU without one");
  }
  if (!facts.cooperative_launch) return Refuse(facts.name, ": it cannot launch all blocks of a kernel at once");
  return absl::OkStatus();
}

}  // namespace megakernel
