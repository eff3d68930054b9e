// Which instruction set the kernels use.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/cpu/kernel_table.h"

namespace megakernel {

enum class CpuIsa { kAuto, kAvx512, kAvx2, kPlain };

const char* CpuIsaName(CpuIsa isa);

// "auto", "avx512", "avx2" or "plain"; InvalidArgument naming the value and the choices.
absl::StatusOr<CpuIsa> ParseCpuIsa(std::string_view text);

namespace cpu {

// Whether this processor and this build can run it. kAuto and kPlain always.
bool IsaWorks(CpuIsa isa);

// Those that work here, best first; kAuto is not among them.
std::vector<CpuIsa> WorkingIsas();

// The kernels of `isa`, of the best that works for kAuto. FailedPrecondition naming what the processor lacks.
absl::StatusOr<const KernelTable*> KernelsFor(CpuIsa isa);

}  // namespace cpu
}  // namespace megakernel
