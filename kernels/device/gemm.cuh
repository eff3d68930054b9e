// Products of weight tiles with the step's rows.
//
// A task is 16 weight rows x 64 columns: 2 KiB of a tile, four m16n8k16 products from zero, one chunk sum of
// numerics.h. A tile has at most eight tasks; tile i of a pass feeds warps 8 (i % 2) .. 8 (i % 2) + 7, so a warp waits
// for one tile per task and takes every second tile. The first tasks are read into registers before the activations
// are there. Chunk sums go to the partial region and are added in the contract's order by the epilogues:
//   one row    [16-row part][block of four chunks]{[chunk][16 rows], 8 unused}: lanes of a row sum in different banks
//   more rows  [16-row part][chunk][16 rows][8]
#pragma once

#include "kernels/device/model.cuh"
#include "kernels/device/ring.cuh"
#include "kernels/device/trace.cuh"

namespace megakernel::device {

// The columns of a tile's task: where it lies in the tile and what it multiplies.
struct TaskPlace {
  bool active;
  std::uint32_t tile_offset;  // bytes from the tile's start to the task's first core matrix
  std::uint32_t strip_bytes;
  std::int32_t part, chunk;  // 16-row part of the pass, chunk of the row
};

template <class M, int kPhase>
__device__ __forceinline__ TaskPlace PlaceTask(std::int32_t tile, std::int32_t sub) {
  TaskPlace place;
  const std::int32_t group = M::template GroupOfTile<kPhase>(tile);
  const std::int32_t k = tile - group * M::template TilesPerGroup<kPhase>();
  const std::int32_t tile_cols = M::template TileCols<kPhase>();
  const std::int32_t cols = k == M::template TilesPerGroup<kPhase>() - 1 ? M::template LastCols<kPhase>() : tile_cols;
  const std::int32_t halves_log2 = M::template HalvesLog2<kPhase>();
  const std::int32_t half = sub & ((1 << halves_log2) - 1);
  const std::int32_t chunk = sub >> halves_log2;
  place.active = chunk * layout::kChunkCols < cols;
  place.strip_bytes = 16 * cols;
  place.tile_offset = 2 * half * place.strip_bytes + chunk * (layout::kChunkCols * 16);
  place.part = (group << halves_log2) + half;
  place.chunk = k * (tile_cols / layout::kChunkCols) + chunk;
  return place;
}

// Reads a task's 16 x 64 weights: four A operands.
__device__ __forceinline__ void ReadWeights(std::uint32_t (&a)[16], std::uint32_t tile_address, const TaskPlace& place,
                                            std::int32_t lane) {
  const std::uint32_t address =
      tile_address + place.tile_offset + ((lane >> 3) & 1) * place.strip_bytes + (lane >> 4) * 128 + (lane & 7) * 16;
#pragma unroll
  for (int s = 0; s < 4; ++s) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a[4 * s]), "=r"(a[4 * s + 1]), "=r"(a[4 * s + 2]), "=r"(a[4 * s + 3])
                 : "r"(address + 256 * s)
                 : "memory");
  }
}

// Shared-space address from which a lane reads the rows' operand: row lane % 8 (rows beyond the step read row 0: the
// columns of a product do not mix), 8 columns lane / 8.
template <bool kOneRow>
__device__ __forceinline__ std::uint32_t ActivationAddress(std::int32_t region, std::int32_t stride, std::int32_t rows,
                                                           std::int32_t lane) {
  const std::int32_t row = !kOneRow && (lane & 7) < rows ? (lane & 7) : 0;
  return kSharedBase + region + row * stride + (lane >> 3) * 16;
}

// One chunk: from zero.
__device__ __forceinline__ void MultiplyChunk(float (&d)[4], const std::uint32_t (&a)[16], std::uint32_t activation) {
  std::uint32_t b[4], c[4];
  LoadMatrix4(b, activation);
  LoadMatrix4(c, activation + 64);
  d[0] = d[1] = d[2] = d[3] = 0.0f;
  MultiplyAdd(d, a[0], a[1], a[2], a[3], b[0], b[1]);
  MultiplyAdd(d, a[4], a[5], a[6], a[7], b[2], b[3]);
  MultiplyAdd(d, a[8], a[9], a[10], a[11], c[0], c[1]);
  MultiplyAdd(d, a[12], a[13], a[14], a[15], c[2], c[3]);
}

// Floats from one 16-row part of the partial region to the next, from its start to a chunk, and of a row's sum.
template <bool kOneRow>
__device__ __forceinline__ std::int32_t PartStride(std::int32_t chunks) {
  return kOneRow ? 16 * chunks + 8 * ((chunks + 3) >> 2) : 128 * chunks;
}
template <bool kOneRow>
__device__ __forceinline__ std::int32_t ChunkOffset(std::int32_t chunk) {
  return kOneRow ? 16 * chunk + 8 * (chunk >> 2) : 128 * chunk;
}

template <bool kOneRow>
__device__ __forceinline__ void StoreChunk(std::int32_t lane, float* task, const float (&d)[4]) {
  const std::int32_t g = lane >> 2, t = lane & 3;
  if (kOneRow) {
    if (t == 0) {
      task[g] = d[0];
      task[g + 8] = d[2];
    }
  } else {
    *reinterpret_cast<float2*>(task + g * 8 + 2 * t) = make_float2(d[0], d[1]);
    *reinterpret_cast<float2*>(task + (g + 8) * 8 + 2 * t) = make_float2(d[2], d[3]);
  }
}

// Sum of a block of chunks [4 q, 4 q + 4), those that exist, ascending.
template <bool kOneRow>
__device__ __forceinline__ float AddBlock(const float* row, std::int32_t q, std::int32_t chunks) {
  const float* first = row + ChunkOffset<kOneRow>(4 * q);
  constexpr int kStep = kOneRow ? 16 : 128;
  float sum = first[0];
#pragma unroll
  for (int i = 1; i < 4; ++i) {
    if (4 * q + i < chunks) sum += first[i * kStep];
  }
  return sum;
}

// Sum of a row's chunks: blocks ascending.
template <bool kOneRow>
__device__ __forceinline__ float AddChunks(const float* row, std::int32_t chunks) {
  float total = 0.0f;
#pragma unroll 4
  for (std::int32_t q = 0; q < (chunks + 3) >> 2; ++q) total += AddBlock<kOneRow>(row, q, chunks);
  return total;
}

// The same by four adjacent lanes, `part` = lane % 4: each adds every fourth block, all get the sum. Whole warps only.
__device__ __forceinline__ float AddChunksByFour(const float* row, std::int32_t chunks, std::int32_t part) {
  const std::int32_t blocks = (chunks + 3) >> 2;
  float total = 0.0f;
#pragma unroll 4
  for (std::int32_t first = 0; first < blocks; first += 4) {
    const float mine = first + part < blocks ? AddBlock<true>(row, first + part, chunks) : 0.0f;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float block = __shfl_sync(0xffffffffu, mine, i, 4);
      if (first + i < blocks) total += block;
    }
  }
  return total;
}

// Runs a phase: prologue() makes the activations at `region`, epilogue(first part, parts) consumes the chunk sums of
// 16-row parts.
template <class M, bool kOneRow, int kPhase, typename Prologue, typename Epilogue>
__device__ __forceinline__ void RunPhase(Block& b, std::int32_t region, std::int32_t stride, Prologue prologue,
                                         Epilogue epilogue) {
  const Program& p = kernel_args.program;
  const std::uint32_t slots = kSharedBase + p.shared.slots;
  const std::uint32_t num_slots = p.num_slots;
  b.Renew();
  const std::int32_t chunks = M::template Chunks<kPhase>();
  const std::int32_t row_groups = M::template RowGroups<kPhase>();
  const std::int32_t tiles_per_group = M::template TilesPerGroup<kPhase>();

  std::uint32_t slot = b.slot + (b.Warp() >> 3), parity = b.parity;
  if (slot >= num_slots) {
    slot -= num_slots;
    parity ^= 1;
  }
  auto take = [&](std::uint32_t(&a)[16], const TaskPlace& place) {
    AwaitBarrier(FullBarrier(slot), parity);
    ReadWeights(a, slots + slot * layout::kTileBytes, place, b.Lane());  // of an inactive task: anything
    __syncwarp();
    if (b.Lane() == 0) BarrierArrive(EmptyBarrier(slot));
    slot += 2;
    if (slot >= num_slots) {
      slot -= num_slots;
      parity ^= 1;
    }
  };
  auto multiply = [&](const std::uint32_t(&a)[16], std::int32_t part, std::int32_t chunk) {
    float d[4];
    MultiplyChunk(d, a,
                  ActivationAddress<kOneRow>(region, stride, b.template Rows<kOneRow>(), b.Lane()) +
                      chunk * (2 * layout::kChunkCols));
    StoreChunk<kOneRow>(
        b.Lane(),
        SharedRegion<float>(p.shared.partial) + part * PartStride<kOneRow>(chunks) + ChunkOffset<kOneRow>(chunk), d);
  };

  // With more rows the prologue needs the registers itself.
  constexpr int kTasks = kOneRow ? M::kMostTasks : 0;
  std::int32_t done = 0;
  do {
    const std::int32_t left = row_groups - done, capacity = M::template GroupsPerPass<kPhase>(kOneRow);
    const std::int32_t groups = left < capacity ? left : capacity;
    const std::int32_t tiles = groups * tiles_per_group;
    // A pass with an odd number of tiles shifts the halves of the warps: tile i of the phase always feeds half i % 2.
    std::int32_t shift = (done * tiles_per_group + (b.Warp() >> 3)) & 1;
    std::uint32_t a[kTasks > 0 ? kTasks : 1][16];
#pragma unroll
    for (int i = 0; i < kTasks; ++i) {
      if (shift + 2 * i < tiles) {
        take(a[i], PlaceTask<M, kPhase>(shift + 2 * i, b.Warp() & 7));
      } else {
#pragma unroll
        for (int j = 0; j < 16; ++j) a[i][j] = 0;  // set on every way: a register that may not be lives everywhere
      }
    }
    Trace(8 * kPhase + 2);
    b.Renew();
    if (done == 0) prologue();
    b.Renew();
    Trace(8 * kPhase + 3);
    b.Sync();
    Trace(8 * kPhase + 4);
    shift = (done * tiles_per_group + (b.Warp() >> 3)) & 1;
#pragma unroll
    for (int i = 0; i < kTasks; ++i) {
      if (shift + 2 * i < tiles) {
        const TaskPlace place = PlaceTask<M, kPhase>(shift + 2 * i, b.Warp() & 7);
        if (place.active) multiply(a[i], place.part, place.chunk);
      }
    }
#pragma unroll 1
    for (std::int32_t i = shift + 2 * kTasks; i < tiles; i += 2) {
      const TaskPlace place = PlaceTask<M, kPhase>(i, b.Warp() & 7);
      take(a[0], place);
      if (place.active) multiply(a[0], place.part, place.chunk);
    }
    Trace(8 * kPhase + 5);
    b.Sync();
    Trace(8 * kPhase + 6);
    b.Renew();
    const std::int32_t halves_log2 = M::template HalvesLog2<kPhase>();
    epilogue(done << halves_log2, groups << halves_log2);
    done += groups;
    if (done >= row_groups) break;
    b.Sync();
  } while (true);
  Trace(8 * kPhase + 7);
  b.AdvanceRing(State().shares[kPhase]);
}

}  // namespace megakernel::device
