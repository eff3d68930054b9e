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

// What this block remembers of the residual's columns that it owns (BlockState::own_first, own_count).
struct Owned {
  std::int64_t* now;     // [max_rows][own_cols]
  std::int64_t* buffer;  // [2][max_rows][own_cols]: content of both buffers' words
};

__device__ __forceinline__ Owned OwnedOf(const Block& b) {
  const Program& p = b.program;
  std::int64_t* base = reinterpret_cast<std::int64_t*>(b.shared + p.shared.own);
  return {base, base + p.max_rows * p.own_cols};
}

__device__ __forceinline__ bool SumComplete(std::uint64_t word, std::uint32_t count) {
  return (static_cast<std::uint32_t>(word >> 32) + 0x00800000u) >> 24 == count;
}

// Waits until both words have `count` contributions. Out of line: rarely needed, and the hot path stays small.
__device__ __noinline__ ulonglong2 AwaitSums(const KernelArgs& args, const std::uint8_t* address, std::uint32_t count) {
  std::uint32_t spins = 0;
  while (true) {
    const ulonglong2 word = LoadPairRelaxed(address);
    if (SumComplete(word.x, count) && SumComplete(word.y, count)) return word;
    if (++spins > kSpinLimit) Fault(args, FaultCode::kSumTimeout, count);
  }
}

__device__ __forceinline__ std::int64_t SumValue(std::uint64_t word) {
  return static_cast<std::int64_t>(word << 8) >> 8;
}

// Two columns of a token's embedding. Out of line: needed once a step, and its address arithmetic is long.
__device__ __noinline__ float2 ReadEmbedding(const KernelArgs& args, std::int32_t token, std::int32_t col) {
  const Program& p = args.program;
  const __half2 w = __ldg(
      reinterpret_cast<const __half2*>(args.weights + p.embedding.offset + p.embedding.ElementOffset(0, token, col)));
  const float scale = __ldg(reinterpret_cast<const float*>(args.weights + p.embedding_scale) + token);
  const float2 v = __half22float2(w);
  return make_float2(v.x * scale, v.y * scale);
}

// Takes over the residual of the columns that this block owns: one warp, once the sums are complete.
__device__ __forceinline__ void RememberOwned(const Block& b, Residual from, std::int32_t uses) {
  const Program& p = b.program;
  const Owned own = OwnedOf(b);
  const std::int32_t buffer = from == Residual::kAfterDown ? 1 : 0;
  const std::uint8_t* sums = b.args.workspace + p.workspace.sums + std::int64_t{buffer} * p.max_rows * p.hidden * 8;
#pragma unroll 1
  for (std::int32_t row = 0; row < b.rows; ++row) {
    const std::uint32_t count = (b.state.sum_counts[row] + uses * p.groups) & 255;
#pragma unroll 1
    for (std::int32_t k = b.lane_id; k < b.state.own_count; k += 32) {
      const std::int32_t col = b.state.own_first + k * p.groups, index = row * p.own_cols + k;
      if (from == Residual::kEmbedding) {
        const float2 v = ReadEmbedding(b.args, b.state.rows[row].token, col & ~1);
        own.now[index] = __float2ll_rn((col & 1 ? v.y : v.x) * layout::kFixedScale);
      } else {
        const std::uint8_t* address = sums + (std::int64_t{row} * p.hidden + (col & ~1)) * 8;
        ulonglong2 word = LoadPairRelaxed(address);
        if (!SumComplete(word.x, count) || !SumComplete(word.y, count)) word = AwaitSums(b.args, address, count);
        const std::int64_t value = SumValue(col & 1 ? word.y : word.x);
        own.now[index] = value;
        own.buffer[buffer * p.max_rows * p.own_cols + index] = value;
      }
    }
  }
}

// Normalises the residual of all rows into the activation region. Contains one block barrier; the caller places one
// after it. `uses`: contributions per group to every word since the step's start, this use included.
// Pairs (column group, row) of a warp are taken four at a time; the first four stay in registers, the others are read
// again once the mean square is known.
__device__ __forceinline__ void NormaliseResidual(Block& b, Residual from, std::int32_t uses, const float* gamma) {
  constexpr int kBatch = 4;
  const Program& p = b.program;
  const std::int32_t column_groups = p.hidden >> 6;
  const std::int32_t mine = (column_groups - b.warp + layout::kConsumerWarps - 1) / layout::kConsumerWarps;
  const std::int32_t total = (mine > 0 ? mine : 0) * b.rows;
  const std::int32_t row_magic = (65536 + b.rows - 1) / b.rows;
  float* squares = reinterpret_cast<float*>(b.shared + p.shared.squares);
  const std::int32_t buffer = from == Residual::kAfterDown ? 1 : 0;
  const std::uint8_t* sums = b.args.workspace + p.workspace.sums + std::int64_t{buffer} * p.max_rows * p.hidden * 8;

  auto row_of = [&](std::int32_t i) { return i - ((i * row_magic) >> 16) * b.rows; };
  auto col_of = [&](std::int32_t i) {
    return ((b.warp + ((i * row_magic) >> 16) * layout::kConsumerWarps) << 6) + 2 * b.lane_id;
  };
  // Values of pairs [base, base + 4) that exist.
  auto read = [&](std::int32_t base, float2(&values)[kBatch]) {
    if (from == Residual::kEmbedding) {
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        values[i] = make_float2(0.0f, 0.0f);
        if (base + i < total) {
          values[i] = ReadEmbedding(b.args, b.state.rows[row_of(base + i)].token, col_of(base + i));
        }
      }
      return;
    }
    ulonglong2 words[kBatch] = {};
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (base + i < total) {
        words[i] = LoadPairRelaxed(sums + (std::int64_t{row_of(base + i)} * p.hidden + col_of(base + i)) * 8);
      }
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (base + i < total) {
        const std::int32_t row = row_of(base + i);
        const std::uint32_t count = (b.state.sum_counts[row] + uses * p.groups) & 255;
        if (!SumComplete(words[i].x, count) || !SumComplete(words[i].y, count)) {
          words[i] = AwaitSums(b.args, sums + (std::int64_t{row} * p.hidden + col_of(base + i)) * 8, count);
        }
      }
      values[i] = make_float2(__ll2float_rn(SumValue(words[i].x)) * layout::kFixedStep,
                              __ll2float_rn(SumValue(words[i].y)) * layout::kFixedStep);
    }
  };
  auto square = [&](std::int32_t base, const float2(&values)[kBatch]) {
    float s[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) s[i] = values[i].x * values[i].x + values[i].y * values[i].y;
#pragma unroll 1
    for (int step = 16; step > 0; step >>= 1) {
#pragma unroll
      for (int i = 0; i < kBatch; ++i) s[i] += __shfl_xor_sync(0xffffffffu, s[i], step);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (b.lane_id == 0 && base + i < total) {
        squares[row_of(base + i) * p.squares_stride + (col_of(base + i) >> 6)] = s[i];
      }
    }
  };

  auto write = [&](std::int32_t base, const float2(&values)[kBatch], float rstd) {
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (base + i >= total) break;
      const std::int32_t row = row_of(base + i), col = col_of(base + i);
      const float2 weight = __ldg(reinterpret_cast<const float2*>(gamma + col));
      const float r = __shfl_sync(0xffffffffu, rstd, row);
      *reinterpret_cast<std::uint32_t*>(b.shared + p.shared.act + row * p.act_stride + 2 * col) =
          PackHalf2(values[i].x * r * weight.x, values[i].y * r * weight.y);
    }
  };

  // Two passes over the same code: squares, then the normalised values. The values stay in registers when they fit.
  float2 values[kBatch];
  float rstd = 0.0f;
#pragma unroll 1
  for (int pass = 0; pass < 2; ++pass) {
#pragma unroll 1
    for (std::int32_t base = 0; base < total; base += kBatch) {
      if (pass == 0 || total > kBatch) read(base, values);
      if (pass == 0) {
        square(base, values);
      } else {
        write(base, values, rstd);
      }
    }
    if (pass == 1) break;
    if (b.warp == layout::kConsumerWarps - 1 && b.group >= 0) RememberOwned(b, from, uses);
    b.Sync();
    // Lane r of every warp adds row r's groups; the others read row 0 and are not asked.
    const float4* group =
        reinterpret_cast<const float4*>(squares + (b.lane_id < b.rows ? b.lane_id : 0) * p.squares_stride);
    float4 s = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 1
    for (std::int32_t i = 0; i < (column_groups + 3) >> 2; ++i) {
      const float4 v = group[i];
      s.x += v.x;
      s.y += v.y;
      s.z += v.z;
      s.w += v.w;
    }
    rstd = rsqrtf(((s.x + s.y) + (s.z + s.w)) / static_cast<float>(p.hidden) + p.rms_eps);
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
                                task_floats, share.chunks) *
                      scale;
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
