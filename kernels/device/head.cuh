// The LM head: logits of this block's share of the vocabulary, and the largest of them for every row.
//
// A warp takes a whole 16-row part at a time, all columns, so nothing is added across warps. Parts go round the warps;
// a tile is read by one warp. A warp may wait for a tile more than a lap of the ring ahead, where the parity of the
// slot's barrier alone would mislead it: it first waits until the slot's earlier tile is consumed (`done`).
#pragma once

#include "kernels/device/gemm.cuh"

namespace megakernel::device {

struct Candidate {
  float value = -INFINITY;
  std::int32_t id = 0x7fffffff;
  // Larger value wins, then the lower id.
  __device__ __forceinline__ void Take(float v, std::int32_t i) {
    if (v > value || (v == value && i < id)) {
      value = v;
      id = i;
    }
  }
};

template <bool kOneRow>
__device__ __noinline__ void RunHead(Block b, std::uint32_t step) {
  const Program& p = kernel_args.program;
  const PhaseShare& share = State().shares[layout::kPhaseHead];
  const std::uint32_t num_slots = p.num_slots;
  const std::uint32_t slots = kSharedBase + p.shared.slots;
  volatile std::uint32_t* done = SharedRegion<std::uint32_t>(p.shared.done);
  const std::uint32_t activation = ActivationAddress<kOneRow>(p.shared.act, p.act_stride, b.rows, b.Lane());
  const float* scales = reinterpret_cast<const float*>(kernel_args.weights + p.head_scale);
  float* logits = Workspace<float>(p.workspace.logits);
  const std::int32_t padded = p.matrix[layout::kPhaseHead].group_rows;
  const bool write = (State().step_flags & layout::kStepLogits) != 0;
  const std::int32_t g = b.Lane() >> 2, t = b.Lane() & 3;

  Candidate best[2];  // rows 2 t, 2 t + 1
#pragma unroll 1
  for (std::int32_t part = b.Warp(); part < share.row_groups; part += layout::kConsumerWarps) {
    const std::int32_t id = share.first_row + part * layout::kTaskRows + g;
    const float scale_low = __ldg(scales + id), scale_high = __ldg(scales + id + 8);
    float total[4] = {0.0f, 0.0f, 0.0f, 0.0f}, block[4];
    std::int32_t chunk = 0;
#pragma unroll 1
    for (std::int32_t k = 0; k < share.tiles_per_group; ++k) {
      const std::uint32_t index = part * share.tiles_per_group + k;
      const std::uint32_t ahead = b.slot + index, lap = ahead / num_slots, slot = ahead - lap * num_slots;
      const std::uint32_t number = step << 16 | index;  // of this run of the head
      if (index >= num_slots) {
        std::uint32_t spins = 0;
        while (done[slot] != number - num_slots) {
          if (++spins > (kSpinLimit << 4)) Fault(FaultCode::kTileTimeout, number);
        }
      }
      AwaitBarrier(FullBarrier(slot), b.parity ^ (lap & 1));
      const std::int32_t cols = k == share.tiles_per_group - 1 ? share.last_cols : share.tile_cols;
      TaskPlace place;
      place.strip_bytes = 16 * cols;
      place.tile_offset = 0;
#pragma unroll 2
      for (std::int32_t c = 0; c < cols / layout::kChunkCols; ++c, ++chunk) {
        std::uint32_t a[16];
        float d[4];
        ReadWeights(a, slots + slot * layout::kTileBytes + c * (layout::kChunkCols * 16), place, b.Lane());
        MultiplyChunk(d, a, activation + chunk * (2 * layout::kChunkCols));
        const bool first = (chunk & 3) == 0, last = (chunk & 3) == 3 || chunk == share.chunks - 1;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          block[i] = first ? d[i] : block[i] + d[i];
          if (last) total[i] += block[i];
        }
      }
      __syncwarp();
      if (b.Lane() == 0) {
        done[slot] = number;
        BarrierArriveMany(EmptyBarrier(slot), kTileReaders);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::int32_t row = 2 * t + (i & 1), token = id + 8 * (i >> 1);
      const float value = total[i] * ((i >> 1) ? scale_high : scale_low);
      if (token < p.vocab) best[i & 1].Take(value, token);
      if (write && row < b.rows) logits[std::int64_t{row} * padded + token] = value;
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int step = 4; step < 32; step <<= 1) {
      best[i].Take(__shfl_xor_sync(0xffffffffu, best[i].value, step), __shfl_xor_sync(0xffffffffu, best[i].id, step));
    }
    if (g == 0) {
      State().best_value[b.Warp()][2 * t + i] = best[i].value;
      State().best_id[b.Warp()][2 * t + i] = best[i].id;
    }
  }
}

// Tells every row's sampling block this block's largest logit: the sign that the block is through with the step. A step
// without LM head sends a candidate that never wins.
__device__ __noinline__ void PublishCandidates(Block b, std::uint32_t step) {
  const Program& p = kernel_args.program;
  b.Sync();
  const bool head = (State().step_flags & layout::kStepHead) != 0;
  const std::int32_t row = threadIdx.x >> 4, lane = threadIdx.x & 15;
  if (row >= layout::kGpuMaxRows) return;
  Candidate best;
  if (head) best.Take(State().best_value[lane][row], State().best_id[lane][row]);
#pragma unroll
  for (int s = 1; s < 16; s <<= 1) {
    best.Take(__shfl_xor_sync(0xffffffffu, best.value, s), __shfl_xor_sync(0xffffffffu, best.id, s));
  }
  if (lane == 0 && row < b.rows) {
    // Keys, values and logits that this block wrote come before the candidates.
    FenceGpu();
    std::uint64_t* target =
        Workspace<std::uint64_t>(p.workspace.candidates) + (std::int64_t{blockIdx.x} * p.max_rows + row) * 2;
    StoreRelaxed(target, MakePacket(__float_as_uint(best.value), step));
    StoreRelaxed(target + 1, MakePacket(static_cast<std::uint32_t>(best.id), step));
  }
}

}  // namespace megakernel::device
