// Products of weight tiles with the step's rows.
//
// A task is 16 weight rows x 64 columns: 2 KiB of a tile, four m16n8k16 products from zero, one chunk sum of
// numerics.h. A tile has at most eight tasks; tile i of a pass feeds warps 8 (i % 2) .. 8 (i % 2) + 7, so a warp waits
// for one tile per task and takes every second tile. Up to kPreload tasks are read into registers before the
// activations are there. Chunk sums go to the partial region as [16-row part][chunk][16 rows][pitch], and are added in
// the contract's order by the epilogues.
#pragma once

#include "kernels/device/block.cuh"
#include "kernels/device/ring.cuh"
#include "kernels/device/trace.cuh"

namespace megakernel::device {

inline constexpr int kPreload = 3;

// The columns of a tile's task: where it lies in the tile and what it multiplies.
struct TaskPlace {
  bool active;
  std::uint32_t tile_offset;  // bytes from the tile's start to the task's first core matrix
  std::uint32_t strip_bytes;
  std::int32_t part, chunk;  // 16-row part of the pass, chunk of the row
};

__device__ __forceinline__ TaskPlace PlaceTask(const PhaseShare& share, std::int32_t tile, std::int32_t sub) {
  TaskPlace place;
  const std::int32_t group = (tile * share.tiles_magic) >> 16;
  const std::int32_t k = tile - group * share.tiles_per_group;
  const std::int32_t cols = k == share.tiles_per_group - 1 ? share.last_cols : share.tile_cols;
  const std::int32_t half = sub & ((1 << share.halves_log2) - 1);
  const std::int32_t chunk = sub >> share.halves_log2;
  place.active = chunk * layout::kChunkCols < cols;
  place.strip_bytes = 16 * cols;
  place.tile_offset = 2 * half * place.strip_bytes + chunk * (layout::kChunkCols * 16);
  place.part = (group << share.halves_log2) + half;
  place.chunk = k * (share.tile_cols / layout::kChunkCols) + chunk;
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
__device__ __forceinline__ std::uint32_t ActivationAddress(std::uint32_t region, std::int32_t stride, std::int32_t rows,
                                                           std::int32_t lane) {
  const std::int32_t row = (lane & 7) < rows ? (lane & 7) : 0;
  return region + row * stride + (lane >> 3) * 16;
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

__device__ __forceinline__ void StoreChunk(const Block& b, float* partial, std::int32_t index, const float (&d)[4]) {
  const std::int32_t g = b.lane_id >> 2, t = b.lane_id & 3;
  float* task = partial + index * (layout::kTaskRows * b.pitch);
  if (b.pitch == 1) {
    if (t == 0) {
      task[g] = d[0];
      task[g + 8] = d[2];
    }
  } else {
    *reinterpret_cast<float2*>(task + g * 8 + 2 * t) = make_float2(d[0], d[1]);
    *reinterpret_cast<float2*>(task + (g + 8) * 8 + 2 * t) = make_float2(d[2], d[3]);
  }
}

// Sum of a row's chunks: blocks of four ascending, blocks ascending. `first` is chunk 0, `step` the distance of chunks.
__device__ __forceinline__ float AddChunks(const float* first, std::int32_t step, std::int32_t chunks) {
  float total = 0.0f;
  std::int32_t c = 0;
#pragma unroll 2
  for (; c + 4 <= chunks; c += 4) {
    const float a0 = first[c * step], a1 = first[(c + 1) * step], a2 = first[(c + 2) * step],
                a3 = first[(c + 3) * step];
    total += ((a0 + a1) + a2) + a3;
  }
  if (c < chunks) {
    float block = first[c * step];
    for (++c; c < chunks; ++c) block += first[c * step];
    total += block;
  }
  return total;
}

// Runs a phase: before() or prologue() makes the activations, epilogue(first part, parts) consumes the chunk sums of
// 16-row parts. Weights are read into registers between the two: before() is for what needs the registers itself.
// Inlined once for all phases: the loop over layers must stay in the instruction cache.
template <typename Before, typename Prologue, typename Epilogue>
__device__ __forceinline__ void RunPhase(Block& b, std::int32_t phase, std::uint32_t activations, std::int32_t stride,
                                         Before before, Prologue prologue, Epilogue epilogue) {
  const PhaseShare& share = b.state.shares[phase];
  const std::uint32_t slots = b.base + b.program.shared.slots;
  const std::uint32_t num_slots = b.program.num_slots;
  float* partial = reinterpret_cast<float*>(b.shared + b.program.shared.partial);
  const std::uint32_t activation = ActivationAddress(activations, stride, b.rows, b.lane_id);
  const std::int32_t sub = b.warp & 7;

  Trace(b, 8 * phase);
  before();
  Trace(b, 8 * phase + 1);
  std::uint32_t slot = b.slot + (b.warp >> 3), parity = b.parity;
  if (slot >= num_slots) {
    slot -= num_slots;
    parity ^= 1;
  }
  auto take = [&](std::uint32_t(&a)[16], const TaskPlace& place) {
    b.WaitTile(slot, parity);
    if (place.active) ReadWeights(a, slots + slot * layout::kTileBytes, place, b.lane_id);
    __syncwarp();
    if (b.lane_id == 0) BarrierArrive(b.Empty(slot));
    slot += 2;
    if (slot >= num_slots) {
      slot -= num_slots;
      parity ^= 1;
    }
  };
  auto multiply = [&](const std::uint32_t(&a)[16], std::int32_t part, std::int32_t chunk) {
    float d[4];
    MultiplyChunk(d, a, activation + chunk * (2 * layout::kChunkCols));
    StoreChunk(b, partial, part * share.chunks + chunk, d);
  };

  std::int32_t done = 0;
  do {
    const std::int32_t left = share.row_groups - done;
    const std::int32_t capacity = share.groups_per_pass << (b.pitch == 1 ? 3 : 0);  // one column needs an eighth
    const std::int32_t groups = left < capacity ? left : capacity;
    const std::int32_t tiles = groups * share.tiles_per_group;
    // A pass with an odd number of tiles shifts the halves of the warps: tile i of the phase always feeds half i % 2.
    const std::int32_t shift = (done * share.tiles_per_group + (b.warp >> 3)) & 1;
    std::uint32_t a[kPreload][16];
    std::int32_t parts[kPreload], chunks[kPreload];  // of the tasks; part < 0: none
#pragma unroll
    for (int i = 0; i < kPreload; ++i) {
      parts[i] = -1;
      if (shift + 2 * i < tiles) {
        const TaskPlace place = PlaceTask(share, shift + 2 * i, sub);
        take(a[i], place);
        if (place.active) parts[i] = place.part;
        chunks[i] = place.chunk;
      }
    }
    Trace(b, 8 * phase + 2);
    if (done == 0) prologue();
    Trace(b, 8 * phase + 3);
    b.Sync();
    Trace(b, 8 * phase + 4);
#pragma unroll
    for (int i = 0; i < kPreload; ++i) {
      if (parts[i] >= 0) multiply(a[i], parts[i], chunks[i]);
    }
#pragma unroll 1
    for (std::int32_t i = shift + 2 * kPreload; i < tiles; i += 2) {
      const TaskPlace place = PlaceTask(share, i, sub);
      take(a[0], place);
      if (place.active) multiply(a[0], place.part, place.chunk);
    }
    Trace(b, 8 * phase + 5);
    b.Sync();
    Trace(b, 8 * phase + 6);
    epilogue(done << share.halves_log2, groups << share.halves_log2);
    done += groups;
    if (done >= share.row_groups) break;
    b.Sync();
  } while (true);
  Trace(b, 8 * phase + 7);
  b.AdvanceRing(share);
}

}  // namespace megakernel::device
