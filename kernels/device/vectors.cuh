// The second producer: one thread that keeps a layer's norms and this block's row scales in shared memory.
//
// They are read once a token, so they always come from device memory: loaded by the warps that need them they would put
// a loaded memory latency on every phase. Set 0 (attention norm to O scales) and set 1 (FFN norm to down scales) are
// each copied while the other is in use; the final norm is set 0 of the layer after the last. The copies are small and
// not counted by the weights' window.
#pragma once

#include "kernels/device/attention.cuh"

namespace megakernel::device {

struct VectorProducer {
  const std::int32_t group;
  std::uint32_t parity[kVectorSets] = {1, 1};

  // False when the block leaves instead.
  __device__ __forceinline__ bool Await(std::uint32_t set) {
    while (!BarrierTryWait(VectorBarrier(true, set), parity[set])) {
      if (Leaving()) return false;
    }
    parity[set] ^= 1;
    return true;
  }

  __device__ __forceinline__ bool Load(const std::uint8_t* vectors, std::uint32_t set) {
    if (!Await(set)) return false;
    const BlockState& state = State();
    const std::uint32_t full = VectorBarrier(false, set);
    BarrierExpect(full, state.copy_bytes[set]);
#pragma unroll 1
    for (std::int32_t i = 0; i < state.num_copies[set]; ++i) {
      const VectorCopy copy = state.copies[set][i];
      BulkCopy(kSharedBase + copy.target, vectors + copy.source, copy.bytes, full);
    }
    return true;
  }

  // Asks for the keys and values of earlier steps that a group's blocks will all read in `layer`, as far as they lie
  // together, so that they are in the L2 cache then. Where items are dealt over the blocks, this gained nothing: what
  // is asked for comes before the weights.
  template <class M>
  __device__ __forceinline__ void PrefetchItems(std::int32_t layer) {
    const Program& p = kernel_args.program;
    const std::int32_t index = State().member;
    if (!AttendsAlone<M>() || index >= State().num_items || p.kv_strides.slot != 2 * M::kHeadDim) return;
    const ItemState item = State().items[index];
    const std::int32_t past = State().rows[item.row].first_position - item.block * layout::kAttentionBlock;
    if (past <= 0) return;
    const std::int32_t bytes = (past < layout::kAttentionBlock ? past : layout::kAttentionBlock) * p.kv_strides.slot;
    const std::uint8_t* keys = kernel_args.kv + ItemOffset(item, layer);
    PrefetchBulk(keys, bytes);
    PrefetchBulk(keys + p.kv_strides.value, bytes);
  }

  __device__ __forceinline__ bool LoadFinalNorm() {
    if (!Await(0)) return false;
    const Program& p = kernel_args.program;
    const std::uint32_t full = VectorBarrier(false, 0);
    BarrierExpect(full, 4 * p.hidden);
    BulkCopy(kSharedBase + p.shared.vectors + 4 * p.held.attention_norm, kernel_args.weights + p.final_norm,
             4 * p.hidden, full);
    return true;
  }

  template <class M>
  __device__ __forceinline__ void Run() {
    const Program& p = kernel_args.program;
    std::uint32_t model_step = 0;
    while (true) {
      if (group >= 0) {
        const std::uint8_t* vectors = kernel_args.weights + p.vectors;
#pragma unroll 1
        for (std::int32_t layer = 0; layer < p.num_layers; ++layer, vectors += 4 * p.vector.total) {
          if (!Load(vectors, 0)) return Drain();
          // Of the first layer, the step's items are not known yet.
          if (layer > 0) PrefetchItems<M>(layer);
          if (!Load(vectors, 1)) return Drain();
        }
      }
      if (!LoadFinalNorm()) return Drain();
      AwaitModelStep(++model_step);
      if (Leaving()) return Drain();
    }
  }

  // No copy may outlive the block. A set's parity has been flipped for every copy begun: the phase of its full barrier
  // with the parity before the last flip is the last copy's.
  __device__ __forceinline__ void Drain() {
    for (std::uint32_t set = 0; set < kVectorSets; ++set) {
      while (!BarrierTryWait(VectorBarrier(false, set), parity[set])) {
      }
    }
  }
};

template <class M>
__device__ __noinline__ void StreamVectors(std::int32_t group) {
  VectorProducer{group}.Run<M>();
}

}  // namespace megakernel::device
