// The arithmetic of sampling, shared by every executor so that equal logits and an equal seed give an equal token.
//
// Order of operations on the logits of one row (the API contract):
//   1 logit_bias     logit += bias
//   2 allowed tokens every other token is removed
//   3 penalties      repetition (over prompt and output), then presence and frequency (over output)
//   4 min_tokens     end-of-sequence and stop tokens are removed while fewer than min_tokens were sampled, unless
//                    nothing else is left
//   5 temperature    0: the largest logit wins, ties to the lower token id; nothing below applies
//                    else x = (logit - max) / temperature and weight = ExpWeight(x)
//   6 top_k          keep the k largest logits, ties to the lower id
//   7 top_p          of what is left, in descending order (ties to the lower id), keep the shortest prefix whose weight
//                    is >= top_p of the weight left
//   8 min_p          keep weights >= min_p * the largest weight
//   9 draw           r = Draw(seed, position, total); walk the kept tokens in id order, subtracting weights from r; the
//                    token where r would turn negative is the sample
// Logprobs are those of the model: log softmax of the logits before step 1.
//
// Weights are integers, so that their sums do not depend on order, thread count or device. Every floating-point step is
// one IEEE operation or an explicit fused multiply-add, so host and device agree bit for bit.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/layout/plan.h"

namespace megakernel::layout {

// Largest weight: 2^40. A vocabulary of 2^18 tokens sums below 2^58.
inline constexpr int kWeightBits = 40;

MEGAKERNEL_HOST_DEVICE inline float FusedMultiplyAdd(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}

// round(2^40 * exp(x)) for x <= 0, to about 23 bits; 0 below exp(x) = 2^-41.
// exp(x) = 2^n * 2^f with n = round(x * log2 e), |f| <= 1/2, 2^f by a degree-6 Taylor polynomial in f ln 2
// (measured error 2.3e-7 relative, two ulps of a float).
MEGAKERNEL_HOST_DEVICE inline std::uint64_t ExpWeight(float x) {
  if (!(x > -29.0f)) return 0;  // also NaN
  const float scaled = x * 1.44269504f;
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float n = (scaled + magic) - magic;
  float r = FusedMultiplyAdd(n, -0.693145752f, x);  // ln 2 in two parts: the first has few bits, so n * it is exact
  r = FusedMultiplyAdd(n, -1.42860677e-6f, r);
  float p = 1.0f / 720.0f;
  p = FusedMultiplyAdd(p, r, 1.0f / 120.0f);
  p = FusedMultiplyAdd(p, r, 1.0f / 24.0f);
  p = FusedMultiplyAdd(p, r, 1.0f / 6.0f);
  p = FusedMultiplyAdd(p, r, 0.5f);
  p = FusedMultiplyAdd(p, r, 1.0f);
  p = FusedMultiplyAdd(p, r, 1.0f);
  // p in [0.7, 1.42): as an integer with 30 fractional bits, then shifted by n (n <= 0) to 40.
  const std::uint64_t mantissa = static_cast<std::uint64_t>(p * 1073741824.0f);  // exact: p has 24 bits
  const int shift = static_cast<int>(n) + (kWeightBits - 30);
  if (shift >= 0) return mantissa << shift;
  if (shift <= -63) return 0;
  const std::uint64_t half = std::uint64_t{1} << (-shift - 1);
  return (mantissa + half) >> -shift;
}

// One block of Philox4x32-10 (Salmon et al., SC 2011): four words from a counter of four words under `seed`.
MEGAKERNEL_HOST_DEVICE inline void PhiloxBlock(std::uint64_t seed, std::uint32_t c0, std::uint32_t c1, std::uint32_t c2,
                                               std::uint32_t c3, std::uint32_t words[4]) {
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0;
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c2;
    const std::uint32_t n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const std::uint32_t n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

// 64 bits of the block with counter (position, stream, 0, 0) under `seed`.
MEGAKERNEL_HOST_DEVICE inline std::uint64_t RandomBits(std::uint64_t seed, std::uint32_t position,
                                                       std::uint32_t stream) {
  std::uint32_t words[4];
  PhiloxBlock(seed, position, stream, 0, 0, words);
  return (std::uint64_t{words[1]} << 32) | words[0];
}

// High 64 bits of a * b.
MEGAKERNEL_HOST_DEVICE inline std::uint64_t MultiplyHigh(std::uint64_t a, std::uint64_t b) {
#if defined(__CUDA_ARCH__)
  return __umul64hi(a, b);
#else
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64);
#endif
}

// A number in [0, total) from 64 random bits of (seed, position). `position` is that of the token being sampled.
MEGAKERNEL_HOST_DEVICE inline std::uint64_t Draw(std::uint64_t seed, std::uint32_t position, std::uint64_t total) {
  return MultiplyHigh(RandomBits(seed, position, 0), total);
}

// Smallest integer >= fraction * total, for 0 <= fraction <= 1: the weight that top_p asks for (fraction of the weight
// left) and the least weight that min_p keeps (fraction of the largest).
MEGAKERNEL_HOST_DEVICE inline std::uint64_t FractionOf(float fraction, std::uint64_t total) {
  if (fraction >= 1.0f) return total;
  const std::uint64_t scaled = static_cast<std::uint64_t>(fraction * 4294967296.0f);  // 32 fractional bits
  const std::uint64_t high = total >> 32, low = total & 0xFFFFFFFFu;
  return scaled * high + ((scaled * low + 0xFFFFFFFFu) >> 32);  // scaled < 2^32: nothing overflows
}

// Step 3 for one logit. `seen`: the token occurs in prompt or output; `count`: how often in the output.
MEGAKERNEL_HOST_DEVICE inline float Penalize(float logit, bool seen, std::int32_t count, float repetition,
                                             float presence, float frequency) {
  if (seen) logit = logit > 0.0f ? logit / repetition : logit * repetition;
  if (count > 0) {
    logit = logit - presence;
    logit = FusedMultiplyAdd(-frequency, static_cast<float>(count), logit);
  }
  return logit;
}

}  // namespace megakernel::layout
