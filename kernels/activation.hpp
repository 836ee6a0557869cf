// Elementwise nonlinearities as ops of their own; batch norm and readouts apply theirs to their results.
#pragma once
#include "engine/queue.hpp"
#include "fovea/activation.hpp"

namespace fovea {

/// The tensors of a parametric ReLU, (1) each: x - thresh times neg_slope below 0, else times pos_slope.
template <class T>
struct ParametricRelu {
  const T *thresh, *neg_slope, *pos_slope;
};

/// The tensors of a parametric softplus, (1) each: max(alpha * softplus(beta * x + gamma), least).
template <class T>
struct ParametricSoftplus {
  const T *alpha, *beta, *gamma;
  double least;  // -infinity: none
};

template <class T>
struct ActivationKernels {
  void (*forward)(T* y, const T* x, const Activation&, std::int64_t count, const Queue&);
  void (*grad)(T* dx, const T* dy, const T* x, const Activation&, std::int64_t count, Write, const Queue&);
  void (*parametric_relu)(T* y, const T* x, const ParametricRelu<T>&, std::int64_t count, const Queue&);
  // dx may be null; dneg, dpos (1) are always overwritten
  void (*parametric_relu_grad)(T* dx, T* dneg, T* dpos, const T* dy, const T* x, const ParametricRelu<T>&,
                               std::int64_t count, Write dx_mode, const Queue&);
  void (*parametric_softplus)(T* y, const T* x, const ParametricSoftplus<T>&, std::int64_t count,
                              const Queue&);
  void (*parametric_softplus_grad)(T* dx, const T* dy, const T* x, const ParametricSoftplus<T>&,
                                   std::int64_t count, Write, const Queue&);
};

}  // namespace fovea
