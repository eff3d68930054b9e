// Whether a GPU and the process's environment suit a kernel that never leaves: pure functions over facts, so that what
// they refuse is tested without a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace megakernel {

// What was read of a device.
struct DeviceFacts {
  std::string name;
  int compute_major = 0, compute_minor = 0;
  std::int32_t num_sms = 0;
  std::int32_t shared_bytes = 0;  // dynamic shared memory that a block may have
  std::int64_t free_bytes = 0, total_bytes = 0;
  bool kernel_time_limit = false;   // a display hangs on it: the driver ends kernels after seconds
  bool cooperative_launch = false;  // all blocks at once, or an error
  bool prohibited = false;          // compute mode "prohibited"
};

// Environment variables that matter, as they are; empty when not set.
struct CudaEnvironment {
  std::string launch_blocking = {};        // CUDA_LAUNCH_BLOCKING
  std::string max_connections = {};        // CUDA_DEVICE_MAX_CONNECTIONS
  std::string mps_thread_percentage = {};  // CUDA_MPS_ACTIVE_THREAD_PERCENTAGE
  std::string mps_pinned_memory = {};      // CUDA_MPS_PINNED_DEVICE_MEM_LIMIT
};

CudaEnvironment ReadCudaEnvironment();

// FailedPrecondition naming the variable and what to do. Before the first CUDA call.
absl::Status CheckEnvironment(const CudaEnvironment& environment);

// FailedPrecondition naming the device, what is wrong with it and what would do.
absl::Status CheckDevice(const DeviceFacts& facts);

}  // namespace megakernel
