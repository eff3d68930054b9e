// Matrix products over a sixteen-lane vector. Included by one translation unit per instruction set.
//
// Three loops, one arithmetic (kernel_table.h):
//   few rows of integers   unpack a tile in registers for up to kPassRows rows at a time
//   many rows of integers  unpack kChunkBlocks tiles of a strip to int16 (they stay in L1), stream the rows over them
//   floats                 acc = fma(w, x, acc) over ascending columns; one row takes four strips at a time, so that
//                          enough chains are in flight
#pragma once

#include "engine/cpu/kernel_table.h"

namespace megakernel::cpu {
namespace {

template <class V>
struct MatmulBody {
  using F = typename V::F;
  using I = typename V::I;
  using W = typename V::W;
  static constexpr int kMaxRows = V::kPassRows;
  // Rows above which unpacking a strip once is cheaper than unpacking it in registers for every kMaxRows rows.
  static constexpr int kUnpackAbove = 3 * kMaxRows;
  static constexpr int kPrefetchBytes = 4096;

  static const std::uint16_t* Halves(const std::byte* p) { return reinterpret_cast<const std::uint16_t*>(p); }

  // Where the codes of a tile begin, and how they are written.
  static constexpr bool HasNibbles(TileKind kind) {
    return kind == TileKind::kQ4 || kind == TileKind::kQ4Min || kind == TileKind::kQ4Wide;
  }
  static constexpr bool IsWide(TileKind kind) { return kind >= TileKind::kQ4Wide && kind <= TileKind::kQ8Halves; }
  static constexpr bool HasMinimum(TileKind kind) { return kind != TileKind::kQ8 && kind != TileKind::kQ8Halves; }
  static constexpr int CodesAt(TileKind kind) { return IsWide(kind) ? 128 : kind == TileKind::kQ4Min ? 64 : 32; }

  template <int kRows>
  static inline __attribute__((always_inline)) void Step(W w, const std::int16_t* const* a, int column, I* sum) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sum[r] = V::MultiplyAdd(sum[r], w, V::Pair(a[r] + column));
  }

  template <int kRows>
  static inline __attribute__((always_inline)) void SumsQ4(const std::byte* words, const std::int16_t* const* a,
                                                           I* sum) {
#pragma GCC unroll 4
    for (int group = 0; group < 4; ++group) {
      const W w = V::LoadW(words + 64 * group);
      Step<kRows>(V::template Nibble<0>(w), a, 8 * group, sum);
      Step<kRows>(V::template Nibble<1>(w), a, 8 * group + 2, sum);
      Step<kRows>(V::template Nibble<2>(w), a, 8 * group + 4, sum);
      Step<kRows>(V::template Nibble<3>(w), a, 8 * group + 6, sum);
    }
  }

  // Column pairs [kFirst, kLast).
  template <int kRows, int kFirst = 0, int kLast = 16>
  static inline __attribute__((always_inline)) void SumsQ8(const std::byte* pairs, const std::int16_t* const* a,
                                                           I* sum) {
#pragma GCC unroll 16
    for (int p = kFirst; p < kLast; ++p) {
      Step<kRows>(V::Widen(reinterpret_cast<const std::int8_t*>(pairs) + 32 * p), a, 2 * p, sum);
    }
  }

  static inline __attribute__((always_inline)) F Scales(TileKind kind, const std::byte* tile) {
    return IsWide(kind) ? V::Load(reinterpret_cast<const float*>(tile)) : V::LoadHalf(Halves(tile));
  }

  // Of kQ8Halves: the scales of the second half.
  static inline __attribute__((always_inline)) F Minima(TileKind kind, const std::byte* tile, F scales) {
    if (IsWide(kind)) return V::Load(reinterpret_cast<const float*>(tile + 64));
    if (kind == TileKind::kQ4Min) return V::LoadHalf(Halves(tile + 32));
    return V::Mul(scales, V::Set1(-8.0f));  // Q4_0: scale * (q - 8)
  }

  // acc[r] after one block.
  template <int kRows, bool kMinimum>
  static inline __attribute__((always_inline)) void AddBlock(const I* sum, F scales, F minima, const Activations* rows,
                                                             int block, F* acc) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F scale = V::Mul(scales, V::Set1(rows[r].scales[block]));
      acc[r] = V::Fma(V::ToFloat(sum[r]), scale, acc[r]);
      if constexpr (kMinimum) acc[r] = V::Fma(minima, V::Set1(rows[r].sums[block]), acc[r]);
    }
  }

  template <int kRows>
  static void Put(const MatmulCall& call, std::int32_t row, std::int32_t strip, const F* acc) {
    for (int r = 0; r < kRows; ++r) {
      float* out = call.out + (row + r) * call.out_stride + kTileRows * (strip - call.first_strip);
      V::Store(out, call.add ? V::Add(V::Load(out), acc[r]) : acc[r]);
    }
  }

  // The lines of a tile that will be read soon.
  template <TileKind kKind>
  static inline __attribute__((always_inline)) void Prefetch(const std::byte* tile) {
    for (int line = 0; line < TileBytes(kKind); line += 64) __builtin_prefetch(tile + line);
  }

  template <TileKind kKind, int kRows>
  static void FewRows(const MatmulCall& call, std::int32_t row, std::int32_t strip) {
    Activations rows[kRows];
    F acc[kRows];
    for (int r = 0; r < kRows; ++r) {
      rows[r] = call.input.Row(row + r);
      acc[r] = V::Set1(0.0f);
    }
    const PackedMatrix& matrix = *call.matrix;
    const std::byte* tile = matrix.Strip(strip);
    for (std::int32_t b = 0; b < matrix.num_blocks; ++b, tile += TileBytes(kKind)) {
      // The hardware's own prefetch stops at page borders and starts late on a new strip; this reaches over both.
      if (row == 0) Prefetch<kKind>(tile + kPrefetchBytes);
      const std::int16_t* a[kRows];
      I sum[kRows];
      for (int r = 0; r < kRows; ++r) {
        a[r] = rows[r].values + kTileCols * b;
        sum[r] = V::ZeroI();
      }
      const F scales = Scales(kKind, tile);
      if constexpr (kKind == TileKind::kQ8Halves) {
        SumsQ8<kRows, 0, 8>(tile + CodesAt(kKind), a, sum);
        AddBlock<kRows, false>(sum, scales, scales, rows, b, acc);
        for (int r = 0; r < kRows; ++r) sum[r] = V::ZeroI();
        SumsQ8<kRows, 8, 16>(tile + CodesAt(kKind), a, sum);
        const F second = Minima(kKind, tile, scales);
        AddBlock<kRows, false>(sum, second, second, rows, b, acc);
        continue;
      }
      if constexpr (HasNibbles(kKind)) {
        SumsQ4<kRows>(tile + CodesAt(kKind), a, sum);
      } else {
        SumsQ8<kRows>(tile + CodesAt(kKind), a, sum);
      }
      if constexpr (HasMinimum(kKind)) {
        AddBlock<kRows, true>(sum, scales, Minima(kKind, tile, scales), rows, b, acc);
      } else {
        AddBlock<kRows, false>(sum, scales, scales, rows, b, acc);
      }
    }
    Put<kRows>(call, row, strip, acc);
  }

  // Tiles [first, first + count) of a strip to int16 in the order [tile][column pair][16 rows][2].
  template <TileKind kKind>
  static void Unpack(const std::byte* tile, int count, MatmulScratch& scratch) {
    std::int16_t* out = scratch.weights;
    for (int b = 0; b < count; ++b, tile += TileBytes(kKind)) {
      const F scales = Scales(kKind, tile);
      V::Store(scratch.scales + kTileRows * b, scales);
      if constexpr (kKind != TileKind::kQ8) V::Store(scratch.minima + kTileRows * b, Minima(kKind, tile, scales));
      if constexpr (!HasNibbles(kKind)) {
        for (int p = 0; p < 16; ++p, out += 32) {
          V::StoreW(out, V::Widen(reinterpret_cast<const std::int8_t*>(tile) + CodesAt(kKind) + 32 * p));
        }
      } else {
        for (int group = 0; group < 4; ++group, out += 128) {
          const W w = V::LoadW(tile + CodesAt(kKind) + 64 * group);
          V::StoreW(out, V::template Nibble<0>(w));
          V::StoreW(out + 32, V::template Nibble<1>(w));
          V::StoreW(out + 64, V::template Nibble<2>(w));
          V::StoreW(out + 96, V::template Nibble<3>(w));
        }
      }
    }
  }

  // Adds unpacked tiles [first, first + count) to the sums of rows [row, row + kRows). The first rows fetch the tiles
  // that are unpacked next.
  template <TileKind kKind, int kRows>
  static void Pass(const MatmulCall& call, std::int32_t row, std::int32_t strip, std::int32_t first, int count) {
    MatmulScratch& scratch = *call.scratch;
    Activations rows[kRows];
    F acc[kRows];
    for (int r = 0; r < kRows; ++r) {
      rows[r] = call.input.Row(row + r);
      acc[r] = first == 0 ? V::Set1(0.0f) : V::Load(scratch.sums + kTileRows * (row + r));
    }
    const std::int16_t* weights = scratch.weights;
    const std::byte* next = call.matrix->Strip(strip) + (first + count) * TileBytes(kKind);
    for (int b = 0; b < count; ++b, next += TileBytes(kKind)) {
      if (row == 0) Prefetch<kKind>(next);
      const std::int16_t* a[kRows];
      I sum[kRows];
      for (int r = 0; r < kRows; ++r) {
        a[r] = rows[r].values + kTileCols * (first + b);
        sum[r] = V::ZeroI();
      }
      const F scales = V::Load(scratch.scales + kTileRows * b);
      const F minima = V::Load(scratch.minima + kTileRows * b);
      if constexpr (kKind == TileKind::kQ8Halves) {
#pragma GCC unroll 8
        for (int p = 0; p < 8; ++p, weights += 32) Step<kRows>(V::LoadW(weights), a, 2 * p, sum);
        AddBlock<kRows, false>(sum, scales, scales, rows, first + b, acc);
        for (int r = 0; r < kRows; ++r) sum[r] = V::ZeroI();
#pragma GCC unroll 8
        for (int p = 8; p < 16; ++p, weights += 32) Step<kRows>(V::LoadW(weights), a, 2 * p, sum);
        AddBlock<kRows, false>(sum, minima, minima, rows, first + b, acc);
      } else {
#pragma GCC unroll 16
        for (int p = 0; p < 16; ++p, weights += 32) Step<kRows>(V::LoadW(weights), a, 2 * p, sum);
        AddBlock<kRows, HasMinimum(kKind)>(sum, scales, minima, rows, first + b, acc);
      }
    }
    for (int r = 0; r < kRows; ++r) V::Store(scratch.sums + kTileRows * (row + r), acc[r]);
  }

  template <TileKind kKind, int kRows>
  static void PassTail(const MatmulCall& call, std::int32_t row, std::int32_t strip, std::int32_t first, int count) {
    if constexpr (kRows > 0) {
      if (call.num_rows - row == kRows) return Pass<kKind, kRows>(call, row, strip, first, count);
      PassTail<kKind, kRows - 1>(call, row, strip, first, count);
    }
  }

  template <TileKind kKind>
  static void ManyRows(const MatmulCall& call) {
    const PackedMatrix& matrix = *call.matrix;
    for (std::int32_t s = call.first_strip; s < call.first_strip + call.num_strips; ++s) {
      for (std::int32_t first = 0; first < matrix.num_blocks; first += kChunkBlocks) {
        const int count = matrix.num_blocks - first < kChunkBlocks ? matrix.num_blocks - first : kChunkBlocks;
        Unpack<kKind>(matrix.Strip(s) + first * TileBytes(kKind), count, *call.scratch);
        std::int32_t row = 0;
        for (; row + kMaxRows <= call.num_rows; row += kMaxRows) Pass<kKind, kMaxRows>(call, row, s, first, count);
        PassTail<kKind, kMaxRows - 1>(call, row, s, first, count);
      }
      for (std::int32_t row = 0; row < call.num_rows; ++row) {
        const F acc = V::Load(call.scratch->sums + kTileRows * row);
        Put<1>(call, row, s, &acc);
      }
    }
  }

  template <TileKind kKind>
  static inline __attribute__((always_inline)) F LoadColumn(const std::byte* tile, int column) {
    if constexpr (kKind == TileKind::kF16) return V::LoadHalf(Halves(tile) + kTileRows * column);
    if constexpr (kKind == TileKind::kBF16) return V::LoadBFloat(Halves(tile) + kTileRows * column);
    return V::Load(reinterpret_cast<const float*>(tile) + kTileRows * column);
  }

  // kStrips strips times kRows rows.
  template <TileKind kKind, int kStrips, int kRows>
  static void FloatPass(const MatmulCall& call, std::int32_t row, std::int32_t strip) {
    const PackedMatrix& matrix = *call.matrix;
    const std::byte* tiles[kStrips];
    const float* x[kRows];
    F acc[kStrips][kRows];
    for (int s = 0; s < kStrips; ++s) {
      tiles[s] = matrix.Strip(strip + s);
      for (int r = 0; r < kRows; ++r) acc[s][r] = V::Set1(0.0f);
    }
    for (int r = 0; r < kRows; ++r) x[r] = call.input.Row(row + r).floats;
    for (std::int32_t b = 0; b < matrix.num_blocks; ++b) {
      for (int column = 0; column < kTileCols; ++column) {
#pragma GCC unroll 4
        for (int s = 0; s < kStrips; ++s) {
          const F w = LoadColumn<kKind>(tiles[s] + b * TileBytes(kKind), column);
#pragma GCC unroll 4
          for (int r = 0; r < kRows; ++r) {
            acc[s][r] = V::Fma(w, V::Set1(x[r][kTileCols * b + column]), acc[s][r]);
          }
        }
      }
    }
    for (int s = 0; s < kStrips; ++s) Put<kRows>(call, row, strip + s, acc[s]);
  }

  template <TileKind kKind>
  static void FloatRows(const MatmulCall& call) {
    std::int32_t strip = call.first_strip;
    const std::int32_t end = call.first_strip + call.num_strips;
    if (call.num_rows == 1) {
      for (; strip + 4 <= end; strip += 4) FloatPass<kKind, 4, 1>(call, 0, strip);
    }
    for (; strip < end; ++strip) {
      std::int32_t row = 0;
      for (; row + 4 <= call.num_rows; row += 4) FloatPass<kKind, 1, 4>(call, row, strip);
      for (; row < call.num_rows; ++row) FloatPass<kKind, 1, 1>(call, row, strip);
    }
  }

  template <TileKind kKind, int kRows>
  static void FewRowsTail(const MatmulCall& call, std::int32_t row, std::int32_t strip) {
    if constexpr (kRows > 0) {
      if (call.num_rows - row == kRows) return FewRows<kKind, kRows>(call, row, strip);
      FewRowsTail<kKind, kRows - 1>(call, row, strip);
    }
  }

  template <TileKind kKind>
  static void IntegerRows(const MatmulCall& call) {
    if (call.num_rows > kUnpackAbove) return ManyRows<kKind>(call);
    for (std::int32_t s = call.first_strip; s < call.first_strip + call.num_strips; ++s) {
      std::int32_t row = 0;
      for (; row + kMaxRows <= call.num_rows; row += kMaxRows) FewRows<kKind, kMaxRows>(call, row, s);
      FewRowsTail<kKind, kMaxRows - 1>(call, row, s);
    }
  }

  static void Run(const MatmulCall& call) {
    switch (call.matrix->kind) {
      case TileKind::kQ4:
        return IntegerRows<TileKind::kQ4>(call);
      case TileKind::kQ4Min:
        return IntegerRows<TileKind::kQ4Min>(call);
      case TileKind::kQ8:
        return IntegerRows<TileKind::kQ8>(call);
      case TileKind::kQ4Wide:
        return IntegerRows<TileKind::kQ4Wide>(call);
      case TileKind::kQ8Wide:
        return IntegerRows<TileKind::kQ8Wide>(call);
      case TileKind::kQ8Halves:
        return IntegerRows<TileKind::kQ8Halves>(call);
      case TileKind::kF16:
        return FloatRows<TileKind::kF16>(call);
      case TileKind::kBF16:
        return FloatRows<TileKind::kBF16>(call);
      case TileKind::kF32:
        return FloatRows<TileKind::kF32>(call);
    }
  }
};

}  // namespace
}  // namespace megakernel::cpu
