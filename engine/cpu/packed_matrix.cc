#include "engine/cpu/packed_matrix.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "engine/cpu/half.h"
#include "engine/model/half.h"
#include "engine/model/k_quants.h"

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

void PutFloat(std::byte* target, int index, float value) {
  std::memcpy(target + 4 * index, &value, 4);
}

void PutCode(std::byte* tile, int lane, int column, int code) {
  tile[128 + 32 * (column / 2) + 2 * lane + column % 2] = static_cast<std::byte>(code);
}

// Q5_0 and IQ4_NL: codes of more than 4 bits, or of a table, under the file's own fp16 scale.
void PackAsQ8(TensorType type, const std::byte* block, int lane, std::byte* tile) {
  PutHalf(tile, lane, block);
  const auto* quants = reinterpret_cast<const std::uint8_t*>(block + (type == TensorType::kQ5_0 ? 6 : 2));
  std::uint32_t fifth = 0;
  if (type == TensorType::kQ5_0) std::memcpy(&fifth, block + 2, 4);
  for (int column = 0; column < kTileCols; ++column) {
    const int nibble = Nibble(quants, column);
    const int code =
        type == TensorType::kQ5_0 ? (nibble | static_cast<int>(fifth >> column & 1) << 4) - 16 : kIq4Values[nibble];
    tile[32 + 32 * (column / 2) + 2 * lane + column % 2] = static_cast<std::byte>(code);
  }
}

void PackQ5Min(const std::byte* block, int lane, std::byte* tile) {
  std::uint16_t halves[2];
  std::uint32_t fifth = 0;
  std::memcpy(halves, block, 4);
  std::memcpy(&fifth, block + 4, 4);
  PutFloat(tile, lane, HalfToFloat(halves[0]));
  PutFloat(tile + 64, lane, HalfToFloat(halves[1]));
  const auto* quants = reinterpret_cast<const std::uint8_t*>(block + 8);
  for (int column = 0; column < kTileCols; ++column) {
    PutCode(tile, lane, column, Nibble(quants, column) | static_cast<int>(fifth >> column & 1) << 4);
  }
}

// Columns [32 part, 32 part + 32) of a block of 256.
void PackSuperBlock(TensorType type, const std::byte* block, int part, int lane, std::byte* tile) {
  if (type == TensorType::kQ6_K) {
    Q6Block whole;
    ReadQ6K(block, whole);
    PutFloat(tile, lane, whole.scales[2 * part]);
    PutFloat(tile + 64, lane, whole.scales[2 * part + 1]);
    for (int column = 0; column < kTileCols; ++column)
      PutCode(tile, lane, column, whole.codes[kTileCols * part + column]);
    return;
  }
  const BlockPart values = type == TensorType::kQ4_K ? ReadQ4KPart(block, part) : ReadQ5KPart(block, part);
  PutFloat(tile, lane, values.scale);
  PutFloat(tile + 64, lane, values.minimum);
  for (int column = 0; column < kTileCols; ++column) {
    if (type == TensorType::kQ5_K) {
      PutCode(tile, lane, column, values.codes[column]);
      continue;
    }
    std::byte* word = tile + 128 + 64 * (column / 8) + 4 * lane + 2 * (column % 2);
    const int bit = 4 * (column % 8 / 2);  // of the 16-bit word
    word[bit / 8] |= static_cast<std::byte>(values.codes[column] << bit % 8);
  }
}

// One block of 32 columns of a row of a quantised type.
void PackBlock(TensorType type, const std::byte* row, std::int32_t block, int lane, std::byte* tile) {
  if (BlockElements(type) == kSuperBlock) {
    constexpr int kParts = kSuperBlock / kTileCols;
    return PackSuperBlock(type, row + std::int64_t{block / kParts} * BlockBytes(type), block % kParts, lane, tile);
  }
  const std::byte* bytes = row + std::int64_t{block} * BlockBytes(type);
  switch (type) {
    case TensorType::kQ8_0:
      return PackQ8(bytes, lane, tile);
    case TensorType::kQ5_0:
    case TensorType::kIQ4_NL:
      return PackAsQ8(type, bytes, lane, tile);
    case TensorType::kQ5_1:
      return PackQ5Min(bytes, lane, tile);
    default:
      return PackQ4(bytes, lane, type == TensorType::kQ4_1, tile);
  }
}

template <class T>
void PackPlain(const std::byte* elements, int count, int lane, std::byte* tile) {
  for (int column = 0; column < count; ++column) {
    std::memcpy(tile + sizeof(T) * (kTileRows * column + lane), elements + sizeof(T) * column, sizeof(T));
  }
}

// The part of one row, whose bytes are `source`, that lies in block `b`.
void PackTileRow(TensorType type, const PackedMatrix& matrix, const std::byte* source, std::int32_t b, int lane,
                 std::byte* tile) {
  const int count = std::min(kTileCols, matrix.cols - b * kTileCols);
  switch (matrix.kind) {
    case TileKind::kF16:
    case TileKind::kBF16:
      return PackPlain<std::uint16_t>(source + std::int64_t{b} * kTileCols * 2, count, lane, tile);
    case TileKind::kF32:
      return PackPlain<float>(source + std::int64_t{b} * kTileCols * 4, count, lane, tile);
    default:
      PackBlock(type, source, b, lane, tile);
  }
}

// Tile by tile, so that the tile stays in the cache while its 16 rows come in. `rows`: the bytes of the strip's rows.
void PackStrip(TensorType type, const PackedMatrix& matrix, std::span<const std::byte* const> rows, std::byte* strip) {
  for (std::int32_t b = 0; b < matrix.num_blocks; ++b) {
    std::byte* tile = strip + b * TileBytes(matrix.kind);
    std::memset(tile, 0, static_cast<std::size_t>(TileBytes(matrix.kind)));
    for (std::size_t lane = 0; lane < rows.size(); ++lane) {
      PackTileRow(type, matrix, rows[lane], b, static_cast<int>(lane), tile);
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
    case TensorType::kQ5_0:
    case TensorType::kIQ4_NL:
      return TileKind::kQ8;
    case TensorType::kQ4_K:
      return TileKind::kQ4Wide;
    case TensorType::kQ5_1:
    case TensorType::kQ5_K:
      return TileKind::kQ8Wide;
    case TensorType::kQ6_K:
      return TileKind::kQ8Halves;
    case TensorType::kF16:
      return TileKind::kF16;
    case TensorType::kBF16:
      return TileKind::kBF16;
    case TensorType::kF32:
      return TileKind::kF32;
  }
  return TileKind::kF32;
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
  const bool convert = matrix.kind == TileKind::kF32 && tensor.type != TensorType::kF32;
  std::vector<float> floats(convert ? static_cast<std::size_t>(tensor.cols) * kTileRows : 0);
  const std::byte* rows[kTileRows];
  for (std::int32_t s = first; s < last; ++s) {
    const std::int32_t begin = s * kTileRows;
    const std::int32_t count = std::min(kTileRows, matrix.rows - begin);
    for (std::int32_t lane = 0; lane < count; ++lane) {
      float* converted = floats.data() + (convert ? lane * tensor.cols : 0);
      if (convert) DequantizeRow(tensor, begin + lane, converted);
      rows[lane] = convert ? reinterpret_cast<const std::byte*>(converted)
                           : tensor.data + std::int64_t{begin + lane} * tensor.RowBytes();
    }
    PackStrip(tensor.type, matrix, {rows, static_cast<std::size_t>(count)}, target + s * matrix.StripBytes());
  }
}

}  // namespace megakernel::cpu
