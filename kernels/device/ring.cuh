// The producer: one thread that streams this block's weight tiles through the ring, in the order in which the
// consumers use them, across phases, layers, the LM head and the border of steps. It never waits for an activation.
//
// Ring of num_slots slots. full[s]: one arrival and the tile's bytes. empty[s]: eight arrivals, one from each warp that
// a tile of the layers feeds (the LM head's one warp arrives eight times). Copies in flight are bounded by a window:
// more than about 32 KiB a block buys no bandwidth and queues every hand-over behind the weights.
#pragma once

#include "kernels/device/block.cuh"

namespace megakernel::device {

inline constexpr std::uint32_t kTileReaders = 8;

// True when the block leaves the kernel.
__device__ __forceinline__ bool Leaving() {
  return (static_cast<std::uint32_t>(State().model_step) & layout::kStepExit) != 0;
}

// Waits until the consumers have begun model step `step`; returns State().model_step as seen then.
__device__ __forceinline__ std::uint64_t AwaitModelStep(std::uint32_t step) {
  std::uint64_t seen;
  do {
    seen = State().model_step;
  } while (static_cast<std::uint32_t>(seen >> 32) < step && !Leaving());
  return seen;
}

struct Producer {
  const std::int32_t group;
  std::uint32_t slot = 0, parity = 1;           // next slot to fill; parity of the phase that must be over
  std::uint32_t oldest = 0, oldest_parity = 0;  // oldest copy in flight
  std::int32_t in_flight = 0;
  std::uint32_t model_step = 0;  // steps streamed

  __device__ __forceinline__ void Retire() {
    while (!BarrierTryWait(FullBarrier(oldest), oldest_parity)) {
    }
    if (++oldest == static_cast<std::uint32_t>(kernel_args.program.num_slots)) {
      oldest = 0;
      oldest_parity ^= 1;
    }
    --in_flight;
  }

  // False when the block leaves instead.
  __device__ __forceinline__ bool Issue(const std::uint8_t* source, std::uint32_t bytes, std::int32_t window) {
    while (!BarrierTryWait(EmptyBarrier(slot), parity)) {
      if (Leaving()) return false;
    }
    while (in_flight >= window) Retire();
    BarrierExpect(FullBarrier(slot), bytes);
    BulkCopy(kSharedBase + kernel_args.program.shared.slots + slot * layout::kTileBytes, source, bytes,
             FullBarrier(slot));
    ++in_flight;
    if (++slot == static_cast<std::uint32_t>(kernel_args.program.num_slots)) {
      slot = 0;
      parity ^= 1;
    }
    return true;
  }

  __device__ __forceinline__ bool Stream(const PhaseShare& share, const std::uint8_t* source, std::int32_t row_bytes,
                                         std::int32_t window) {
    for (std::int32_t q = 0; q < share.row_groups; ++q) {
      for (std::int32_t k = 1; k <= share.tiles_per_group; ++k) {
        const std::uint32_t bytes = row_bytes * (k == share.tiles_per_group ? share.last_cols : share.tile_cols);
        if (!Issue(source, bytes, window)) return false;
        source += bytes;
      }
    }
    return true;
  }

  __device__ __forceinline__ void Run() {
    const Program& p = kernel_args.program;
    bool more = true;
    while (more) {
      if (group >= 0) {
        for (std::int32_t layer = 0; more && layer < p.num_layers; ++layer) {
          const std::uint8_t* weights = kernel_args.weights + layer * p.layer_bytes;
#pragma unroll 1
          for (std::int32_t phase = 0; more && phase < 4; ++phase) {
            const PhaseShare& share = State().shares[phase];
            more = Stream(share, weights + share.source, 16 * p.matrix[phase].strips, p.window_layers);
          }
        }
      }
      if (!more) break;
      // Whether this step runs the LM head is known once the consumers have begun it.
      const std::uint64_t seen = AwaitModelStep(++model_step);
      if (Leaving()) break;
      if (seen & layout::kStepHead) {
        const PhaseShare& share = State().shares[layout::kPhaseHead];
        more =
            Stream(share, kernel_args.weights + share.source, 16 * p.matrix[layout::kPhaseHead].strips, p.window_head);
      }
    }
    while (in_flight > 0) Retire();  // no copy may outlive the block
  }
};

__device__ __noinline__ void StreamWeights(std::int32_t group) {
  Producer{group}.Run();
}

}  // namespace megakernel::device
