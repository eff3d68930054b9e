// What every warp of a block knows: arguments, role, shared memory, place in the ring. And the bounded waits.
//
// Arguments are a constant and shared memory starts at a constant address, so that what does not change costs the hot
// loop neither registers nor parameters.
#pragma once

#include "kernels/device/kernel_args.h"
#include "kernels/device/ptx.cuh"

namespace megakernel::device {

using layout::FaultCode;
using layout::Program;

// Of the kernel that runs: copied before each launch, in stream order (megakernel.cu).
static __constant__ KernelArgs kernel_args;
extern __shared__ __align__(1024) std::uint8_t shared_memory[];

// Where dynamic shared memory starts when there is no other: behind the 1 KiB that the system keeps. As a constant it
// folds into the addresses of every access; Megakernel() checks it.
inline constexpr std::uint32_t kSharedBase = 1024;

// Polls before a wait is declared lost: about 3 s of polls of GPU memory.
inline constexpr std::uint32_t kSpinLimit = 1u << 22;

// Names the wait that failed in pinned memory and ends the kernel. Inline: a call, though it never returns, would make
// the compiler keep everything that lives across a wait in the few registers that calls preserve.
__device__ __forceinline__ void Fault(FaultCode code, std::uint64_t detail) {
  StoreRelaxedSystem(&kernel_args.control->fault_detail, detail);
  StoreReleaseSystem(&kernel_args.control->fault,
                     static_cast<std::uint64_t>(code) << 32 | blockIdx.x << 16 | threadIdx.x >> 5);
  __threadfence_system();
  asm volatile("trap;");
  __builtin_unreachable();
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

// An attention item of this block (attention.cuh), looked up once a step.
struct ItemState {
  std::int32_t page, row, block;  // KV page, row of the step, attention block of the row
};
inline constexpr int kHeldItems = 32;

// A copy of a layer's vectors into shared memory.
struct VectorCopy {
  std::uint32_t source;  // bytes from the start of the layer's vectors
  std::uint32_t target;  // bytes from the start of shared memory
  std::uint32_t bytes;
};
inline constexpr int kVectorSets = 2, kMostVectorCopies = 6;

// Small shared state of a block.
struct BlockState {
  PhaseShare shares[layout::kNumPhases];
  RowState rows[layout::kGpuMaxRows];
  std::int32_t group, member;  // group < 0: a block that has no share of the layers
  std::int32_t num_rows, step_flags, num_items;
  std::int32_t zero;  // always 0 (Block::Renew)
  std::int32_t copy_source, copy_target;
  std::int32_t own_first, own_count;              // columns of the residual this block owns: first, number (norm.cuh)
  std::uint32_t sum_counts[layout::kGpuMaxRows];  // contributions that a row's words have, mod 256, at the step's start
  volatile std::uint64_t model_step;              // steps with rows begun << 32 | flags: what the producers read
  float best_value[layout::kConsumerWarps][layout::kGpuMaxRows];
  std::int32_t best_id[layout::kConsumerWarps][layout::kGpuMaxRows];
  std::uint64_t reduce[layout::kConsumerWarps * 2];
  ItemState items[kHeldItems];  // the block's first ones
  VectorCopy copies[kVectorSets][kMostVectorCopies];
  std::int32_t num_copies[kVectorSets];
  std::uint32_t copy_bytes[kVectorSets];
};

template <typename T>
__device__ __forceinline__ T* SharedRegion(std::int32_t offset) {
  return reinterpret_cast<T*>(__cvta_shared_to_generic(kSharedBase + offset));
}
__device__ __forceinline__ BlockState& State() {
  return *SharedRegion<BlockState>(0);
}
template <typename T>
__device__ __forceinline__ T* Workspace(std::int64_t offset) {
  return reinterpret_cast<T*>(kernel_args.workspace + offset);
}
// A vector held in shared memory (layout::HeldVectors).
__device__ __forceinline__ const float* Held(std::int32_t offset) {
  return SharedRegion<float>(kernel_args.program.shared.vectors) + offset;
}

__device__ __forceinline__ std::uint32_t FullBarrier(std::uint32_t slot) {
  return kSharedBase + kernel_args.program.shared.barriers + 8 * slot;
}
__device__ __forceinline__ std::uint32_t EmptyBarrier(std::uint32_t slot) {
  return kSharedBase + kernel_args.program.shared.barriers + 8 * (kernel_args.program.num_slots + slot);
}
__device__ __forceinline__ std::uint32_t VectorBarrier(bool empty, std::uint32_t set) {
  return kSharedBase + kernel_args.program.shared.barriers +
         8 * (2 * kernel_args.program.num_slots + (empty ? kVectorSets : 0) + set);
}

// Whole warps.
__device__ __forceinline__ void AwaitBarrier(std::uint32_t barrier, std::uint32_t parity) {
  if (!BarrierWait(barrier, parity, kSpinLimit)) Fault(FaultCode::kTileTimeout, barrier);
}

// What a consumer thread keeps in registers.
struct Block {
  std::int32_t thread;
  std::int32_t rows;            // of the step
  std::uint32_t slot, parity;   // ring: next tile of the block that is not consumed
  std::uint32_t layer_epoch;    // number of the layer run, over all steps, from 1
  std::uint32_t vector_parity;  // bit s: parity of vector set s

  __device__ __forceinline__ std::int32_t Warp() const { return thread >> 5; }
  __device__ __forceinline__ std::int32_t Lane() const { return thread & 31; }
  template <bool kOneRow>
  __device__ __forceinline__ std::int32_t Rows() const {
    return kOneRow ? 1 : rows;
  }
  // Reads the thread's place anew, so that the compiler cannot compute a part's addresses outside of the loop over
  // layers and keep them: there are more of them than registers.
  __device__ __forceinline__ void Renew() {
    thread = threadIdx.x + LoadVolatileShared(kSharedBase + offsetof(BlockState, zero));
  }
  __device__ __forceinline__ void Sync() const { NamedBarrier(1, 32 * layout::kConsumerWarps); }
  // Moves the block's place in the ring past a phase.
  __device__ __forceinline__ void AdvanceRing(const PhaseShare& share) {
    slot += share.ring_advance;
    parity ^= share.ring_flips;
    if (slot >= static_cast<std::uint32_t>(kernel_args.program.num_slots)) {
      slot -= kernel_args.program.num_slots;
      parity ^= 1;
    }
  }
  __device__ __forceinline__ void AwaitVectors(std::uint32_t set) const {
    AwaitBarrier(VectorBarrier(false, set), vector_parity >> set & 1);
  }
  // This warp reads the set no more; the next one may be copied once all warps say so.
  __device__ __forceinline__ void ReleaseVectors(std::uint32_t set) {
    __syncwarp();
    if (Lane() == 0) BarrierArrive(VectorBarrier(true, set));
    vector_parity ^= 1u << set;
  }
};

__device__ __forceinline__ std::uint64_t MakePacket(std::uint32_t value, std::uint32_t epoch) {
  return static_cast<std::uint64_t>(epoch) << 32 | value;
}

// Waits for the packet of `epoch`; `packet` is what an earlier load gave.
__device__ __forceinline__ std::uint32_t AwaitPacket(const std::uint64_t* address, std::uint64_t packet,
                                                     std::uint32_t epoch) {
  std::uint32_t spins = 0;
#pragma unroll 1
  while (static_cast<std::uint32_t>(packet >> 32) != epoch) {
    packet = LoadRelaxed(address);
    if (++spins > kSpinLimit) Fault(FaultCode::kPacketTimeout, epoch);
  }
  return static_cast<std::uint32_t>(packet);
}

// Loads kCount packets, `stride` apart, until all lanes of the warp have theirs of `epoch`. Whole warps; lanes that
// want nothing pass an address that is sure to have it, or `wanted` false: then 0.
template <int kCount>
__device__ __forceinline__ void AwaitPackets(std::uint32_t (&values)[kCount], const std::uint64_t* first,
                                             std::int32_t stride, bool wanted, std::uint32_t epoch) {
  std::uint32_t spins = 0;
  bool ready;
#pragma unroll 1
  do {
    std::uint64_t words[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) words[i] = wanted ? LoadRelaxed(first + i * stride) : 0;
    ready = true;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      values[i] = static_cast<std::uint32_t>(words[i]);
      ready = ready && (!wanted || static_cast<std::uint32_t>(words[i] >> 32) == epoch);
    }
    if (++spins > kSpinLimit) Fault(FaultCode::kPacketTimeout, epoch);
  } while (!__all_sync(0xffffffffu, ready));
}

}  // namespace megakernel::device
