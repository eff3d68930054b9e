#include "kernels/host/program_check.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/layout/mailbox.h"

namespace megakernel::host {
namespace {

using layout::PackedMatrix;
using layout::Program;

constexpr const char* kPhaseNames[] = {"QKV", "O", "gate/up", "down", "LM head"};

std::string Text(const std::string& what, std::int64_t value, const std::string& must) {
  return what + " is " + std::to_string(value) + ", must be " + must;
}

std::string InRange(const std::string& what, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value >= low && value <= high) return "";
  return Text(what, value, "in [" + std::to_string(low) + ", " + std::to_string(high) + "]");
}

std::string Equal(const std::string& what, std::int64_t value, std::int64_t wanted) {
  return value == wanted ? "" : Text(what, value, std::to_string(wanted));
}

// The first text that is not empty.
std::string First(std::initializer_list<std::string> texts) {
  for (const std::string& text : texts) {
    if (!text.empty()) return text;
  }
  return "";
}

std::string CheckSizes(const Program& p) {
  if (p.head_dim != 64 && p.head_dim != 128) return Text("head_dim", p.head_dim, "64 or 128");
  // The count of a sum is kept modulo 256, and a layer adds one for each group.
  return First({InRange("num_layers", p.num_layers, 1, 1 << 16), InRange("groups", p.groups, 1, 255),
                InRange("q_per_kv", p.q_per_kv, 1, 8), InRange("hidden", p.hidden, 64, layout::kMostHidden),
                Equal("hidden mod 64", p.hidden % 64, 0), InRange("ffn", p.ffn, 64, 1 << 24),
                Equal("ffn mod (64 * groups)", p.ffn % (64 * p.groups), 0), InRange("vocab", p.vocab, 1, 1 << 24),
                InRange("blocks_per_group", p.blocks_per_group, 1, 1 << 16),
                InRange("num_blocks", p.num_blocks, std::max(p.LayerBlocks(), p.max_rows), 1 << 16),
                InRange("max_rows", p.max_rows, 1, layout::kGpuMaxRows),
                InRange("max_lanes", p.max_lanes, 1, layout::kMaxLanes),
                InRange("max_context", p.max_context, 1, 1 << 20)});
}

std::string CheckPages(const Program& p) {
  const std::int32_t page = p.kv.page_tokens;
  return First(
      {InRange("kv.page_tokens", page, layout::kAttentionBlock, 1 << 20),
       Equal("kv.page_tokens", page, std::int64_t{1} << p.kv_strides.page_log2),
       Equal("kv.num_layers", p.kv.num_layers, p.num_layers), Equal("kv.num_kv_heads", p.kv.num_kv_heads, p.groups),
       Equal("kv.head_dim", p.kv.head_dim, p.head_dim), Equal("kv.element_bytes", p.kv.element_bytes, 2),
       Equal("kv_strides.page", p.kv_strides.page, p.kv.PageBytes()),
       Equal("kv_strides.layer", p.kv_strides.layer, p.kv.Offset(1, false, 0, 0) * 2),
       Equal("kv_strides.value", p.kv_strides.value, p.kv.Offset(0, true, 0, 0) * 2),
       Equal("kv_strides.head", p.kv_strides.head, p.kv.Offset(0, false, 1, 0) * 2),
       Equal("kv_strides.slot", p.kv_strides.slot, p.kv.SlotStride() * 2),
       InRange("num_kv_pages", p.num_kv_pages, 1, INT32_MAX),
       Equal("max_pages", p.max_pages, layout::PagesFor(p.max_context, page)),
       InRange("max_items", p.max_items,
               std::int64_t{p.max_rows} * layout::PagesFor(p.max_context, layout::kAttentionBlock), INT32_MAX)});
}

std::string CheckMatrix(const std::string& name, const PackedMatrix& m, std::int32_t parts, std::int64_t rows,
                        std::int32_t cols) {
  if (m.strips != 2 && m.strips != 4 && m.strips != 8) return Text(name + " strips", m.strips, "2, 4 or 8");
  return First({Equal(name + " parts", m.groups, parts), Equal(name + " columns", m.cols, cols),
                Equal(name + " columns mod 64", m.cols % layout::kChunkCols, 0),
                InRange(name + " rows", m.group_rows, rows, rows + 8 * m.strips - 1),
                Equal(name + " rows mod a row group", m.group_rows % (8 * m.strips), 0),
                Equal(name + " offset mod 128", m.offset % 128, 0)});
}

std::string CheckMatrices(const Program& p) {
  const std::int32_t ffn = p.FfnPerGroup();
  return First({CheckMatrix("QKV", p.matrix[layout::kPhaseQkv], p.groups, p.QkvRows(), p.hidden),
                CheckMatrix("O", p.matrix[layout::kPhaseO], p.groups, p.hidden, p.PanelCols()),
                CheckMatrix("gate/up", p.matrix[layout::kPhaseGateUp], p.groups, 2 * std::int64_t{ffn}, p.hidden),
                CheckMatrix("down", p.matrix[layout::kPhaseDown], p.groups, p.hidden, ffn),
                CheckMatrix("LM head", p.matrix[layout::kPhaseHead], 1, p.vocab, p.hidden),
                CheckMatrix("embedding", p.embedding, 1, p.vocab, p.hidden),
                // A block owns columns of the residual that it also computes, in both phases.
                Equal("down strips", p.matrix[layout::kPhaseDown].strips, p.matrix[layout::kPhaseO].strips)});
}

// Every row group of a part belongs to one member.
std::string CheckShares(const Program& p) {
  for (int phase = 0; phase < layout::kNumPhases; ++phase) {
    const PackedMatrix& m = p.matrix[phase];
    const std::int32_t members = phase == layout::kPhaseHead ? p.num_blocks : p.blocks_per_group;
    std::vector<int> blocks(static_cast<std::size_t>(m.RowGroups()));
    for (std::int32_t member = 0; member < members; ++member) {
      const layout::RowGroupShare share = layout::ShareOf(m.RowGroups(), member, members);
      for (std::int32_t i = 0; i < share.count; ++i) ++blocks[share.first + i];
    }
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const std::string name = std::string(kPhaseNames[phase]) + " blocks of row group " + std::to_string(i);
      if (blocks[i] != 1) return Text(name, blocks[i], "1");
    }
    if (blocks.empty()) return Text(std::string(kPhaseNames[phase]) + " row groups", 0, "at least 1");
  }
  return "";
}

// Owners of the residual's columns: of the columns of its O rows, a block of group g owns those equal to g modulo the
// number of groups.
std::string CheckResidual(const Program& p) {
  const PackedMatrix& o = p.matrix[layout::kPhaseO];
  std::vector<int> contributions(static_cast<std::size_t>(p.hidden)), owners(static_cast<std::size_t>(p.hidden));
  for (std::int32_t block = 0; block < std::min(p.num_blocks, p.LayerBlocks()); ++block) {
    const layout::RowGroupShare share = layout::ShareOf(o.RowGroups(), block % p.blocks_per_group, p.blocks_per_group);
    const std::int32_t first = share.first * o.RowsPerRowGroup();
    const std::int32_t end = std::min(p.hidden, first + share.count * o.RowsPerRowGroup());
    std::int32_t owned = 0;
    for (std::int32_t column = first; column < end; ++column) {
      ++contributions[column];
      if (column % p.groups == block / p.blocks_per_group) {
        ++owners[column];
        ++owned;
      }
    }
    if (owned > p.own_cols) return Text("own_cols", p.own_cols, "at least " + std::to_string(owned));
  }
  for (std::int32_t column = 0; column < p.hidden; ++column) {
    const std::string where = " of residual column " + std::to_string(column);
    if (contributions[column] != p.groups) {
      return Text("contributions" + where, contributions[column], std::to_string(p.groups));
    }
    if (owners[column] != 1) return Text("owners" + where, owners[column], "1");
  }
  return "";
}

struct Region {
  const char* name;
  std::int64_t begin, bytes;
};

std::string CheckRegions(const std::string& space, std::vector<Region> regions, std::int64_t alignment,
                         std::int64_t total) {
  std::sort(regions.begin(), regions.end(), [](const Region& a, const Region& b) { return a.begin < b.begin; });
  std::int64_t end = 0;
  for (const Region& region : regions) {
    const std::string name = space + " " + region.name;
    if (region.begin % alignment != 0) {
      return Text(name, region.begin, "a multiple of " + std::to_string(alignment));
    }
    if (region.begin < end) return Text(name, region.begin, "at least " + std::to_string(end) + ": regions overlap");
    end = region.begin + region.bytes;
  }
  return end <= total ? "" : Text(space + " total", total, "at least " + std::to_string(end));
}

std::string CheckWeights(const Program& p) {
  std::vector<Region> layer;
  for (int phase = 0; phase < layout::kPhaseHead; ++phase) {
    layer.push_back({kPhaseNames[phase], p.matrix[phase].offset, p.matrix[phase].Bytes()});
  }
  const std::string inside = CheckRegions("layer", layer, 128, p.layer_bytes);
  if (!inside.empty()) return inside;
  const PackedMatrix& head = p.matrix[layout::kPhaseHead];
  const bool tied = p.embedding.offset == head.offset;
  std::vector<Region> arena = {{"layers", 0, p.num_layers * p.layer_bytes},
                               {"LM head", head.offset, head.Bytes()},
                               {"head_scale", p.head_scale, std::int64_t{4} * head.group_rows},
                               {"final_norm", p.final_norm, std::int64_t{4} * p.hidden},
                               {"vectors", p.vectors, std::int64_t{4} * p.num_layers * p.vector.total}};
  if (!tied) {
    arena.push_back({"embedding", p.embedding.offset, p.embedding.Bytes()});
    arena.push_back({"embedding_scale", p.embedding_scale, std::int64_t{4} * p.embedding.group_rows});
  }
  return CheckRegions("weights", arena, 128, p.weight_bytes);
}

std::string CheckWorkspace(const Program& p) {
  const layout::WorkspaceOffsets& w = p.workspace;
  const std::int64_t rows = p.max_rows, groups = p.groups, head_rows = p.matrix[layout::kPhaseHead].group_rows;
  return CheckRegions(
      "workspace",
      {{"sums", w.sums, 2 * rows * p.hidden * 8},
       {"qkv", w.qkv, groups * rows * p.QkvRows() * 8},
       {"partial", w.partial, groups * p.max_items * p.q_per_kv * (p.head_dim + 2) * 8},
       {"attention", w.attention, groups * rows * p.PanelCols() / 2 * 8},
       {"act", w.act, groups * rows * p.FfnPerGroup() / 2 * 8},
       {"candidates", w.candidates, p.num_blocks * rows * 16},
       {"tokens", w.tokens, 2 * rows * 8},
       {"steps", w.steps, 2 * layout::kStepPackets * 8},
       {"logits", w.logits, rows * head_rows * 4},
       {"scheduler", w.scheduler, static_cast<std::int64_t>(sizeof(layout::SchedulerState))},
       {"samplings", w.samplings, p.max_lanes * static_cast<std::int64_t>(sizeof(layout::LaneSampling))},
       {"page_table", w.page_table, std::int64_t{p.max_lanes} * p.max_pages * 4}},
      16, w.total);
}

std::string CheckShared(const Program& p) {
  const layout::SharedOffsets& s = p.shared;
  const std::int64_t rows = p.max_rows;
  const std::string places =
      CheckRegions("shared",
                   {{"slots", s.slots, std::int64_t{p.num_slots} * layout::kTileBytes},
                    {"barriers", s.barriers, std::int64_t{16} * p.num_slots + 32},
                    {"act", s.act, rows * p.act_stride},
                    {"panel", s.panel, rows * p.panel_stride},
                    {"partial", s.partial, std::int64_t{p.task_capacity} * layout::kTaskRows * rows * 4},
                    {"vectors", s.vectors, std::int64_t{4} * p.held.total},
                    {"owner", s.owner, std::int64_t{2} * p.hidden},
                    {"own", s.own, 3 * rows * p.own_cols * 8},
                    {"step", s.step, layout::kStepPackets * 4},
                    {"misc", s.misc, layout::kBlockStateBytes}},
                   16, s.total);
  if (!places.empty()) return places;
  return First(
      {InRange("num_slots", p.num_slots, std::max(p.window_layers, p.window_head), 1024),
       InRange("window_layers", p.window_layers, 1, p.num_slots), InRange("window_head", p.window_head, 1, p.num_slots),
       InRange("act_stride", p.act_stride, 2 * std::int64_t{p.hidden}, INT32_MAX),
       InRange("panel_stride", p.panel_stride, 2 * std::int64_t{std::max(p.PanelCols(), p.FfnPerGroup())}, INT32_MAX),
       InRange("squares_stride", p.squares_stride, p.hidden / 64, INT32_MAX)});
}

// A pass of a phase takes at least one row group.
std::string CheckTasks(const Program& p) {
  for (int phase = 0; phase < layout::kPhaseHead; ++phase) {
    const PackedMatrix& m = p.matrix[phase];
    const std::int32_t needed = m.cols / layout::kChunkCols * m.strips / 2;
    if (p.task_capacity < needed) {
      return Text("task_capacity", p.task_capacity,
                  "at least " + std::to_string(needed) + " for a row group of " + kPhaseNames[phase]);
    }
  }
  return "";
}

}  // namespace

std::string CheckProgram(const Program& p) {
  using Check = std::string (*)(const Program&);
  for (const Check check :
       {Check{CheckSizes}, Check{CheckPages}, Check{CheckMatrices}, Check{CheckShares}, Check{CheckResidual},
        Check{CheckWeights}, Check{CheckWorkspace}, Check{CheckShared}, Check{CheckTasks}}) {
    std::string wrong = check(p);
    if (!wrong.empty()) return wrong;
  }
  return "";
}

}  // namespace megakernel::host
