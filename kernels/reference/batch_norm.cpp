#include "kernels/batch_norm.hpp"

#include <cmath>

#include "kernels/reference/activation.hpp"
#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

/// What normalises one channel: z = (x - mean) * inv_std * weight + bias.
template <class T>
struct Channel {
  T mean, inv_std, weight, bias;

  T normalised(T x) const { return (x - mean) * inv_std; }
  T z(T x) const { return normalised(x) * weight + bias; }
};

template <class T>
Channel<T> channel(std::int64_t c, T mean, T inv_std, const BatchNormParameters<T>& p) {
  return {mean, inv_std, p.weight ? p.weight[c] : T(1),
          (p.bias ? p.bias[c] : T(0)) + (p.channel_bias ? p.channel_bias[c] : T(0))};
}

template <class T>
T inverse_deviation(T variance, const BatchNormShape& s) {
  return T(1) / std::sqrt(variance + static_cast<T>(s.eps));
}

template <class T>
void normalise(T* y, const T* x, std::int64_t c, const Channel<T>& channel, const BatchNormShape& s) {
  for (std::int64_t i = c; i < s.rows * s.channels; i += s.channels)
    y[i] = activated(s.activation, channel.z(x[i]));
}

template <class T>
void forward_training(T* y, T* mean, T* inv_std, T* running_mean, T* running_var, const T* x,
                      const BatchNormParameters<T>& parameters, const BatchNormShape& s, const Queue&) {
  const std::int64_t count = s.rows * s.channels;
  const T n = static_cast<T>(s.rows), momentum = static_cast<T>(s.momentum);
  for (std::int64_t c = 0; c < s.channels; ++c) {
    Wide<T> sum = 0, squares = 0;
    for (std::int64_t i = c; i < count; i += s.channels) sum += x[i];
    mean[c] = static_cast<T>(sum / n);
    for (std::int64_t i = c; i < count; i += s.channels) {
      const Wide<T> deviation = static_cast<Wide<T>>(x[i]) - mean[c];
      squares += deviation * deviation;
    }
    inv_std[c] = inverse_deviation(static_cast<T>(squares / n), s);
    running_mean[c] = (T(1) - momentum) * running_mean[c] + momentum * mean[c];
    running_var[c] = (T(1) - momentum) * running_var[c] + momentum * static_cast<T>(squares / (n - T(1)));
    normalise(y, x, c, channel(c, mean[c], inv_std[c], parameters), s);
  }
}

template <class T>
void forward_evaluation(T* y, const T* running_mean, const T* running_var, const T* x,
                        const BatchNormParameters<T>& parameters, const BatchNormShape& s, const Queue&) {
  for (std::int64_t c = 0; c < s.channels; ++c)
    normalise(y, x, c, channel(c, running_mean[c], inverse_deviation(running_var[c], s), parameters), s);
}

/// Slopes of z summed over the rows: dbias = sum dz, dweight = sum dz * normalised x.
template <class T>
void grad_parameters(T* dweight, T* dbias, const T* dy, const T* x, std::int64_t c, const Channel<T>& channel,
                     const BatchNormShape& s) {
  Wide<T> weight_sum = 0, bias_sum = 0;
  for (std::int64_t i = c; i < s.rows * s.channels; i += s.channels) {
    const T dz = dy[i] * activation_slope(s.activation, channel.z(x[i]));
    bias_sum += dz;
    weight_sum += static_cast<Wide<T>>(dz) * channel.normalised(x[i]);
  }
  *dweight = static_cast<T>(weight_sum);
  *dbias = static_cast<T>(bias_sum);
}

template <class T>
void grad_training(T* dx, T* dweight, T* dbias, const T* dy, const T* x, const T* mean, const T* inv_std,
                   const BatchNormParameters<T>& parameters, const BatchNormShape& s, Write dx_mode,
                   const Queue&) {
  const T n = static_cast<T>(s.rows);
  for (std::int64_t c = 0; c < s.channels; ++c) {
    const Channel<T> ch = channel(c, mean[c], inv_std[c], parameters);
    grad_parameters(&dweight[c], &dbias[c], dy, x, c, ch, s);
    if (!dx) continue;
    for (std::int64_t i = c; i < s.rows * s.channels; i += s.channels) {
      const T dz = dy[i] * activation_slope(s.activation, ch.z(x[i]));
      const T through_statistics = dbias[c] / n + ch.normalised(x[i]) * (dweight[c] / n);
      write(dx[i], ch.weight * ch.inv_std * (dz - through_statistics), dx_mode);
    }
  }
}

template <class T>
void grad_evaluation(T* dx, T* dweight, T* dbias, const T* dy, const T* x, const T* running_mean,
                     const T* running_var, const BatchNormParameters<T>& parameters, const BatchNormShape& s,
                     Write dx_mode, const Queue&) {
  for (std::int64_t c = 0; c < s.channels; ++c) {
    const Channel<T> ch = channel(c, running_mean[c], inverse_deviation(running_var[c], s), parameters);
    grad_parameters(&dweight[c], &dbias[c], dy, x, c, ch, s);
    if (!dx) continue;
    for (std::int64_t i = c; i < s.rows * s.channels; i += s.channels)
      write(dx[i], dy[i] * activation_slope(s.activation, ch.z(x[i])) * ch.weight * ch.inv_std, dx_mode);
  }
}

}  // namespace

template <class T>
void fill(BatchNormKernels<T>& table) {
  table = {forward_training<T>, forward_evaluation<T>, grad_training<T>, grad_evaluation<T>};
}
template void fill(BatchNormKernels<float>&);
template void fill(BatchNormKernels<double>&);

}  // namespace fovea::reference
