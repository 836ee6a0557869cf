// The vectors of the CPU kernels: 16 logical lanes (F16) and 8 (F8) whatever the instruction set, so that one
// source gives the same bits on AVX2 and on AVX-512. Compiled once per instruction set, into a namespace of
// its own; everything is force-inlined, so that no unit leaves a copy that the linker could give to another
// one. On the baseline without FMA hardware madd rounds twice: only tolerance is promised there.
#pragma once
#include <cstddef>
#include <cstdint>

#include "engine/queue.hpp"

#if defined(__AVX2__)
// g++ 12 warns of the deliberately undefined operands inside its own intrinsics.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#elif defined(__SSE__)
#include <xmmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef FOVEA_ISA_NAMESPACE
#error "only units built once per instruction set (kernels/cpu/meson.build) may include engine/simd.hpp"
#endif

#define FOVEA_INLINE inline __attribute__((always_inline))
/// Before a loop over registers: without complete unrolling the array would live in memory.
#if defined(__clang__)
#define FOVEA_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FOVEA_UNROLL _Pragma("GCC unroll 32")
#endif

namespace fovea::FOVEA_ISA_NAMESPACE {

#if defined(__AVX512F__)

/// Registers that a kernel may fill with F16 accumulators and still have some left for operands.
constexpr int accumulators16 = 24;

struct M16 {
  __mmask16 m;
};
struct F16 {
  __m512 v;
  static FOVEA_INLINE F16 zero() { return {_mm512_setzero_ps()}; }
  static FOVEA_INLINE F16 broadcast(float x) { return {_mm512_set1_ps(x)}; }
  static FOVEA_INLINE F16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  /// The first n lanes (0..16) from memory, zeros after.
  static FOVEA_INLINE F16 load_first(const float* p, int n) {
    return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p)};
  }
};
FOVEA_INLINE void store(float* p, F16 a) { _mm512_storeu_ps(p, a.v); }
FOVEA_INLINE void store_first(float* p, F16 a, int n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), a.v);
}
FOVEA_INLINE void stream(float* p, F16 a) { _mm512_stream_ps(p, a.v); }
FOVEA_INLINE F16 add(F16 a, F16 b) { return {_mm512_add_ps(a.v, b.v)}; }
FOVEA_INLINE F16 sub(F16 a, F16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
FOVEA_INLINE F16 mul(F16 a, F16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
FOVEA_INLINE F16 div(F16 a, F16 b) { return {_mm512_div_ps(a.v, b.v)}; }
FOVEA_INLINE F16 sqrt(F16 a) { return {_mm512_sqrt_ps(a.v)}; }
/// a * b + c, rounded once.
FOVEA_INLINE F16 madd(F16 a, F16 b, F16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
/// a > b ? a : b, hence b where one is NaN; min likewise.
FOVEA_INLINE F16 max(F16 a, F16 b) { return {_mm512_max_ps(a.v, b.v)}; }
FOVEA_INLINE F16 min(F16 a, F16 b) { return {_mm512_min_ps(a.v, b.v)}; }
/// False where one is NaN.
FOVEA_INLINE M16 less(F16 a, F16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
FOVEA_INLINE M16 equal(F16 a, F16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
/// For lanes that hold whole numbers.
FOVEA_INLINE M16 same_bits(F16 a, F16 b) {
  return {_mm512_cmpeq_epi32_mask(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v))};
}
/// where ? yes : no, lane by lane.
FOVEA_INLINE F16 select(M16 where, F16 yes, F16 no) { return {_mm512_mask_blend_ps(where.m, no.v, yes.v)}; }
/// 2^n of whole numbers n in [-126, 127].
FOVEA_INLINE F16 power_of_two(F16 n) {
  const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))};
}
/// The low nine bits of the representation moved to sign and exponent: 2^n of 1.5 * 2^23 + 127 + n.
FOVEA_INLINE F16 low_bits_to_exponent(F16 a) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.v), 23))};
}
/// The e of x = m * 2^e, 1 <= m < 2, of positive normal x.
FOVEA_INLINE F16 exponent_of(F16 x) {
  const __m512i biased = _mm512_srli_epi32(_mm512_castps_si512(x.v), 23);
  return {_mm512_cvtepi32_ps(_mm512_sub_epi32(biased, _mm512_set1_epi32(127)))};
}

#elif defined(__AVX2__)

constexpr int accumulators16 = 6;

#else

#if defined(__aarch64__)
constexpr int accumulators16 = 6;
#else
constexpr int accumulators16 = 2;
#endif

#endif

#if defined(__AVX2__)

struct M8 {
  __m256 m;
};
struct F8 {
  __m256 v;
  static FOVEA_INLINE __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static FOVEA_INLINE F8 zero() { return {_mm256_setzero_ps()}; }
  static FOVEA_INLINE F8 broadcast(float x) { return {_mm256_set1_ps(x)}; }
  static FOVEA_INLINE F8 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static FOVEA_INLINE F8 load_first(const float* p, int n) { return {_mm256_maskload_ps(p, first(n))}; }
};
FOVEA_INLINE void store(float* p, F8 a) { _mm256_storeu_ps(p, a.v); }
FOVEA_INLINE void store_first(float* p, F8 a, int n) { _mm256_maskstore_ps(p, F8::first(n), a.v); }
FOVEA_INLINE void stream(float* p, F8 a) { _mm256_stream_ps(p, a.v); }
FOVEA_INLINE F8 add(F8 a, F8 b) { return {_mm256_add_ps(a.v, b.v)}; }
FOVEA_INLINE F8 sub(F8 a, F8 b) { return {_mm256_sub_ps(a.v, b.v)}; }
FOVEA_INLINE F8 mul(F8 a, F8 b) { return {_mm256_mul_ps(a.v, b.v)}; }
FOVEA_INLINE F8 div(F8 a, F8 b) { return {_mm256_div_ps(a.v, b.v)}; }
FOVEA_INLINE F8 sqrt(F8 a) { return {_mm256_sqrt_ps(a.v)}; }
FOVEA_INLINE F8 madd(F8 a, F8 b, F8 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
FOVEA_INLINE F8 max(F8 a, F8 b) { return {_mm256_max_ps(a.v, b.v)}; }
FOVEA_INLINE F8 min(F8 a, F8 b) { return {_mm256_min_ps(a.v, b.v)}; }
FOVEA_INLINE M8 less(F8 a, F8 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
FOVEA_INLINE M8 equal(F8 a, F8 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
FOVEA_INLINE M8 same_bits(F8 a, F8 b) {
  return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_castps_si256(a.v), _mm256_castps_si256(b.v)))};
}
FOVEA_INLINE F8 select(M8 where, F8 yes, F8 no) { return {_mm256_blendv_ps(no.v, yes.v, where.m)}; }
FOVEA_INLINE F8 power_of_two(F8 n) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(biased, 23))};
}
FOVEA_INLINE F8 low_bits_to_exponent(F8 a) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.v), 23))};
}
FOVEA_INLINE F8 exponent_of(F8 x) {
  const __m256i biased = _mm256_srli_epi32(_mm256_castps_si256(x.v), 23);
  return {_mm256_cvtepi32_ps(_mm256_sub_epi32(biased, _mm256_set1_epi32(127)))};
}
/// The sum over lanes, always by the same tree: halves are added until one lane is left.
FOVEA_INLINE float sum(F8 a) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

#else  // baseline: vectors of four, as the compiler builds them

typedef float V4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef std::int32_t I4 __attribute__((vector_size(16)));

struct M8 {
  I4 m[2];
};
struct F8 {
  V4 v[2];
  static FOVEA_INLINE F8 zero() { return {}; }
  static FOVEA_INLINE F8 broadcast(float x) { return {{V4{x, x, x, x}, V4{x, x, x, x}}}; }
  static FOVEA_INLINE F8 load(const float* p) {
    return {{*reinterpret_cast<const V4*>(p), *reinterpret_cast<const V4*>(p + 4)}};
  }
  static FOVEA_INLINE F8 load_first(const float* p, int n) {
    float lanes[8] = {};
    for (int i = 0; i < n; ++i) lanes[i] = p[i];
    return load(lanes);
  }
};
FOVEA_INLINE V4 madd4(V4 a, V4 b, V4 c) {
#if defined(__aarch64__)
  return V4(vfmaq_f32(float32x4_t(c), float32x4_t(a), float32x4_t(b)));
#else
  return a * b + c;
#endif
}
FOVEA_INLINE V4 select4(I4 where, V4 yes, V4 no) { return V4((where & I4(yes)) | (~where & I4(no))); }
FOVEA_INLINE V4 power_of_two4(V4 n) {
  // Adding 1.5 * 2^23 leaves the whole number in the low bits, without a conversion instruction.
  const I4 low = I4(n + 12582912.0f) - 0x4b400000;
  return V4((low + 127) << 23);
}
FOVEA_INLINE V4 exponent_of4(V4 x) { return __builtin_convertvector((I4(x) >> 23) - 127, V4); }
FOVEA_INLINE V4 sqrt4(V4 a) {
  return V4{__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]), __builtin_sqrtf(a[3])};
}
FOVEA_INLINE void store(float* p, F8 a) {
  *reinterpret_cast<V4*>(p) = a.v[0];
  *reinterpret_cast<V4*>(p + 4) = a.v[1];
}
FOVEA_INLINE void store_first(float* p, F8 a, int n) {
  float lanes[8];
  store(lanes, a);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}
FOVEA_INLINE void stream(float* p, F8 a) {
#if defined(__SSE__)
  _mm_stream_ps(p, a.v[0]);
  _mm_stream_ps(p + 4, a.v[1]);
#else
  store(p, a);
#endif
}
FOVEA_INLINE F8 add(F8 a, F8 b) { return {{a.v[0] + b.v[0], a.v[1] + b.v[1]}}; }
FOVEA_INLINE F8 sub(F8 a, F8 b) { return {{a.v[0] - b.v[0], a.v[1] - b.v[1]}}; }
FOVEA_INLINE F8 mul(F8 a, F8 b) { return {{a.v[0] * b.v[0], a.v[1] * b.v[1]}}; }
FOVEA_INLINE F8 div(F8 a, F8 b) { return {{a.v[0] / b.v[0], a.v[1] / b.v[1]}}; }
FOVEA_INLINE F8 sqrt(F8 a) { return {{sqrt4(a.v[0]), sqrt4(a.v[1])}}; }
FOVEA_INLINE F8 madd(F8 a, F8 b, F8 c) {
  return {{madd4(a.v[0], b.v[0], c.v[0]), madd4(a.v[1], b.v[1], c.v[1])}};
}
FOVEA_INLINE M8 less(F8 a, F8 b) { return {{I4(a.v[0] < b.v[0]), I4(a.v[1] < b.v[1])}}; }
FOVEA_INLINE M8 equal(F8 a, F8 b) { return {{I4(a.v[0] == b.v[0]), I4(a.v[1] == b.v[1])}}; }
FOVEA_INLINE M8 same_bits(F8 a, F8 b) {
  return {{I4(I4(a.v[0]) == I4(b.v[0])), I4(I4(a.v[1]) == I4(b.v[1]))}};
}
FOVEA_INLINE F8 select(M8 where, F8 yes, F8 no) {
  return {{select4(where.m[0], yes.v[0], no.v[0]), select4(where.m[1], yes.v[1], no.v[1])}};
}
FOVEA_INLINE F8 max(F8 a, F8 b) { return select(less(b, a), a, b); }
FOVEA_INLINE F8 min(F8 a, F8 b) { return select(less(a, b), a, b); }
FOVEA_INLINE F8 power_of_two(F8 n) { return {{power_of_two4(n.v[0]), power_of_two4(n.v[1])}}; }
FOVEA_INLINE F8 low_bits_to_exponent(F8 a) { return {{V4(I4(a.v[0]) << 23), V4(I4(a.v[1]) << 23)}}; }
FOVEA_INLINE F8 exponent_of(F8 x) { return {{exponent_of4(x.v[0]), exponent_of4(x.v[1])}}; }
FOVEA_INLINE float sum(F8 a) {
  const V4 four = a.v[0] + a.v[1];
  return (four[0] + four[2]) + (four[1] + four[3]);
}

#endif

#if !defined(__AVX512F__)  // sixteen lanes are two of eight

struct M16 {
  M8 low, high;
};
struct F16 {
  F8 low, high;
  static FOVEA_INLINE F16 zero() { return {F8::zero(), F8::zero()}; }
  static FOVEA_INLINE F16 broadcast(float x) {
    const F8 half = F8::broadcast(x);
    return {half, half};
  }
  static FOVEA_INLINE F16 load(const float* p) { return {F8::load(p), F8::load(p + 8)}; }
  static FOVEA_INLINE F16 load_first(const float* p, int n) {
    if (n < 8) return {F8::load_first(p, n), F8::zero()};
    return {F8::load(p), F8::load_first(p + 8, n - 8)};
  }
};
FOVEA_INLINE void store(float* p, F16 a) {
  store(p, a.low);
  store(p + 8, a.high);
}
FOVEA_INLINE void store_first(float* p, F16 a, int n) {
  if (n < 8) return store_first(p, a.low, n);
  store(p, a.low);
  store_first(p + 8, a.high, n - 8);
}
FOVEA_INLINE void stream(float* p, F16 a) {
  stream(p, a.low);
  stream(p + 8, a.high);
}
FOVEA_INLINE F16 add(F16 a, F16 b) { return {add(a.low, b.low), add(a.high, b.high)}; }
FOVEA_INLINE F16 sub(F16 a, F16 b) { return {sub(a.low, b.low), sub(a.high, b.high)}; }
FOVEA_INLINE F16 mul(F16 a, F16 b) { return {mul(a.low, b.low), mul(a.high, b.high)}; }
FOVEA_INLINE F16 div(F16 a, F16 b) { return {div(a.low, b.low), div(a.high, b.high)}; }
FOVEA_INLINE F16 sqrt(F16 a) { return {sqrt(a.low), sqrt(a.high)}; }
FOVEA_INLINE F16 madd(F16 a, F16 b, F16 c) {
  return {madd(a.low, b.low, c.low), madd(a.high, b.high, c.high)};
}
FOVEA_INLINE F16 max(F16 a, F16 b) { return {max(a.low, b.low), max(a.high, b.high)}; }
FOVEA_INLINE F16 min(F16 a, F16 b) { return {min(a.low, b.low), min(a.high, b.high)}; }
FOVEA_INLINE M16 less(F16 a, F16 b) { return {less(a.low, b.low), less(a.high, b.high)}; }
FOVEA_INLINE M16 equal(F16 a, F16 b) { return {equal(a.low, b.low), equal(a.high, b.high)}; }
FOVEA_INLINE M16 same_bits(F16 a, F16 b) { return {same_bits(a.low, b.low), same_bits(a.high, b.high)}; }
FOVEA_INLINE F16 select(M16 where, F16 yes, F16 no) {
  return {select(where.low, yes.low, no.low), select(where.high, yes.high, no.high)};
}
FOVEA_INLINE F16 power_of_two(F16 n) { return {power_of_two(n.low), power_of_two(n.high)}; }
FOVEA_INLINE F16 low_bits_to_exponent(F16 a) {
  return {low_bits_to_exponent(a.low), low_bits_to_exponent(a.high)};
}
FOVEA_INLINE F16 exponent_of(F16 x) { return {exponent_of(x.low), exponent_of(x.high)}; }
FOVEA_INLINE float sum(F16 a) { return sum(add(a.low, a.high)); }

#else

FOVEA_INLINE float sum(F16 a) {
  const __m256 high = _mm512_extractf32x8_ps(a.v, 1);
  return sum(F8{_mm256_add_ps(_mm512_castps512_ps256(a.v), high)});
}

#endif

/// Floats after which the pattern "channel of lane" repeats in whole vectors: at least eight of them, whose
/// chains of sums hide the latency of an addition.
FOVEA_INLINE std::int64_t lane_period(std::int64_t channels) {
  constexpr std::int64_t fewest = 8 * 16;
  std::int64_t period = channels;
  while (period % 16 != 0) period *= 2;  // multiples of 16 need no more than 16 rows
  return period * ((fewest + period - 1) / period);
}

/// Whether a result of so many floats is stored with `stream`, past the caches, which it would only flush:
/// lines need not be read before they are written. A task that streams ends with finish_streams.
FOVEA_INLINE bool is_streamed(const float* to, std::int64_t floats) {
  return floats >= std::int64_t{1} << 24 && reinterpret_cast<std::uintptr_t>(to) % 64 == 0;
}
FOVEA_INLINE void finish_streams() {
#if defined(__SSE__)
  _mm_sfence();
#endif
}

/// Lane i is p[i % group], for groups of 1, 2, 4 or 8 floats.
template <int group>
FOVEA_INLINE F16 repeat(const float* p) {
  static_assert(group == 1 || group == 2 || group == 4 || group == 8);
#if defined(__AVX2__)
  if constexpr (group == 1) return F16::broadcast(*p);
  double two = 0;
  if constexpr (group == 2) __builtin_memcpy(&two, p, sizeof two);
#if defined(__AVX512F__)
  if constexpr (group == 2) return {_mm512_castpd_ps(_mm512_set1_pd(two))};
  if constexpr (group == 4) return {_mm512_broadcast_f32x4(_mm_loadu_ps(p))};
  if constexpr (group == 8) return {_mm512_broadcast_f32x8(_mm256_loadu_ps(p))};
#else
  F8 half = F8::zero();
  if constexpr (group == 2) half = {_mm256_castpd_ps(_mm256_set1_pd(two))};
  if constexpr (group == 4) half = {_mm256_broadcast_ps(reinterpret_cast<const __m128*>(p))};
  if constexpr (group == 8) half = F8::load(p);
  return {half, half};
#endif
#else
  if constexpr (group == 1) return F16::broadcast(*p);
  F8 half = F8::zero();
  if constexpr (group == 2) half = {{V4{p[0], p[1], p[0], p[1]}, V4{p[0], p[1], p[0], p[1]}}};
  if constexpr (group == 4) half = {{V4{p[0], p[1], p[2], p[3]}, V4{p[0], p[1], p[2], p[3]}}};
  if constexpr (group == 8) half = F8::load(p);
  return {half, half};
#endif
}

/// a0 b0 a1 b1 ... a7 b7, and back.
FOVEA_INLINE F16 interleave(F8 a, F8 b) {
#if defined(__AVX2__)
  const __m256 low = _mm256_unpacklo_ps(a.v, b.v), high = _mm256_unpackhi_ps(a.v, b.v);
  const __m256 first = _mm256_permute2f128_ps(low, high, 0x20);
  const __m256 second = _mm256_permute2f128_ps(low, high, 0x31);
#if defined(__AVX512F__)
  return {_mm512_insertf32x8(_mm512_castps256_ps512(first), second, 1)};
#else
  return {{first}, {second}};
#endif
#else
  float lanes[16];
  for (int i = 0; i < 8; ++i) {
    lanes[2 * i] = a.v[i / 4][i % 4];
    lanes[2 * i + 1] = b.v[i / 4][i % 4];
  }
  return F16::load(lanes);
#endif
}
FOVEA_INLINE void deinterleave(F16 ab, F8& a, F8& b) {
#if defined(__AVX2__)
#if defined(__AVX512F__)
  const __m256 low = _mm512_castps512_ps256(ab.v), high = _mm512_extractf32x8_ps(ab.v, 1);
#else
  const __m256 low = ab.low.v, high = ab.high.v;
#endif
  // Of each 128-bit half the even (odd) elements, then the quarters in order.
  const __m256d even = _mm256_castps_pd(_mm256_shuffle_ps(low, high, 0x88));
  const __m256d odd = _mm256_castps_pd(_mm256_shuffle_ps(low, high, 0xdd));
  a = {_mm256_castpd_ps(_mm256_permute4x64_pd(even, 0xd8))};
  b = {_mm256_castpd_ps(_mm256_permute4x64_pd(odd, 0xd8))};
#else
  float lanes[16], even[8], odd[8];
  store(lanes, ab);
  for (int i = 0; i < 8; ++i) {
    even[i] = lanes[2 * i];
    odd[i] = lanes[2 * i + 1];
  }
  a = F8::load(even);
  b = F8::load(odd);
#endif
}

/// Four rows of four floats become four columns: to[i][j] = from[j][i].
FOVEA_INLINE void transpose4(float* const to[4], const float* const from[4]) {
#if defined(__SSE__)
  __m128 a = _mm_loadu_ps(from[0]), b = _mm_loadu_ps(from[1]);
  __m128 c = _mm_loadu_ps(from[2]), d = _mm_loadu_ps(from[3]);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  _mm_storeu_ps(to[0], a);
  _mm_storeu_ps(to[1], b);
  _mm_storeu_ps(to[2], c);
  _mm_storeu_ps(to[3], d);
#else
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) to[i][j] = from[j][i];
#endif
}

/// The upper and lower words of a[i] * b, i < 16.
FOVEA_INLINE void multiply_wide(std::uint32_t* high, std::uint32_t* low, const std::uint32_t* a,
                                std::uint32_t b) {
#if defined(__AVX512F__)
  const __m512i v = _mm512_loadu_si512(a), factor = _mm512_set1_epi32(static_cast<int>(b));
  const __m512i even = _mm512_mul_epu32(v, factor), odd = _mm512_mul_epu32(_mm512_srli_epi64(v, 32), factor);
  _mm512_storeu_si512(high, _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xaaaa, odd));
  _mm512_storeu_si512(low, _mm512_mask_mov_epi32(even, 0xaaaa, _mm512_slli_epi64(odd, 32)));
#elif defined(__AVX2__)
  const __m256i factor = _mm256_set1_epi32(static_cast<int>(b));
  for (int i = 0; i < 16; i += 8) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + i));
    const __m256i even = _mm256_mul_epu32(v, factor),
                  odd = _mm256_mul_epu32(_mm256_srli_epi64(v, 32), factor);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(high + i),
                        _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(low + i),
                        _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa));
  }
#else
  for (int i = 0; i < 16; ++i) {
    const std::uint64_t product = std::uint64_t{a[i]} * b;
    high[i] = static_cast<std::uint32_t>(product >> 32);
    low[i] = static_cast<std::uint32_t>(product);
  }
#endif
}

/// The nearest whole number, ties to even, of |x| < 2^22.
FOVEA_INLINE F16 round_nearest(F16 x) {
  const F16 magic = F16::broadcast(12582912.0f);  // 1.5 * 2^23: the sum has no room for a fraction
  return sub(add(x, magic), magic);
}

/// Runs body(index, worker) for every index in [0, count); the work of an index must not depend on the
/// worker.
template <class Body>
FOVEA_INLINE void for_each_task(const Queue& queue, std::int64_t count, const Body& body) {
  const auto call = [](void* context, std::int64_t index, int worker) {
    (*static_cast<const Body*>(context))(index, worker);
  };
  run_tasks(queue, count, call, const_cast<void*>(static_cast<const void*>(&body)));
}

/// Uninitialised scratch memory for the time of a kernel, 64-byte aligned. One per kernel: these units are
/// built without exceptions, so an earlier one would not be released when a later one finds no memory.
struct Scratch {
  FOVEA_INLINE Scratch(const Queue& on, std::int64_t floats)
      : queue(on),
        data(static_cast<float*>(scratch_acquire(on, static_cast<std::size_t>(floats) * sizeof(float)))) {}
  FOVEA_INLINE ~Scratch() { scratch_release(queue, data); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  const Queue& queue;
  float* data;
};

}  // namespace fovea::FOVEA_ISA_NAMESPACE
