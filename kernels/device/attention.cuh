// Attention of one layer for the step's rows, by the blocks of one KV head.
//
// 1. Heads: every block gathers the group's queries, keys and values of all rows (packets), normalises and rotates
//    them, and keeps them in shared memory as fp16.
// 2. Items: an item is (row, block of 64 positions). A team of warps computes its scores, weights and product with V
//    for all query heads of the group at once: the heads are columns of the tensor-core product. Positions of earlier
//    steps come from the KV pages straight into operand registers (the page order is made for it, tile.h), read before
//    the queries are there; positions of this step from shared memory.
// 3. Alone: when all items of the step fit the teams of one block, every block computes all of them and folds them
//    itself: no exchange. Otherwise items are dealt over the group, their partial results published, and units of
//    (row, head, 16 elements) folded by their owner and gathered by all (attention_fold.cuh).
//
// Element order, sums and roundings: kernels/layout/numerics.h; both ways give the same bits.
#pragma once

#include "kernels/device/gemm.cuh"

namespace megakernel::device {

template <int kHeadDim>
struct AttentionShape {
  static constexpr int kHalves = kHeadDim / 64;  // chunks of a score
  static constexpr int kTeamWarps = 4 * kHalves;
  static constexpr int kTeams = layout::kConsumerWarps / kTeamWarps;
  static constexpr int kScoreStride = layout::kAttentionBlock + 4;
};

// Shared-memory scratch of attention, inside the partial region.
template <class M>
struct AttentionScratch {
  using Shape = AttentionShape<M::kHeadDim>;
  static constexpr int kHeadDim = M::kHeadDim;
  float* scores;   // [team][half][head][kScoreStride]
  float* outputs;  // [team][k16 step][head][kHeadDim]
  float* limits;   // [team][head]{maximum * scale, sum}
  float* folds;    // [unit][super-block][18]

  __device__ __forceinline__ AttentionScratch() {
    const std::int32_t q = M::QueryHeads();
    scores = SharedRegion<float>(kernel_args.program.shared.partial);
    outputs = scores + Shape::kTeams * Shape::kHalves * q * Shape::kScoreStride;
    limits = outputs + Shape::kTeams * 4 * q * kHeadDim;
    folds = limits + Shape::kTeams * q * 2;
  }
};

// Weight of a block in its super-block, and the like.
__device__ __forceinline__ float FoldWeight(float maximum, float of_all) {
  return Exp2(maximum - of_all);
}

template <class M, bool kOneRow>
__device__ __forceinline__ void GatherHeads(const Block& b) {
  constexpr int kHeadDim = M::kHeadDim;
  constexpr int kPerLane = kHeadDim / 32;
  const Program& p = kernel_args.program;
  const std::int32_t heads = M::QueryHeads() + 2;
  const std::uint64_t* packets = Workspace<const std::uint64_t>(p.workspace.qkv) +
                                 std::int64_t{State().group} * layout::kGpuMaxRows * M::QkvRows();
#pragma unroll 1
  for (std::int32_t task = b.Warp(); task < b.template Rows<kOneRow>() * heads; task += layout::kConsumerWarps) {
    const std::int32_t row = kOneRow ? 0 : task / heads, head = task - row * heads;
    const bool is_value = head == heads - 1, is_key = head == heads - 2;
    std::uint32_t words[kPerLane];
    AwaitPackets(words, packets + row * M::QkvRows() + head * kHeadDim + b.Lane(), 32, true, b.layer_epoch);
    float v[kPerLane];
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) v[j] = __uint_as_float(words[j]);
    if (is_value) {
      __half* out = SharedRegion<__half>(p.shared.value) + row * kHeadDim;
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) out[layout::ValueElementPosition(32 * j + b.Lane())] = __float2half_rn(v[j]);
      continue;
    }
    if (M::QkNorm()) {
      float s = 0.0f;
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) s = fmaf(v[j], v[j], s);
#pragma unroll
      for (int step = 16; step > 0; step >>= 1) s += __shfl_xor_sync(0xffffffffu, s, step);
      const float rstd = rsqrtf(s / static_cast<float>(kHeadDim) + p.rms_eps);
      const float* gamma = Held(is_key ? p.held.k_norm : p.held.q_norm) + b.Lane();
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) v[j] = v[j] * rstd * gamma[32 * j];
    }
    const float2* rope = SharedRegion<const float2>(p.shared.rope) + row * (kHeadDim / 2) + b.Lane();
#pragma unroll
    for (int j = 0; j < kPerLane / 2; ++j) {
      const float2 r = rope[32 * j];
      const float low = v[j], high = v[j + kPerLane / 2];
      // Written out: what the compiler fuses must not differ between instances.
      v[j] = fmaf(low, r.x, -__fmul_rn(high, r.y));
      v[j + kPerLane / 2] = fmaf(high, r.x, __fmul_rn(low, r.y));
    }
    if (is_key) {
      __half* out = SharedRegion<__half>(p.shared.key) + row * kHeadDim;
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) out[layout::KeyElementPosition(32 * j + b.Lane())] = __float2half_rn(v[j]);
    } else {
      __half* out = SharedRegion<__half>(p.shared.query) + (row * M::QueryHeads() + head) * (kHeadDim + 8);
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) out[32 * j + b.Lane()] = __float2half_rn(v[j]);
    }
  }
}

// A team's part of an item's keys and values, as operand registers.
struct ItemOperands {
  uint4 key[2][2] = {};  // [token, token + 8][pair of k16 steps]
  uint4 value[4] = {};   // tokens 2t, 2t + 1, 2t + 8, 2t + 9 of the warp's k16 step
};

// How items are dealt. Item `index` of the block, counted over its teams, is item ItemOf(index) of the step.
template <class M>
__device__ __forceinline__ bool AttendsAlone() {
  return State().num_items <= AttentionShape<M::kHeadDim>::kTeams;
}
template <class M>
__device__ __forceinline__ std::int32_t ItemOf(std::int32_t index) {
  return AttendsAlone<M>() ? index : index * M::BlocksPerGroup() + State().member;
}
template <bool kOneRow>
__device__ __forceinline__ ItemState LookUpItem(std::int32_t item, std::int32_t rows) {
  const Program& p = kernel_args.program;
  ItemState state;
  state.row = 0;
#pragma unroll 1
  while (!kOneRow && state.row + 1 < rows && item >= State().rows[state.row + 1].first_item) ++state.row;
  const RowState& row = State().rows[state.row];
  state.block = item - (kOneRow ? 0 : row.first_item);
  const std::int32_t* table =
      Workspace<const std::int32_t>(p.workspace.page_table) + std::int64_t{row.lane} * p.max_pages;
  state.page = table[state.block * layout::kAttentionBlock >> p.kv_strides.page_log2];
  return state;
}
// Looks up the block's first items, one lane each, for the step.
template <class M, bool kOneRow>
__device__ __forceinline__ void HoldItems(const Block& b) {
  const std::int32_t item = ItemOf<M>(b.Lane());
  if (item < State().num_items) State().items[b.Lane()] = LookUpItem<kOneRow>(item, b.template Rows<kOneRow>());
}
// Bytes from the start of KV memory to a layer's keys of the group from an item's first position on.
__device__ __forceinline__ std::int64_t ItemOffset(const ItemState& item, std::int32_t layer) {
  const layout::KvStrides& strides = kernel_args.program.kv_strides;
  const std::int32_t slot = item.block * layout::kAttentionBlock & ((1 << strides.page_log2) - 1);
  return item.page * strides.page + layer * strides.layer + State().group * strides.head + slot * strides.slot;
}

template <class M, bool kOneRow>
struct ItemWorker {
  static constexpr int kHeadDim = M::kHeadDim;
  using Shape = AttentionShape<kHeadDim>;
  const Block& b;
  const std::int32_t team, step, half, g, t;  // step: tokens 16 * step .. + 15; half: elements 64 * half .. + 63
  AttentionScratch<M> scratch;
  std::int32_t row = 0, block = 0, position = 0, first_position = 0, first_row = 0;
  ItemOperands operands;

  __device__ __forceinline__ explicit ItemWorker(const Block& block_of_threads)
      : b(block_of_threads),
        team(b.Warp() / Shape::kTeamWarps),
        step(b.Warp() & 3),
        half((b.Warp() % Shape::kTeamWarps) >> 2),
        g(b.Lane() >> 2),
        t(b.Lane() & 3) {}

  __device__ __forceinline__ void TeamSync() const { NamedBarrier(2 + team, 32 * Shape::kTeamWarps); }
  __device__ __forceinline__ std::int32_t KeyToken(int i) const {
    return block * layout::kAttentionBlock + 16 * step + g + 8 * i;
  }
  __device__ __forceinline__ std::int32_t ValueToken(int i) const {
    return block * layout::kAttentionBlock + 16 * step + 2 * t + (i & 1) + 8 * (i >> 1);
  }

  // Chooses the item and reads what earlier steps left in memory; zero where nothing may be read.
  __device__ __forceinline__ void Begin(std::int32_t index, std::int32_t layer) {
    const Program& p = kernel_args.program;
    const ItemState item =
        index < kHeldItems ? State().items[index] : LookUpItem<kOneRow>(ItemOf<M>(index), b.template Rows<kOneRow>());
    row = kOneRow ? 0 : item.row;
    block = item.block;
    const RowState& state = State().rows[row];
    position = state.position;
    first_position = kOneRow ? position : state.first_position;
    first_row = kOneRow ? 0 : state.first_row;
    const std::int32_t first_token = block * layout::kAttentionBlock;
    const std::uint8_t* keys = kernel_args.kv + ItemOffset(item, layer) + half * 128;
    const std::uint8_t* values = keys + p.kv_strides.value + g * 16;
    keys += t * 16;
    const std::int32_t stride = p.kv_strides.slot;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const bool past = KeyToken(i) < first_position;
      const std::uint8_t* source = keys + (KeyToken(i) - first_token) * stride;
#pragma unroll
      for (int j = 0; j < 2; ++j) operands.key[i][j] = past ? LoadUncached(source + 64 * j) : uint4{};
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      operands.value[i] =
          ValueToken(i) < first_position ? LoadUncached(values + (ValueToken(i) - first_token) * stride) : uint4{};
    }
  }

  // Adds the positions of this step, which are in shared memory.
  __device__ __forceinline__ void AddCurrent() {
    const Program& p = kernel_args.program;
    if ((block + 1) * layout::kAttentionBlock <= first_position) return;
    const std::uint8_t* keys = SharedRegion<std::uint8_t>(p.shared.key) + half * 128 + t * 16;
    const std::uint8_t* values = SharedRegion<std::uint8_t>(p.shared.value) + half * 128 + g * 16;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::int32_t token = KeyToken(i);
      if (token >= first_position && token <= position) {
        const std::uint8_t* source = keys + (first_row + token - first_position) * (2 * kHeadDim);
#pragma unroll
        for (int j = 0; j < 2; ++j) operands.key[i][j] = *reinterpret_cast<const uint4*>(source + 64 * j);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::int32_t token = ValueToken(i);
      if (token >= first_position && token <= position) {
        operands.value[i] =
            *reinterpret_cast<const uint4*>(values + (first_row + token - first_position) * (2 * kHeadDim));
      }
    }
  }

  // Scores of the warp's 16 tokens over its 64 elements, for all heads.
  __device__ __forceinline__ void Scores() {
    const std::int32_t q = M::QueryHeads();
    const std::int32_t head = (b.Lane() & 7) < q ? (b.Lane() & 7) : 0;
    const std::uint32_t queries = kSharedBase + kernel_args.program.shared.query +
                                  (row * q + head) * (2 * (kHeadDim + 8)) + half * 128 + (b.Lane() >> 3) * 16;
    std::uint32_t low[4], high[4];
    LoadMatrix4(low, queries);
    LoadMatrix4(high, queries + 64);
    float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    const ItemOperands& o = operands;
    MultiplyAdd(d, o.key[0][0].x, o.key[1][0].x, o.key[0][0].y, o.key[1][0].y, low[0], low[1]);
    MultiplyAdd(d, o.key[0][0].z, o.key[1][0].z, o.key[0][0].w, o.key[1][0].w, low[2], low[3]);
    MultiplyAdd(d, o.key[0][1].x, o.key[1][1].x, o.key[0][1].y, o.key[1][1].y, high[0], high[1]);
    MultiplyAdd(d, o.key[0][1].z, o.key[1][1].z, o.key[0][1].w, o.key[1][1].w, high[2], high[3]);
    float* scores = scratch.scores + ((team * Shape::kHalves + half) * q + 2 * t) * Shape::kScoreStride + 16 * step + g;
    if (2 * t < q) {
      scores[0] = d[0];
      scores[8] = d[2];
    }
    if (2 * t + 1 < q) {
      scores[Shape::kScoreStride] = d[1];
      scores[Shape::kScoreStride + 8] = d[3];
    }
  }

  // Weights of all 64 tokens for head g (every warp, in operand order), then the product of the warp's 16 tokens and 64
  // elements.
  __device__ __forceinline__ void Outputs() {
    const Program& p = kernel_args.program;
    const std::int32_t q = M::QueryHeads();
    const std::int32_t head = g < q ? g : 0;
    const float* scores = scratch.scores + (team * Shape::kHalves * q + head) * Shape::kScoreStride + 2 * t;
    float s[16];
#pragma unroll
    for (int i = 0; i < 8; ++i) {  // tokens 8 i + 2 t, + 1
      float2 v = *reinterpret_cast<const float2*>(scores + 8 * i);
      if (Shape::kHalves == 2) {
        const float2 w = *reinterpret_cast<const float2*>(scores + q * Shape::kScoreStride + 8 * i);
        v.x += w.x;
        v.y += w.y;
      }
      const std::int32_t token = block * layout::kAttentionBlock + 8 * i + 2 * t;
      s[2 * i] = token <= position ? v.x : -INFINITY;
      s[2 * i + 1] = token + 1 <= position ? v.y : -INFINITY;
    }
    float maximum = s[0];
#pragma unroll
    for (int i = 1; i < 16; ++i) maximum = fmaxf(maximum, s[i]);
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
    maximum *= p.score_scale;
    float sum = 0.0f;
    std::uint32_t b0 = 0, b1 = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float w[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        w[j] = Exp2(fmaf(s[4 * i + j], p.score_scale, -maximum));
        sum += w[j];
      }
      if (i == step) {
        b0 = PackHalf2(w[0], w[1]);
        b1 = PackHalf2(w[2], w[3]);
      }
    }
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (step == 0 && half == 0 && t == 0 && g < q) {
      *reinterpret_cast<float2*>(scratch.limits + (team * q + g) * 2) = make_float2(maximum, sum);
    }
    float* outputs = scratch.outputs + ((team * 4 + step) * q + 2 * t) * kHeadDim + half * 64 + g;
    const std::uint32_t* v0 = reinterpret_cast<const std::uint32_t*>(&operands.value[0]);
    const std::uint32_t* v1 = reinterpret_cast<const std::uint32_t*>(&operands.value[1]);
    const std::uint32_t* v2 = reinterpret_cast<const std::uint32_t*>(&operands.value[2]);
    const std::uint32_t* v3 = reinterpret_cast<const std::uint32_t*>(&operands.value[3]);
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // elements 16 i + g, + 8
      float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      MultiplyAdd(d, __byte_perm(v0[i], v1[i], 0x5410), __byte_perm(v0[i], v1[i], 0x7632),
                  __byte_perm(v2[i], v3[i], 0x5410), __byte_perm(v2[i], v3[i], 0x7632), b0, b1);
      if (2 * t < q) {
        outputs[16 * i] = d[0];
        outputs[16 * i + 8] = d[2];
      }
      if (2 * t + 1 < q) {
        outputs[kHeadDim + 16 * i] = d[1];
        outputs[kHeadDim + 16 * i + 8] = d[3];
      }
    }
  }

  // Sum of the four k16 steps: element `element` of head `head` of the team's item, not divided.
  __device__ __forceinline__ static float Output(const AttentionScratch<M>& scratch, std::int32_t team, std::int32_t q,
                                                 std::int32_t head, std::int32_t element) {
    const float* o = scratch.outputs + (team * 4 * q + head) * kHeadDim + element;
    return ((o[0] + o[q * kHeadDim]) + o[2 * q * kHeadDim]) + o[3 * q * kHeadDim];
  }
};

// Copies this step's keys and values of the rows that this block appends to their pages.
template <class M, bool kOneRow>
__device__ __forceinline__ void AppendKeys(const Block& b, std::int32_t layer) {
  constexpr int kHeadDim = M::kHeadDim;
  const Program& p = kernel_args.program;
  constexpr int kLanes = kHeadDim / 8;  // 16 bytes each
#pragma unroll 1
  for (std::int32_t row = State().member; row < b.template Rows<kOneRow>(); row += M::BlocksPerGroup()) {
    if (b.Warp() != layout::kConsumerWarps - 1) continue;
    const RowState& state = State().rows[row];
    const std::int32_t page_index = state.position >> p.kv_strides.page_log2;
    const std::int32_t slot = state.position - (page_index << p.kv_strides.page_log2);
    const std::int32_t* table =
        Workspace<const std::int32_t>(p.workspace.page_table) + std::int64_t{state.lane} * p.max_pages;
    std::uint8_t* base = kernel_args.kv + table[page_index] * p.kv_strides.page + layer * p.kv_strides.layer +
                         State().group * p.kv_strides.head + slot * p.kv_strides.slot;
    const std::int32_t lane = b.Lane() & 15;
    const bool is_value = b.Lane() >= 16;
    if (lane < kLanes) {
      const std::uint8_t* source =
          SharedRegion<std::uint8_t>(is_value ? p.shared.value : p.shared.key) + row * 2 * kHeadDim;
      *reinterpret_cast<uint4*>(base + (is_value ? p.kv_strides.value : 0) + 16 * lane) =
          *reinterpret_cast<const uint4*>(source + 16 * lane);
    }
  }
}

}  // namespace megakernel::device
