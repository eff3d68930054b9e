// The resident kernel: one block per SM, launched once, leaves when it is told to.
//
// Warps of a block: 0..15 compute (step.cuh); 16 streams weights (ring.cuh), 17 norms and scales (vectors.cuh), 18 of
// the last block is the scheduler (scheduler.cuh), one thread each.
#include "kernels/device/instances.cuh"
#include "kernels/device/megakernel.h"
#include "kernels/device/scheduler.cuh"
#include "kernels/device/step.cuh"
#include "kernels/device/vectors.cuh"

namespace megakernel::device {
namespace {

static_assert(sizeof(BlockState) <= layout::kBlockStateBytes);

__device__ __noinline__ void FillShares(std::int32_t group, std::int32_t member) {
  const Program& p = kernel_args.program;
  BlockState& state = State();
  for (std::int32_t i = 0; i < layout::kNumPhases; ++i) {
    const layout::PackedMatrix& m = p.matrix[i];
    PhaseShare& share = state.shares[i];
    const bool head = i == layout::kPhaseHead;
    const layout::RowGroupShare part = head         ? layout::ShareOf(m.RowGroups(), blockIdx.x, p.num_blocks)
                                       : group >= 0 ? layout::ShareOf(m.RowGroups(), member, p.blocks_per_group)
                                                    : layout::RowGroupShare{0, 0};
    share.row_groups = part.count;
    share.first_row = part.first * m.RowsPerRowGroup();
    share.tiles_per_group = m.TilesPerRowGroup();
    share.tiles = share.row_groups * share.tiles_per_group;
    share.tiles_magic = (65536 + share.tiles_per_group - 1) / share.tiles_per_group;
    share.tile_cols = m.TileCols();
    share.last_cols = m.LastTileCols();
    share.halves_log2 = m.strips == 2 ? 0 : m.strips == 4 ? 1 : 2;
    share.chunks = m.cols / layout::kChunkCols;
    share.groups_per_pass = p.task_capacity / (share.chunks << share.halves_log2);
    share.ring_advance = share.tiles % p.num_slots;
    share.ring_flips = share.tiles / p.num_slots & 1;
    share.source = m.offset + (head ? 0 : group) * m.GroupBytes() + part.first * m.RowGroupBytes();
  }
  // Of the columns of its O rows, a block owns every groups-th.
  const PhaseShare& o = state.shares[layout::kPhaseO];
  state.own_count = 0;
  if (group >= 0) {
    const std::int32_t end_row = o.first_row + o.row_groups * p.matrix[layout::kPhaseO].RowsPerRowGroup();
    const std::int32_t end = end_row < p.hidden ? end_row : p.hidden;
    state.own_first = o.first_row + (group - o.first_row % p.groups + p.groups) % p.groups;
    if (state.own_first < end) state.own_count = (end - state.own_first + p.groups - 1) / p.groups;
  }
}

// The vectors this block holds (vectors.cuh).
__device__ __noinline__ void FillCopies(std::int32_t group) {
  const Program& p = kernel_args.program;
  BlockState& state = State();
  state.num_copies[0] = state.num_copies[1] = 0;
  state.copy_bytes[0] = state.copy_bytes[1] = 0;
  const auto add = [&](int set, std::int32_t source, std::int32_t target, std::int32_t count) {
    if (count == 0) return;
    state.copies[set][state.num_copies[set]++] = {4u * source, p.shared.vectors + 4u * target, 4u * count};
    state.copy_bytes[set] += 4u * count;
  };
  const auto add_rows = [&](int set, int phase, std::int32_t source, std::int32_t target) {
    const layout::PackedMatrix& m = p.matrix[phase];
    const PhaseShare& share = state.shares[phase];
    const bool by_group = phase == layout::kPhaseQkv || phase == layout::kPhaseGateUp;
    add(set, source + (by_group ? group * m.group_rows : 0) + share.first_row, target,
        share.row_groups * m.RowsPerRowGroup());
  };
  add(0, p.vector.attention_norm, p.held.attention_norm, p.hidden);
  if (p.qk_norm) add(0, p.vector.q_norm, p.held.q_norm, p.held.qkv_scale - p.held.q_norm);
  add_rows(0, layout::kPhaseQkv, p.vector.qkv_scale, p.held.qkv_scale);
  if (p.qkv_bias) add_rows(0, layout::kPhaseQkv, p.vector.qkv_bias, p.held.qkv_bias);
  add_rows(0, layout::kPhaseO, p.vector.o_scale, p.held.o_scale);
  add(1, p.vector.ffn_norm, p.held.ffn_norm, p.hidden);
  add_rows(1, layout::kPhaseGateUp, p.vector.gate_up_scale, p.held.gate_up_scale);
  add_rows(1, layout::kPhaseDown, p.vector.down_scale, p.held.down_scale);
}

template <class M>
__global__ void __launch_bounds__(layout::kThreads, 1) Megakernel() {
  const Program& p = kernel_args.program;
  const auto block = static_cast<std::int32_t>(blockIdx.x);
  const bool in_group = block < p.LayerBlocks();
  const std::int32_t group = in_group ? block / p.blocks_per_group : -1;
  const std::int32_t member = in_group ? block % p.blocks_per_group : 0;
  if (SharedAddress(shared_memory) != kSharedBase) Fault(FaultCode::kSharedBase, SharedAddress(shared_memory));
  // Everything but the ring starts as zero; sums of squares rely on it beyond the last column group.
  for (std::int32_t i = threadIdx.x; i < p.shared.total / 4; i += layout::kThreads) {
    if (i < p.shared.slots / 4 || i >= p.shared.barriers / 4) SharedRegion<std::uint32_t>(0)[i] = 0;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    State().group = group;
    State().member = member;
    FillShares(group, member);
    if (in_group) FillCopies(group);
    for (std::int32_t s = 0; s < p.num_slots; ++s) {
      BarrierInit(FullBarrier(s), 1);
      BarrierInit(EmptyBarrier(s), kTileReaders);
    }
    for (std::int32_t set = 0; set < kVectorSets; ++set) {
      BarrierInit(VectorBarrier(false, set), 1);
      BarrierInit(VectorBarrier(true, set), layout::kConsumerWarps);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  for (std::int32_t col = threadIdx.x; col < p.hidden; col += layout::kThreads) {
    const std::int32_t from_first = col - State().own_first;
    const bool owned = from_first >= 0 && from_first % p.groups == 0 && from_first / p.groups < State().own_count;
    SharedRegion<std::int16_t>(p.shared.owner)[col] = static_cast<std::int16_t>(owned ? from_first / p.groups : -1);
  }
  __syncthreads();

  const std::int32_t warp = threadIdx.x >> 5;
  if (warp < layout::kConsumerWarps) {
    Consume<M>();
  } else if ((threadIdx.x & 31) == 0) {
    if (warp == layout::kConsumerWarps) StreamWeights(group);
    if (warp == layout::kConsumerWarps + 1) StreamVectors<M>(group);
    if (warp == layout::kConsumerWarps + 2 && blockIdx.x + 1 == gridDim.x) RunScheduler();
  }
}

template <class M>
const void* Kernel() {
  return reinterpret_cast<const void*>(&Megakernel<M>);
}

const void* KernelFor(const layout::Program& p) {
  if (IsProgramOf<Qwen3_0p6B>(p)) return Kernel<FixedModel<Qwen3_0p6B>>();
  if (IsProgramOf<Llama3p2_1B>(p)) return Kernel<FixedModel<Llama3p2_1B>>();
  if (p.head_dim == 64) return Kernel<AnyModel<64>>();
  if (p.head_dim == 128) return Kernel<AnyModel<128>>();
  return nullptr;
}

}  // namespace

cudaError_t PrepareKernel(const layout::Program& program) {
  const void* kernel = KernelFor(program);
  if (kernel == nullptr) return cudaErrorInvalidValue;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, program.shared.total);
}

cudaError_t MaxResidentBlocks(const layout::Program& program, int* blocks_per_sm) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks_per_sm, KernelFor(program), layout::kThreads,
                                                       program.shared.total);
}

cudaError_t LaunchKernel(const KernelArgs& args, cudaStream_t stream) {
  const cudaError_t copied =
      cudaMemcpyToSymbolAsync(kernel_args, &args, sizeof(args), 0, cudaMemcpyHostToDevice, stream);
  if (copied != cudaSuccess) return copied;
  return cudaLaunchCooperativeKernel(KernelFor(args.program), dim3(args.program.num_blocks), dim3(layout::kThreads),
                                     nullptr, args.program.shared.total, stream);
}

}  // namespace megakernel::device
