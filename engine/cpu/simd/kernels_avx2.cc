// The kernels for AVX2, FMA and F16C; compiled with those flags.
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "engine/cpu/simd/simd_avx2.h"
#include "engine/cpu/simd/table_body.h"

namespace megakernel::cpu {

const KernelTable* Avx2Kernels() {
  static constexpr KernelTable kTable = MakeTable<Avx2Vector>("avx2");
  return &kTable;
}

}  // namespace megakernel::cpu
#else
#include "engine/cpu/kernel_table.h"

namespace megakernel::cpu {

const KernelTable* Avx2Kernels() {
  return nullptr;
}

}  // namespace megakernel::cpu
#endif
