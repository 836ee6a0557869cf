// Sixteen lanes in double precision (Wide16), for sums that must not add roundings of their own. The vectors
// have the operators of the compiler; nothing but madd rounds once.
#pragma once
#include "engine/simd.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {

#if defined(__AVX512F__)
typedef __m512d WideVector;
#elif defined(__AVX2__)
typedef __m256d WideVector;
#else
typedef double WideVector __attribute__((vector_size(16), may_alias));
#endif
typedef std::int64_t WideBits __attribute__((vector_size(sizeof(WideVector)), may_alias));

struct Wide16 {
  static constexpr int parts = 16 * static_cast<int>(sizeof(double)) / static_cast<int>(sizeof(WideVector));
  WideVector v[parts];
};

/// Before a loop over the parts; where they are many, they live in memory for the sake of small programs.
#if defined(__AVX2__)
#define FOVEA_UNROLL_PARTS FOVEA_UNROLL
#else
#define FOVEA_UNROLL_PARTS
#endif

/// function(i) for each part of the sixteen lanes.
template <class Function>
FOVEA_INLINE Wide16 each_part(const Function& function) {
  Wide16 result;
  FOVEA_UNROLL_PARTS
  for (int i = 0; i < Wide16::parts; ++i) result.v[i] = function(i);
  return result;
}

FOVEA_INLINE WideVector wide(double x) { return WideVector{} + x; }

#if defined(__AVX512F__)
FOVEA_INLINE WideVector madd(WideVector a, WideVector b, WideVector c) { return _mm512_fmadd_pd(a, b, c); }
FOVEA_INLINE WideVector sqrt(WideVector a) { return _mm512_sqrt_pd(a); }
FOVEA_INLINE Wide16 widened(F16 x) {
  return {{_mm512_cvtps_pd(_mm512_castps512_ps256(x.v)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(x.v, 1))}};
}
FOVEA_INLINE F16 narrowed(const Wide16& a) {
  const __m512 low = _mm512_castps256_ps512(_mm512_cvtpd_ps(a.v[0]));
  return {_mm512_insertf32x8(low, _mm512_cvtpd_ps(a.v[1]), 1)};
}
#elif defined(__AVX2__)
FOVEA_INLINE WideVector madd(WideVector a, WideVector b, WideVector c) { return _mm256_fmadd_pd(a, b, c); }
FOVEA_INLINE WideVector sqrt(WideVector a) { return _mm256_sqrt_pd(a); }
FOVEA_INLINE Wide16 widened(F16 x) {
  const __m256 low = x.low.v, high = x.high.v;
  return {{_mm256_cvtps_pd(_mm256_castps256_ps128(low)), _mm256_cvtps_pd(_mm256_extractf128_ps(low, 1)),
           _mm256_cvtps_pd(_mm256_castps256_ps128(high)), _mm256_cvtps_pd(_mm256_extractf128_ps(high, 1))}};
}
FOVEA_INLINE F16 narrowed(const Wide16& a) {
  return {{_mm256_set_m128(_mm256_cvtpd_ps(a.v[1]), _mm256_cvtpd_ps(a.v[0]))},
          {_mm256_set_m128(_mm256_cvtpd_ps(a.v[3]), _mm256_cvtpd_ps(a.v[2]))}};
}
#else
FOVEA_INLINE WideVector madd(WideVector a, WideVector b, WideVector c) {
#if defined(__aarch64__)
  return WideVector(vfmaq_f64(float64x2_t(c), float64x2_t(a), float64x2_t(b)));
#else
  return a * b + c;
#endif
}
FOVEA_INLINE WideVector sqrt(WideVector a) { return WideVector{__builtin_sqrt(a[0]), __builtin_sqrt(a[1])}; }
FOVEA_INLINE Wide16 widened(F16 x) {
  float lanes[16];
  store(lanes, x);
  Wide16 result;
  for (int i = 0; i < 16; ++i) result.v[i / 2][i % 2] = static_cast<double>(lanes[i]);
  return result;
}
FOVEA_INLINE F16 narrowed(const Wide16& a) {
  float lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = static_cast<float>(a.v[i / 2][i % 2]);
  return F16::load(lanes);
}
#endif

/// where ? yes : no; comparisons of vectors give `where`.
FOVEA_INLINE WideVector select(WideBits where, WideVector yes, WideVector no) {
  return WideVector((where & WideBits(yes)) | (~where & WideBits(no)));
}

/// exp(x) and log(1 + exp(x)) of -700 <= x <= 0, both with relative errors of 1e-11.
struct WideLogistic {
  WideVector e, log1p;
};

FOVEA_INLINE WideLogistic wide_logistic(WideVector x) {
  const WideVector magic = wide(0x1.8p52 + 1023);  // the sum has no room for a fraction
  const WideVector shifted = madd(x, wide(1.4426950408889634), magic);
  const WideVector r = madd(shifted - magic, wide(-0.6931471805599453), x);
  WideVector p = madd(wide(1.0 / 362880), r, wide(1.0 / 40320));
  p = madd(p, r, wide(1.0 / 5040));
  p = madd(p, r, wide(1.0 / 720));
  p = madd(p, r, wide(1.0 / 120));
  p = madd(p, r, wide(1.0 / 24));
  p = madd(p, r, wide(1.0 / 6));
  p = madd(p, r, wide(0.5));
  p = madd(p, r, wide(1));
  p = madd(p, r, wide(1));
  const WideVector e = p * WideVector(WideBits(shifted) << 52);
  const WideVector s = e / (2.0 + e), z = s * s;  // the atanh series
  WideVector q = madd(z, wide(2.0 / 19), wide(2.0 / 17));
  q = madd(q, z, wide(2.0 / 15));
  q = madd(q, z, wide(2.0 / 13));
  q = madd(q, z, wide(2.0 / 11));
  q = madd(q, z, wide(2.0 / 9));
  q = madd(q, z, wide(2.0 / 7));
  q = madd(q, z, wide(2.0 / 5));
  q = madd(q, z, wide(2.0 / 3));
  q = madd(q, z, wide(2));
  return {e, q * s};
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
