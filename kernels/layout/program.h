// What the resident kernel runs: sizes of the model, share of every block, places of every buffer.
//
// A Program is built on the host (kernels/host/program_build.h) and passed to the kernel by value. The same code runs
// every shape: nothing here is compiled in but head_dim.
//
// Blocks form `groups` groups, one per KV head, of `blocks_per_group` blocks each; the rest only help with the LM head.
// A group owns its head's rows of QKV, its query heads' columns of O, and 1/groups of the FFN: its rows of gate/up and
// its columns of down. So a layer needs two exchanges between all blocks (the residual after O and after down) and the
// others stay inside the group.
#pragma once

#include <cstdint>

#include "kernels/layout/kv_page.h"
#include "kernels/layout/tile.h"

namespace megakernel::layout {

enum Phase : std::int32_t { kPhaseQkv = 0, kPhaseO = 1, kPhaseGateUp = 2, kPhaseDown = 3, kPhaseHead = 4 };
inline constexpr int kNumPhases = 5;

inline constexpr int kGpuMaxRows = 8;      // rows of a step: the columns of one tensor-core product
inline constexpr int kConsumerWarps = 16;  // warps that compute
inline constexpr int kMostHidden = 4096;   // a row's columns, four column groups a warp
inline constexpr int kServiceWarps = 3;    // weights, vectors, scheduler
inline constexpr int kThreads = 32 * (kConsumerWarps + kServiceWarps);

inline constexpr int kBlockStateBytes = 4096;  // room in shared memory for what a block knows (device/block.cuh)
inline constexpr int kTraceWords = 4096;       // clock readings of a block (device/trace.cuh)

// fp32 vectors of a layer, offsets in floats from the layer's vectors.
struct VectorOffsets {
  std::int32_t attention_norm = 0, ffn_norm = 0;  // [hidden]
  std::int32_t q_norm = 0, k_norm = 0;            // [head_dim]
  std::int32_t qkv_scale = 0, qkv_bias = 0;       // [groups][group_rows]
  std::int32_t o_scale = 0, down_scale = 0;       // [hidden]
  std::int32_t gate_up_scale = 0;                 // [groups][group_rows]
  std::int32_t total = 0;
};

// Bytes from the start of the workspace, all of it zero at launch. Packets are 8 bytes: a 32-bit value and the 32-bit
// epoch that it belongs to; sums are the 64-bit words of numerics.h.
struct WorkspaceOffsets {
  std::int64_t sums = 0;        // [2: after O, after down][max_rows][hidden] sums
  std::int64_t qkv = 0;         // [groups][max_rows][qkv rows] packets, fp32
  std::int64_t partial = 0;     // [groups][max_items][q_per_kv][head_dim + 2] packets, fp32: o, maximum, sum
  std::int64_t attention = 0;   // [groups][max_rows][q_per_kv * head_dim / 2] packets, two fp16
  std::int64_t act = 0;         // [groups][max_rows][ffn / groups / 2] packets, two fp16
  std::int64_t candidates = 0;  // [blocks][max_rows] x {value packet, id packet}
  std::int64_t tokens = 0;      // [2][max_rows] packets
  std::int64_t steps = 0;       // [2][kStepPackets] packets
  std::int64_t logits = 0;      // [max_rows][padded vocab] fp32
  std::int64_t scheduler = 0;   // SchedulerState
  std::int64_t samplings = 0;   // [max_lanes] LaneSampling
  std::int64_t page_table = 0;  // [max_lanes][max_pages] int32
  std::int64_t trace = 0;       // [blocks][kTraceWords] uint64
  std::int64_t total = 0;
};

// What a block holds of a layer's vectors in shared memory, in floats from SharedOffsets::vectors: the norms, and the
// scales of the rows that it computes itself. Two sets, each loaded while the other is in use (device/vectors.cuh).
struct HeldVectors {
  std::int32_t attention_norm = 0, q_norm = 0, k_norm = 0, qkv_scale = 0, qkv_bias = 0, o_scale = 0;  // set 0
  std::int32_t ffn_norm = 0, gate_up_scale = 0, down_scale = 0;                                       // set 1
  std::int32_t total = 0;
};

// Bytes from the start of a block's shared memory.
struct SharedOffsets {
  std::int32_t misc = 0;      // what a block knows (device/block.cuh)
  std::int32_t slots = 0;     // [num_slots][16 KiB]
  std::int32_t barriers = 0;  // full[num_slots], empty[num_slots], full[2] and empty[2] of the vectors
  std::int32_t done = 0;      // [num_slots] tile number last consumed in the LM head
  std::int32_t act = 0;       // [max_rows] x act_stride: normalised residual, fp16
  std::int32_t panel = 0;     // [max_rows] x panel_stride: attention output or SwiGLU product, fp16
  std::int32_t partial = 0;   // chunk sums; attention scratch
  std::int32_t query = 0;     // [max_rows][q_per_kv][head_dim + 8] fp16
  std::int32_t key = 0;       // [max_rows][head_dim] fp16, page order
  std::int32_t value = 0;     // the same
  std::int32_t rope = 0;      // [max_rows][head_dim / 2] {cos, sin}
  std::int32_t vectors = 0;   // HeldVectors
  std::int32_t owner = 0;     // [hidden] int16: index of a column among those this block owns, or -1
  std::int32_t own = 0;       // [3][max_rows][own_cols] int64
  std::int32_t squares = 0;   // [max_rows][squares_stride] fp32
  std::int32_t step = 0;      // the step's rows
  std::int32_t total = 0;
};

// Bytes between places of KV memory (kv_page.h), so that the kernel need not multiply sizes.
struct KvStrides {
  std::int64_t page = 0, layer = 0, value = 0;  // pages, layers of a page, a layer's keys to its values
  std::int32_t head = 0, slot = 0;              // heads, positions
  std::int32_t page_log2 = 0;                   // log2(page_tokens)
};

struct Program {
  // Model.
  std::int32_t num_layers = 0, hidden = 0, groups = 0, q_per_kv = 0, head_dim = 0, ffn = 0, vocab = 0;
  std::int32_t qk_norm = 0, qkv_bias = 0, max_context = 0;
  float rms_eps = 0.0f;
  float score_scale = 0.0f;  // log2(e) / sqrt(head_dim)

  // Grid.
  std::int32_t num_blocks = 0, blocks_per_group = 0;
  std::int32_t max_rows = 0, max_lanes = 0, max_pages = 0, max_items = 0;
  std::int32_t num_slots = 0;
  std::int32_t window_layers = 2, window_head = 4;  // bulk copies in flight per block

  // Weights: layer l at l * layer_bytes, then the head, the embedding (the head when tied), the vectors.
  PackedMatrix matrix[kNumPhases];
  PackedMatrix embedding;
  std::int64_t layer_bytes = 0, vectors = 0, head_scale = 0, embedding_scale = 0, final_norm = 0, weight_bytes = 0;
  VectorOffsets vector;
  HeldVectors held;

  KvGeometry kv;
  KvStrides kv_strides;
  std::int32_t num_kv_pages = 0;

  std::int32_t act_stride = 0, panel_stride = 0;  // bytes
  std::int32_t task_capacity = 0;                 // chunk tasks that the partial region holds
  std::int32_t own_cols = 0, squares_stride = 0;
  WorkspaceOffsets workspace;
  SharedOffsets shared;

  MEGAKERNEL_HOST_DEVICE std::int32_t QkvRows() const { return (q_per_kv + 2) * head_dim; }
  MEGAKERNEL_HOST_DEVICE std::int32_t PanelCols() const { return q_per_kv * head_dim; }
  MEGAKERNEL_HOST_DEVICE std::int32_t FfnPerGroup() const { return ffn / groups; }
  MEGAKERNEL_HOST_DEVICE std::int32_t LayerBlocks() const { return groups * blocks_per_group; }
};

}  // namespace megakernel::layout
