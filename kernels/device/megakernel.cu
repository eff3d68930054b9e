// The resident kernel: one block per SM, launched once, leaves when it is told to.
//
// Warps of a block: 0..15 compute (step.cuh); 16 streams weights (ring.cuh, one thread); 17 of the last block is the
// scheduler (scheduler.cuh, one thread); the other service warps only lend their registers to the computing ones.
#include "kernels/device/megakernel.h"
#include "kernels/device/scheduler.cuh"
#include "kernels/device/step.cuh"

namespace megakernel::device {
namespace {

constexpr int kConsumerRegisters = 112;
constexpr int kServiceRegisters = 32;

static_assert(sizeof(BlockState) <= layout::kBlockStateBytes);

__device__ void FillShares(const Program& p, BlockState& state, std::int32_t group, std::int32_t member) {
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

template <int kHeadDim>
__global__ void __launch_bounds__(layout::kThreads, 1) Megakernel(const __grid_constant__ KernelArgs args) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  const Program& p = args.program;
  BlockState& state = *reinterpret_cast<BlockState*>(shared + p.shared.misc);
  const bool in_group = static_cast<std::int32_t>(blockIdx.x) < p.LayerBlocks();
  const std::int32_t warp = threadIdx.x >> 5;
  Block b{args,
          p,
          shared,
          SharedAddress(shared),
          state,
          in_group ? static_cast<std::int32_t>(blockIdx.x) / p.blocks_per_group : -1,
          in_group ? static_cast<std::int32_t>(blockIdx.x) % p.blocks_per_group : 0,
          warp,
          static_cast<std::int32_t>(threadIdx.x & 31),
          0,
          1,
          0,
          0,
          0,
          0};
  // Everything but the ring starts as zero; sums of squares rely on it beyond the last column group.
  for (std::int32_t i = p.shared.barriers / 4 + threadIdx.x; i < p.shared.total / 4; i += layout::kThreads) {
    reinterpret_cast<std::uint32_t*>(shared)[i] = 0;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    FillShares(p, state, b.group, b.member);
    for (std::int32_t s = 0; s < p.num_slots; ++s) {
      BarrierInit(b.Full(s), 1);
      BarrierInit(b.Empty(s), kTileReaders);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();

  if (warp >= layout::kConsumerWarps) {
    RegistersDown<kServiceRegisters>();
    if (warp == layout::kConsumerWarps && b.lane_id == 0) Producer{b}.Run();
    if (warp == layout::kConsumerWarps + 1 && blockIdx.x + 1 == gridDim.x && b.lane_id == 0) Scheduler(args).Run();
  } else {
    RegistersUp<kConsumerRegisters>();
    Consume<kHeadDim>(b);
  }
}

const void* KernelFor(std::int32_t head_dim) {
  if (head_dim == 64) return reinterpret_cast<const void*>(&Megakernel<64>);
  if (head_dim == 128) return reinterpret_cast<const void*>(&Megakernel<128>);
  return nullptr;
}

}  // namespace

cudaError_t PrepareKernel(const layout::Program& program) {
  const void* kernel = KernelFor(program.head_dim);
  if (kernel == nullptr) return cudaErrorInvalidValue;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, program.shared.total);
}

cudaError_t MaxResidentBlocks(const layout::Program& program, int* blocks_per_sm) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks_per_sm, KernelFor(program.head_dim), layout::kThreads,
                                                       program.shared.total);
}

cudaError_t LaunchKernel(const KernelArgs& args, cudaStream_t stream) {
  void* params[] = {const_cast<KernelArgs*>(&args)};
  return cudaLaunchCooperativeKernel(KernelFor(args.program.head_dim), dim3(args.program.num_blocks),
                                     dim3(layout::kThreads), params, args.program.shared.total, stream);
}

}  // namespace megakernel::device
