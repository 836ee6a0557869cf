// Elementwise nonlinearities that have no parameters to learn.
#pragma once

namespace fovea {

enum class ActivationKind {
  identity,
  relu,
  elu,       ///< x > 0 ? x : exp(x) - 1, of x - x_shift, plus y_shift (neuralpredictors' AdaptiveELU)
  softplus,  ///< log(1 + exp(x)), linear above 20
  requ,      ///< max(0, x)^2
  tanh,
  absolute,
};

struct Activation {
  ActivationKind kind = ActivationKind::identity;
  double x_shift = 0;  ///< of elu; the others have no shifts
  double y_shift = 0;
};

}  // namespace fovea
