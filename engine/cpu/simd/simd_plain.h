// The sixteen-lane vector in plain C++. Same operations and same order as the other vectors, so the same bits.
// Only for the translation unit of its instruction set: everything has internal linkage.
#pragma once

#include <cstdint>
#include <cstring>

#include "engine/cpu/half.h"

namespace megakernel::cpu {
namespace {

struct PlainVector {
  static constexpr int kPassRows = 4;

  struct F {
    float v[16];
  };
  struct I {
    std::int32_t v[16];
  };
  struct W {  // sixteen rows by two columns
    std::int16_t v[32];
  };
  using P = W;

  template <class Function>
  static F Map(Function function) {
    F out;
    for (int i = 0; i < 16; ++i) out.v[i] = function(i);
    return out;
  }

  static F Load(const float* p) {
    return Map([&](int i) { return p[i]; });
  }
  static void Store(float* p, const F& a) { std::memcpy(p, a.v, sizeof a.v); }
  static F Set1(float x) {
    return Map([&](int) { return x; });
  }
  static F Add(const F& a, const F& b) {
    return Map([&](int i) { return a.v[i] + b.v[i]; });
  }
  static F Sub(const F& a, const F& b) {
    return Map([&](int i) { return a.v[i] - b.v[i]; });
  }
  static F Mul(const F& a, const F& b) {
    return Map([&](int i) { return a.v[i] * b.v[i]; });
  }
  static F Div(const F& a, const F& b) {
    return Map([&](int i) { return a.v[i] / b.v[i]; });
  }
  static F Max(const F& a, const F& b) {
    return Map([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static F Min(const F& a, const F& b) {
    return Map([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  static F Abs(const F& a) {
    return Map([&](int i) { return __builtin_fabsf(a.v[i]); });
  }
  static F Fma(const F& a, const F& b, const F& c) {
    return Map([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
  }
  static F FirstLanes(const F& a, int n, float rest) {
    return Map([&](int i) { return i < n ? a.v[i] : rest; });
  }
  // 2^n for integral n in [-126, 127].
  static F Pow2(const F& n) {
    return Map([&](int i) {
      const std::uint32_t bits = static_cast<std::uint32_t>(static_cast<int>(n.v[i]) + 127) << 23;
      float out;
      std::memcpy(&out, &bits, sizeof out);
      return out;
    });
  }
  static float ReduceAdd(const F& a) {
    float t[8];
    for (int i = 0; i < 8; ++i) t[i] = a.v[i] + a.v[i + 8];
    for (int i = 0; i < 4; ++i) t[i] = t[i] + t[i + 4];
    for (int i = 0; i < 2; ++i) t[i] = t[i] + t[i + 2];
    return t[0] + t[1];
  }
  static float ReduceMax(const F& a) {
    float t[8];
    for (int i = 0; i < 8; ++i) t[i] = a.v[i] > a.v[i + 8] ? a.v[i] : a.v[i + 8];
    for (int i = 0; i < 4; ++i) t[i] = t[i] > t[i + 4] ? t[i] : t[i + 4];
    for (int i = 0; i < 2; ++i) t[i] = t[i] > t[i + 2] ? t[i] : t[i + 2];
    return t[0] > t[1] ? t[0] : t[1];
  }

  static F LoadHalf(const std::uint16_t* p) {
    return Map([&](int i) { return HalfToFloat(p[i]); });
  }
  static void StoreHalf(std::uint16_t* p, const F& a) {
    for (int i = 0; i < 16; ++i) p[i] = FloatToHalf(a.v[i]);
  }
  static F LoadBFloat(const std::uint16_t* p) {
    return Map([&](int i) { return BFloat16ToFloat(p[i]); });
  }

  static I ZeroI() { return I{}; }
  static F ToFloat(const I& a) {
    return Map([&](int i) { return static_cast<float>(a.v[i]); });
  }
  // To the nearest, ties to even; |x| < 2^22.
  static I Round(const F& a) {
    I out;
    for (int i = 0; i < 16; ++i) {
      const float magic = 12582912.0f;  // 1.5 * 2^23
      const float rounded = (a.v[i] + magic) - magic;
      out.v[i] = rounded == rounded ? static_cast<std::int32_t>(rounded) : 0;
    }
    return out;
  }
  static void StoreInt16(std::int16_t* p, const I& a) {
    for (int i = 0; i < 16; ++i) p[i] = static_cast<std::int16_t>(a.v[i]);
  }
  static std::int32_t ReduceAddI(const I& a, const I& b) {
    std::int32_t sum = 0;
    for (int i = 0; i < 16; ++i) sum += a.v[i] + b.v[i];
    return sum;
  }

  static W LoadW(const void* p) {
    W out;
    std::memcpy(out.v, p, sizeof out.v);
    return out;
  }
  static void StoreW(void* p, const W& w) { std::memcpy(p, w.v, sizeof w.v); }
  template <int kIndex>
  static W Nibble(const W& w) {
    W out;
    for (int i = 0; i < 32; ++i) {
      out.v[i] = static_cast<std::int16_t>((static_cast<std::uint16_t>(w.v[i]) >> (4 * kIndex)) & 15);
    }
    return out;
  }
  static W Widen(const std::int8_t* p) {
    W out;
    for (int i = 0; i < 32; ++i) out.v[i] = p[i];
    return out;
  }
  static P Pair(const std::int16_t* p) {
    P out;
    for (int i = 0; i < 32; ++i) out.v[i] = p[i & 1];
    return out;
  }
  static I MultiplyAdd(const I& sum, const W& w, const P& a) {
    I out;
    for (int i = 0; i < 16; ++i) {
      out.v[i] = sum.v[i] + std::int32_t{w.v[2 * i]} * a.v[2 * i] + std::int32_t{w.v[2 * i + 1]} * a.v[2 * i + 1];
    }
    return out;
  }
};

}  // namespace
}  // namespace megakernel::cpu
