// The residual: read, normalised to fp16 in shared memory; and the panel sums that O and down add to it.
//
// After O and after down every block reads the whole residual of the step's rows from the sums in memory, whose words
// say themselves when they are complete (numerics.h). Nothing resets them: word i of a buffer holds the residual as of
// the buffer's last use, so one contributor, the owner of column i, adds (residual now - residual then) besides its
// panel sum, and the word ends as the new residual. Column c is owned by the block of group c % groups that computes
// row c of O and down. Two buffers are enough: a block adds to a buffer only after it has read the other one complete,
// to which every block that had to read the first contributed afterwards.
#pragma once

#include "kernels/device/gemm.cuh"

namespace megakernel::device {

enum class Residual { kEmbedding = 0, kAfterO = 1, kAfterDown = 2 };

// What this block remembers of the residual's columns that it owns: index of (row, column) in `now` and, with the
// buffer, in what the buffers' words hold.
__device__ __forceinline__ std::int64_t* OwnNow() {
  return SharedRegion<std::int64_t>(kernel_args.program.shared.own);
}
__device__ __forceinline__ std::int64_t* OwnBuffer(std::int32_t buffer) {
  return OwnNow() + (1 + buffer) * layout::kGpuMaxRows * kernel_args.program.own_cols;
}

__device__ __forceinline__ bool SumComplete(std::uint64_t word, std::uint32_t count) {
  return (static_cast<std::uint32_t>(word >> 32) + 0x00800000u) >> 24 == count;
}

__device__ __forceinline__ std::int64_t SumValue(std::uint64_t word) {
  return static_cast<std::int64_t>(word << 8) >> 8;
}

// Two columns of a token's embedding.
__device__ __forceinline__ float2 ReadEmbedding(std::int32_t token, std::int32_t col) {
  const Program& p = kernel_args.program;
  const __half2 w = __ldg(reinterpret_cast<const __half2*>(kernel_args.weights + p.embedding.offset +
                                                           p.embedding.ElementOffset(0, token, col)));
  const float scale = __ldg(reinterpret_cast<const float*>(kernel_args.weights + p.embedding_scale) + token);
  const float2 v = __half22float2(w);
  return make_float2(v.x * scale, v.y * scale);
}

// Normalises the residual of all rows into the activation region. Contains one block barrier; the caller places one
// after it. `uses`: contributions per group to every word since the step's start, this use included. `gamma`: held, of
// vector set `set`. A warp holds column groups warp, warp + 16, ...: one row all of them at once; more rows all rows of
// one group at a time, read again once the mean squares are known when there is more than one.
template <class M, bool kOneRow, Residual kFrom>
__device__ __forceinline__ void NormaliseResidual(Block& b, std::int32_t uses, std::uint32_t set, std::int32_t gamma) {
  constexpr int kBatch = kOneRow ? M::kMostColumnRounds : layout::kGpuMaxRows;
  const Program& p = kernel_args.program;
  const std::int32_t column_groups = M::Hidden() >> 6;
  const std::int32_t rounds =
      kOneRow ? 1 : (column_groups - b.Warp() + layout::kConsumerWarps - 1) / layout::kConsumerWarps;
  float* squares = SharedRegion<float>(p.shared.squares);
  constexpr int kBuffer = kFrom == Residual::kAfterDown ? 1 : 0;
  const std::uint64_t* sums =
      Workspace<const std::uint64_t>(p.workspace.sums) + kBuffer * layout::kGpuMaxRows * M::Hidden();

  auto row_of = [&](int i) { return kOneRow ? 0 : i; };
  auto group_of = [&](std::int32_t round, int i) { return b.Warp() + (kOneRow ? i : round) * layout::kConsumerWarps; };
  auto active = [&](std::int32_t round, int i) {
    return kOneRow ? M::kWholeRounds || group_of(round, i) < column_groups : i < b.template Rows<kOneRow>();
  };
  auto col_of = [&](std::int32_t round, int i) { return (group_of(round, i) << 6) + 2 * b.Lane(); };

  // Takes over the value of a column that this block owns.
  auto keep = [&](int row, std::int32_t own, std::int64_t value) {
    if (own < 0) return;
    OwnNow()[row * p.own_cols + own] = value;
    if constexpr (kFrom != Residual::kEmbedding) OwnBuffer(kBuffer)[row * p.own_cols + own] = value;
  };
  auto read = [&](std::int32_t round, float2(&values)[kBatch]) {
    if constexpr (kFrom == Residual::kEmbedding) {
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        values[i] = make_float2(0.0f, 0.0f);
        if (active(round, i)) {
          const std::int32_t col = col_of(round, i);
          values[i] = ReadEmbedding(State().rows[row_of(i)].token, col);
          const short2 own = SharedRegion<const short2>(p.shared.owner)[col >> 1];
          keep(row_of(i), own.x, __float2ll_rn(values[i].x * layout::kFixedScale));
          keep(row_of(i), own.y, __float2ll_rn(values[i].y * layout::kFixedScale));
        }
      }
    } else {
      ulonglong2 words[kBatch];
      std::uint32_t spins = 0;
      bool ready;
#pragma unroll 1
      do {
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          words[i] = ulonglong2{};
          if (active(round, i)) words[i] = LoadPairRelaxed(sums + row_of(i) * M::Hidden() + col_of(round, i));
        }
        ready = true;
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          const std::uint32_t count = (State().sum_counts[row_of(i)] + uses * M::Groups()) & 255;
          ready = ready && (!active(round, i) || (SumComplete(words[i].x, count) && SumComplete(words[i].y, count)));
        }
        if (++spins > kSpinLimit) Fault(FaultCode::kSumTimeout, uses);
      } while (!__all_sync(0xffffffffu, ready));
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const std::int64_t x = SumValue(words[i].x), y = SumValue(words[i].y);
        values[i] = make_float2(__ll2float_rn(x) * layout::kFixedStep, __ll2float_rn(y) * layout::kFixedStep);
        if (active(round, i)) {
          const short2 own = SharedRegion<const short2>(p.shared.owner)[col_of(round, i) >> 1];
          keep(row_of(i), own.x, x);
          keep(row_of(i), own.y, y);
        }
      }
    }
  };
  auto square = [&](std::int32_t round, const float2(&values)[kBatch]) {
    float s[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) s[i] = fmaf(values[i].x, values[i].x, __fmul_rn(values[i].y, values[i].y));
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
#pragma unroll
      for (int i = 0; i < kBatch; ++i) s[i] += __shfl_xor_sync(0xffffffffu, s[i], step);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (b.Lane() == 0 && active(round, i)) squares[row_of(i) * p.squares_stride + group_of(round, i)] = s[i];
    }
  };

  float rstd = 0.0f;
  auto write = [&](std::int32_t round, const float2(&values)[kBatch]) {
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const float r = kOneRow ? rstd : __shfl_sync(0xffffffffu, rstd, i);
      if (active(round, i)) {
        const std::int32_t col = col_of(round, i);
        const float2 weight = *reinterpret_cast<const float2*>(Held(gamma) + col);
        *SharedRegion<std::uint32_t>(p.shared.act + row_of(i) * p.act_stride + 2 * col) =
            PackHalf2(values[i].x * r * weight.x, values[i].y * r * weight.y);
      }
    }
  };
  auto finish_squares = [&] {
    b.AwaitVectors(set);
    b.Sync();
    b.Renew();
    // Lane r of every warp adds row r's groups; the others read row 0 and are not asked.
    const float4* group = reinterpret_cast<const float4*>(
        squares + (!kOneRow && b.Lane() < b.template Rows<kOneRow>() ? b.Lane() : 0) * p.squares_stride);
    float4 s = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 4
    for (std::int32_t i = 0; i < (column_groups + 3) >> 2; ++i) {
      const float4 v = group[i];
      s.x += v.x;
      s.y += v.y;
      s.z += v.z;
      s.w += v.w;
    }
    rstd = rsqrtf(((s.x + s.y) + (s.z + s.w)) / static_cast<float>(M::Hidden()) + p.rms_eps);
  };

  float2 values[kBatch];
  if constexpr (kOneRow) {
    read(0, values);
    square(0, values);
    finish_squares();
    write(0, values);
  } else {
#pragma unroll 1
    for (int pass = 0; pass < 2; ++pass) {
#pragma unroll 1
      for (std::int32_t round = 0; round < rounds; ++round) {
        if (pass == 0 || rounds > 1) read(round, values);
        if (pass == 0) {
          square(round, values);
        } else {
          write(round, values);
        }
      }
      if (pass == 0) finish_squares();
    }
  }
}

// The first layer's: out of line, since it is needed once a step and its address arithmetic is long.
template <class M, bool kOneRow>
__device__ __noinline__ void NormaliseEmbedding(Block b, std::int32_t gamma) {
  NormaliseResidual<M, kOneRow, Residual::kEmbedding>(b, 0, 0, gamma);
}

// Epilogue of O and down: the panel sums of 16-row parts go to the residual.
template <class M, bool kOneRow, int kPhase>
__device__ __forceinline__ void AddToResidual(const Block& b, std::int32_t first_part, std::int32_t parts) {
  const Program& p = kernel_args.program;
  constexpr int kBuffer = kPhase == layout::kPhaseO ? 0 : 1;
  constexpr float kFactor = kPhase == layout::kPhaseO ? 1.0f : 1.0f / layout::kSwigluScale;
  const std::int32_t chunks = M::template Chunks<kPhase>();
  const std::int32_t first_row = State().shares[kPhase].first_row;
  const float* partial = SharedRegion<float>(p.shared.partial);
  const float* scales = Held(kPhase == layout::kPhaseO ? p.held.o_scale : p.held.down_scale);
  std::uint64_t* sums = Workspace<std::uint64_t>(p.workspace.sums) + kBuffer * layout::kGpuMaxRows * M::Hidden();
  constexpr int kShift = kOneRow ? 2 : 3;
  const std::int32_t count = (parts * layout::kTaskRows) << kShift;
#pragma unroll 1
  for (std::int32_t i = b.thread; i < count; i += 32 * layout::kConsumerWarps) {
    const std::int32_t local = i >> kShift, low = i & ((1 << kShift) - 1), n = kOneRow ? 0 : low;
    const std::int32_t held = first_part * layout::kTaskRows + local, col = first_row + held;
    const float* row = partial + (local >> 4) * PartStride<kOneRow>(chunks);
    float sum;
    if constexpr (kOneRow) {
      sum = AddChunksByFour(row + (local & 15), chunks, low);
    } else {
      sum = AddChunks<false>(row + ((local & 15) << 3) + low, chunks);
    }
    if ((kOneRow ? low != 0 : n >= b.template Rows<kOneRow>()) || col >= M::Hidden()) continue;
    sum *= scales[held] * kFactor;
    std::int64_t value = __float2ll_rn(sum * layout::kFixedScale);
    const std::int32_t own = SharedRegion<const std::int16_t>(p.shared.owner)[col];
    if (own >= 0) value += OwnNow()[n * p.own_cols + own] - OwnBuffer(kBuffer)[n * p.own_cols + own];
    AddRelaxed(sums + n * M::Hidden() + col,
               static_cast<std::uint64_t>(value) + (std::uint64_t{1} << layout::kCountShift));
  }
}

}  // namespace megakernel::device
