// What every warp of a block knows: arguments, role, shared memory, place in the ring. And the bounded waits.
#pragma once

#include "kernels/device/kernel_args.h"
#include "kernels/device/ptx.cuh"

namespace megakernel::device {

using layout::FaultCode;
using layout::Program;

// Polls before a wait is declared lost: about 3 s of polls of GPU memory.
inline constexpr std::uint32_t kSpinLimit = 1u << 22;

// Names the wait that failed in pinned memory and ends the kernel.
__device__ __forceinline__ void Fault(const KernelArgs& args, FaultCode code, std::uint64_t detail) {
  StoreRelaxedSystem(&args.control->fault_detail, detail);
  __threadfence_system();
  StoreReleaseSystem(&args.control->fault, static_cast<std::uint64_t>(code) << 32 |
                                               static_cast<std::uint64_t>(blockIdx.x) << 16 | (threadIdx.x >> 5));
  __threadfence_system();
  asm volatile("trap;");
}

// This block's share of a phase. In shared memory.
struct PhaseShare {
  std::int32_t row_groups;  // 0: nothing to do
  std::int32_t first_row;   // in the group's part
  std::int32_t tiles;       // row_groups * tiles_per_group
  std::int32_t tiles_per_group;
  std::int32_t tiles_magic;  // ceil(65536 / tiles_per_group): division by multiplication
  std::int32_t tile_cols, last_cols;
  std::int32_t halves_log2;               // log2(strips / 2): 16-row parts of a row group
  std::int32_t chunks;                    // of a row
  std::int32_t groups_per_pass;           // row groups whose chunk sums fit the partial region
  std::int32_t ring_advance, ring_flips;  // tiles mod num_slots, laps mod 2
  std::int64_t source;                    // bytes from the start of a layer (head: of the arena) to the first tile
};

// A row of the step, as the consumers use it. In shared memory.
struct RowState {
  std::int32_t lane, position, token, first_row, flags;
  std::int32_t first_position;  // of the segment: positions from here on are rows of this step
  std::int32_t blocks;          // attention blocks
  std::int32_t first_item;      // blocks of the rows before
};

// Small shared state of a block.
struct BlockState {
  PhaseShare shares[layout::kNumPhases];
  RowState rows[layout::kGpuMaxRows];
  std::int32_t num_rows, step_flags, num_items, pad;
  std::int32_t copy_source, copy_target;
  std::int32_t own_first, own_count;              // columns of the residual this block owns: first, number (norm.cuh)
  std::uint32_t sum_counts[layout::kGpuMaxRows];  // contributions that a row's words have, mod 256, at the step's start
  volatile std::uint64_t model_step;              // steps with rows begun << 32 | flags: what the producer reads
  float best_value[layout::kConsumerWarps][layout::kGpuMaxRows];
  std::int32_t best_id[layout::kConsumerWarps][layout::kGpuMaxRows];
  std::uint64_t reduce[layout::kConsumerWarps * 2];
};

struct Block {
  const KernelArgs& args;
  const Program& program;
  std::uint8_t* shared;
  std::uint32_t base;  // shared-space address of `shared`
  BlockState& state;
  std::int32_t group, member;  // group < 0: a block that has no share of the layers
  std::int32_t warp, lane_id;
  std::int32_t rows;           // of the step
  std::int32_t pitch;          // columns of a stored chunk sum: 1 or 8
  std::uint32_t slot, parity;  // ring: next tile of the block that is not consumed
  std::uint32_t tile;          // its number since launch
  std::uint32_t layer_epoch;   // number of the layer run, over all steps, from 1

  __device__ __forceinline__ std::uint32_t Full(std::uint32_t s) const {
    return base + program.shared.barriers + 8 * s;
  }
  __device__ __forceinline__ std::uint32_t Empty(std::uint32_t s) const {
    return base + program.shared.barriers + 8 * (program.num_slots + s);
  }
  __device__ __forceinline__ void Sync() const { NamedBarrier(1, 32 * layout::kConsumerWarps); }
  __device__ __forceinline__ const float* Vectors(std::int32_t layer) const {
    return reinterpret_cast<const float*>(args.weights + program.vectors) + std::int64_t{layer} * program.vector.total;
  }
  __device__ __forceinline__ void WaitTile(std::uint32_t s, std::uint32_t p) const {
    std::uint32_t spins = 0;
    while (!BarrierTryWait(Full(s), p)) {
      if (++spins > kSpinLimit) Fault(args, FaultCode::kTileTimeout, s);
    }
  }
  // Moves the block's place in the ring past a phase.
  __device__ __forceinline__ void AdvanceRing(const PhaseShare& share) {
    slot += share.ring_advance;
    parity ^= share.ring_flips;
    if (slot >= static_cast<std::uint32_t>(program.num_slots)) {
      slot -= program.num_slots;
      parity ^= 1;
    }
    tile += share.tiles;
  }
};

__device__ __forceinline__ std::uint64_t MakePacket(std::uint32_t value, std::uint32_t epoch) {
  return static_cast<std::uint64_t>(epoch) << 32 | value;
}

// Waits for the packet of `epoch`; `packet` is what an earlier load gave.
__device__ __forceinline__ std::uint32_t AwaitPacket(const KernelArgs& args, const std::uint64_t* address,
                                                     std::uint64_t packet, std::uint32_t epoch) {
  std::uint32_t spins = 0;
  while (static_cast<std::uint32_t>(packet >> 32) != epoch) {
    packet = LoadRelaxed(address);
    if (++spins > kSpinLimit) Fault(args, FaultCode::kPacketTimeout, epoch);
  }
  return static_cast<std::uint32_t>(packet);
}

}  // namespace megakernel::device
