#include "kernels/optimizer.hpp"

#include <cmath>

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

/// In the order of operations of torch.optim.AdamW, its constants in double.
template <class T>
void adamw(T* parameter, T* exp_avg, T* exp_avg_sq, const T* gradient, std::int64_t count,
           const AdamWStep& step, const Queue&) {
  const double steps = static_cast<double>(step.step);
  const double correction1 = 1 - std::pow(step.beta1, steps), correction2 = 1 - std::pow(step.beta2, steps);
  const T decay = static_cast<T>(1 - step.learning_rate * step.weight_decay);
  const T size = static_cast<T>(step.learning_rate / correction1),
          root = static_cast<T>(std::sqrt(correction2));
  const T keep1 = static_cast<T>(1 - step.beta1), beta2 = static_cast<T>(step.beta2),
          eps = static_cast<T>(step.eps);
  const T keep2 = static_cast<T>(1 - step.beta2), scale = static_cast<T>(step.gradient_scale);
  for (std::int64_t i = 0; i < count; ++i) {
    const T g = scale * gradient[i];
    exp_avg[i] += keep1 * (g - exp_avg[i]);
    exp_avg_sq[i] = beta2 * exp_avg_sq[i] + keep2 * g * g;
    parameter[i] = parameter[i] * decay - size * exp_avg[i] / (std::sqrt(exp_avg_sq[i]) / root + eps);
  }
}

template <class T>
void sum_of_squares(double* sum, const T* x, std::int64_t count, const Queue&) {
  *sum = 0;
  for (std::int64_t i = 0; i < count; ++i) *sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
}

}  // namespace

template <class T>
void fill(OptimizerKernels<T>& table) {
  table = {adamw<T>, sum_of_squares<T>};
}
template void fill(OptimizerKernels<float>&);
template void fill(OptimizerKernels<double>&);

}  // namespace fovea::reference
