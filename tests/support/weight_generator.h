// Random weights from a counter: any element of any tensor can be computed alone, the same in C++ and in numpy.
//
// Element i of the tensor `name` under `seed`:
//   w     = word i % 4 of the Philox block with counter (i / 4, low and high half of Fnv1a64(name), 0)
//   s     = sum of the four bytes of w, minus 510            (near-normal, -510 .. 510)
//   k     = s * 2^14 + (w * 0x9E3779B1 mod 2^32) / 2^18 - 2^13  (24 bits, exact in a float)
//   value = float(k) * float(std / kSigma) + mean            (two float operations, no fused multiply-add)
// then rounded to nearest even to the stored type. The tails end at 3.45 standard deviations.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace megakernel::test {

// Standard deviation of k: 2^14 * sqrt(4 * (256^2 - 1) / 12), rounded.
inline constexpr double kSigma = 2421564.0;

// FNV-1a, 64 bits.
std::uint64_t Fnv1a64(std::string_view bytes);

struct Distribution {
  double mean = 0.0;
  double std = 0.0;
};

// Elements [first, first + out.size()) of a tensor. REQUIRES: first % 4 == 0.
void GenerateWeights(std::uint64_t seed, std::uint64_t name_hash, const Distribution& distribution, std::int64_t first,
                     std::span<float> out);

// Round to nearest, ties to even; NaN does not occur here. Values beyond the largest half become infinity.
std::uint16_t FloatToBFloat16(float value);
std::uint16_t FloatToHalf(float value);

}  // namespace megakernel::test
