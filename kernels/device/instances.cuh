// The shapes that have kernels of their own: measured models on the 132 SMs of an H100. Any other shape, or any other
// grid, runs AnyModel; the bits are the same.
#pragma once

#include <cstdint>

namespace megakernel::device {

struct Qwen3_0p6B {
  static constexpr int kHeadDim = 128, kLayers = 28, kHidden = 1024, kGroups = 8, kQueryHeads = 2, kFfn = 3072;
  static constexpr int kBlocksPerGroup = 16;
  static constexpr bool kQkNorm = true;
  static constexpr int kQkvStrips = 4, kPanelStrips = 8, kGateUpStrips = 2;  // as kernels/host/placement.cc has them
};

struct Llama3p2_1B {
  static constexpr int kHeadDim = 64, kLayers = 16, kHidden = 2048, kGroups = 8, kQueryHeads = 4, kFfn = 8192;
  static constexpr int kBlocksPerGroup = 16;
  static constexpr bool kQkNorm = false;
  static constexpr int kQkvStrips = 2, kPanelStrips = 4, kGateUpStrips = 2;
};

}  // namespace megakernel::device
