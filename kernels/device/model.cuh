// The sizes that a kernel instance is compiled for. AnyModel reads them from the program, so every supported shape
// runs; an instance with sizes compiled in (FixedModel) runs the same code with its index arithmetic folded.
#pragma once

#include "kernels/device/block.cuh"

namespace megakernel::device {

template <int kHeadDimValue>
struct AnyModel {
  static constexpr int kHeadDim = kHeadDimValue;
  static constexpr int kMostColumnRounds = 4;  // hidden <= 64 * 16 * 4
  static constexpr bool kWholeRounds = false;  // hidden is a multiple of 64 * 16
  static constexpr int kMostTasks = 3;         // of a warp, held in registers before a phase's activations are there

  __device__ static std::int32_t Layers() { return kernel_args.program.num_layers; }
  __device__ static std::int32_t Hidden() { return kernel_args.program.hidden; }
  __device__ static std::int32_t Groups() { return kernel_args.program.groups; }
  __device__ static std::int32_t QueryHeads() { return kernel_args.program.q_per_kv; }
  __device__ static std::int32_t FfnPerGroup() { return kernel_args.program.FfnPerGroup(); }
  __device__ static std::int32_t BlocksPerGroup() { return kernel_args.program.blocks_per_group; }
  __device__ static bool QkNorm() { return kernel_args.program.qk_norm != 0; }
  __device__ static bool QkvBias() { return kernel_args.program.qkv_bias != 0; }
  __device__ static std::int32_t QkvRows() { return (QueryHeads() + 2) * kHeadDim; }

  template <int kPhase>
  __device__ static std::int32_t RowGroups() {
    return State().shares[kPhase].row_groups;
  }
  template <int kPhase>
  __device__ static std::int32_t TilesPerGroup() {
    return State().shares[kPhase].tiles_per_group;
  }
  template <int kPhase>
  __device__ static std::int32_t TileCols() {
    return State().shares[kPhase].tile_cols;
  }
  template <int kPhase>
  __device__ static std::int32_t LastCols() {
    return State().shares[kPhase].last_cols;
  }
  template <int kPhase>
  __device__ static std::int32_t HalvesLog2() {
    return State().shares[kPhase].halves_log2;
  }
  template <int kPhase>
  __device__ static std::int32_t Chunks() {
    return State().shares[kPhase].chunks;
  }
  template <int kPhase>
  __device__ static std::int32_t GroupsPerPass(bool one_row) {
    return State().shares[kPhase].groups_per_pass << (one_row ? 2 : 0);  // one column needs less than a quarter
  }
  // tile / TilesPerGroup()
  template <int kPhase>
  __device__ static std::int32_t GroupOfTile(std::int32_t tile) {
    return (tile * State().shares[kPhase].tiles_magic) >> 16;
  }
};

// One model on one grid: constants of kernels/layout/program.h. `Sizes` has kHeadDim, kLayers, kHidden, kGroups,
// kQueryHeads, kFfn, kBlocksPerGroup, kQkNorm and the strips of the matrices (instances.cuh).
template <typename Sizes>
struct FixedModel {
  static constexpr int kHeadDim = Sizes::kHeadDim;
  static constexpr int kMostColumnRounds = (Sizes::kHidden / 64 + layout::kConsumerWarps - 1) / layout::kConsumerWarps;
  static constexpr bool kWholeRounds = Sizes::kHidden % (64 * layout::kConsumerWarps) == 0;
  static constexpr int kMostTasks = 3;

  // A group's part of a phase.
  MEGAKERNEL_HOST_DEVICE static constexpr layout::PackedMatrix Matrix(int phase) {
    const std::int32_t ffn = Sizes::kFfn / Sizes::kGroups;
    const std::int32_t rows = phase == layout::kPhaseQkv      ? (Sizes::kQueryHeads + 2) * kHeadDim
                              : phase == layout::kPhaseGateUp ? 2 * ffn
                                                              : Sizes::kHidden;
    const std::int32_t cols = phase == layout::kPhaseO      ? Sizes::kQueryHeads * kHeadDim
                              : phase == layout::kPhaseDown ? ffn
                                                            : Sizes::kHidden;
    const std::int32_t strips = phase == layout::kPhaseQkv      ? Sizes::kQkvStrips
                                : phase == layout::kPhaseGateUp ? Sizes::kGateUpStrips
                                                                : Sizes::kPanelStrips;
    return {0, Sizes::kGroups, (rows + 8 * strips - 1) / (8 * strips) * 8 * strips, cols, strips};
  }

  static constexpr __device__ std::int32_t Layers() { return Sizes::kLayers; }
  static constexpr __device__ std::int32_t Hidden() { return Sizes::kHidden; }
  static constexpr __device__ std::int32_t Groups() { return Sizes::kGroups; }
  static constexpr __device__ std::int32_t QueryHeads() { return Sizes::kQueryHeads; }
  static constexpr __device__ std::int32_t FfnPerGroup() { return Sizes::kFfn / Sizes::kGroups; }
  static constexpr __device__ std::int32_t BlocksPerGroup() { return Sizes::kBlocksPerGroup; }
  static constexpr __device__ bool QkNorm() { return Sizes::kQkNorm; }
  static constexpr __device__ bool QkvBias() { return false; }
  static constexpr __device__ std::int32_t QkvRows() { return (QueryHeads() + 2) * kHeadDim; }

  template <int kPhase>
  static __device__ std::int32_t RowGroups() {
    constexpr std::int32_t kAll = Matrix(kPhase).RowGroups();
    if constexpr (kAll % Sizes::kBlocksPerGroup == 0) return kAll / Sizes::kBlocksPerGroup;
    return State().shares[kPhase].row_groups;
  }
  template <int kPhase>
  static constexpr __device__ std::int32_t TilesPerGroup() {
    return Matrix(kPhase).TilesPerRowGroup();
  }
  template <int kPhase>
  static constexpr __device__ std::int32_t TileCols() {
    return Matrix(kPhase).TileCols();
  }
  template <int kPhase>
  static constexpr __device__ std::int32_t LastCols() {
    return Matrix(kPhase).LastTileCols();
  }
  template <int kPhase>
  static constexpr __device__ std::int32_t HalvesLog2() {
    return Matrix(kPhase).strips == 2 ? 0 : Matrix(kPhase).strips == 4 ? 1 : 2;
  }
  template <int kPhase>
  static constexpr __device__ std::int32_t Chunks() {
    return Matrix(kPhase).cols / layout::kChunkCols;
  }
  template <int kPhase>
  static __device__ std::int32_t GroupsPerPass(bool one_row) {
    return one_row ? RowGroups<kPhase>() : State().shares[kPhase].groups_per_pass;
  }
  template <int kPhase>
  static constexpr __device__ std::int32_t GroupOfTile(std::int32_t tile) {
    return tile / TilesPerGroup<kPhase>();
  }
};

// Whether a program is that model on that grid, and a pass of one row holds a whole phase's sums.
template <typename Sizes>
bool IsProgramOf(const layout::Program& p) {
  using Model = FixedModel<Sizes>;
  bool same = p.num_layers == Sizes::kLayers && p.hidden == Sizes::kHidden && p.groups == Sizes::kGroups &&
              p.q_per_kv == Sizes::kQueryHeads && p.head_dim == Sizes::kHeadDim && p.ffn == Sizes::kFfn &&
              p.blocks_per_group == Sizes::kBlocksPerGroup && (p.qk_norm != 0) == Sizes::kQkNorm && p.qkv_bias == 0;
  for (int phase = 0; phase < layout::kPhaseHead; ++phase) {
    const layout::PackedMatrix m = Model::Matrix(phase);
    const std::int32_t groups = (m.RowGroups() + Sizes::kBlocksPerGroup - 1) / Sizes::kBlocksPerGroup;
    const std::int32_t chunks = m.cols / layout::kChunkCols;
    const std::int32_t floats = groups * (m.strips / 2) * (16 * chunks + 8 * ((chunks + 3) / 4));
    same = same && p.matrix[phase].strips == m.strips && floats <= p.task_capacity * layout::kTaskRows * p.max_rows;
  }
  return same;
}

}  // namespace megakernel::device
