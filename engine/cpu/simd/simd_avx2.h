// The sixteen-lane vector on AVX2, FMA and F16C: two registers.
// Only for the translation unit of its instruction set: everything has internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace megakernel::cpu {
namespace {

struct Avx2Vector {
  // Rows of activations that share one loaded weight vector: 2 x 4 sums, 2 weights and 1 activation fit 16 registers.
  static constexpr int kPassRows = 4;

  struct F {
    __m256 a, b;
  };
  struct I {
    __m256i a, b;
  };
  using W = I;  // sixteen rows by two columns of int16
  using P = __m256i;

  static F Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static void Store(float* p, F x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
  }
  static F Set1(float x) {
    const __m256 v = _mm256_set1_ps(x);
    return {v, v};
  }
  static F Add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
  static F Sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
  static F Mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
  static F Div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
  static F Max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
  static F Min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
  static F Abs(F x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
  }
  static F Fma(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
  static F FirstLanes(F x, int n, float rest) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256 low = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lanes));
    const __m256 high = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), lanes));
    const __m256 fill = _mm256_set1_ps(rest);
    return {_mm256_blendv_ps(fill, x.a, low), _mm256_blendv_ps(fill, x.b, high)};
  }
  static __m256 Pow2Half(__m256 n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvttps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
  }
  static F Pow2(F n) { return {Pow2Half(n.a), Pow2Half(n.b)}; }
  static float ReduceAdd(F x) {
    const __m256 eight = _mm256_add_ps(x.a, x.b);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
  }
  static float ReduceMax(F x) {
    const __m256 eight = _mm256_max_ps(x.a, x.b);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
  }

  static F LoadHalf(const std::uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
            _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
  }
  static void StoreHalf(std::uint16_t* p, F x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
  }
  static __m256 BFloatHalf(const std::uint16_t* p) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  static F LoadBFloat(const std::uint16_t* p) { return {BFloatHalf(p), BFloatHalf(p + 8)}; }

  static I ZeroI() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static F ToFloat(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
  static I Round(F x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
  static void StoreInt16(std::int16_t* p, I x) {
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xD8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), packed);
  }
  static std::int32_t ReduceAddI(I x, I y) {
    const __m256i eight = _mm256_add_epi32(_mm256_add_epi32(x.a, x.b), _mm256_add_epi32(y.a, y.b));
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xB1)));
  }

  static W LoadW(const void* p) {
    const __m256i* q = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
  }
  static void StoreW(void* p, W w) {
    __m256i* q = static_cast<__m256i*>(p);
    _mm256_storeu_si256(q, w.a);
    _mm256_storeu_si256(q + 1, w.b);
  }
  template <int kIndex>
  static __m256i NibbleHalf(__m256i w) {
    if constexpr (kIndex == 3) return _mm256_srli_epi16(w, 12);
    if constexpr (kIndex == 0) return _mm256_and_si256(w, _mm256_set1_epi16(15));
    return _mm256_and_si256(_mm256_srli_epi16(w, 4 * kIndex), _mm256_set1_epi16(15));
  }
  template <int kIndex>
  static W Nibble(W w) {
    return {NibbleHalf<kIndex>(w.a), NibbleHalf<kIndex>(w.b)};
  }
  static W Widen(const std::int8_t* p) {
    return {_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
            _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16)))};
  }
  static P Pair(const std::int16_t* p) {
    std::int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return _mm256_set1_epi32(pair);
  }
  static I MultiplyAdd(I sum, W w, P a) {
    sum.a = _mm256_add_epi32(sum.a, _mm256_madd_epi16(w.a, a));
    sum.b = _mm256_add_epi32(sum.b, _mm256_madd_epi16(w.b, a));
    // Without this GCC multiplies a whole tile first and adds later, with all products on the stack.
    asm volatile("" : "+x"(sum.a), "+x"(sum.b));
    return sum;
  }
};

}  // namespace
}  // namespace megakernel::cpu
