// Row-wise arithmetic over a sixteen-lane vector: norms, quantisation, activation function, rotation.
// Included by one translation unit per instruction set.
#pragma once

#include "engine/cpu/kernel_table.h"

namespace megakernel::cpu {
namespace {

// exp(x) to about 1 ulp, of x clamped to [-86, 88] so that the result is a normal number.
// exp(x) = 2^n * 2^f with n = round(x * log2 e), 2^f by a degree-6 Taylor polynomial in f ln 2, |f| <= 1/2.
template <class V>
inline __attribute__((always_inline)) typename V::F Exp(typename V::F x) {
  using F = typename V::F;
  x = V::Min(V::Max(x, V::Set1(-86.0f)), V::Set1(88.0f));
  const F magic = V::Set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
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
  return V::Mul(p, V::Pow2(n));
}

template <class V>
struct RowBody {
  using F = typename V::F;
  using I = typename V::I;

  static void RmsNorm(const float* x, const float* weight, std::int32_t cols, std::int32_t padded, float eps,
                      float* out) {
    F squares = V::Set1(0.0f);
    for (std::int32_t i = 0; i < padded; i += 16) squares = V::Fma(V::Load(x + i), V::Load(x + i), squares);
    const float mean = V::ReduceAdd(squares) / static_cast<float>(cols);
    const F scale = V::Set1(1.0f / __builtin_sqrtf(mean + eps));
    for (std::int32_t i = 0; i < padded; i += 16) {
      V::Store(out + i, V::Mul(V::Mul(V::Load(x + i), scale), V::Load(weight + i)));
    }
  }

  static void Quantize(const Activations& row) {
    for (std::int32_t b = 0; b < row.cols / kTileCols; ++b) {
      const F x = V::Load(row.floats + kTileCols * b);
      const F y = V::Load(row.floats + kTileCols * b + 16);
      const float largest = V::ReduceMax(V::Max(V::Abs(x), V::Abs(y)));
      // 0 for finite numbers, NaN if any is not: max() may lose a NaN.
      const F zero = V::Set1(0.0f);
      const float taint = V::ReduceAdd(V::Add(V::Mul(x, zero), V::Mul(y, zero)));
      const bool vanishes = largest < 1e-30f;  // 1 / scale would overflow
      const F inverse = V::Set1(vanishes ? 0.0f : 32767.0f / largest);
      const I q = V::Round(V::Mul(x, inverse));
      const I p = V::Round(V::Mul(y, inverse));
      V::StoreInt16(row.values + kTileCols * b, q);
      V::StoreInt16(row.values + kTileCols * b + 16, p);
      const float scale = (vanishes ? 0.0f : largest / 32767.0f) + taint;
      row.scales[b] = scale;
      row.sums[b] = taint == 0.0f ? static_cast<float>(V::ReduceAddI(q, p)) * scale : taint;
    }
  }

  static void SiluMultiply(float* gate, const float* up, std::int32_t count) {
    const F one = V::Set1(1.0f);
    for (std::int32_t i = 0; i < count; i += 16) {
      const F g = V::Load(gate + i);
      const F e = Exp<V>(V::Sub(V::Set1(0.0f), g));
      V::Store(gate + i, V::Mul(V::Div(g, V::Add(one, e)), V::Load(up + i)));
    }
  }

  static void Rotate(float* head, const float* cosines, const float* sines, std::int32_t head_dim, float scale) {
    const std::int32_t half = head_dim / 2;
    const F s = V::Set1(scale);
    for (std::int32_t i = 0; i < half; i += 16) {
      const F x = V::Load(head + i);
      const F y = V::Load(head + half + i);
      const F c = V::Load(cosines + i);
      const F n = V::Load(sines + i);
      V::Store(head + i, V::Mul(V::Sub(V::Mul(x, c), V::Mul(y, n)), s));
      V::Store(head + half + i, V::Mul(V::Fma(x, n, V::Mul(y, c)), s));
    }
  }
};

}  // namespace
}  // namespace megakernel::cpu
