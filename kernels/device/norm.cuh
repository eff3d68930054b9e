// The residual: read, normalised to fp16 in shared memory; and the panel sums that O and down add to it.
//
// After O and after down every block reads the whole residual of the step's rows from the sums in memory, whose words
// say themselves when they are complete (numerics.h). Nothing resets them: word i of a buffer holds the residual as of
// the buffer's last use, so one contributor, the owner of column i, adds (residual now - residual then) besides its
// panel sum, and the word ends as the new residual. Column c is owned by the block of group c % groups that computes
// row c of O and down. Two buffers are enough: a block adds to a buffer only after it has read the other one complete,
// to which every block that had to read the first contributed afterwards.
#pragma once

#include "kernels/device/block.cuh"

namespace megakernel::device {

enum class Residual { kEmbedding = 0, kAfterO = 1, kAfterDown = 2 };

// Columns of the residual whose sums this block computes, and what it remembers of those it owns.
struct Owned {
  std::int32_t first, count;
  std::int64_t* now;    // [max_rows][own_cols]
  std::int64_t* buffer;  // [2][max_rows][own_cols]: content of both buffers' words
};

__device__ __forceinline__ Owned OwnedOf(const Block& b) {
  const Program& p = b.program;
  const PhaseShare& share = b.state.shares[layout::kPhaseO];
  std::int64_t* base = reinterpret_cast<std::int64_t*>(b.shared + p.shared.own);
  return {share.first_row, share.row_groups * p.matrix[layout::kPhaseO].RowsPerRowGroup(), base,
          base + p.max_rows * p.own_cols};
}

__device__ __forceinline__ void Remember(const Block& b, const Owned& own, std::int32_t buffer, std::int32_t row,
                                         std::int32_t col, std::int64_t value) {
  const std::int32_t offset = col - own.first;
  if (b.group < 0 || static_cast<std::uint32_t>(offset) >= static_cast<std::uint32_t>(own.count)) return;
  if (col % b.program.groups != b.group) return;
  const std::int32_t index = row * b.program.own_cols + offset / b.program.groups;
  own.now[index] = value;
  if (buffer >= 0) own.buffer[buffer * b.program.max_rows * b.program.own_cols + index] = value;
}

__device__ __forceinline__ bool SumComplete(std::uint64_t word, std::uint32_t count) {
  return (static_cast<std::uint32_t>(word >> 32) + 0x00800000u) >> 24 == count;
}

// Two columns of the residual of one row, from the embedding.
__device__ __forceinline__ float2 ReadEmbedding(const Block& b, std::int32_t row, std::int32_t col) {
  const Program& p = b.program;
  const std::int32_t token = b.state.rows[row].token;
  const __half2 w = __ldg(reinterpret_cast<const __half2*>(b.args.weights + p.embedding.offset +
                                                           p.embedding.ElementOffset(0, token, col)));
  const float scale = __ldg(reinterpret_cast<const float*>(b.args.weights + p.embedding_scale) + token);
  const float2 v = __half22float2(w);
  return make_float2(v.x * scale, v.y * scale);
}

// Normalises the residual of all rows into the activation region. Contains one block barrier; the caller places one
// after it. `uses`: contributions per group to every word since the step's start, this use included.
__device__ __forceinline__ void NormaliseResidual(Block& b, Residual from, std::int32_t uses, const float* gamma) {
  constexpr int kBatch = 4, kKept = 8;
  const Program& p = b.program;
  const std::int32_t column_groups = p.hidden >> 6;
  const std::int32_t mine = (column_groups - b.warp + layout::kConsumerWarps - 1) / layout::kConsumerWarps;
  const std::int32_t total = (mine > 0 ? mine : 0) * b.rows;  // (column group, row) pairs of this warp
  const std::int32_t row_magic = (65536 + b.rows - 1) / b.rows;
  float* squares = reinterpret_cast<float*>(b.shared + p.shared.squares);
  const std::int32_t buffer = from == Residual::kAfterDown ? 1 : 0;
  const std::uint8_t* sums = b.args.workspace + p.workspace.sums + std::int64_t{buffer} * p.max_rows * p.hidden * 8;
  const Owned own = OwnedOf(b);

  auto row_of = [&](std::int32_t i) { return i - ((i * row_magic) >> 16) * b.rows; };
  auto col_of = [&](std::int32_t i) {
    return ((b.warp + ((i * row_magic) >> 16) * layout::kConsumerWarps) << 6) + 2 * b.lane_id;
  };
  auto address = [&](std::int32_t i) { return sums + (std::int64_t{row_of(i)} * p.hidden + col_of(i)) * 8; };
  auto finish = [&](std::int32_t i, ulonglong2 word, bool remember) {
    const std::int32_t row = row_of(i), col = col_of(i);
    if (from == Residual::kEmbedding) {
      const float2 v = ReadEmbedding(b, row, col);
      if (remember) {
        Remember(b, own, -1, row, col, __float2ll_rn(v.x * layout::kFixedScale));
        Remember(b, own, -1, row, col + 1, __float2ll_rn(v.y * layout::kFixedScale));
      }
      return v;
    }
    const std::uint32_t count = (b.state.sum_counts[row] + uses * p.groups) & 255;
    std::uint32_t spins = 0;
    while (!SumComplete(word.x, count) || !SumComplete(word.y, count)) {
      word = LoadPairRelaxed(address(i));
      if (++spins > kSpinLimit) Fault(b.args, FaultCode::kSumTimeout, uses);
    }
    const std::int64_t x = static_cast<std::int64_t>(word.x << 8) >> 8, y = static_cast<std::int64_t>(word.y << 8) >> 8;
    if (remember) {
      Remember(b, own, buffer, row, col, x);
      Remember(b, own, buffer, row, col + 1, y);
    }
    return make_float2(__ll2float_rn(x) * layout::kFixedStep, __ll2float_rn(y) * layout::kFixedStep);
  };

  float2 kept[kKept];
#pragma unroll
  for (int base = 0; base < kKept; base += kBatch) {
    if (base < total) {
      ulonglong2 words[kBatch] = {};
      if (from != Residual::kEmbedding) {
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          if (base + i < total) words[i] = LoadPairRelaxed(address(base + i));
        }
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (base + i < total) {
          const float2 v = finish(base + i, words[i], true);
          kept[base + i] = v;
          float s = v.x * v.x + v.y * v.y;
#pragma unroll
          for (int step = 16; step > 0; step >>= 1) s += __shfl_xor_sync(0xffffffffu, s, step);
          if (b.lane_id == 0) squares[row_of(base + i) * p.squares_stride + (col_of(base + i) >> 6)] = s;
        }
      }
    }
  }
#pragma unroll 1
  for (std::int32_t i = kKept; i < total; ++i) {
    const float2 v = finish(i, from == Residual::kEmbedding ? ulonglong2{} : LoadPairRelaxed(address(i)), true);
    float s = v.x * v.x + v.y * v.y;
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) s += __shfl_xor_sync(0xffffffffu, s, step);
    if (b.lane_id == 0) squares[row_of(i) * p.squares_stride + (col_of(i) >> 6)] = s;
  }
  b.Sync();

  // Lane r of every warp adds row r's groups; the others read row 0 and are not asked.
  const float4* group = reinterpret_cast<const float4*>(squares + (b.lane_id < b.rows ? b.lane_id : 0) * p.squares_stride);
  float4 s = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  for (std::int32_t i = 0; i < (column_groups + 3) >> 2; ++i) {
    const float4 v = group[i];
    s.x += v.x;
    s.y += v.y;
    s.z += v.z;
    s.w += v.w;
  }
  const float rstd = rsqrtf(((s.x + s.y) + (s.z + s.w)) / static_cast<float>(p.hidden) + p.rms_eps);
  auto write = [&](std::int32_t i, float2 v) {
    const std::int32_t row = row_of(i), col = col_of(i);
    const float2 weight = __ldg(reinterpret_cast<const float2*>(gamma + col));
    const float r = __shfl_sync(0xffffffffu, rstd, row);
    *reinterpret_cast<std::uint32_t*>(b.shared + p.shared.act + row * p.act_stride + 2 * col) =
        PackHalf2(v.x * r * weight.x, v.y * r * weight.y);
  };
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    if (i < total) write(i, kept[i]);
  }
#pragma unroll 1
  for (std::int32_t i = kKept; i < total; ++i) {
    write(i, finish(i, from == Residual::kEmbedding ? ulonglong2{} : LoadPairRelaxed(address(i)), false));
  }
}

// Epilogue of O and down: the panel sums of 16-row parts go to the residual.
__device__ __forceinline__ void AddToResidual(Block& b, std::int32_t phase, std::int32_t first_part, std::int32_t parts,
                                              const float* scales, float factor) {
  const Program& p = b.program;
  const PhaseShare& share = b.state.shares[phase];
  const Owned own = OwnedOf(b);
  const std::int32_t buffer = phase == layout::kPhaseO ? 0 : 1;
  const std::int32_t shift = b.pitch == 1 ? 0 : 3;
  const float* partial = reinterpret_cast<const float*>(b.shared + p.shared.partial);
  std::uint8_t* sums = b.args.workspace + p.workspace.sums + std::int64_t{buffer} * p.max_rows * p.hidden * 8;
  for (std::int32_t i = threadIdx.x; i < (parts * layout::kTaskRows) << shift; i += 32 * layout::kConsumerWarps) {
    const std::int32_t local = i >> shift, n = i & (b.pitch - 1);
    if (n >= b.rows) continue;
    const std::int32_t offset = first_part * layout::kTaskRows + local;
    const std::int32_t col = share.first_row + offset;
    if (col >= p.hidden) continue;
    const float scale = __ldg(scales + col) * factor;
    const std::int32_t task_floats = layout::kTaskRows * b.pitch;
    const float sum = AddChunks(partial + (local >> 4) * share.chunks * task_floats + ((local & 15) << shift) + n,
                                task_floats, share.chunks) * scale;
    std::int64_t value = __float2ll_rn(sum * layout::kFixedScale);
    if (col % p.groups == b.group) {
      const std::int32_t index = n * p.own_cols + offset / p.groups;
      value += own.now[index] - own.buffer[buffer * p.max_rows * p.own_cols + index];
    }
    AddRelaxed(sums + (std::int64_t{n} * p.hidden + col) * 8,
               static_cast<std::uint64_t>(value) + (std::uint64_t{1} << layout::kCountShift));
  }
}

}  // namespace megakernel::device
