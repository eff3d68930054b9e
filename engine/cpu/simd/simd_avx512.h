// The sixteen-lane vector on AVX-512 (F, BW, DQ, VL, VNNI): one register.
// Only for the translation unit of its instruction set: everything has internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace megakernel::cpu {
namespace {

struct Avx512Vector {
  static constexpr int kPassRows = 8;

  using F = __m512;
  using I = __m512i;
  using W = __m512i;
  using P = __m512i;

  static F Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static F Set1(float x) { return _mm512_set1_ps(x); }
  static F Add(F x, F y) { return _mm512_add_ps(x, y); }
  static F Sub(F x, F y) { return _mm512_sub_ps(x, y); }
  static F Mul(F x, F y) { return _mm512_mul_ps(x, y); }
  static F Div(F x, F y) { return _mm512_div_ps(x, y); }
  static F Max(F x, F y) { return _mm512_max_ps(x, y); }
  static F Min(F x, F y) { return _mm512_min_ps(x, y); }
  static F Abs(F x) { return _mm512_abs_ps(x); }
  static F Fma(F x, F y, F z) { return _mm512_fmadd_ps(x, y, z); }
  static F FirstLanes(F x, int n, float rest) {
    const __mmask16 mask = n >= 16 ? 0xFFFF : n <= 0 ? 0 : static_cast<__mmask16>((1u << n) - 1);
    return _mm512_mask_blend_ps(mask, _mm512_set1_ps(rest), x);
  }
  static F Pow2(F n) {
    const __m512i biased = _mm512_add_epi32(_mm512_cvttps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
  }
  static float ReduceAdd(F x) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
  }
  static float ReduceMax(F x) {
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
  }

  static F LoadHalf(const std::uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static void StoreHalf(std::uint16_t* p, F x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
  static F LoadBFloat(const std::uint16_t* p) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }

  static I ZeroI() { return _mm512_setzero_si512(); }
  static F ToFloat(I x) { return _mm512_cvtepi32_ps(x); }
  static I Round(F x) { return _mm512_cvtps_epi32(x); }
  static void StoreInt16(std::int16_t* p, I x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtsepi32_epi16(x));
  }
  static std::int32_t ReduceAddI(I x, I y) { return _mm512_reduce_add_epi32(_mm512_add_epi32(x, y)); }

  static W LoadW(const void* p) { return _mm512_loadu_si512(p); }
  static void StoreW(void* p, W w) { _mm512_storeu_si512(p, w); }
  template <int kIndex>
  static W Nibble(W w) {
    if constexpr (kIndex == 3) return _mm512_srli_epi16(w, 12);
    if constexpr (kIndex == 0) return _mm512_and_si512(w, _mm512_set1_epi16(15));
    return _mm512_and_si512(_mm512_srli_epi16(w, 4 * kIndex), _mm512_set1_epi16(15));
  }
  static W Widen(const std::int8_t* p) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static P Pair(const std::int16_t* p) {
    std::int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  static I MultiplyAdd(I sum, W w, P a) { return _mm512_dpwssd_epi32(sum, w, a); }
};

}  // namespace
}  // namespace megakernel::cpu
