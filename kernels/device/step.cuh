// The loop of the consumer warps: one step of the model after another, as the scheduler hands them out.
#pragma once

#include "kernels/device/attention_fold.cuh"
#include "kernels/device/epilogue.cuh"
#include "kernels/device/norm.cuh"
#include "kernels/device/sample.cuh"
#include "kernels/device/trace.cuh"

namespace megakernel::device {

// Waits for step number `step` and puts it into shared memory. Warp 0; the caller places a block barrier after it.
__device__ __noinline__ std::uint32_t ReadStep(Block b, std::uint32_t step, std::uint32_t model_step) {
  const Program& p = kernel_args.program;
  const std::uint64_t* packets = Workspace<const std::uint64_t>(p.workspace.steps) + (step & 1) * layout::kStepPackets;
  // Lane 0 holds the header; all of a step's packets carry its number. No bound: between steps nothing is awaited.
  ulonglong2 words;
  std::uint32_t header;
  std::uint32_t polls = 0;
  while (true) {
    words = LoadPairRelaxed(packets + 2 * b.Lane());
    header = __shfl_sync(0xffffffffu, static_cast<std::uint32_t>(words.x), 0);
    const std::uint32_t epoch = __shfl_sync(0xffffffffu, static_cast<std::uint32_t>(words.x >> 32), 0);
    if (epoch == step) {
      const std::int32_t rows = header & 0xffff;
      const std::int32_t needed = layout::kStepHeaderPackets + rows * layout::kRowPackets;
      const std::int32_t first = 2 * b.Lane();
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
  std::uint32_t* fields = SharedRegion<std::uint32_t>(p.shared.step);
  fields[2 * b.Lane()] = static_cast<std::uint32_t>(words.x);
  fields[2 * b.Lane() + 1] = static_cast<std::uint32_t>(words.y);
  __syncwarp();
  if (b.Lane() < rows) {
    const layout::StepRow& row =
        reinterpret_cast<const layout::StepRow*>(fields + layout::kStepHeaderPackets)[b.Lane()];
    RowState& state = State().rows[b.Lane()];
    state.lane = row.lane;
    state.position = row.position;
    state.first_row = row.first_row;
    state.flags = static_cast<std::int32_t>(row.flags);
    state.first_position = row.position - (b.Lane() - row.first_row);
    state.blocks = row.position / layout::kAttentionBlock + 1;
    // The step before may not have run on this row count: only the packet's epoch says when its token is there.
    if (row.source_row >= 0) {
      const std::uint64_t* token =
          Workspace<const std::uint64_t>(p.workspace.tokens) + ((step - 1) & 1) * p.max_rows + row.source_row;
      state.token = static_cast<std::int32_t>(AwaitPacket(token, LoadRelaxed(token), step - 1));
    } else {
      state.token = row.token;
    }
  }
  __syncwarp();
  if (b.Lane() == 0) {
    std::int32_t items = 0;
    for (std::int32_t r = 0; r < rows; ++r) {
      State().rows[r].first_item = items;
      items += State().rows[r].blocks;
    }
    for (std::int32_t r = 0; r < State().num_rows; ++r) State().sum_counts[r] += p.groups * p.num_layers;
    State().num_rows = rows;
    State().num_items = items;
    State().step_flags = static_cast<std::int32_t>(header >> 16);
    State().copy_source = static_cast<std::int32_t>(fields[1]);
    State().copy_target = static_cast<std::int32_t>(fields[2]);
    if (rows > 0) ++model_step;
    State().model_step = static_cast<std::uint64_t>(model_step) << 32 | (header >> 16);
  }
  FenceGpu();  // what the scheduler and the step before wrote
  return model_step;
}

__device__ __noinline__ void CopyPage(Block b, std::uint32_t step) {
  const Program& p = kernel_args.program;
  const std::int64_t bytes = p.kv.PageBytes();
  const uint4* source = reinterpret_cast<const uint4*>(kernel_args.kv + State().copy_source * bytes);
  uint4* target = reinterpret_cast<uint4*>(kernel_args.kv + State().copy_target * bytes);
  const std::int64_t stride = std::int64_t{p.num_blocks} * 32 * layout::kConsumerWarps;
  for (std::int64_t i = std::int64_t{blockIdx.x} * 32 * layout::kConsumerWarps + threadIdx.x; i < bytes / 16;
       i += stride) {
    target[i] = LoadUncached(source + i);
  }
  FenceGpu();
  b.Sync();
  if (threadIdx.x == 0) {
    FenceGpu();
    StoreRelaxed(Workspace<std::uint64_t>(p.workspace.candidates) + std::int64_t{blockIdx.x} * p.max_rows * 2,
                 MakePacket(0, step));
  }
}

template <class M, bool kOneRow>
__device__ __forceinline__ void RunLayers(Block& b) {
  const Program& p = kernel_args.program;
#pragma unroll 1
  for (std::int32_t layer = 0; layer < M::Layers(); ++layer) {
    ++b.layer_epoch;
    if (layer == 0) NormaliseEmbedding<M, kOneRow>(b, p.held.attention_norm);
    RunPhase<M, kOneRow, layout::kPhaseQkv>(
        b, p.shared.act, p.act_stride,
        [&] {
          if (layer > 0) NormaliseResidual<M, kOneRow, Residual::kAfterDown>(b, layer, 0, p.held.attention_norm);
        },
        [&](std::int32_t first, std::int32_t parts) { PublishQkv<M, kOneRow>(b, first, parts); });
    Attend<M, kOneRow>(b, layer);
    RunPhase<M, kOneRow, layout::kPhaseO>(
        b, p.shared.panel, p.panel_stride, [] {},
        [&](std::int32_t first, std::int32_t parts) { AddToResidual<M, kOneRow, layout::kPhaseO>(b, first, parts); });
    b.ReleaseVectors(0);
    RunPhase<M, kOneRow, layout::kPhaseGateUp>(
        b, p.shared.act, p.act_stride,
        [&] { NormaliseResidual<M, kOneRow, Residual::kAfterO>(b, layer + 1, 1, p.held.ffn_norm); },
        [&](std::int32_t first, std::int32_t parts) { PublishSwiglu<M, kOneRow>(b, first, parts); });
    RunPhase<M, kOneRow, layout::kPhaseDown>(
        b, p.shared.panel, p.panel_stride, [&] { GatherPanel<kOneRow>(b, p.workspace.act, M::FfnPerGroup()); },
        [&](std::int32_t first, std::int32_t parts) {
          AddToResidual<M, kOneRow, layout::kPhaseDown>(b, first, parts);
        });
    b.ReleaseVectors(1);
  }
}

// The model for the step's rows, once shared memory holds them.
template <class M, bool kOneRow>
__device__ __forceinline__ void RunModel(Block& b, std::uint32_t step) {
  const Program& p = kernel_args.program;
  constexpr int kHalf = M::kHeadDim / 2;
#pragma unroll 1
  for (std::int32_t i = threadIdx.x; i < b.template Rows<kOneRow>() * kHalf; i += 32 * layout::kConsumerWarps) {
    const std::int32_t row = i / kHalf, element = i - row * kHalf;
    SharedRegion<float2>(p.shared.rope)[i] =
        __ldg(kernel_args.rope + std::int64_t{State().rows[row].position} * kHalf + element);
  }
  if (State().group >= 0) {
    if (b.Warp() == 1) HoldItems<M, kOneRow>(b);  // read after the barriers of the first layer's normalisation
    RunLayers<M, kOneRow>(b);
  }
  Trace(42);
  // Also where no row needs logits: a block may add to the sums of the next step only once these are complete, and
  // the owners must know what the words hold (norm.cuh).
  NormaliseResidual<M, kOneRow, Residual::kAfterDown>(b, M::Layers(), 0, p.held.attention_norm);
  b.ReleaseVectors(0);
  Trace(43);
  if (State().step_flags & layout::kStepHead) {
    b.Sync();
    RunHead<kOneRow>(b, step);
    b.AdvanceRing(State().shares[layout::kPhaseHead]);
  }
}

// The model for several rows, as a call. Returns the places in the rings, in one word.
template <class M>
__device__ __noinline__ std::uint32_t RunModelOfRows(Block b, std::uint32_t step) {
  RunModel<M, false>(b, step);
  return b.slot << 3 | b.vector_parity << 1 | b.parity;
}

template <class M>
__device__ __forceinline__ void Consume() {
  Block b = {};
  b.thread = threadIdx.x;
  std::uint32_t model_step = 0;
#pragma unroll 1
  for (std::uint32_t step = 1;; ++step) {
    Trace(40);
    if (b.Warp() == 0) model_step = ReadStep(b, step, model_step);
    b.Sync();
    Trace(41);
    b.rows = State().num_rows;
    const std::int32_t flags = State().step_flags;
    if (flags & layout::kStepExit) return;
    if (flags & layout::kStepCopy) {
      CopyPage(b, step);
      b.Sync();
      continue;
    }
    if (b.rows == 1) {
      RunModel<M, true>(b, step);
    } else {
      // Through a pointer that the compiler does not see through: where it knows the callee, it shares registers with
      // it, and the loop over layers for one row no longer fits its own.
      auto* run = &RunModelOfRows<M>;
      asm volatile("" : "+l"(run));
      const std::uint32_t places = run(b, step);
      b.slot = places >> 3;
      b.vector_parity = places >> 1 & 3;
      b.parity = places & 1;
      if (State().group >= 0) b.layer_epoch += M::Layers();
    }
    Trace(44);
    PublishCandidates(b, step);
    Trace(45);
    SampleRow(b, step, Workspace<const layout::LaneSampling>(kernel_args.program.workspace.samplings));
    b.Sync();
  }
}

}  // namespace megakernel::device
