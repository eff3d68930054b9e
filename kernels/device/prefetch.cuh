// Norm weights and row scales of a layer are read once a token: by then the weight stream has pushed them out of the
// L2 cache, and every epilogue would wait for memory. So the blocks fetch the next layer's into L2, a line each.
#pragma once

#include "kernels/device/block.cuh"

namespace megakernel::device {

inline constexpr std::int32_t kCacheLine = 128;

// Consumer threads. `layer`: the one whose vectors are needed next.
__device__ __forceinline__ void PrefetchVectors(const Block& b, std::int32_t layer) {
  const std::int32_t line = threadIdx.x * b.program.num_blocks + blockIdx.x;
  if (line >= (b.program.vector.total * 4 + kCacheLine - 1) / kCacheLine) return;
  asm volatile("prefetch.global.L2 [%0];" ::"l"(reinterpret_cast<const std::uint8_t*>(b.Vectors(layer)) +
                                                std::int64_t{line} * kCacheLine));
}

}  // namespace megakernel::device
