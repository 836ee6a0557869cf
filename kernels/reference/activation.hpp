// Values and slopes of the activations, in PyTorch's order of operations.
#pragma once
#include <cmath>

#include "fovea/activation.hpp"
#include "kernels/reference/reference.hpp"

namespace fovea::reference {

template <class T>
T activated(const Activation& activation, T x) {
  switch (activation.kind) {
    case ActivationKind::identity:
      break;
    case ActivationKind::relu:
      return x < T(0) ? T(0) : x;  // keeps NaN
    case ActivationKind::elu: {
      const T shifted = x - static_cast<T>(activation.x_shift);
      return (shifted > T(0) ? shifted : std::expm1(shifted)) + static_cast<T>(activation.y_shift);
    }
    case ActivationKind::softplus:
      return x > T(20) ? x : std::log1p(std::exp(x));
    case ActivationKind::requ:
      return x < T(0) ? T(0) : x * x;
    case ActivationKind::tanh:
      return std::tanh(x);
    case ActivationKind::absolute:
      return std::abs(x);
  }
  return x;
}

/// d activated / d x, 0 where relu, requ and absolute have a corner.
template <class T>
T activation_slope(const Activation& activation, T x) {
  switch (activation.kind) {
    case ActivationKind::identity:
      break;
    case ActivationKind::relu:
      return x > T(0) ? T(1) : T(0);
    case ActivationKind::elu: {
      const T shifted = x - static_cast<T>(activation.x_shift);
      return shifted > T(0) ? T(1) : std::exp(shifted);
    }
    case ActivationKind::softplus: {
      const T e = std::exp(x);
      return x > T(20) ? T(1) : e / (e + T(1));
    }
    case ActivationKind::requ:
      return x > T(0) ? T(2) * x : T(0);
    case ActivationKind::tanh: {
      const T y = std::tanh(x);
      return T(1) - y * y;
    }
    case ActivationKind::absolute:
      return x > T(0) ? T(1) : x < T(0) ? T(-1) : T(0);
  }
  return T(1);
}

/// The same at the value as `T` rounds it: what the slopes of a correlation loss leave of a prediction that
/// hardly varies is what prediction and slope disagree by.
template <class T>
Wide<T> wide_activation_slope(const Activation& activation, T x) {
  const Wide<T> slope = activation_slope<Wide<T>>(activation, x);
  if (activation.kind != ActivationKind::softplus || x > T(20)) return slope;
  const Wide<T> value = activated<Wide<T>>(activation, x);
  return slope + (1 - slope) * (static_cast<Wide<T>>(static_cast<T>(value)) - value);  // d slope / d value
}

}  // namespace fovea::reference
