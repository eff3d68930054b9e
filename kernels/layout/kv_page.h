// Where a key or value lives inside a KV page.
//
// KV memory is an array of pages. A page holds `page_tokens` consecutive positions of one sequence for all layers, keys
// and values. Position p of a sequence is slot p % page_tokens of the page at index p / page_tokens of its page table.
// Two layouts:
//   kTokenMajor (kv_layout 0)  [layer][K|V][page_tokens][num_kv_heads][head_dim]
//   kHeadMajor  (kv_layout 1)  [layer][K|V][num_kv_heads][page_tokens][head_dim]
// An executor may order the elements inside one [page_tokens][head_dim] block further (tensor-core operand order); the
// block's place and size are these.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/layout/plan.h"

namespace megakernel::layout {

using PageId = std::int32_t;
inline constexpr PageId kNoPage = -1;

enum class KvLayout : std::int32_t { kTokenMajor = 0, kHeadMajor = 1 };

struct KvGeometry {
  KvLayout layout = KvLayout::kHeadMajor;
  std::int32_t num_layers = 0;
  std::int32_t num_kv_heads = 0;
  std::int32_t head_dim = 0;
  std::int32_t page_tokens = 0;    // positions a page holds
  std::int32_t element_bytes = 0;  // of one key or value element: 4 fp32, 2 fp16 or bf16, 1 int8 or fp8

  // Elements of one of K or V of one layer in a page.
  MEGAKERNEL_HOST_DEVICE constexpr std::int64_t PlaneElements() const {
    return std::int64_t{num_kv_heads} * page_tokens * head_dim;
  }
  MEGAKERNEL_HOST_DEVICE constexpr std::int64_t PageElements() const { return 2 * num_layers * PlaneElements(); }
  MEGAKERNEL_HOST_DEVICE constexpr std::int64_t PageBytes() const { return PageElements() * element_bytes; }

  // Index, in elements from the start of the page, of element 0 of (layer, K or V, head, slot).
  MEGAKERNEL_HOST_DEVICE constexpr std::int64_t Offset(std::int32_t layer, bool is_value, std::int32_t head,
                                                       std::int32_t slot) const {
    const std::int64_t plane = (2 * std::int64_t{layer} + (is_value ? 1 : 0)) * PlaneElements();
    const std::int64_t inside = layout == KvLayout::kTokenMajor ? (std::int64_t{slot} * num_kv_heads + head) * head_dim
                                                                : (std::int64_t{head} * page_tokens + slot) * head_dim;
    return plane + inside;
  }
  // Elements from one slot of a head to the next.
  MEGAKERNEL_HOST_DEVICE constexpr std::int64_t SlotStride() const {
    return layout == KvLayout::kTokenMajor ? std::int64_t{num_kv_heads} * head_dim : head_dim;
  }
};

// Pages that `num_positions` positions need.
MEGAKERNEL_HOST_DEVICE constexpr std::int32_t PagesFor(std::int32_t num_positions, std::int32_t page_tokens) {
  return (num_positions + page_tokens - 1) / page_tokens;
}

}  // namespace megakernel::layout
