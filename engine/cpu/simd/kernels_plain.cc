// The kernels for any processor.
#include "engine/cpu/simd/simd_plain.h"
#include "engine/cpu/simd/table_body.h"

namespace megakernel::cpu {

const KernelTable& PlainKernels() {
  static constexpr KernelTable kTable = MakeTable<PlainVector>("plain");
  return kTable;
}

}  // namespace megakernel::cpu
