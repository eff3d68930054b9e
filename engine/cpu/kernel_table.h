// The arithmetic of the CPU executor as functions that exist once per instruction set.
//
// Every function gives the same bits on every instruction set (each is compiled from one source over a sixteen-lane
// vector whose operations are single IEEE operations), and treats each row alone, so that a row's result depends on
// nothing but the row. Row buffers are padded with zeros to whole blocks of 32 columns and 64-byte aligned.
//
// Activations of integer matrices are 16-bit integers with one fp32 scale per block of 32: x = scale * q,
// |q| <= 32767, error <= scale / 2 = max|x| / 65534. With 4- and 8-bit weights the sum over a block is exact in int32;
// blocks are added in ascending order in fp32: acc = fma(float(sum), weight scale * scale, acc), then for weights with
// a minimum acc = fma(minimum, scale * sum of q, acc). Where a block has two scales (kQ8Halves), its halves are added
// one after the other. A block that holds NaN or infinity gets the scale NaN.
#pragma once

#include <cstdint>

#include "engine/cpu/packed_matrix.h"

namespace megakernel::cpu {

// Inputs of matrices: `cols` (a multiple of 32) columns, the fp32 values and their integer form.
struct Activations {
  std::int32_t cols = 0;
  float* floats = nullptr;         // [rows][cols]
  std::int16_t* values = nullptr;  // [rows][cols]
  float* scales = nullptr;         // [rows][cols / 32]
  float* sums = nullptr;           // [rows][cols / 32] scale * sum of the block's values

  Activations Row(std::int32_t row) const {
    const std::int64_t n = row;
    return {cols, floats + n * cols, values + n * cols, scales + n * (cols / 32), sums + n * (cols / 32)};
  }
};

// Tiles unpacked to int16 at a time, and the fp32 sums of a strip between them.
inline constexpr int kChunkBlocks = 18;
struct MatmulScratch {
  alignas(64) std::int16_t weights[kChunkBlocks * kTileRows * kTileCols];
  alignas(64) float scales[kChunkBlocks * kTileRows];
  alignas(64) float minima[kChunkBlocks * kTileRows];
  float* sums = nullptr;  // [max_rows][16]
};

// out[row * out_stride + 16 * (strip - first_strip) + lane] = (add ? itself : 0) + sum over k of W[.][k] * a[row][k].
struct MatmulCall {
  const PackedMatrix* matrix = nullptr;
  std::int32_t first_strip = 0;
  std::int32_t num_strips = 0;
  Activations input;
  std::int32_t num_rows = 0;
  float* out = nullptr;
  std::int64_t out_stride = 0;
  bool add = false;
  MatmulScratch* scratch = nullptr;
};

// Where the keys and values of one (layer, kv head) of one sequence lie. In a page the keys are [head_dim][page_tokens]
// (transposed, so that positions are lanes), the values [page_tokens][head_dim]; fp16 or fp32.
struct KvPlanes {
  std::byte* pool = nullptr;  // page 0
  std::int64_t page_bytes = 0;
  std::int64_t key_offset = 0;  // bytes from the start of a page
  std::int64_t value_offset = 0;
  const std::int32_t* pages = nullptr;  // of the sequence
  std::int32_t page_tokens = 0;
  std::int32_t head_dim = 0;
  bool half = true;
};

// Attention is defined over absolute blocks of 64 positions: block b gives (m, l, o) = (largest score, sum of
// exp(score - m), sum of exp(score - m) * value); blocks fold in ascending order.
inline constexpr int kAttentionBlock = 64;
inline constexpr int kMaxHeadDim = 256;
// Floats of a state: o[head_dim], m, l, padding.
constexpr std::int32_t StateFloats(std::int32_t head_dim) {
  return head_dim + 16;
}

struct AttentionScratch {
  float* keys = nullptr;    // [head_dim][64]
  float* values = nullptr;  // [64][head_dim]
  float* scores = nullptr;  // [num_queries][64]
  float* states = nullptr;  // [num_queries][StateFloats]
};

// Queries of consecutive rows of one sequence, ascending by position, that share a kv head.
struct AttendCall {
  KvPlanes kv;
  const float* queries = nullptr;         // [num_queries][head_dim], rotated, times 1 / sqrt(head_dim)
  const std::int32_t* lengths = nullptr;  // [num_queries] positions that the query sees: its own + 1
  std::int32_t num_queries = 0;
  std::int32_t first_block = 0;  // blocks [first_block, last_block) are done
  std::int32_t last_block = 0;
  // Null: the states of all blocks are folded in scratch.states, from nothing if first_block is 0. Else the state of
  // query q and block b goes to partials[q * partial_stride + b * StateFloats] and nothing is folded.
  float* partials = nullptr;
  std::int64_t partial_stride = 0;
  AttentionScratch scratch;
};

struct KernelTable {
  const char* name;

  // out[i] = x[i] / sqrt(mean of squares + eps) * weight[i]; `padded` columns, of which `cols` count.
  void (*rms_norm)(const float* x, const float* weight, std::int32_t cols, std::int32_t padded, float eps, float* out);
  // Fills values, scales and sums of one row from its floats.
  void (*quantize)(const Activations& row);
  void (*matmul)(const MatmulCall& call);
  // gate[i] = silu(gate[i]) * up[i]; count a multiple of 16.
  void (*silu_multiply)(float* gate, const float* up, std::int32_t count);
  // Rotary embedding on halves, then times `scale`; cosines and sines [head_dim / 2].
  void (*rotate)(float* head, const float* cosines, const float* sines, std::int32_t head_dim, float scale);
  // Writes key and value of one position. fp16 saturates at the largest half.
  void (*append)(const KvPlanes& kv, std::int32_t position, const float* key, const float* value);
  void (*attend)(const AttendCall& call);
  // total = total folded with block; `first` overwrites total.
  void (*fold)(float* total, const float* block, std::int32_t head_dim, bool first);
  // out = o / l of a state.
  void (*finish)(const float* state, std::int32_t head_dim, float* out);
  // The largest of n numbers (n > 0, no NaN), the first of equals.
  std::int32_t (*arg_max)(const float* x, std::int32_t n);
  // weights[i] = layout::ExpWeight((x[i] - max) / temperature); their sum.
  std::uint64_t (*exp_weights)(const float* x, std::int32_t n, float max, float temperature, std::uint64_t* weights);
};

const KernelTable& PlainKernels();
// Null when the build left them out (another architecture).
const KernelTable* Avx2Kernels();
const KernelTable* Avx512Kernels();

}  // namespace megakernel::cpu
