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
template <int kHeadDim>
__device__ __forceinline__ void FoldAlone(Block& b, const AttentionScratch<kHeadDim>& scratch) {
  const Program& p = b.program;
  const std::int32_t q = p.q_per_kv, width = q * kHeadDim;
  for (std::int32_t i = threadIdx.x; i < b.rows * width; i += 32 * layout::kConsumerWarps) {
    const std::int32_t row = i / width, col = i - row * width, head = col / kHeadDim, element = col - head * kHeadDim;
    const RowState& state = b.state.rows[row];
    float maximum = -INFINITY;
    for (std::int32_t k = 0; k < state.blocks; ++k) {
      maximum = fmaxf(maximum, scratch.limits[((state.first_item + k) * q + head) * 2]);
    }
    FoldSum fold;
    for (std::int32_t k = 0; k < state.blocks; ++k) {
      const std::int32_t team = state.first_item + k;
      const float* limits = scratch.limits + (team * q + head) * 2;
      fold.Add(ItemWorker<kHeadDim>::Output(scratch, team, q, head, element), limits[1],
               FoldWeight(limits[0], maximum));
    }
    *reinterpret_cast<__half*>(b.shared + p.shared.panel + row * p.panel_stride + 2 * col) =
        __float2half_rn(fold.output * __frcp_rn(fold.sum));
  }
}

// Publishes the item of this team.
template <int kHeadDim>
__device__ __forceinline__ void PublishItem(const Block& b, const ItemWorker<kHeadDim>& worker, std::int32_t item) {
  using Shape = AttentionShape<kHeadDim>;
  const Program& p = b.program;
  const std::int32_t q = p.q_per_kv;
  std::uint64_t* target = reinterpret_cast<std::uint64_t*>(b.args.workspace + p.workspace.partial) +
                          (std::int64_t{b.group} * p.max_items + item) * (q * (kHeadDim + 2));
  const std::int32_t thread = threadIdx.x % (32 * Shape::kTeamWarps);
  for (std::int32_t i = thread; i < q * kHeadDim; i += 32 * Shape::kTeamWarps) {
    const std::int32_t head = i / kHeadDim, element = i - head * kHeadDim;
    const float o = ItemWorker<kHeadDim>::Output(worker.scratch, worker.team, q, head, element);
    StoreRelaxed(target + head * (kHeadDim + 2) + element, MakePacket(__float_as_uint(o), b.layer_epoch));
  }
  if (thread < 2 * q) {
    StoreRelaxed(target + (thread >> 1) * (kHeadDim + 2) + kHeadDim + (thread & 1),
                 MakePacket(__float_as_uint(worker.scratch.limits[worker.team * 2 * q + thread]), b.layer_epoch));
  }
}

// Publishes 16 elements of the attention output, held by lanes 0..15.
template <int kHeadDim>
__device__ __forceinline__ void PublishUnit(const Block& b, std::int32_t unit, float value) {
  const Program& p = b.program;
  const std::int32_t per_row = p.q_per_kv * kHeadDim / 16;
  const std::int32_t row = unit / per_row, slice = unit - row * per_row;
  const float next = __shfl_down_sync(0xffffffffu, value, 1);
  if (b.lane_id < 16 && (b.lane_id & 1) == 0) {
    std::uint64_t* target = reinterpret_cast<std::uint64_t*>(b.args.workspace + p.workspace.attention) +
                            (std::int64_t{b.group} * p.max_rows + row) * (p.q_per_kv * kHeadDim / 2) + slice * 8 +
                            b.lane_id / 2;
    StoreRelaxed(target, MakePacket(PackHalf2(value, next), b.layer_epoch));
  }
}

// Folds the units that this block owns and publishes them.
template <int kHeadDim>
__device__ __forceinline__ void FoldUnits(Block& b, const AttentionScratch<kHeadDim>& scratch) {
  const Program& p = b.program;
  const std::int32_t q = p.q_per_kv, per_row = q * kHeadDim / 16, units = b.rows * per_row;
  const std::int32_t mine = units > b.member ? (units - b.member - 1) / p.blocks_per_group + 1 : 0;
  std::int32_t most = 1;
  for (std::int32_t r = 0; r < b.rows; ++r) {
    const std::int32_t n = (b.state.rows[r].blocks + layout::kSuperBlock - 1) / layout::kSuperBlock;
    most = n > most ? n : most;
  }
  const std::int32_t element = b.lane_id & 15, upper = b.lane_id >> 4;
#pragma unroll 1
  for (std::int32_t task = b.warp; task < mine * most; task += layout::kConsumerWarps) {
    const std::int32_t local = task / most, super = task - local * most, unit = b.member + local * p.blocks_per_group;
    const std::int32_t row = unit / per_row, slice = unit - row * per_row;
    const std::int32_t head = slice / (kHeadDim / 16), first = (slice - head * (kHeadDim / 16)) * 16 + element;
    const RowState& state = b.state.rows[row];
    const std::int32_t begin = super * layout::kSuperBlock + upper * (layout::kSuperBlock / 2);
    if (super * layout::kSuperBlock >= state.blocks) continue;
    const std::uint64_t* source =
        reinterpret_cast<const std::uint64_t*>(b.args.workspace + p.workspace.partial) +
        ((std::int64_t{b.group} * p.max_items + state.first_item + begin) * q + head) * (kHeadDim + 2);
    const std::int64_t stride = q * (kHeadDim + 2);
    std::uint64_t out[8], max[8], sum[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (begin + i < state.blocks) {
        max[i] = LoadRelaxed(source + i * stride + kHeadDim);
        sum[i] = LoadRelaxed(source + i * stride + kHeadDim + 1);
        out[i] = LoadRelaxed(source + i * stride + first);
      }
    }
    float maximum = -INFINITY;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (begin + i < state.blocks) {
        max[i] = AwaitPacket(b.args, source + i * stride + kHeadDim, max[i], b.layer_epoch);
        maximum = fmaxf(maximum, __uint_as_float(static_cast<std::uint32_t>(max[i])));
      }
    }
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 16));
    FoldSum fold;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (begin + i < state.blocks) {
        const float l = __uint_as_float(AwaitPacket(b.args, source + i * stride + kHeadDim + 1, sum[i], b.layer_epoch));
        const float o = __uint_as_float(AwaitPacket(b.args, source + i * stride + first, out[i], b.layer_epoch));
        fold.Add(o, l, FoldWeight(__uint_as_float(static_cast<std::uint32_t>(max[i])), maximum));
      }
    }
    fold.output += __shfl_xor_sync(0xffffffffu, fold.output, 16);
    fold.sum += __shfl_xor_sync(0xffffffffu, fold.sum, 16);
    if (most == 1) {
      PublishUnit<kHeadDim>(b, unit, fold.output * __frcp_rn(fold.sum));
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
  for (std::int32_t local = b.warp; local < mine; local += layout::kConsumerWarps) {
    const std::int32_t unit = b.member + local * p.blocks_per_group;
    const std::int32_t supers = (b.state.rows[unit / per_row].blocks + layout::kSuperBlock - 1) / layout::kSuperBlock;
    const float* source = scratch.folds + local * most * 18;
    float maximum = -INFINITY;
    for (std::int32_t s = 0; s < supers; ++s) maximum = fmaxf(maximum, source[s * 18 + 16]);
    FoldSum fold;
    for (std::int32_t s = 0; s < supers; ++s) {
      fold.Add(source[s * 18 + element], source[s * 18 + 17], FoldWeight(source[s * 18 + 16], maximum));
    }
    PublishUnit<kHeadDim>(b, unit, fold.output * __frcp_rn(fold.sum));
  }
}

// Reads `width` fp16 columns of all rows from packets of two into the panel region.
__device__ __forceinline__ void GatherPanel(const Block& b, std::int64_t buffer, std::int32_t width) {
  const Program& p = b.program;
  const std::int32_t pairs = width >> 1;
  const std::uint64_t* source =
      reinterpret_cast<const std::uint64_t*>(b.args.workspace + buffer) + std::int64_t{b.group} * p.max_rows * pairs;
#pragma unroll 2
  for (std::int32_t i = threadIdx.x; i < b.rows * pairs; i += 32 * layout::kConsumerWarps) {
    const std::int32_t row = i / pairs, pair = i - row * pairs;
    const std::uint32_t value = AwaitPacket(b.args, source + i, LoadRelaxed(source + i), b.layer_epoch);
    *reinterpret_cast<std::uint32_t*>(b.shared + p.shared.panel + row * p.panel_stride + 4 * pair) = value;
  }
}

// The whole of a layer's attention; ends without a block barrier.
template <int kHeadDim>
__device__ __forceinline__ void Attend(Block& b, std::int32_t layer) {
  using Shape = AttentionShape<kHeadDim>;
  const Program& p = b.program;
  ItemWorker<kHeadDim> worker(b);
  const std::int32_t items = b.state.num_items;
  const bool alone = items <= Shape::kTeams;
  // Item i belongs to block i % blocks_per_group of the group, its team (i / blocks_per_group) % kTeams.
  const std::int32_t first = alone ? worker.team : worker.team * p.blocks_per_group + b.member;
  const std::int32_t step = alone ? Shape::kTeams : Shape::kTeams * p.blocks_per_group;
  if (first < items) worker.Begin(first, layer);
  GatherHeads<kHeadDim>(b, layer);
  b.Sync();
#pragma unroll 1
  for (std::int32_t item = first; item < items; item += step) {
    if (item != first) worker.Begin(item, layer);
    worker.AddCurrent();
    worker.Scores();
    worker.TeamSync();
    worker.Outputs();
    if (alone) break;
    worker.TeamSync();
    PublishItem<kHeadDim>(b, worker, item);
  }
  if (alone) {
    b.Sync();
    FoldAlone<kHeadDim>(b, worker.scratch);
  } else {
    FoldUnits<kHeadDim>(b, worker.scratch);
    GatherPanel(b, p.workspace.attention, p.PanelCols());
  }
  AppendKeys<kHeadDim>(b, layer);
}

}  // namespace megakernel::device
