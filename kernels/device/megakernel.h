// Launching the resident kernel. CUDA runtime calls only; errors are CUDA's.
#pragma once

#include "kernels/device/kernel_args.h"

namespace megakernel::device {

// Loads the kernel for the program's head_dim (64 or 128) and allows its shared memory. Once, before any launch.
cudaError_t PrepareKernel(const layout::Program& program);

// Blocks of this program that fit an SM at the same time: 1, or 0 when the program does not fit the device.
cudaError_t MaxResidentBlocks(const layout::Program& program, int* blocks_per_sm);

// Launches on `stream`, cooperatively: all blocks resident or an error.
cudaError_t LaunchKernel(const KernelArgs& args, cudaStream_t stream);

}  // namespace megakernel::device
