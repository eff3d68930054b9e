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
//   kQ4Wide, kQ8Wide  [16] fp32 scales, [16] fp32 minima, nibbles or int8; value = scale * code + minimum. For types
//   whose
//           scale is a product, which fp16 would round
//   kQ8Halves  [2][16] fp32 scales, of columns 0 to 15 and 16 to 31; int8 as kQ8
//   kF16, kBF16, kF32  [32 columns][16 rows]
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/model/model.h"

namespace megakernel::cpu {

enum class TileKind { kQ4, kQ4Min, kQ8, kQ4Wide, kQ8Wide, kQ8Halves, kF16, kBF16, kF32 };

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
    case TileKind::kQ4Wide:
      return 128 + 256;
    case TileKind::kQ8Wide:
    case TileKind::kQ8Halves:
      return 128 + 512;
    case TileKind::kF16:
    case TileKind::kBF16:
      return 1024;
    case TileKind::kF32:
      return 2048;
  }
  return 0;
}

constexpr bool HoldsIntegers(TileKind kind) {
  return kind < TileKind::kF16;
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

// The kind that keeps a tensor's values exactly: fp32 when `as_float`, else the smallest that the kernels have. Bytes a
// weight in memory and in the file: Q4_0, Q4_1, Q8_0, F16, BF16, F32 as in the file; Q4_K 0.75 (0.56); Q5_0 and IQ4_NL
// 1.06 (0.69 and 0.56); Q5_1, Q5_K and Q6_K 1.25 (0.75, 0.69 and 0.82).
TileKind KindFor(const TensorView& tensor, bool as_float);

// Shape and size only; `data` stays null.
PackedMatrix ShapeOf(const TensorView& tensor, TileKind kind);

// Fills strips [first, last) of `target`, which must lie where matrix.data will point and be 64-byte aligned.
void PackStrips(const TensorView& tensor, const PackedMatrix& matrix, std::int32_t first, std::int32_t last,
                std::byte* target);

}  // namespace megakernel::cpu
