// Elementary functions on F16: polynomials of exactly rounded operations, so AVX2 and AVX-512 give the same
// bits. Errors in units of the last place (tests/cpu_readout_test.cpp looks): exp, expm1, log 2; sigmoid and
// softplus, by way of double precision, 0.51. NaN goes through. Coefficients of log: Cephes (Moshier 1992).
#pragma once
#include "engine/simd_wide.hpp"
#include "fovea/activation.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {

FOVEA_INLINE F16 negated(F16 x) { return sub(F16::zero(), x); }
FOVEA_INLINE F16 absolute_of(F16 x) { return max(negated(x), x); }

/// x = whole ln 2 + r with |r| <= ln 2 / 2; fraction = exp(r) - 1; power = 2^whole where -126 <= whole <=
/// 127.
struct ReducedExp {
  F16 whole, fraction, power;
};

/// |x| < 2^20. The polynomial is the minimax one of its degree, relative error 1.3e-8 before rounding.
FOVEA_INLINE ReducedExp reduced_exp(F16 x) {
  const F16 magic = F16::broadcast(12582912.0f + 127);  // 1.5 * 2^23: the sum has no room for a fraction
  const F16 shifted = madd(x, F16::broadcast(1.44269504f), magic), whole = sub(shifted, magic);
  F16 r = madd(whole, F16::broadcast(-0.693359375f), x);
  r = madd(whole, F16::broadcast(2.12194440e-4f), r);
  F16 p = madd(F16::broadcast(1.38825165e-3f), r, F16::broadcast(8.36654752e-3f));
  p = madd(p, r, F16::broadcast(4.16672006e-2f));
  p = madd(p, r, F16::broadcast(1.66665435e-1f));
  p = madd(p, r, F16::broadcast(4.99999970e-1f));
  return {whole, madd(mul(r, r), p, r), low_bits_to_exponent(shifted)};
}

/// exp(x) of x <= 0; below -87 exp(-87), which is 1.6e-38.
FOVEA_INLINE F16 exp_of_negative(F16 x) {
  const ReducedExp e = reduced_exp(max(F16::broadcast(-87.0f), x));
  return madd(e.power, e.fraction, e.power);
}

/// exp(x) - 1 of x <= 0.
FOVEA_INLINE F16 expm1_of_negative(F16 x) {
  const ReducedExp e = reduced_exp(max(F16::broadcast(-87.0f), x));
  return madd(e.power, e.fraction, sub(e.power, F16::broadcast(1.0f)));
}

/// exp(x) of all x; overflows to infinity, underflows through the subnormal numbers to zero.
FOVEA_INLINE F16 exp(F16 x) {
  const ReducedExp e = reduced_exp(min(F16::broadcast(89.0f), max(F16::broadcast(-104.0f), x)));
  const F16 half = round_nearest(mul(e.whole, F16::broadcast(0.5f)));
  const F16 power = power_of_two(half);
  return mul(madd(power, e.fraction, power), power_of_two(sub(e.whole, half)));
}

/// log(x); -infinity at 0, NaN below.
FOVEA_INLINE F16 log(F16 x) {
  const F16 zero = F16::zero(), one = F16::broadcast(1.0f);
  // Subnormal and huge numbers are brought where exponent_of and power_of_two hold.
  const M16 small = less(x, F16::broadcast(0x1p-100f)), huge = less(F16::broadcast(0x1p100f), x);
  const F16 scale = select(small, F16::broadcast(0x1p64f), select(huge, F16::broadcast(0x1p-64f), one));
  const F16 scaled = mul(x, scale);
  F16 e = exponent_of(scaled);
  F16 m = mul(scaled, power_of_two(negated(e)));
  const M16 upper = less(F16::broadcast(1.41421356f), m);
  m = select(upper, mul(m, F16::broadcast(0.5f)), m);
  e = select(upper, add(e, one), e);
  e = add(e, select(small, F16::broadcast(-64.0f), select(huge, F16::broadcast(64.0f), zero)));
  const F16 f = sub(m, one), square = mul(f, f);
  F16 p = madd(F16::broadcast(7.0376836292e-2f), f, F16::broadcast(-1.1514610310e-1f));
  p = madd(p, f, F16::broadcast(1.1676998740e-1f));
  p = madd(p, f, F16::broadcast(-1.2420140846e-1f));
  p = madd(p, f, F16::broadcast(1.4249322787e-1f));
  p = madd(p, f, F16::broadcast(-1.6668057665e-1f));
  p = madd(p, f, F16::broadcast(2.0000714765e-1f));
  p = madd(p, f, F16::broadcast(-2.4999993993e-1f));
  p = madd(p, f, F16::broadcast(3.3333331174e-1f));
  p = mul(mul(p, f), square);
  p = madd(e, F16::broadcast(-2.12194440e-4f), p);
  p = madd(square, F16::broadcast(-0.5f), p);
  const F16 result = madd(e, F16::broadcast(0.693359375f), add(f, p));
  const F16 infinity = F16::broadcast(__builtin_inff());
  const F16 edge = select(equal(x, zero), negated(infinity), select(equal(x, infinity), x, result));
  return select(less(x, zero), F16::broadcast(__builtin_nanf("")), select(equal(x, x), edge, x));
}

/// -|x|, no further than wide_logistic goes.
FOVEA_INLINE Wide16 logistic_argument(F16 x) {
  return widened(max(F16::broadcast(-700.0f), negated(absolute_of(x))));
}

/// log(1 + exp(x)).
FOVEA_INLINE F16 softplus(F16 x) {
  const Wide16 positive = widened(max(F16::zero(), x)), argument = logistic_argument(x);
  return narrowed(each_part([&](int i) __attribute__((always_inline)) {
    return positive.v[i] + wide_logistic(argument.v[i]).log1p;
  }));
}

/// 1 / (1 + exp(-x)) of x and e = exp(-|x|).
FOVEA_INLINE WideVector sigmoid_of(WideVector x, WideVector e) {
  return select(x < 0.0, e, wide(1)) / (1.0 + e);
}

FOVEA_INLINE F16 sigmoid(F16 x) {
  const Wide16 own = widened(x), argument = logistic_argument(x);
  return narrowed(each_part([&](int i) __attribute__((always_inline)) {
    return sigmoid_of(own.v[i], wide_logistic(argument.v[i]).e);
  }));
}

/// The slope of softplus where its value is the rounded one (d slope / d value = 1 - slope).
FOVEA_INLINE Wide16 wide_softplus_slope(F16 x) {
  const Wide16 own = widened(x), positive = widened(max(F16::zero(), x)), argument = logistic_argument(x);
  Wide16 value, slope;
  FOVEA_UNROLL_PARTS
  for (int i = 0; i < Wide16::parts; ++i) {
    const WideLogistic logistic = wide_logistic(argument.v[i]);
    value.v[i] = positive.v[i] + logistic.log1p;
    slope.v[i] = sigmoid_of(own.v[i], logistic.e);
  }
  const Wide16 rounded = widened(narrowed(value));
  return each_part([&](int i) __attribute__((always_inline)) {
    return slope.v[i] + (1.0 - slope.v[i]) * (rounded.v[i] - value.v[i]);
  });
}

/// An activation with its shifts ready for use; one type per kind, so that the choice stays out of the loops.
template <ActivationKind kind>
struct Activated {
  F16 x_shift, y_shift;

  FOVEA_INLINE F16 value(F16 x) const {
    const F16 zero = F16::zero();
    if constexpr (kind == ActivationKind::relu) return max(zero, x);
    if constexpr (kind == ActivationKind::requ) return mul(max(zero, x), max(zero, x));
    if constexpr (kind == ActivationKind::softplus) return softplus(x);
    if constexpr (kind == ActivationKind::elu) {
      const F16 shifted = sub(x, x_shift);
      return add(select(less(zero, shifted), shifted, expm1_of_negative(shifted)), y_shift);
    }
    if constexpr (kind == ActivationKind::tanh) {  // of |x|: -expm1(-2 |x|) / (2 + expm1(-2 |x|))
      const F16 e = expm1_of_negative(mul(F16::broadcast(-2.0f), absolute_of(x)));
      const F16 y = div(sub(zero, e), add(F16::broadcast(2.0f), e));
      return select(less(x, zero), sub(zero, y), y);
    }
    if constexpr (kind == ActivationKind::absolute) return absolute_of(x);
    return x;
  }

  /// d value / d x; NaN is left to the value.
  FOVEA_INLINE F16 slope(F16 x) const {
    const F16 zero = F16::zero(), one = F16::broadcast(1.0f);
    if constexpr (kind == ActivationKind::relu) return select(less(zero, x), one, zero);
    if constexpr (kind == ActivationKind::requ) return select(less(zero, x), add(x, x), zero);
    if constexpr (kind == ActivationKind::softplus) return sigmoid(x);
    if constexpr (kind == ActivationKind::elu) return exp_of_negative(min(zero, sub(x, x_shift)));
    if constexpr (kind == ActivationKind::tanh) {
      // 1 - y^2 without cancellation: 4 e / (1 + e)^2, e = exp(-2 |x|)
      const F16 e = exp_of_negative(mul(F16::broadcast(-2.0f), absolute_of(x)));
      const F16 root = div(F16::broadcast(2.0f), add(one, e));
      return mul(e, mul(root, root));
    }
    if constexpr (kind == ActivationKind::absolute)
      return select(less(zero, x), one, select(less(x, zero), sub(zero, one), zero));
    return one;
  }
};

/// The slope in double precision where it has one, and for the value as it was rounded: the slopes of a
/// correlation loss nearly cancel where the prediction hardly varies, and whatever prediction and slope
/// disagree by remains.
template <ActivationKind kind>
FOVEA_INLINE Wide16 wide_slope(const Activated<kind>& activation, F16 x) {
  if constexpr (kind == ActivationKind::softplus) return wide_softplus_slope(x);
  return widened(activation.slope(x));
}

template <ActivationKind kind>
FOVEA_INLINE Activated<kind> activated(const Activation& activation) {
  return {F16::broadcast(static_cast<float>(activation.x_shift)),
          F16::broadcast(static_cast<float>(activation.y_shift))};
}

/// body(Activated<kind>) for the kind at hand.
template <class Body>
FOVEA_INLINE void with_activation(const Activation& activation, const Body& body) {
  switch (activation.kind) {
    case ActivationKind::identity:
      return body(activated<ActivationKind::identity>(activation));
    case ActivationKind::relu:
      return body(activated<ActivationKind::relu>(activation));
    case ActivationKind::elu:
      return body(activated<ActivationKind::elu>(activation));
    case ActivationKind::softplus:
      return body(activated<ActivationKind::softplus>(activation));
    case ActivationKind::requ:
      return body(activated<ActivationKind::requ>(activation));
    case ActivationKind::tanh:
      return body(activated<ActivationKind::tanh>(activation));
    case ActivationKind::absolute:
      return body(activated<ActivationKind::absolute>(activation));
  }
}

/// The whole of a vector or its first `lanes`: one body serves the inside and the tail of an array.
struct Whole {
  FOVEA_INLINE F16 load(const float* p) const { return F16::load(p); }
  FOVEA_INLINE void save(float* p, F16 x) const { store(p, x); }
};
struct Streamed {  // whole and aligned
  FOVEA_INLINE F16 load(const float* p) const { return F16::load(p); }
  FOVEA_INLINE void save(float* p, F16 a) const { stream(p, a); }
};
struct First {
  int lanes;
  FOVEA_INLINE F16 load(const float* p) const { return F16::load_first(p, lanes); }
  FOVEA_INLINE void save(float* p, F16 x) const { store_first(p, x, lanes); }
};

/// body(offset, Whole or First) over [begin, end) in vectors.
template <class Body>
FOVEA_INLINE void for_each_vector(std::int64_t begin, std::int64_t end, const Body& body) {
  std::int64_t i = begin;
  for (; i + 16 <= end; i += 16) body(i, Whole{});
  if (i < end) body(i, First{static_cast<int>(end - i)});
}

/// body(begin, end, chunk, worker) for every `chunk` indices of [0, count): a division by the shape alone.
template <class Body>
FOVEA_INLINE void for_each_chunk(const Queue& queue, std::int64_t count, std::int64_t chunk,
                                 const Body& body) {
  for_each_task(queue, (count + chunk - 1) / chunk, [&](std::int64_t task, int worker) {
    const std::int64_t begin = task * chunk, end = begin + chunk < count ? begin + chunk : count;
    body(begin, end, task, worker);
  });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
