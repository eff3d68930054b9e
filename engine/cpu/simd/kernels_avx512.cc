// The kernels for AVX-512 with VNNI; compiled with those flags.
#if defined(__AVX512F__) && defined(__AVX512VNNI__)
#include "engine/cpu/simd/simd_avx512.h"
#include "engine/cpu/simd/table_body.h"

namespace megakernel::cpu {

const KernelTable* Avx512Kernels() {
  static constexpr KernelTable kTable = MakeTable<Avx512Vector>("avx512");
  return &kTable;
}

}  // namespace megakernel::cpu
#else
#include "engine/cpu/kernel_table.h"

namespace megakernel::cpu {

const KernelTable* Avx512Kernels() {
  return nullptr;
}

}  // namespace megakernel::cpu
#endif
