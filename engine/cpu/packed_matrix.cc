#include "engine/cpu/packed_matrix.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/cpu/half.h"

namespace megakernel::cpu {
namespace {

constexpr int kBlock = 32;  // elements of a Q4_0, Q4_1 or Q8_0 block

// Source: ggml's block_q4_0 {d, qs[16]}, block_q4_1 {d, m, qs[16]}, block_q8_0 {d, qs[32]}; the low nibble of qs[i] is
// element i, the high one element i + 16.
int Nibble(const std::uint8_t* quants, int column) {
  return column < 16 ? quants[column] & 15 : quants[column - 16] >> 4;
}

void PutHalf(std::byte* target, int index, const std::byte* source) {
  std::memcpy(target + 2 * index, source, 2);
}

void PackQ4(const std::byte* block, int lane, bool has_minimum, std::byte* tile) {
  PutHalf(tile, lane, block);
  if (has_minimum) PutHalf(tile + 32, lane, block + 2);
  const auto* quants = reinterpret_cast<const std::uint8_t*>(block + (has_minimum ? 4 : 2));
  std::byte* words = tile + (has_minimum ? 64 : 32);
  for (int group = 0; group < 4; ++group) {
    for (int j = 0; j < 2; ++j) {
      std::uint16_t word = 0;
      for (int n = 0; n < 4; ++n) word |= static_cast<std::uint16_t>(Nibble(quants, 8 * group + 2 * n + j) << (4 * n));
      std::memcpy(words + 64 * group + 4 * lane + 2 * j, &word, 2);
    }
  }
}

void PackQ8(const std::byte* block, int lane, std::byte* tile) {
  PutHalf(tile, lane, block);
  for (int pair = 0; pair < 16; ++pair) std::memcpy(tile + 32 + 32 * pair + 2 * lane, block + 2 + 2 * pair, 2);
}

void PackPlain(const std::byte* elements, int count, int element_bytes, int lane, std::byte* tile) {
  for (int column = 0; column < count; ++column) {
    std::memcpy(tile + element_bytes * (kTileRows * column + lane), elements + element_bytes * column, element_bytes);
  }
}

void PackRow(const TensorView& tensor, const PackedMatrix& matrix, std::int32_t row, std::vector<float>& floats,
             std::byte* strip) {
  const std::byte* source = tensor.data + row * tensor.RowBytes();
  const int lane = row % kTileRows;
  if (matrix.kind == TileKind::kF32 && tensor.type != TensorType::kF32) {
    DequantizeRow(tensor, row, floats.data());
    source = reinterpret_cast<const std::byte*>(floats.data());
  }
  for (std::int32_t b = 0; b < matrix.num_blocks; ++b) {
    std::byte* tile = strip + b * TileBytes(matrix.kind);
    const int count = std::min(kTileCols, matrix.cols - b * kTileCols);
    switch (matrix.kind) {
      case TileKind::kQ4:
      case TileKind::kQ4Min:
      case TileKind::kQ8: {
        const std::byte* block = source + std::int64_t{b} * BlockBytes(tensor.type);
        matrix.kind == TileKind::kQ8 ? PackQ8(block, lane, tile)
                                     : PackQ4(block, lane, matrix.kind == TileKind::kQ4Min, tile);
        break;
      }
      case TileKind::kF16:
      case TileKind::kBF16:
        PackPlain(source + std::int64_t{b} * kTileCols * 2, count, 2, lane, tile);
        break;
      case TileKind::kF32:
        PackPlain(source + std::int64_t{b} * kTileCols * 4, count, 4, lane, tile);
        break;
    }
  }
}

}  // namespace

TileKind KindFor(const TensorView& tensor, bool as_float) {
  if (as_float) return TileKind::kF32;
  static_assert(kBlock == kTileCols);
  switch (tensor.type) {
    case TensorType::kQ4_0:
      return TileKind::kQ4;
    case TensorType::kQ4_1:
      return TileKind::kQ4Min;
    case TensorType::kQ8_0:
      return TileKind::kQ8;
    case TensorType::kF16:
      return TileKind::kF16;
    case TensorType::kBF16:
      return TileKind::kBF16;
    default:
      return TileKind::kF32;
  }
}

PackedMatrix ShapeOf(const TensorView& tensor, TileKind kind) {
  PackedMatrix matrix;
  matrix.kind = kind;
  matrix.rows = static_cast<std::int32_t>(tensor.rows);
  matrix.cols = static_cast<std::int32_t>(tensor.cols);
  matrix.num_strips = static_cast<std::int32_t>(RoundUp(tensor.rows, kTileRows) / kTileRows);
  matrix.num_blocks = static_cast<std::int32_t>(RoundUp(tensor.cols, kTileCols) / kTileCols);
  return matrix;
}

void PackStrips(const TensorView& tensor, const PackedMatrix& matrix, std::int32_t first, std::int32_t last,
                std::byte* target) {
  std::vector<float> floats(static_cast<std::size_t>(tensor.cols));
  for (std::int32_t s = first; s < last; ++s) {
    std::byte* strip = target + s * matrix.StripBytes();
    std::memset(strip, 0, static_cast<std::size_t>(matrix.StripBytes()));
    const std::int32_t end = std::min((s + 1) * kTileRows, matrix.rows);
    for (std::int32_t row = s * kTileRows; row < end; ++row) PackRow(tensor, matrix, row, floats, strip);
  }
}

}  // namespace megakernel::cpu
