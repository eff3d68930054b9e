#include "engine/cpu/attention_plan.h"

#include "engine/cpu/kernel_table.h"

namespace megakernel::cpu {
namespace {

std::int32_t BlocksFor(std::int32_t positions) {
  return (positions + kAttentionBlock - 1) / kAttentionBlock;
}

// Blocks of one unit when split: enough units to balance, few enough that a unit is worth taking.
constexpr std::int32_t kSplitBlocks = 2;

}  // namespace

void AttentionPlan::Build(const Batch& batch, std::int32_t num_kv_heads, std::int32_t num_threads) {
  units.clear();
  std::int32_t longest = 0;
  for (std::int32_t position : batch.positions) longest = position > longest ? position : longest;
  split = num_threads > 1 && batch.num_rows() <= kSplitRows && BlocksFor(longest + 1) > kSplitBlocks;
  // Later rows of a prompt see more: they go first, so that no thread is left with a long one.
  for (auto segment = batch.segments.rbegin(); segment != batch.segments.rend(); ++segment) {
    const std::int32_t run = split ? 1 : kAttentionRows;
    for (std::int32_t end = segment->num_rows; end > 0; end -= run) {
      AttentionUnit unit;
      unit.num_rows = end < run ? end : run;
      unit.first_row = segment->first_row + end - unit.num_rows;
      const std::int32_t blocks = BlocksFor(segment->first_position + end);
      const std::int32_t step = split ? kSplitBlocks : blocks;
      for (unit.kv_head = 0; unit.kv_head < num_kv_heads; ++unit.kv_head) {
        for (unit.first_block = 0; unit.first_block < blocks; unit.first_block += step) {
          unit.last_block = unit.first_block + step < blocks ? unit.first_block + step : blocks;
          units.push_back(unit);
        }
      }
    }
  }
}

}  // namespace megakernel::cpu
