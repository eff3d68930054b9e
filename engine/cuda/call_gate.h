// Which CUDA calls may be made while the resident kernel runs. "Any CUDA API call may block or synchronize" (CUDA
// documentation, API synchronization behavior), and one that waits for the device then waits for ever.
//
// Every CUDA call of the process but those of a launch itself goes through one gate (cuda_calls.h).
#pragma once

#include <atomic>

#include "absl/status/status.h"

namespace megakernel {

enum class CudaCall {
  kQueryDevices,  // counts, properties, attributes, free memory
  kSetDevice,
  kMalloc,
  kFree,
  kHostAlloc,
  kFreeHost,
  kStreamCreate,
  kStreamDestroy,
  kEventCreate,
  kEventDestroy,
  kPrepareKernel,  // loads code, sets function attributes
  kLaunch,
  kMemset,
  kMemcpy,             // synchronous, or from pageable memory
  kSynchronize,        // of a device, stream or event
  kMemcpyAsyncPinned,  // on a non-blocking stream that exists
  kEventRecord,        // the same
  kEventQuery,
  kStreamQuery,
  kNumCalls,
};

const char* CudaCallName(CudaCall call);
bool AllowedWhileResident(CudaCall call);

// Thread-safe.
class CallGate {
 public:
  void SetResident(bool resident) { resident_.store(resident, std::memory_order_release); }
  bool resident() const { return resident_.load(std::memory_order_acquire); }

  // FailedPrecondition naming the call when it must not be made now; in debug builds that ends the process.
  absl::Status Enter(CudaCall call) const;

 private:
  std::atomic<bool> resident_{false};
};

}  // namespace megakernel
