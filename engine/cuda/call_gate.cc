#include "engine/cuda/call_gate.h"

#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace megakernel {

const char* CudaCallName(CudaCall call) {
  switch (call) {
    case CudaCall::kQueryDevices:
      return "device query";
    case CudaCall::kSetDevice:
      return "cudaSetDevice";
    case CudaCall::kMalloc:
      return "cudaMalloc";
    case CudaCall::kFree:
      return "cudaFree";
    case CudaCall::kHostAlloc:
      return "cudaHostAlloc";
    case CudaCall::kFreeHost:
      return "cudaFreeHost";
    case CudaCall::kStreamCreate:
      return "cudaStreamCreateWithFlags";
    case CudaCall::kStreamDestroy:
      return "cudaStreamDestroy";
    case CudaCall::kEventCreate:
      return "cudaEventCreateWithFlags";
    case CudaCall::kEventDestroy:
      return "cudaEventDestroy";
    case CudaCall::kPrepareKernel:
      return "cudaFuncSetAttribute";
    case CudaCall::kLaunch:
      return "cudaLaunchCooperativeKernel";
    case CudaCall::kMemset:
      return "cudaMemset";
    case CudaCall::kMemcpy:
      return "cudaMemcpy";
    case CudaCall::kSynchronize:
      return "cudaStreamSynchronize";
    case CudaCall::kMemcpyAsyncPinned:
      return "cudaMemcpyAsync";
    case CudaCall::kEventRecord:
      return "cudaEventRecord";
    case CudaCall::kEventQuery:
      return "cudaEventQuery";
    case CudaCall::kStreamQuery:
      return "cudaStreamQuery";
    case CudaCall::kNumCalls:
      break;
  }
  return "unknown call";
}

bool AllowedWhileResident(CudaCall call) {
  return call == CudaCall::kMemcpyAsyncPinned || call == CudaCall::kEventRecord || call == CudaCall::kEventQuery ||
         call == CudaCall::kStreamQuery;
}

absl::Status CallGate::Enter(CudaCall call) const {
  if (!resident() || AllowedWhileResident(call)) return absl::OkStatus();
  const std::string what = absl::StrCat(CudaCallName(call), " while the resident kernel runs: it could wait for ever");
#ifndef NDEBUG
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
#else
  return absl::FailedPreconditionError(what);
#endif
}

}  // namespace megakernel
