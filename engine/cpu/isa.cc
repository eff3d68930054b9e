#include "engine/cpu/isa.h"

#include "absl/strings/str_cat.h"

namespace megakernel {

const char* CpuIsaName(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kAuto:
      return "auto";
    case CpuIsa::kAvx512:
      return "avx512";
    case CpuIsa::kAvx2:
      return "avx2";
    case CpuIsa::kPlain:
      return "plain";
  }
  return "";
}

absl::StatusOr<CpuIsa> ParseCpuIsa(std::string_view text) {
  for (CpuIsa isa : {CpuIsa::kAuto, CpuIsa::kAvx512, CpuIsa::kAvx2, CpuIsa::kPlain}) {
    if (text == CpuIsaName(isa)) return isa;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("instruction set \"", std::string(text), "\" is not one of auto, avx512, avx2, plain"));
}

namespace cpu {

bool IsaWorks(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kAuto:
    case CpuIsa::kPlain:
      return true;
#if defined(__x86_64__)
    case CpuIsa::kAvx2:
      return Avx2Kernels() != nullptr && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("f16c");
    case CpuIsa::kAvx512:
      return Avx512Kernels() != nullptr && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#else
    case CpuIsa::kAvx2:
    case CpuIsa::kAvx512:
      return false;
#endif
  }
  return false;
}

std::vector<CpuIsa> WorkingIsas() {
  std::vector<CpuIsa> isas;
  for (CpuIsa isa : {CpuIsa::kAvx512, CpuIsa::kAvx2, CpuIsa::kPlain}) {
    if (IsaWorks(isa)) isas.push_back(isa);
  }
  return isas;
}

absl::StatusOr<const KernelTable*> KernelsFor(CpuIsa isa) {
  if (isa == CpuIsa::kAuto) isa = WorkingIsas().front();
  if (!IsaWorks(isa)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "this processor or build cannot run the ", CpuIsaName(isa), " kernels; it can run ",
        CpuIsaName(WorkingIsas().front()), isa == CpuIsa::kAvx512 ? " (avx512 needs F, BW, DQ, VL and VNNI)" : ""));
  }
  switch (isa) {
    case CpuIsa::kAvx512:
      return Avx512Kernels();
    case CpuIsa::kAvx2:
      return Avx2Kernels();
    default:
      return &PlainKernels();
  }
}

}  // namespace cpu
}  // namespace megakernel
