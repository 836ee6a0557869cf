#include "kernels/reference/activation.hpp"

#include "kernels/activation.hpp"

namespace fovea::reference {
namespace {

template <class T>
void forward(T* y, const T* x, const Activation& activation, std::int64_t count, const Queue&) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = static_cast<T>(activated<Wide<T>>(activation, x[i]));
}

template <class T>
void grad(T* dx, const T* dy, const T* x, const Activation& activation, std::int64_t count, Write mode,
          const Queue&) {
  for (std::int64_t i = 0; i < count; ++i)
    write(dx[i], static_cast<T>(dy[i] * activation_slope<Wide<T>>(activation, x[i])), mode);
}

template <class T>
void parametric_relu(T* y, const T* x, const ParametricRelu<T>& p, std::int64_t count, const Queue&) {
  for (std::int64_t i = 0; i < count; ++i) {
    const T u = x[i] - *p.thresh;
    y[i] = (u < T(0) ? *p.neg_slope : *p.pos_slope) * u;
  }
}

template <class T>
void parametric_relu_grad(T* dx, T* dneg, T* dpos, const T* dy, const T* x, const ParametricRelu<T>& p,
                          std::int64_t count, Write mode, const Queue&) {
  Wide<T> negative = 0, positive = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const T u = x[i] - *p.thresh;
    (u < T(0) ? negative : positive) += static_cast<Wide<T>>(dy[i]) * u;
    if (dx) write(dx[i], dy[i] * (u < T(0) ? *p.neg_slope : *p.pos_slope), mode);
  }
  *dneg = static_cast<T>(negative);
  *dpos = static_cast<T>(positive);
}

template <class T>
void parametric_softplus(T* y, const T* x, const ParametricSoftplus<T>& p, std::int64_t count, const Queue&) {
  const Activation softplus{ActivationKind::softplus};
  for (std::int64_t i = 0; i < count; ++i) {
    const Wide<T> u = static_cast<Wide<T>>(*p.beta) * x[i] + *p.gamma;
    const T value = static_cast<T>(*p.alpha * activated<Wide<T>>(softplus, u)),
            least = static_cast<T>(p.least);
    y[i] = value < least ? least : value;
  }
}

template <class T>
void parametric_softplus_grad(T* dx, const T* dy, const T* x, const ParametricSoftplus<T>& p,
                              std::int64_t count, Write mode, const Queue&) {
  const Activation softplus{ActivationKind::softplus};
  for (std::int64_t i = 0; i < count; ++i) {
    const Wide<T> u = static_cast<Wide<T>>(*p.beta) * x[i] + *p.gamma;
    const bool inside = static_cast<T>(*p.alpha * activated<Wide<T>>(softplus, u)) > static_cast<T>(p.least);
    const Wide<T> slope = *p.alpha * activation_slope<Wide<T>>(softplus, u) * *p.beta;
    write(dx[i], inside ? static_cast<T>(dy[i] * slope) : T(0), mode);
  }
}

}  // namespace

template <class T>
void fill(ActivationKernels<T>& table) {
  table = {forward<T>,
           grad<T>,
           parametric_relu<T>,
           parametric_relu_grad<T>,
           parametric_softplus<T>,
           parametric_softplus_grad<T>};
}
template void fill(ActivationKernels<float>&);
template void fill(ActivationKernels<double>&);

}  // namespace fovea::reference
