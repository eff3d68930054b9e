// Block types with scales of their own for parts of a block: ggml's K-quants, 256 elements a block.
//
// Layouts (bytes, little-endian; d and dmin are fp16):
//   Q4_K  d, dmin, scales[12], codes[128]               value = (d * scale) * code - (dmin * minimum)
//   Q5_K  d, dmin, scales[12], fifth_bits[32], codes[128]   likewise
//   Q6_K  low[128], high[64], scales[16] (int8), d      value = (d * scale) * (code - 32)
// Q4_K and Q5_K have eight parts of 32 elements, each with a 6-bit scale and minimum; Q6_K sixteen parts of 16.
// Source: ggml-quants.c (dequantize_row_q4_K, _q5_K, _q6_K, get_scale_min_k4).
#pragma once

#include <cstddef>
#include <cstdint>

namespace megakernel {

inline constexpr int kSuperBlock = 256;
inline constexpr int kFineParts = 8;     // of Q4_K and Q5_K, 32 elements each
inline constexpr int kFinestParts = 16;  // of Q6_K, 16 elements each
inline constexpr int kQ6ScaleAt = 208;   // byte of d in a Q6_K block

// One part of a block: value = scale * code + minimum.
struct BlockPart {
  float scale;
  float minimum;
  std::uint8_t codes[32];
};

// Part `part` (0 to 7) of a block of Q4_K or Q5_K.
BlockPart ReadQ4KPart(const std::byte* block, int part);
BlockPart ReadQ5KPart(const std::byte* block, int part);

// A Q6_K block: the scale of each 16 elements, and all codes less 32.
struct Q6Block {
  float scales[kFinestParts];
  std::int8_t codes[kSuperBlock];
};
void ReadQ6K(const std::byte* block, Q6Block& out);

// Whole blocks to 256 floats.
void DequantizeQ4K(const std::byte* block, float* out);
void DequantizeQ5K(const std::byte* block, float* out);
void DequantizeQ6K(const std::byte* block, float* out);

// The 16 values of IQ4_NL's codes. Source: ggml-common.h, kvalues_iq4nl.
inline constexpr std::int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};

}  // namespace megakernel
