// Attention, last part: partial results of blocks of positions become the attention output of every row, in the panel
// region of every block of the group.
#pragma once

#include "kernels/device/attention.cuh"

namespace megakernel::device {

// Running sums of one super-block: eight blocks ascending.
struct FoldSum {
  float output = 0.0f, sum = 0.0f;
  __device__ __forceinline__ void Add(float o, float l, float weight) {
    output = fmaf(o, weight, output);
    sum = fmaf(l, weight, sum);
  }
};

// Folds the items of this block's own teams: every row's blocks are all here, in consecutive teams.
template <class M, bool kOneRow>
__device__ __forceinline__ void FoldAlone(const Block& b, const AttentionScratch<M>& scratch) {
  constexpr int kHeadDim = M::kHeadDim;
  const Program& p = kernel_args.program;
  const std::int32_t q = M::QueryHeads(), width = q * kHeadDim;
#pragma unroll 1
  for (std::int32_t i = b.thread; i < b.template Rows<kOneRow>() * width; i += 32 * layout::kConsumerWarps) {
    const std::int32_t row = kOneRow ? 0 : i / width, col = i - row * width, head = col / kHeadDim,
                       element = col - head * kHeadDim;
    const RowState& state = State().rows[row];
    float maximum = -INFINITY;
#pragma unroll 1
    for (std::int32_t k = 0; k < state.blocks; ++k) {
      maximum = fmaxf(maximum, scratch.limits[((state.first_item + k) * q + head) * 2]);
    }
    FoldSum fold;
#pragma unroll 1
    for (std::int32_t k = 0; k < state.blocks; ++k) {
      const std::int32_t team = state.first_item + k;
      const float* limits = scratch.limits + (team * q + head) * 2;
      fold.Add(ItemWorker<M, kOneRow>::Output(scratch, team, q, head, element), limits[1],
               FoldWeight(limits[0], maximum));
    }
    *SharedRegion<__half>(p.shared.panel + row * p.panel_stride + 2 * col) =
        __float2half_rn(fold.output * __frcp_rn(fold.sum));
  }
}

// Publishes the item of this team.
template <class M, bool kOneRow>
__device__ __forceinline__ void PublishItem(const Block& b, const ItemWorker<M, kOneRow>& worker, std::int32_t item) {
  constexpr int kHeadDim = M::kHeadDim;
  using Shape = AttentionShape<kHeadDim>;
  const Program& p = kernel_args.program;
  const std::int32_t q = M::QueryHeads();
  std::uint64_t* target = Workspace<std::uint64_t>(p.workspace.partial) +
                          (std::int64_t{State().group} * p.max_items + item) * (q * (kHeadDim + 2));
  const std::int32_t thread = b.thread % (32 * Shape::kTeamWarps);
#pragma unroll 1
  for (std::int32_t i = thread; i < q * kHeadDim; i += 32 * Shape::kTeamWarps) {
    const std::int32_t head = i / kHeadDim, element = i - head * kHeadDim;
    const float o = ItemWorker<M, kOneRow>::Output(worker.scratch, worker.team, q, head, element);
    StoreRelaxed(target + head * (kHeadDim + 2) + element, MakePacket(__float_as_uint(o), b.layer_epoch));
  }
  if (thread < 2 * q) {
    StoreRelaxed(target + (thread >> 1) * (kHeadDim + 2) + kHeadDim + (thread & 1),
                 MakePacket(__float_as_uint(worker.scratch.limits[worker.team * 2 * q + thread]), b.layer_epoch));
  }
}

// Publishes 16 elements of the attention output, held by lanes 0..15.
template <class M, bool kOneRow>
__device__ __forceinline__ void PublishUnit(const Block& b, std::int32_t unit, float value) {
  constexpr int kHeadDim = M::kHeadDim;
  const Program& p = kernel_args.program;
  const std::int32_t per_row = M::QueryHeads() * kHeadDim / 16;
  const std::int32_t row = kOneRow ? 0 : unit / per_row, slice = unit - row * per_row;
  const float next = __shfl_down_sync(0xffffffffu, value, 1);
  if (b.Lane() < 16 && (b.Lane() & 1) == 0) {
    std::uint64_t* target =
        Workspace<std::uint64_t>(p.workspace.attention) +
        (std::int64_t{State().group} * layout::kGpuMaxRows + row) * (M::QueryHeads() * kHeadDim / 2) + slice * 8 +
        b.Lane() / 2;
    StoreRelaxed(target, MakePacket(PackHalf2(value, next), b.layer_epoch));
  }
}

// Folds the units that this block owns and publishes them.
template <class M, bool kOneRow>
__device__ __forceinline__ void FoldUnits(const Block& b, const AttentionScratch<M>& scratch) {
  constexpr int kHeadDim = M::kHeadDim;
  const Program& p = kernel_args.program;
  const std::int32_t q = M::QueryHeads(), per_row = q * kHeadDim / 16, units = b.template Rows<kOneRow>() * per_row;
  const std::int32_t mine = units > State().member ? (units - State().member - 1) / M::BlocksPerGroup() + 1 : 0;
  std::int32_t most = 1;
#pragma unroll 1
  for (std::int32_t r = 0; r < b.template Rows<kOneRow>(); ++r) {
    const std::int32_t n = (State().rows[r].blocks + layout::kSuperBlock - 1) / layout::kSuperBlock;
    most = n > most ? n : most;
  }
  const std::int32_t element = b.Lane() & 15, upper = b.Lane() >> 4;
#pragma unroll 1
  for (std::int32_t task = b.Warp(); task < mine * most; task += layout::kConsumerWarps) {
    const std::int32_t local = task / most, super = task - local * most,
                       unit = State().member + local * M::BlocksPerGroup();
    const std::int32_t row = kOneRow ? 0 : unit / per_row, slice = unit - row * per_row;
    const std::int32_t head = slice / (kHeadDim / 16), first = (slice - head * (kHeadDim / 16)) * 16 + element;
    const RowState& state = State().rows[row];
    const std::int32_t begin = super * layout::kSuperBlock + upper * (layout::kSuperBlock / 2);
    if (super * layout::kSuperBlock >= state.blocks) continue;
    const std::uint64_t* source =
        Workspace<const std::uint64_t>(p.workspace.partial) +
        ((std::int64_t{State().group} * p.max_items + state.first_item + begin) * q + head) * (kHeadDim + 2);
    const std::int32_t stride = q * (kHeadDim + 2);
    const std::int32_t count = state.blocks - begin;  // of this half of the lanes; may be negative
    std::uint64_t out[8], max[8], sum[8];
    std::uint32_t spins = 0;
    bool ready;
#pragma unroll 1
    do {
      ready = true;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        max[i] = sum[i] = out[i] = std::uint64_t{b.layer_epoch} << 32;
        if (i < count) {
          max[i] = LoadRelaxed(source + i * stride + kHeadDim);
          sum[i] = LoadRelaxed(source + i * stride + kHeadDim + 1);
          out[i] = LoadRelaxed(source + i * stride + first);
        }
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        ready = ready && static_cast<std::uint32_t>(max[i] >> 32) == b.layer_epoch &&
                static_cast<std::uint32_t>(sum[i] >> 32) == b.layer_epoch &&
                static_cast<std::uint32_t>(out[i] >> 32) == b.layer_epoch;
      }
      if (++spins > kSpinLimit) Fault(FaultCode::kPacketTimeout, b.layer_epoch);
    } while (!__all_sync(0xffffffffu, ready));
    float maximum = -INFINITY;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i < count) maximum = fmaxf(maximum, __uint_as_float(static_cast<std::uint32_t>(max[i])));
    }
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 16));
    FoldSum fold;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i < count) {
        fold.Add(__uint_as_float(static_cast<std::uint32_t>(out[i])),
                 __uint_as_float(static_cast<std::uint32_t>(sum[i])),
                 FoldWeight(__uint_as_float(static_cast<std::uint32_t>(max[i])), maximum));
      }
    }
    fold.output += __shfl_xor_sync(0xffffffffu, fold.output, 16);
    fold.sum += __shfl_xor_sync(0xffffffffu, fold.sum, 16);
    if (most == 1) {
      PublishUnit<M, kOneRow>(b, unit, fold.output * __frcp_rn(fold.sum));
    } else if (upper == 0) {
      float* target = scratch.folds + (local * most + super) * 18;
      target[element] = fold.output;
      if (element == 0) {
        target[16] = maximum;
        target[17] = fold.sum;
      }
    }
  }
  if (most == 1) return;
  b.Sync();
#pragma unroll 1
  for (std::int32_t local = b.Warp(); local < mine; local += layout::kConsumerWarps) {
    const std::int32_t unit = State().member + local * M::BlocksPerGroup();
    const std::int32_t supers = (State().rows[unit / per_row].blocks + layout::kSuperBlock - 1) / layout::kSuperBlock;
    const float* source = scratch.folds + local * most * 18;
    float maximum = -INFINITY;
#pragma unroll 1
    for (std::int32_t s = 0; s < supers; ++s) maximum = fmaxf(maximum, source[s * 18 + 16]);
    FoldSum fold;
#pragma unroll 1
    for (std::int32_t s = 0; s < supers; ++s) {
      fold.Add(source[s * 18 + element], source[s * 18 + 17], FoldWeight(source[s * 18 + 16], maximum));
    }
    PublishUnit<M, kOneRow>(b, unit, fold.output * __frcp_rn(fold.sum));
  }
}

// Reads `width` fp16 columns of all rows from packets of two into the panel region.
template <bool kOneRow>
__device__ __forceinline__ void GatherPanel(const Block& b, std::int64_t buffer, std::int32_t width) {
  const Program& p = kernel_args.program;
  const std::int32_t pairs = width >> 1;
  const std::uint64_t* source =
      Workspace<const std::uint64_t>(buffer) + std::int64_t{State().group} * layout::kGpuMaxRows * pairs;
#pragma unroll 1
  for (std::int32_t i = b.thread; i < b.template Rows<kOneRow>() * pairs; i += 32 * layout::kConsumerWarps) {
    const std::int32_t row = kOneRow ? 0 : i / pairs, pair = i - row * pairs;
    const std::uint32_t value = AwaitPacket(source + i, LoadRelaxed(source + i), b.layer_epoch);
    *SharedRegion<std::uint32_t>(p.shared.panel + row * p.panel_stride + 4 * pair) = value;
  }
}

// The whole of a layer's attention; ends without a block barrier.
template <class M, bool kOneRow>
__device__ __forceinline__ void Attend(Block& b, std::int32_t layer) {
  constexpr int kHeadDim = M::kHeadDim;
  using Shape = AttentionShape<kHeadDim>;
  const Program& p = kernel_args.program;
  b.Renew();
  ItemWorker<M, kOneRow> worker(b);
  const std::int32_t items = State().num_items;
  const bool alone = AttendsAlone<M>();
#pragma unroll 1
  for (std::int32_t index = worker.team;; index += Shape::kTeams) {
    const std::int32_t item = ItemOf<M>(index);
    if (item < items) worker.Begin(index, layer);
    if (index == worker.team) {
      GatherHeads<M, kOneRow>(b);
      b.Sync();
    }
    if (item >= items) break;
    worker.AddCurrent();
    worker.Scores();
    worker.TeamSync();
    worker.Outputs();
    if (alone) break;
    worker.TeamSync();
    PublishItem<M, kOneRow>(b, worker, item);
  }
  b.Renew();
  if (alone) {
    b.Sync();
    FoldAlone<M, kOneRow>(b, worker.scratch);
  } else {
    FoldUnits<M, kOneRow>(b, worker.scratch);
    GatherPanel<kOneRow>(b, p.workspace.attention, (M::QueryHeads() * kHeadDim));
  }
  AppendKeys<M, kOneRow>(b, layer);
}

}  // namespace megakernel::device
