// The loop of the consumer warps: one step of the model after another, as the scheduler hands them out.
#pragma once

#include "kernels/device/attention_fold.cuh"
#include "kernels/device/epilogue.cuh"
#include "kernels/device/norm.cuh"
#include "kernels/device/sample.cuh"
#include "kernels/device/trace.cuh"

namespace megakernel::device {

// Waits for step number `step` and puts it into shared memory. Warp 0; the caller places a block barrier after it.
__device__ __forceinline__ void ReadStep(Block& b, std::uint32_t step, std::uint32_t& model_step) {
  const Program& p = b.program;
  const std::uint64_t* packets =
      reinterpret_cast<const std::uint64_t*>(b.args.workspace + p.workspace.steps) + (step & 1) * layout::kStepPackets;
  // Lane 0 holds the header; all of a step's packets carry its number. No bound: between steps nothing is awaited.
  ulonglong2 words;
  std::uint32_t header;
  std::uint32_t polls = 0;
  while (true) {
    words = LoadPairRelaxed(packets + 2 * b.lane_id);
    header = __shfl_sync(0xffffffffu, static_cast<std::uint32_t>(words.x), 0);
    const std::uint32_t epoch = __shfl_sync(0xffffffffu, static_cast<std::uint32_t>(words.x >> 32), 0);
    if (epoch == step) {
      const std::int32_t rows = header & 0xffff;
      const std::int32_t needed = layout::kStepHeaderPackets + rows * layout::kRowPackets;
      const std::int32_t first = 2 * b.lane_id;
      const bool header_lane = first < layout::kStepHeaderPackets;
      const bool x = header_lane ? first > 2 || static_cast<std::uint32_t>(words.x >> 32) == step
                                 : first >= needed || static_cast<std::uint32_t>(words.x >> 32) == step;
      const bool y = header_lane ? first + 1 > 2 || static_cast<std::uint32_t>(words.y >> 32) == step
                                 : first + 1 >= needed || static_cast<std::uint32_t>(words.y >> 32) == step;
      if (__all_sync(0xffffffffu, x && y)) break;
    }
    if (++polls > 4096) __nanosleep(200);
  }
  // The packets lie as fields in the two words of each lane; shared memory puts them together.
  const std::int32_t rows = header & 0xffff;
  std::uint32_t* fields = reinterpret_cast<std::uint32_t*>(b.shared + p.shared.step);
  fields[2 * b.lane_id] = static_cast<std::uint32_t>(words.x);
  fields[2 * b.lane_id + 1] = static_cast<std::uint32_t>(words.y);
  __syncwarp();
  if (b.lane_id < rows) {
    const layout::StepRow& row =
        reinterpret_cast<const layout::StepRow*>(fields + layout::kStepHeaderPackets)[b.lane_id];
    RowState& state = b.state.rows[b.lane_id];
    state.lane = row.lane;
    state.position = row.position;
    state.first_row = row.first_row;
    state.flags = static_cast<std::int32_t>(row.flags);
    state.first_position = row.position - (b.lane_id - row.first_row);
    state.blocks = row.position / layout::kAttentionBlock + 1;
    // The step before may not have run on this row count: only the packet's epoch says when its token is there.
    if (row.source_row >= 0) {
      const std::uint64_t* token = reinterpret_cast<const std::uint64_t*>(b.args.workspace + p.workspace.tokens) +
                                   ((step - 1) & 1) * p.max_rows + row.source_row;
      state.token = static_cast<std::int32_t>(AwaitPacket(b.args, token, LoadRelaxed(token), step - 1));
    } else {
      state.token = row.token;
    }
  }
  __syncwarp();
  if (b.lane_id == 0) {
    std::int32_t items = 0;
    for (std::int32_t r = 0; r < rows; ++r) {
      b.state.rows[r].first_item = items;
      items += b.state.rows[r].blocks;
    }
    for (std::int32_t r = 0; r < b.state.num_rows; ++r) b.state.sum_counts[r] += p.groups * p.num_layers;
    b.state.num_rows = rows;
    b.state.num_items = items;
    b.state.step_flags = static_cast<std::int32_t>(header >> 16);
    b.state.copy_source = static_cast<std::int32_t>(fields[1]);
    b.state.copy_target = static_cast<std::int32_t>(fields[2]);
    if (rows > 0) ++model_step;
    b.state.model_step = static_cast<std::uint64_t>(model_step) << 32 | (header >> 16);
  }
  FenceGpu();  // what the scheduler and the step before wrote
}

__device__ __forceinline__ void CopyPage(Block& b, std::uint32_t step) {
  const Program& p = b.program;
  const std::int64_t bytes = p.kv.PageBytes();
  const uint4* source = reinterpret_cast<const uint4*>(b.args.kv + b.state.copy_source * bytes);
  uint4* target = reinterpret_cast<uint4*>(b.args.kv + b.state.copy_target * bytes);
  const std::int64_t stride = std::int64_t{p.num_blocks} * 32 * layout::kConsumerWarps;
  for (std::int64_t i = std::int64_t{blockIdx.x} * 32 * layout::kConsumerWarps + threadIdx.x; i < bytes / 16;
       i += stride) {
    target[i] = LoadUncached(source + i);
  }
  FenceGpu();
  b.Sync();
  if (threadIdx.x == 0) {
    FenceGpu();
    StoreRelaxed(reinterpret_cast<std::uint64_t*>(b.args.workspace + p.workspace.candidates) +
                     std::int64_t{blockIdx.x} * p.max_rows * 2,
                 MakePacket(0, step));
  }
}

template <int kHeadDim>
__device__ __forceinline__ void RunLayers(Block& b) {
  const Program& p = b.program;
#pragma unroll 1
  for (std::int32_t layer = 0; layer < p.num_layers; ++layer) {
    ++b.layer_epoch;
    const float* vectors = b.Vectors(layer);
#pragma unroll 1
    for (std::int32_t phase = layout::kPhaseQkv; phase <= layout::kPhaseDown; ++phase) {
      const bool reads_residual = phase == layout::kPhaseQkv || phase == layout::kPhaseGateUp;
      RunPhase(
          b, phase, b.base + (reads_residual ? p.shared.act : p.shared.panel),
          reads_residual ? p.act_stride : p.panel_stride,
          [&] {
            if (phase == layout::kPhaseO) Attend<kHeadDim>(b, layer);
          },
          [&] {
            if (reads_residual) {
              const bool qkv = phase == layout::kPhaseQkv;
              NormaliseResidual(b,
                                !qkv         ? Residual::kAfterO
                                : layer == 0 ? Residual::kEmbedding
                                             : Residual::kAfterDown,
                                qkv ? layer : layer + 1, vectors + (qkv ? p.vector.attention_norm : p.vector.ffn_norm));
            } else if (phase == layout::kPhaseDown) {
              GatherPanel(b, p.workspace.act, p.FfnPerGroup());
            }
          },
          [&](std::int32_t first, std::int32_t parts) {
            if (phase == layout::kPhaseQkv) {
              PublishQkv(b, layer, first, parts);
            } else if (phase == layout::kPhaseGateUp) {
              PublishSwiglu(b, layer, first, parts);
            } else {
              AddToResidual(b, phase, first, parts,
                            vectors + (phase == layout::kPhaseO ? p.vector.o_scale : p.vector.down_scale),
                            phase == layout::kPhaseO ? 1.0f : 1.0f / layout::kSwigluScale);
            }
          });
    }
  }
}

template <int kHeadDim>
__device__ __forceinline__ void Consume(Block& b) {
  const Program& p = b.program;
  std::uint32_t model_step = 0;
#pragma unroll 1
  for (std::uint32_t step = 1;; ++step) {
    Trace(b, 40);
    if (b.warp == 0) ReadStep(b, step, model_step);
    b.Sync();
    Trace(b, 41);
    b.rows = b.state.num_rows;
    b.pitch = b.rows == 1 ? 1 : 8;
    const std::int32_t flags = b.state.step_flags;
    if (flags & layout::kStepExit) return;
    if (flags & layout::kStepCopy) {
      CopyPage(b, step);
      b.Sync();
      continue;
    }
    for (std::int32_t i = threadIdx.x; i < b.rows * (kHeadDim / 2); i += 32 * layout::kConsumerWarps) {
      const std::int32_t row = i / (kHeadDim / 2), element = i - row * (kHeadDim / 2);
      reinterpret_cast<float2*>(b.shared + p.shared.rope)[i] =
          __ldg(b.args.rope + std::int64_t{b.state.rows[row].position} * (kHeadDim / 2) + element);
    }
    if (b.group >= 0) RunLayers<kHeadDim>(b);
    Trace(b, 42);
    // Also where no row needs logits: a block may add to the sums of the next step only once these are complete, and
    // the owners must know what the words hold (norm.cuh).
    NormaliseResidual(b, Residual::kAfterDown, p.num_layers,
                      reinterpret_cast<const float*>(b.args.weights + p.final_norm));
    Trace(b, 43);
    if (flags & layout::kStepHead) {
      b.Sync();
      RunHead(b);
    }
    Trace(b, 44);
    PublishCandidates(b, step);
    Trace(b, 45);
    SampleRow(b, step, reinterpret_cast<const layout::LaneSampling*>(b.args.workspace + p.workspace.samplings));
    b.Sync();
  }
}

}  // namespace megakernel::device
