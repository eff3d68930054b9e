// The bytes of the KV pages.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "engine/cpu/kernel_table.h"
#include "engine/cpu/memory.h"
#include "engine/executor/executor.h"
#include "kernels/layout/kv_page.h"

namespace megakernel::cpu {

// Pages of KvGeometry, head-major; inside a block of keys the elements are transposed (kernel_table.h). Owned by the
// executor's thread; during a step its team writes and reads it.
class KvStore {
 public:
  static absl::StatusOr<KvStore> Create(const layout::KvGeometry& geometry, std::int32_t num_pages);

  const layout::KvGeometry& geometry() const { return geometry_; }

  KvPlanes Planes(std::int32_t layer, std::int32_t kv_head, const PageId* pages) const;

  void CopyPage(PageId source, PageId target);
  // All bytes of a page.
  std::span<std::byte> Page(PageId page);

  // Fills the positions [first_position, end) that `pages`, the page table of a sequence, hold with NaN.
  void Poison(std::span<const PageId> pages, std::int32_t first_position);

 private:
  void PoisonSlots(PageId page, std::int32_t first_slot);

  layout::KvGeometry geometry_;
  Memory memory_;
};

}  // namespace megakernel::cpu
