// The arithmetic contract of the GPU kernel: what is added to what, in which order, in which type.
//
// Every sum below is defined by the model's sizes alone, never by the number of blocks, rows or warps that share the
// work. So a row gives the same bits alone and in any batch, on any grid.
//
//   Operands        fp16. Weights are re-encoded with one power-of-two scale per row (exact for bf16 and fp16 files),
//                   activations are rounded once, after normalisation.
//   Chunk           64 values of k: four m16n8k16 products, ascending, from zero. The tensor core keeps fp32.
//   Block           four chunks, ascending, fp32 additions from zero.
//   Panel           the blocks of one k range, ascending. QKV, gate/up and the LM head have one panel, all of k; O and
//                   down have one panel per KV head, that head's share of k.
//   Panel sums      of O and down are rounded to multiples of 2^-32 and added to the residual as 64-bit integers, so
//                   order and place of those additions are free.
//   Mean square     groups of 64 columns: lane i of a warp holds columns 2i and 2i + 1, then a butterfly 16, 8, 4, 2,
//                   1; groups with equal index mod 4 are added ascending, then (s0 + s1) + (s2 + s3).
//   Attention       blocks of 64 positions, see attention.cuh: scores in chunks of 64 of head_dim; weights
//                   exp2((s - block maximum) * scale), rounded to fp16 for the product with V; four k16 products from
//                   zero, each stored, added ascending. Blocks are folded in super-blocks of 16: weights
//                   exp2(m - maximum), eight ascending, eight ascending, the two added; super-blocks likewise
//                   ascending.
#pragma once

#include <cstdint>

#include "kernels/layout/plan.h"

namespace megakernel::layout {

inline constexpr int kChunkCols = 64;       // k values of a chunk
inline constexpr int kChunksPerBlock = 4;   // chunks of a block
inline constexpr int kTaskRows = 16;        // weight rows of one tensor-core product
inline constexpr int kAttentionBlock = 64;  // positions of an attention block
inline constexpr int kSuperBlock = 16;      // attention blocks folded together

// The residual: 56-bit two's complement with 32 fractional bits in the low bits of a 64-bit word, the number of
// contributions so far (mod 256) in the top byte. A contribution adds its value and one count in a single addition, so
// a word says by itself whether it is complete. Range +-2^23.
inline constexpr int kFractionBits = 32;
inline constexpr int kCountShift = 56;
inline constexpr float kFixedScale = 4294967296.0f;
inline constexpr float kFixedStep = 1.0f / 4294967296.0f;

// SiLU(gate) * up is stored in fp16 multiplied by this, so that products up to 64 * 65504 are finite.
inline constexpr float kSwigluScale = 1.0f / 64.0f;

// Largest finite fp16: activations beyond it are clamped.
inline constexpr float kHalfMax = 65504.0f;

}  // namespace megakernel::layout
