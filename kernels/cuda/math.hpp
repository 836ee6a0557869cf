// Elementary functions of single numbers: the polynomials of engine/simd_math.hpp, of exactly rounded
// operations only, so that GPU and emulator give the same bits. exp, expm1, log and tanh are f32 (errors of
// about two units of the last place); sigmoid and softplus go through double precision, for the reasons given
// there. NaN goes through.
#pragma once
#include "engine/gpu.hpp"
#include "fovea/activation.hpp"

namespace fovea::FOVEA_GPU {

namespace math {

/// 2^n of a whole number -126 <= n <= 127.
__device__ __forceinline__ float power_of_two(int n) {
  return __uint_as_float(static_cast<unsigned>(n + 127) << 23);
}

/// x = whole ln 2 + r with |r| <= ln 2 / 2; fraction = exp(r) - 1. |x| < 2^20.
struct ReducedExp {
  int whole;
  float fraction;
};

__device__ __forceinline__ ReducedExp reduced_exp(float x) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: the sum has no room for a fraction
  const float shifted = gpu::fma(x, 1.44269504f, magic), whole = shifted - magic;
  float r = gpu::fma(whole, -0.693359375f, x);
  r = gpu::fma(whole, 2.12194440e-4f, r);
  float p = gpu::fma(1.38825165e-3f, r, 8.36654752e-3f);
  p = gpu::fma(p, r, 4.16672006e-2f);
  p = gpu::fma(p, r, 1.66665435e-1f);
  p = gpu::fma(p, r, 4.99999970e-1f);
  return {static_cast<int>(__float_as_uint(shifted) - 0x4b400000u), gpu::fma(r * r, p, r)};
}

/// exp(x) of x <= 0; below -87 exp(-87), which is 1.6e-38.
__device__ __forceinline__ float exp_of_negative(float x) {
  if (!(x == x)) return x;
  const ReducedExp e = reduced_exp(x < -87.0f ? -87.0f : x);
  const float power = power_of_two(e.whole);
  return gpu::fma(power, e.fraction, power);
}

/// exp(x) - 1 of x <= 0.
__device__ __forceinline__ float expm1_of_negative(float x) {
  if (!(x == x)) return x;
  const ReducedExp e = reduced_exp(x < -87.0f ? -87.0f : x);
  const float power = power_of_two(e.whole);
  return gpu::fma(power, e.fraction, power - 1.0f);
}

/// exp(x) of all x; overflows to infinity, underflows through the subnormal numbers to zero.
__device__ __forceinline__ float exp(float x) {
  if (!(x == x)) return x;
  const ReducedExp e = reduced_exp(x < -104.0f ? -104.0f : x > 89.0f ? 89.0f : x);
  const int half = e.whole / 2;
  const float power = power_of_two(half);
  return gpu::fma(power, e.fraction, power) * power_of_two(e.whole - half);
}

/// log(x); -infinity at 0, NaN below.
__device__ __forceinline__ float log(float x) {
  const float infinity = __uint_as_float(0x7f800000u);
  if (!(x > 0.0f)) return x == 0.0f ? -infinity : __uint_as_float(0x7fc00000u);
  if (x == infinity) return x;
  const bool subnormal = x < 0x1p-126f;
  if (subnormal) x = x * 0x1p64f;
  int exponent = static_cast<int>(__float_as_uint(x) >> 23) - 127;
  float m = __uint_as_float((__float_as_uint(x) & 0x7fffffu) | 0x3f800000u);
  if (m > 1.41421356f) m = m * 0.5f, ++exponent;
  const float e = static_cast<float>(subnormal ? exponent - 64 : exponent), f = m - 1.0f, square = f * f;
  float p = gpu::fma(7.0376836292e-2f, f, -1.1514610310e-1f);
  p = gpu::fma(p, f, 1.1676998740e-1f);
  p = gpu::fma(p, f, -1.2420140846e-1f);
  p = gpu::fma(p, f, 1.4249322787e-1f);
  p = gpu::fma(p, f, -1.6668057665e-1f);
  p = gpu::fma(p, f, 2.0000714765e-1f);
  p = gpu::fma(p, f, -2.4999993993e-1f);
  p = gpu::fma(p, f, 3.3333331174e-1f);
  p = p * f * square;
  p = gpu::fma(e, -2.12194440e-4f, p);
  p = gpu::fma(square, -0.5f, p);
  return gpu::fma(e, 0.693359375f, f + p);
}

/// exp(-|x|) and log(1 + exp(-|x|)), both with relative errors of 1e-11.
struct Logistic {
  double e, log1p;
};

__device__ __forceinline__ Logistic logistic(float x) {
  const double magic = 0x1.8p52;  // the sum has no room for a fraction
  const double wide = -static_cast<double>(fabsf(x) < 700.0f ? fabsf(x) : 700.0f);
  const double shifted = wide * 1.4426950408889634 + magic, whole = shifted - magic;
  const double r = wide - whole * 0.6931471805599453;
  double p = 1.0 / 362880 * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1;
  p = p * r + 1;
  const std::int64_t power = (static_cast<std::int64_t>(whole) + 1023) << 52;
  const double e = p * __longlong_as_double(power);
  const double s = e / (2 + e), z = s * s;  // the atanh series
  double q = z * (2.0 / 19) + 2.0 / 17;
  q = q * z + 2.0 / 15;
  q = q * z + 2.0 / 13;
  q = q * z + 2.0 / 11;
  q = q * z + 2.0 / 9;
  q = q * z + 2.0 / 7;
  q = q * z + 2.0 / 5;
  q = q * z + 2.0 / 3;
  q = q * z + 2;
  return {e, q * s};
}

/// log(1 + exp(x)) and 1 / (1 + exp(-x)) in double precision.
struct Softplus {
  double value, slope;
};

__device__ __forceinline__ Softplus wide_softplus(float x) {
  if (!(x == x)) return {x, x};
  const Logistic l = logistic(x);
  return {(x > 0.0f ? static_cast<double>(x) : 0.0) + l.log1p, (x < 0.0f ? l.e : 1.0) / (1.0 + l.e)};
}

__device__ __forceinline__ float softplus(float x) { return static_cast<float>(wide_softplus(x).value); }
__device__ __forceinline__ float sigmoid(float x) { return static_cast<float>(wide_softplus(x).slope); }

/// Of |x|: -expm1(-2 |x|) / (2 + expm1(-2 |x|)).
__device__ __forceinline__ float tanh(float x) {
  const float e = expm1_of_negative(-2.0f * fabsf(x)), y = -e / (2.0f + e);
  return x < 0.0f ? -y : y;
}

}  // namespace math

/// An activation for the kernels' arguments; the kind is a template parameter, so that the choice stays out
/// of the loops.
template <ActivationKind kind>
struct Activated {
  float x_shift, y_shift;

  explicit Activated(const Activation& activation)
      : x_shift(static_cast<float>(activation.x_shift)), y_shift(static_cast<float>(activation.y_shift)) {}

  __device__ __forceinline__ float value(float x) const {
    if constexpr (kind == ActivationKind::relu) return x < 0.0f ? 0.0f : x;
    if constexpr (kind == ActivationKind::requ) return x < 0.0f ? 0.0f : x * x;
    if constexpr (kind == ActivationKind::softplus) return math::softplus(x);
    if constexpr (kind == ActivationKind::elu) {
      const float shifted = x - x_shift;
      return (shifted > 0.0f ? shifted : math::expm1_of_negative(shifted)) + y_shift;
    }
    if constexpr (kind == ActivationKind::tanh) return math::tanh(x);
    if constexpr (kind == ActivationKind::absolute) return fabsf(x);
    return x;
  }

  /// d value / d x; 0 where relu, requ and absolute have a corner.
  __device__ __forceinline__ float slope(float x) const {
    if constexpr (kind == ActivationKind::relu) return x > 0.0f ? 1.0f : 0.0f;
    if constexpr (kind == ActivationKind::requ) return x > 0.0f ? x + x : 0.0f;
    if constexpr (kind == ActivationKind::softplus) return math::sigmoid(x);
    if constexpr (kind == ActivationKind::elu) {
      const float shifted = x - x_shift;
      return shifted > 0.0f ? 1.0f : math::exp_of_negative(shifted);
    }
    if constexpr (kind == ActivationKind::tanh) {
      // 1 - y^2 without cancellation: 4 e / (1 + e)^2, e = exp(-2 |x|)
      const float e = math::exp_of_negative(-2.0f * fabsf(x)), root = 2.0f / (1.0f + e);
      return e * (root * root);
    }
    if constexpr (kind == ActivationKind::absolute) return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f;
    return 1.0f;
  }

  /// The slope in double precision where it has one, and for the value as it was rounded: the slopes of a
  /// correlation loss nearly cancel where the prediction hardly varies, and whatever prediction and slope
  /// disagree by remains.
  __device__ __forceinline__ double wide_slope(float x) const {
    if constexpr (kind == ActivationKind::softplus) {
      const math::Softplus s = math::wide_softplus(x);
      const double rounded = static_cast<float>(s.value);
      return s.slope + (1.0 - s.slope) * (rounded - s.value);
    }
    return slope(x);
  }
};

/// body(Activated<kind>) for the kind at hand, on the host: it launches.
template <class Body>
void with_activation(const Activation& activation, const Body& body) {
  switch (activation.kind) {
    case ActivationKind::identity:
      return body(Activated<ActivationKind::identity>(activation));
    case ActivationKind::relu:
      return body(Activated<ActivationKind::relu>(activation));
    case ActivationKind::elu:
      return body(Activated<ActivationKind::elu>(activation));
    case ActivationKind::softplus:
      return body(Activated<ActivationKind::softplus>(activation));
    case ActivationKind::requ:
      return body(Activated<ActivationKind::requ>(activation));
    case ActivationKind::tanh:
      return body(Activated<ActivationKind::tanh>(activation));
    case ActivationKind::absolute:
      return body(Activated<ActivationKind::absolute>(activation));
  }
}

}  // namespace fovea::FOVEA_GPU
