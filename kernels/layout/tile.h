// How a weight matrix lies in GPU memory: one packing for every number of rows in a step.
//
// A matrix has `groups` parts (one per KV head, or one), each [group_rows, cols] in fp16. A part is cut into row groups
// of 8 * strips rows, a row group into tiles of at most 16 KiB: 8 * strips rows x TileCols() columns (the last tile of
// a row group may be narrower). A tile is one bulk copy. Inside, strip after strip of 8 rows; in a strip, 16-byte
// pieces ordered [column / 8][row]: 8 rows x 8 columns are 128 contiguous bytes, the core matrix of ldmatrix and wgmma.
// Rows beyond the matrix are zero.
#pragma once

#include <cstdint>

#include "kernels/layout/numerics.h"

namespace megakernel::layout {

inline constexpr int kTileBytes = 16384;

struct PackedMatrix {
  std::int64_t offset = 0;      // bytes from the start of the layer's weights (LM head: of the arena)
  std::int32_t groups = 0;      // parts
  std::int32_t group_rows = 0;  // rows of a part, a multiple of 8 * strips
  std::int32_t cols = 0;        // k of a part, a multiple of 64
  std::int32_t strips = 0;      // 2, 4 or 8

  MEGAKERNEL_HOST_DEVICE constexpr std::int32_t RowsPerRowGroup() const { return 8 * strips; }
  MEGAKERNEL_HOST_DEVICE constexpr std::int32_t RowGroups() const { return group_rows / (8 * strips); }
  // Columns of a full tile.
  MEGAKERNEL_HOST_DEVICE constexpr std::int32_t TileCols() const {
    return kTileBytes / (16 * strips) < cols ? kTileBytes / (16 * strips) : cols;
  }
  MEGAKERNEL_HOST_DEVICE constexpr std::int32_t TilesPerRowGroup() const {
    return (cols + TileCols() - 1) / TileCols();
  }
  // Columns of the last tile of a row group.
  MEGAKERNEL_HOST_DEVICE constexpr std::int32_t LastTileCols() const {
    return cols - (TilesPerRowGroup() - 1) * TileCols();
  }
  MEGAKERNEL_HOST_DEVICE constexpr std::int64_t RowGroupBytes() const { return std::int64_t{16} * strips * cols; }
  MEGAKERNEL_HOST_DEVICE constexpr std::int64_t GroupBytes() const { return std::int64_t{2} * group_rows * cols; }
  MEGAKERNEL_HOST_DEVICE constexpr std::int64_t Bytes() const { return groups * GroupBytes(); }

  // Bytes from the start of the matrix to element (group, row, col). Runs of 8 columns are contiguous.
  MEGAKERNEL_HOST_DEVICE constexpr std::int64_t ElementOffset(std::int32_t group, std::int32_t row,
                                                              std::int32_t col) const {
    const std::int32_t rows = 8 * strips;
    const std::int32_t tile = col / TileCols();
    const std::int32_t width = tile == TilesPerRowGroup() - 1 ? LastTileCols() : TileCols();
    const std::int32_t inside = col - tile * TileCols();
    return group * GroupBytes() + (row / rows) * RowGroupBytes() + std::int64_t{tile} * (16 * strips) * TileCols() +
           (row % rows) / 8 * (16 * width) + inside / 8 * 128 + row % 8 * 16 + inside % 8 * 2;
  }
};

// Row groups [first, first + count) of a part that member `member` of `members` blocks computes.
struct RowGroupShare {
  std::int32_t first = 0;
  std::int32_t count = 0;
};
MEGAKERNEL_HOST_DEVICE constexpr RowGroupShare ShareOf(std::int32_t row_groups, std::int32_t member,
                                                       std::int32_t members) {
  const std::int32_t first = static_cast<std::int32_t>(std::int64_t{row_groups} * member / members);
  const std::int32_t end = static_cast<std::int32_t>(std::int64_t{row_groups} * (member + 1) / members);
  return {first, end - first};
}

// Where element `index` of a head's key (value) vector lies in its slot of a KV page, so that a lane of a tensor-core
// product reads its part with 16-byte loads. Keys: [pair of k16 steps][lane % 4][step][half][2]. Values:
// [64 elements][index % 8][index / 8].
MEGAKERNEL_HOST_DEVICE constexpr std::int32_t KeyElementPosition(std::int32_t index) {
  const std::int32_t step = index / 16, inside = index % 16;
  return step / 2 * 32 + inside % 8 / 2 * 8 + step % 2 * 4 + inside / 8 * 2 + inside % 2;
}
MEGAKERNEL_HOST_DEVICE constexpr std::int32_t ValueElementPosition(std::int32_t index) {
  return index / 64 * 64 + index % 8 * 8 + index % 64 / 8;
}

}  // namespace megakernel::layout
