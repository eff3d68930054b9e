// Who computes which part of attention in a step: the same for all layers.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/cpu/batch.h"

namespace megakernel::cpu {

// Rows [first_row, first_row + num_rows) of one segment, one kv head, blocks [first_block, last_block).
struct AttentionUnit {
  std::int32_t first_row = 0;
  std::int32_t num_rows = 0;
  std::int32_t kv_head = 0;
  std::int32_t first_block = 0;
  std::int32_t last_block = 0;
};

// Rows that share the conversion of a block of keys and values.
inline constexpr std::int32_t kAttentionRows = 16;
// Steps of up to this many rows may be split over blocks.
inline constexpr std::int32_t kSplitRows = 4;

struct AttentionPlan {
  // Each unit folds its blocks itself; or (split) every unit leaves its blocks' states, folded in a phase of its own.
  // Which of the two depends on how many units there are for the threads; the arithmetic is the same.
  bool split = false;
  std::vector<AttentionUnit> units;

  void Build(const Batch& batch, std::int32_t num_kv_heads, std::int32_t num_threads);
};

}  // namespace megakernel::cpu
