#include "tests/support/weight_generator.h"

#include <algorithm>
#include <bit>

#include "kernels/layout/sampling.h"

namespace megakernel::test {
namespace {

// Blocks computed together, so that the compiler can use vectors across them.
constexpr int kBlocks = 64;

void GenerateBlocks(std::uint64_t seed, std::uint64_t name_hash, std::uint32_t first_block, float scale, float mean,
                    float* out) {
  std::uint32_t words[4][kBlocks];
  const auto low = static_cast<std::uint32_t>(name_hash);
  const auto high = static_cast<std::uint32_t>(name_hash >> 32);
  for (int b = 0; b < kBlocks; ++b) {
    std::uint32_t block[4];
    layout::PhiloxBlock(seed, first_block + static_cast<std::uint32_t>(b), low, high, 0, block);
    for (int w = 0; w < 4; ++w) words[w][b] = block[w];
  }
  for (int w = 0; w < 4; ++w) {
    for (int b = 0; b < kBlocks; ++b) {
      const std::uint32_t word = words[w][b];
      const std::uint32_t pairs = (word & 0x00ff00ffu) + ((word >> 8) & 0x00ff00ffu);
      const auto sum = static_cast<std::int32_t>((pairs & 0xffffu) + (pairs >> 16)) - 510;
      const auto fine = static_cast<std::int32_t>((word * 0x9E3779B1u) >> 18) - (1 << 13);
      out[4 * b + w] = static_cast<float>(sum * (1 << 14) + fine) * scale + mean;
    }
  }
}

}  // namespace

std::uint64_t Fnv1a64(std::string_view bytes) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

void GenerateWeights(std::uint64_t seed, std::uint64_t name_hash, const Distribution& distribution, std::int64_t first,
                     std::span<float> out) {
  const auto scale = static_cast<float>(distribution.std / kSigma);
  const auto mean = static_cast<float>(distribution.mean);
  constexpr std::size_t kElements = 4 * kBlocks;
  float rest[kElements];
  for (std::size_t i = 0; i < out.size(); i += kElements) {
    const auto block = static_cast<std::uint32_t>((first + static_cast<std::int64_t>(i)) / 4);
    const bool whole = out.size() - i >= kElements;
    GenerateBlocks(seed, name_hash, block, scale, mean, whole ? out.data() + i : rest);
    if (!whole) std::copy_n(rest, out.size() - i, out.data() + i);
  }
}

std::uint16_t FloatToBFloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

std::uint16_t FloatToHalf(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65,520 and above
  if (magnitude < 0x38800000u) {  // below 2^-14: subnormal; adding 0.5 puts the rounding at 2^-24
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  }
  const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

}  // namespace megakernel::test
