// A matrix in the order in which the CPU kernels read it.
//
// A strip is 16 rows; a tile is a strip's part of 32 columns; a strip's tiles follow each other, strips follow each
// other. So the 16 scales of a tile are one vector, the 16 sums of a tile are one vector, and no sum ever crosses
// lanes: every output is one chain over ascending tiles, whatever the instruction set, thread or batch.
// Rows and columns beyond the matrix are zero. Tile layouts (bytes as in the file, only their order differs):
//   kQ4     [16] fp16 scales, then nibbles;             value = scale * (nibble - 8)
//   kQ4Min  [16] fp16 scales, [16] fp16 minima, nibbles; value = scale * nibble + minimum
//           nibbles: [4 groups of 8 columns][16 rows][2] 16-bit words; bits 4n.. of word j of a group's row hold column
//           2n + j of the group
//   kQ8     [16] fp16 scales, [16 column pairs][16 rows][2] int8; value = scale * int8
//   kF16, kBF16, kF32  [32 columns][16 rows]
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/model/model.h"

namespace megakernel::cpu {

enum class TileKind { kQ4, kQ4Min, kQ8, kF16, kBF16, kF32 };

inline constexpr int kTileRows = 16;
inline constexpr int kTileCols = 32;

constexpr std::int64_t TileBytes(TileKind kind) {
  switch (kind) {
    case TileKind::kQ4:
      return 32 + 256;
    case TileKind::kQ4Min:
      return 64 + 256;
    case TileKind::kQ8:
      return 32 + 512;
    case TileKind::kF16:
    case TileKind::kBF16:
      return 1024;
    case TileKind::kF32:
      return 2048;
  }
  return 0;
}

constexpr bool HoldsIntegers(TileKind kind) {
  return kind == TileKind::kQ4 || kind == TileKind::kQ4Min || kind == TileKind::kQ8;
}

constexpr std::int64_t RoundUp(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Does not own `data`.
struct PackedMatrix {
  TileKind kind = TileKind::kF32;
  std::int32_t rows = 0;
  std::int32_t cols = 0;
  std::int32_t num_strips = 0;
  std::int32_t num_blocks = 0;  // tiles of a strip
  const std::byte* data = nullptr;

  std::int64_t StripBytes() const { return num_blocks * TileBytes(kind); }
  std::int64_t Bytes() const { return num_strips * StripBytes(); }
  const std::byte* Strip(std::int32_t strip) const { return data + strip * StripBytes(); }
};

// The kind that keeps a tensor's values exactly: its own layout where there is one, fp32 for the rest and when
// `as_float`.
TileKind KindFor(const TensorView& tensor, bool as_float);

// Shape and size only; `data` stays null.
PackedMatrix ShapeOf(const TensorView& tensor, TileKind kind);

// Fills strips [first, last) of `target`, which must lie where matrix.data will point and be 64-byte aligned.
void PackStrips(const TensorView& tensor, const PackedMatrix& matrix, std::int32_t first, std::int32_t last,
                std::byte* target);

}  // namespace megakernel::cpu
