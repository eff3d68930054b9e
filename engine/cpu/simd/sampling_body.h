// The two passes over the vocabulary that sampling needs. Included by one translation unit per instruction set.
#pragma once

#include "engine/cpu/kernel_table.h"

namespace megakernel::cpu {
namespace {

template <class V>
struct SamplingBody {
  using F = typename V::F;

  static std::int32_t ArgMax(const float* x, std::int32_t n) {
    float largest = x[0];
    std::int32_t i = 0;
    if (n >= 16) {
      F m = V::Load(x);
      for (; i + 16 <= n; i += 16) m = V::Max(m, V::Load(x + i));
      largest = V::ReduceMax(m);
    }
    for (; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
    for (i = 0; i < n; ++i) {
      if (x[i] == largest) return i;
    }
    return 0;
  }

  // The steps of layout::ExpWeight on sixteen lanes. Its two shifts are one here: mantissa * 2^10 shifted right by -n,
  // rounded; where n >= -10 no bit is lost and the rounding adds nothing.
  static std::uint64_t ExpWeights(const float* x, std::int32_t n, float max, float temperature,
                                  std::uint64_t* weights) {
    alignas(64) float padded[16];
    std::uint64_t total = 0;
    for (std::int32_t i = 0; i < n; i += 16) {
      const std::int32_t count = n - i < 16 ? n - i : 16;
      const float* source = x + i;
      if (count < 16) {
        for (int k = 0; k < 16; ++k) padded[k] = k < count ? source[k] : max;
        source = padded;
      }
      alignas(64) float y[16];
      alignas(64) float p[16];
      alignas(64) float exponents[16];
      const F scaled = V::Div(V::Sub(V::Load(source), V::Set1(max)), V::Set1(temperature));
      V::Store(y, scaled);
      Mantissas(scaled, p, exponents);
      for (int k = 0; k < count; ++k) {
        const std::uint64_t mantissa = static_cast<std::uint64_t>(static_cast<std::uint32_t>(p[k])) << 10;
        const int shift = static_cast<int>(-exponents[k]);
        const std::uint64_t half = (std::uint64_t{1} << shift) >> 1;
        weights[i + k] = y[k] > -29.0f ? (mantissa + half) >> shift : 0;
        total += weights[i + k];
      }
    }
    return total;
  }

  static inline __attribute__((always_inline)) void Mantissas(F x, float* p_out, float* n_out) {
    x = V::Max(x, V::Set1(-29.0f));  // below, the weight is 0 whatever comes out here
    const F magic = V::Set1(12582912.0f);
    const F n = V::Sub(V::Add(V::Mul(x, V::Set1(1.44269504f)), magic), magic);
    F r = V::Fma(n, V::Set1(-0.693145752f), x);
    r = V::Fma(n, V::Set1(-1.42860677e-6f), r);
    F p = V::Set1(1.0f / 720.0f);
    p = V::Fma(p, r, V::Set1(1.0f / 120.0f));
    p = V::Fma(p, r, V::Set1(1.0f / 24.0f));
    p = V::Fma(p, r, V::Set1(1.0f / 6.0f));
    p = V::Fma(p, r, V::Set1(0.5f));
    p = V::Fma(p, r, V::Set1(1.0f));
    p = V::Fma(p, r, V::Set1(1.0f));
    V::Store(p_out, V::Mul(p, V::Set1(1073741824.0f)));
    V::Store(n_out, n);
  }
};

}  // namespace
}  // namespace megakernel::cpu
