#include "kernels/host/placement.h"

#include <algorithm>

#include "kernels/layout/mailbox.h"

namespace megakernel::host {
namespace {

using layout::PackedMatrix;
using layout::Program;

std::int64_t RoundUp(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// Hands out consecutive regions.
class Region {
 public:
  explicit Region(std::int64_t alignment) : alignment_(alignment) {}

  std::int64_t Place(std::int64_t size) {
    const std::int64_t offset = end_;
    end_ += RoundUp(size, alignment_);
    return offset;
  }
  void Skip(std::int64_t size) { end_ += size; }
  std::int64_t end() const { return end_; }

 private:
  const std::int64_t alignment_;
  std::int64_t end_ = 0;
};

// Chunk tasks of a row group that the partial region should hold: more costs the ring a slot.
constexpr std::int32_t kPreferredTasks = 32;

// Strips per tile: of those with which the busiest block has the fewest rows, the most whose chunk sums are few enough.
std::int32_t ChooseStrips(std::int64_t rows, std::int32_t cols, std::int32_t blocks) {
  std::int32_t best = 0;
  std::int64_t best_rows = 0;
  bool best_fits = false;
  for (std::int32_t strips = 8; strips >= 2; strips /= 2) {
    const std::int64_t row_groups = RoundUp(rows, 8 * strips) / (8 * strips);
    const std::int64_t busiest = (row_groups + blocks - 1) / blocks * 8 * strips;
    const bool fits = cols / layout::kChunkCols * strips / 2 <= kPreferredTasks;
    if (best == 0 || busiest < best_rows || (busiest == best_rows && !best_fits)) {
      best = strips;
      best_rows = busiest;
      best_fits = fits;
    }
  }
  return best;
}

PackedMatrix PlaceMatrix(Region& region, std::int32_t groups, std::int64_t rows, std::int32_t cols,
                         std::int32_t strips) {
  PackedMatrix m;
  m.groups = groups;
  m.strips = strips;
  m.group_rows = static_cast<std::int32_t>(RoundUp(rows, 8 * strips));
  m.cols = cols;
  m.offset = region.Place(m.Bytes());
  return m;
}

// Floats of a layer's vectors; each starts at a multiple of 32.
layout::VectorOffsets PlaceVectors(const Program& p) {
  Region region(32);
  const auto place = [&](std::int64_t count) { return static_cast<std::int32_t>(region.Place(count)); };
  const auto rows = [&](layout::Phase phase) { return std::int64_t{p.groups} * p.matrix[phase].group_rows; };
  layout::VectorOffsets v;
  v.attention_norm = place(p.hidden);
  v.ffn_norm = place(p.hidden);
  v.q_norm = place(p.head_dim);
  v.k_norm = place(p.head_dim);
  v.qkv_scale = place(rows(layout::kPhaseQkv));
  v.qkv_bias = place(rows(layout::kPhaseQkv));
  v.o_scale = place(p.matrix[layout::kPhaseO].group_rows);
  v.down_scale = place(p.matrix[layout::kPhaseDown].group_rows);
  v.gate_up_scale = place(rows(layout::kPhaseGateUp));
  v.total = static_cast<std::int32_t>(region.end());
  return v;
}

// Rows of a phase that the busiest block computes.
std::int64_t BusiestRows(const Program& p, layout::Phase phase) {
  const PackedMatrix& m = p.matrix[phase];
  return RoundUp(m.RowGroups(), p.blocks_per_group) / p.blocks_per_group * m.RowsPerRowGroup();
}

layout::HeldVectors PlaceHeld(const Program& p) {
  Region region(4);
  const auto place = [&](std::int64_t count) { return static_cast<std::int32_t>(region.Place(count)); };
  layout::HeldVectors h;
  h.attention_norm = place(p.hidden);
  h.q_norm = place(p.head_dim);
  h.k_norm = place(p.head_dim);
  h.qkv_scale = place(BusiestRows(p, layout::kPhaseQkv));
  h.qkv_bias = place(p.qkv_bias ? BusiestRows(p, layout::kPhaseQkv) : 0);
  h.o_scale = place(BusiestRows(p, layout::kPhaseO));
  h.ffn_norm = place(p.hidden);
  h.gate_up_scale = place(BusiestRows(p, layout::kPhaseGateUp));
  h.down_scale = place(BusiestRows(p, layout::kPhaseDown));
  h.total = static_cast<std::int32_t>(region.end());
  return h;
}

// Bytes that attention needs in the partial region (device/attention.cuh).
std::int64_t AttentionScratchBytes(const Program& p) {
  const std::int64_t halves = p.head_dim / 64, teams = layout::kConsumerWarps / (4 * halves);
  const std::int64_t units = std::int64_t{p.max_rows} * p.q_per_kv * p.head_dim / 16;
  const std::int64_t mine = (units + p.blocks_per_group - 1) / p.blocks_per_group;
  const std::int64_t super_positions = std::int64_t{layout::kAttentionBlock} * layout::kSuperBlock;
  const std::int64_t supers = RoundUp(p.max_context, super_positions) / super_positions;
  const std::int64_t scores = teams * halves * p.q_per_kv * (layout::kAttentionBlock + 4);
  const std::int64_t products = teams * 4 * p.q_per_kv * p.head_dim;
  return 4 * (scores + products + teams * p.q_per_kv * 2 + mine * supers * 18);
}

// Bytes of the partial region: chunk sums of a pass, attention scratch, reductions.
std::int64_t PartialBytes(const Program& p) {
  return std::max({std::int64_t{p.task_capacity} * layout::kTaskRows * p.max_rows * 4, AttentionScratchBytes(p),
                   std::int64_t{32} * layout::kConsumerWarps * 8});
}

// Offsets for p.num_slots slots.
layout::SharedOffsets SharedPlaces(const Program& p) {
  Region region(16);
  const auto place = [&](std::int64_t bytes) { return static_cast<std::int32_t>(region.Place(bytes)); };
  const std::int64_t rows = p.max_rows;
  layout::SharedOffsets s;
  s.misc = place(layout::kBlockStateBytes);
  s.slots = place(std::int64_t{p.num_slots} * layout::kTileBytes);
  s.barriers = place(std::int64_t{16} * p.num_slots + 32);
  s.done = place(std::int64_t{4} * p.num_slots);
  s.act = place(rows * p.act_stride);
  s.panel = place(rows * p.panel_stride);
  s.partial = place(PartialBytes(p));
  s.query = place(rows * p.q_per_kv * (p.head_dim + 8) * 2);
  s.key = place(rows * p.head_dim * 2);
  s.value = place(rows * p.head_dim * 2);
  s.rope = place(rows * p.head_dim * 4);
  s.vectors = place(std::int64_t{4} * p.held.total);
  s.owner = place(std::int64_t{2} * p.hidden);
  s.own = place(3 * rows * p.own_cols * 8);
  s.squares = place(rows * p.squares_stride * 4);
  s.step = place(layout::kStepPackets * 4);
  s.total = static_cast<std::int32_t>(region.end());
  return s;
}

}  // namespace

void PlaceWeights(bool tied, Program& p) {
  const std::int32_t blocks = p.blocks_per_group, ffn = p.FfnPerGroup();
  Region region(1024);
  // O and down have the same row groups: a block owns the columns of the residual that it computes (norm.cuh).
  const std::int32_t panel_strips = ChooseStrips(p.hidden, std::max(p.PanelCols(), ffn), blocks);
  p.matrix[layout::kPhaseQkv] =
      PlaceMatrix(region, p.groups, p.QkvRows(), p.hidden, ChooseStrips(p.QkvRows(), p.hidden, blocks));
  p.matrix[layout::kPhaseO] = PlaceMatrix(region, p.groups, p.hidden, p.PanelCols(), panel_strips);
  p.matrix[layout::kPhaseGateUp] =
      PlaceMatrix(region, p.groups, 2 * ffn, p.hidden, ChooseStrips(2 * ffn, p.hidden, blocks));
  p.matrix[layout::kPhaseDown] = PlaceMatrix(region, p.groups, p.hidden, ffn, panel_strips);
  p.layer_bytes = region.end();
  region.Skip((p.num_layers - 1) * p.layer_bytes);
  const PackedMatrix head = PlaceMatrix(region, 1, p.vocab, p.hidden, 2);
  p.matrix[layout::kPhaseHead] = head;
  p.embedding = tied ? head : PlaceMatrix(region, 1, p.vocab, p.hidden, 2);
  p.head_scale = region.Place(std::int64_t{4} * head.group_rows);
  p.embedding_scale = tied ? p.head_scale : region.Place(std::int64_t{4} * p.embedding.group_rows);
  p.final_norm = region.Place(std::int64_t{4} * p.hidden);
  p.vector = PlaceVectors(p);
  p.vectors = region.Place(std::int64_t{4} * p.num_layers * p.vector.total);
  p.weight_bytes = region.end();
}

void PlaceWorkspace(Program& p) {
  Region region(1024);
  const std::int64_t rows = p.max_rows, groups = p.groups, lanes = p.max_lanes;
  layout::WorkspaceOffsets& w = p.workspace;
  w.sums = region.Place(2 * rows * p.hidden * 8);
  w.qkv = region.Place(groups * rows * p.QkvRows() * 8);
  w.partial = region.Place(groups * p.max_items * p.q_per_kv * (p.head_dim + 2) * 8);
  w.attention = region.Place(groups * rows * p.PanelCols() / 2 * 8);
  w.act = region.Place(groups * rows * p.FfnPerGroup() / 2 * 8);
  w.candidates = region.Place(p.num_blocks * rows * 16);
  w.tokens = region.Place(2 * rows * 8);
  w.steps = region.Place(2 * layout::kStepPackets * 8);
  w.logits = region.Place(rows * p.matrix[layout::kPhaseHead].group_rows * 4);
  w.scheduler = region.Place(sizeof(layout::SchedulerState));
  w.samplings = region.Place(lanes * static_cast<std::int64_t>(sizeof(layout::LaneSampling)));
  w.page_table = region.Place(lanes * p.max_pages * 4);
  w.trace = region.Place(std::int64_t{p.num_blocks} * layout::kTraceWords * 8);
  w.total = region.end();
}

bool PlaceShared(std::int32_t shared_bytes, Program& p) {
  // Chunk tasks of one row group of the busiest phase: a pass takes at least one row group.
  p.task_capacity = 1;
  for (int phase = 0; phase < layout::kPhaseHead; ++phase) {
    const PackedMatrix& m = p.matrix[phase];
    p.task_capacity = std::max(p.task_capacity, m.cols / layout::kChunkCols * m.strips / 2);
  }
  // 16 bytes more than a row: rows then start in different banks.
  p.act_stride = 2 * p.hidden + 16;
  p.panel_stride = 2 * std::max(p.PanelCols(), p.FfnPerGroup()) + 16;
  const PackedMatrix& o = p.matrix[layout::kPhaseO];
  const std::int32_t owned = (o.RowGroups() + p.blocks_per_group - 1) / p.blocks_per_group * o.RowsPerRowGroup();
  p.own_cols = (owned + p.groups - 1) / p.groups + 1;
  p.held = PlaceHeld(p);
  p.squares_stride = static_cast<std::int32_t>(RoundUp(p.hidden / 64, 4));
  for (p.num_slots = kMostSlots;; --p.num_slots) {
    p.shared = SharedPlaces(p);
    if (p.shared.total <= shared_bytes) return true;
    if (p.num_slots == kLeastSlots) return false;
  }
}

}  // namespace megakernel::host
