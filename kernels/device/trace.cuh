// Clock readings of one thread per block, for `profile` builds (MEGAKERNEL_TRACE); nothing otherwise.
#pragma once

#include "kernels/device/block.cuh"

namespace megakernel::device {

__device__ __forceinline__ void Trace(int mark) {
#if defined(MEGAKERNEL_TRACE)
  if (threadIdx.x == 0) {
    std::uint64_t* words =
        Workspace<std::uint64_t>(kernel_args.program.workspace.trace) + std::int64_t{blockIdx.x} * layout::kTraceWords;
    const std::uint64_t n = words[0];
    if (n + 1 < layout::kTraceWords) {
      words[n + 1] = static_cast<std::uint64_t>(clock64()) << 8 | mark;
      words[0] = n + 1;
    }
  }
#endif
}

}  // namespace megakernel::device
