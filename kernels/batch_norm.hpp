// Batch norm + channel bias + activation in one pass, over (rows, channels) with channels last:
//   z = (x - mean_c) * inv_std_c * weight_c + bias_c + channel_bias_c,   y = activation(z),   inv_std = 1 /
//   sqrt(var + eps)
// Training: mean and biased variance of the rows. Evaluation: the running statistics.
#pragma once
#include "engine/queue.hpp"
#include "fovea/activation.hpp"

namespace fovea {

struct BatchNormShape {
  std::int64_t rows;  // B*T*H*W
  std::int64_t channels;
  double eps;
  double momentum;  // running = (1 - momentum) * running + momentum * batch; the variance unbiased, n / (n-1)
  Activation activation;
};

/// Parameters of one channel each; null where the layer has none (weight 1, biases 0).
template <class T>
struct BatchNormParameters {
  const T* weight;
  const T* bias;
  const T* channel_bias;
};

template <class T>
struct BatchNormKernels {
  // mean, inv_std (C) are outputs kept for the backward pass; running_mean, running_var (C) are updated in
  // place.
  void (*forward_training)(T* y, T* mean, T* inv_std, T* running_mean, T* running_var, const T* x,
                           const BatchNormParameters<T>&, const BatchNormShape&, const Queue&);
  void (*forward_evaluation)(T* y, const T* running_mean, const T* running_var, const T* x,
                             const BatchNormParameters<T>&, const BatchNormShape&, const Queue&);
  // dx (rows, C) may be null, or dy itself; dweight, dbias (C) are always overwritten (the channel bias has
  // dbias's gradient).
  void (*grad_training)(T* dx, T* dweight, T* dbias, const T* dy, const T* x, const T* mean, const T* inv_std,
                        const BatchNormParameters<T>&, const BatchNormShape&, Write dx_mode, const Queue&);
  void (*grad_evaluation)(T* dx, T* dweight, T* dbias, const T* dy, const T* x, const T* running_mean,
                          const T* running_var, const BatchNormParameters<T>&, const BatchNormShape&,
                          Write dx_mode, const Queue&);
};

}  // namespace fovea
