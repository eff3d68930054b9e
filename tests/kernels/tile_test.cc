// Layouts of weights and of KV pages: every element has exactly one place.
#include "kernels/layout/tile.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace megakernel::test {
namespace {

using layout::PackedMatrix;

struct MatrixCase {
  std::int32_t groups, group_rows, cols, strips;
};

// One part each of the presets' matrices, and narrow ones: full tiles only, a narrower last tile, less than one tile.
constexpr MatrixCase kMatrices[] = {
    {8, 512, 1024, 2}, {2, 1024, 256, 2}, {2, 768, 1024, 4}, {1, 1024, 384, 8}, {3, 320, 576, 2}, {3, 576, 192, 8},
    {2, 64, 64, 8},    {1, 512, 2048, 4}, {2, 192, 1216, 8}, {2, 48, 1216, 2},  {1, 64, 3072, 2}, {1, 64, 2560, 4},
};

TEST(PackedMatrixTest, EveryElementHasItsOwnTwoBytes) {
  for (const MatrixCase& c : kMatrices) {
    SCOPED_TRACE(testing::Message() << c.groups << " x [" << c.group_rows << ", " << c.cols << "], strips "
                                    << c.strips);
    const PackedMatrix m{0, c.groups, c.group_rows, c.cols, c.strips};
    ASSERT_EQ(m.Bytes(), std::int64_t{2} * c.groups * c.group_rows * c.cols);
    std::vector<int> uses(static_cast<std::size_t>(m.Bytes() / 2), 0);
    for (std::int32_t group = 0; group < c.groups; ++group) {
      for (std::int32_t row = 0; row < c.group_rows; ++row) {
        for (std::int32_t col = 0; col < c.cols; ++col) {
          const std::int64_t offset = m.ElementOffset(group, row, col);
          ASSERT_TRUE(offset >= 0 && offset < m.Bytes() && offset % 2 == 0) << group << " " << row << " " << col;
          ASSERT_EQ(uses[static_cast<std::size_t>(offset / 2)]++, 0) << group << " " << row << " " << col;
        }
      }
    }
  }
}

TEST(PackedMatrixTest, EightColumnsAreContiguousAndATileIsOneRange) {
  for (const MatrixCase& c : kMatrices) {
    SCOPED_TRACE(testing::Message() << "[" << c.group_rows << ", " << c.cols << "], strips " << c.strips);
    const PackedMatrix m{0, c.groups, c.group_rows, c.cols, c.strips};
    EXPECT_LE(16 * m.strips * m.TileCols(), layout::kTileBytes);
    EXPECT_EQ(m.TileCols() % layout::kChunkCols, 0);
    EXPECT_EQ(m.LastTileCols() % layout::kChunkCols, 0);
    EXPECT_EQ((m.TilesPerRowGroup() - 1) * m.TileCols() + m.LastTileCols(), m.cols);
    for (std::int32_t row = 0; row < c.group_rows; ++row) {
      for (std::int32_t col = 0; col < c.cols; ++col) {
        const std::int64_t offset = m.ElementOffset(0, row, col);
        ASSERT_EQ(offset, m.ElementOffset(0, row, col / 8 * 8) + 2 * (col % 8));
        const std::int64_t tile = row / m.RowsPerRowGroup() * m.RowGroupBytes() +
                                  std::int64_t{16} * m.strips * (col / m.TileCols() * m.TileCols());
        const std::int32_t width = col / m.TileCols() + 1 == m.TilesPerRowGroup() ? m.LastTileCols() : m.TileCols();
        ASSERT_TRUE(offset >= tile && offset < tile + std::int64_t{16} * m.strips * width) << row << " " << col;
      }
    }
  }
}

TEST(RowGroupShareTest, SharesFollowOneAnotherAndAreEven) {
  for (std::int32_t row_groups : {1, 3, 7, 16, 64, 9496}) {
    for (std::int32_t members : {1, 8, 16, 44, 132}) {
      std::int32_t next = 0;
      for (std::int32_t member = 0; member < members; ++member) {
        const layout::RowGroupShare share = layout::ShareOf(row_groups, member, members);
        ASSERT_EQ(share.first, next);
        ASSERT_TRUE(share.count == row_groups / members || share.count == (row_groups + members - 1) / members);
        next += share.count;
      }
      EXPECT_EQ(next, row_groups);
    }
  }
}

TEST(KvElementTest, PositionsArePermutations) {
  for (const std::int32_t head_dim : {64, 128}) {
    std::vector<int> keys(static_cast<std::size_t>(head_dim), 0), values(static_cast<std::size_t>(head_dim), 0);
    for (std::int32_t i = 0; i < head_dim; ++i) {
      const std::int32_t key = layout::KeyElementPosition(i), value = layout::ValueElementPosition(i);
      ASSERT_TRUE(key >= 0 && key < head_dim && value >= 0 && value < head_dim) << i;
      EXPECT_EQ(keys[static_cast<std::size_t>(key)]++, 0) << i;
      EXPECT_EQ(values[static_cast<std::size_t>(value)]++, 0) << i;
    }
  }
}

}  // namespace
}  // namespace megakernel::test
