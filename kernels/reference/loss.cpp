#include "kernels/loss.hpp"

#include <cmath>
#include <numbers>

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

bool per_neuron(const LossShape& s) {
  return s.reduction == Reduction::per_neuron_sum || s.reduction == Reduction::per_neuron_mean;
}

/// 1, or 1 / the number of values of which the loss is a mean, `items` per neuron.
template <class T>
T reduction_factor(const LossShape& s, std::int64_t items) {
  if (s.reduction == Reduction::mean) return T(1) / static_cast<T>(items * s.neurons);
  if (s.reduction == Reduction::per_neuron_mean) return T(1) / static_cast<T>(items);
  return T(1);
}

/// target log(target) - target + 0.5 log(2 pi target) where target > 1
template <class T>
T stirling(T target) {
  if (!(target > T(1))) return T(0);
  return target * std::log(target) - target + T(0.5) * std::log(T(2 * std::numbers::pi) * target);
}

template <class T>
void poisson(T* value, T* slope, const T* output, const T* target, const LossShape& s,
             const PoissonOptions& options, const Queue&) {
  const std::int64_t groups = per_neuron(s) ? s.neurons : 1, lag = s.target_frames - s.frames;
  const T factor = reduction_factor<T>(s, s.batch * s.frames), eps = static_cast<T>(options.eps);
  fill(value, groups, T(0));
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t t = 0; t < s.frames; ++t)
      for (std::int64_t n = 0; n < s.neurons; ++n) {
        const std::int64_t at = (b * s.frames + t) * s.neurons + n;
        const T rate = output[at], count = target[(b * s.target_frames + lag + t) * s.neurons + n];
        T term = options.log_input ? std::exp(rate) - count * rate : rate - count * std::log(rate + eps);
        if (options.stirling) term += stirling(count);
        value[n % groups] += term;
        if (slope)
          slope[at] = factor * (options.log_input ? std::exp(rate) - count : T(1) - count / (rate + eps));
      }
  for (std::int64_t group = 0; group < groups; ++group) value[group] *= factor;
}

/// Mean of count values. The first is subtracted before summing: the mean of a constant is exact, so that its
/// deviations are zero.
template <class T>
Wide<T> mean(const T* x, std::int64_t count, std::int64_t stride) {
  const Wide<T> first = x[0];
  Wide<T> sum = 0;
  for (std::int64_t t = 0; t < count; ++t) sum += static_cast<Wide<T>>(x[t * stride]) - first;
  return first + sum / static_cast<Wide<T>>(count);
}

/// Mean of the deviations from a rounded mean. Without it they add up to rounding errors of the mean's size,
/// which are large beside the deviations of a prediction that hardly varies, and so is their sum in the
/// gradients.
template <class T>
Wide<T> mean_deviation(const T* x, Wide<T> mean, std::int64_t count, std::int64_t stride) {
  Wide<T> sum = 0;
  for (std::int64_t t = 0; t < count; ++t) sum += static_cast<Wide<T>>(x[t * stride]) - mean;
  return sum / static_cast<Wide<T>>(count);
}

/// Moments over time of one batch item and neuron, in wide precision: the slopes are differences of nearly
/// equal numbers where the prediction hardly varies, and every rounding before the last one would be
/// magnified.
template <class T>
struct Moments {
  Wide<T> mean_x, mean_y, rest_x, rest_y, var_x = 0, var_y = 0, covariance = 0;

  Moments(const T* x, const T* y, std::int64_t frames, std::int64_t stride)
      : mean_x(mean(x, frames, stride)),
        mean_y(mean(y, frames, stride)),
        rest_x(mean_deviation(x, mean_x, frames, stride)),
        rest_y(mean_deviation(y, mean_y, frames, stride)) {
    for (std::int64_t t = 0; t < frames; ++t) {
      const Wide<T> dx = deviation_x(x[t * stride]), dy = deviation_y(y[t * stride]);
      var_x += dx * dx;
      var_y += dy * dy;
      covariance += dx * dy;
    }
    const Wide<T> count = static_cast<Wide<T>>(frames);
    var_x /= count;
    var_y /= count;
    covariance /= count;
  }

  Wide<T> deviation_x(T x) const { return (static_cast<Wide<T>>(x) - mean_x) - rest_x; }
  Wide<T> deviation_y(T y) const { return (static_cast<Wide<T>>(y) - mean_y) - rest_y; }
};

/// r = cov / sqrt((var_x + eps) (var_y + eps)); d r / d x_t = (dy_t / sqrt(..) - r dx_t / (var_x + eps)) / T
template <class T>
void correlation(T* value, T* slope, const T* output, const T* target, const LossShape& s,
                 const CorrelationOptions& options, const Queue&) {
  const std::int64_t groups = per_neuron(s) ? s.neurons : 1, lag = s.target_frames - s.frames;
  using W = Wide<T>;
  const W factor = static_cast<W>(options.sign) * reduction_factor<W>(s, s.batch),
          eps = static_cast<W>(options.eps);
  fill(value, groups, T(0));
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t n = 0; n < s.neurons; ++n) {
      const T* x = output + b * s.frames * s.neurons + n;
      const T* y = target + (b * s.target_frames + lag) * s.neurons + n;
      const Moments<T> m(x, y, s.frames, s.neurons);
      // Without eps a constant has no correlation: 0, as with it.
      const bool undefined = m.var_x + eps == W(0) || m.var_y + eps == W(0);
      const W scale = undefined ? W(0) : W(1) / std::sqrt(m.var_x + eps) / std::sqrt(m.var_y + eps);
      const W r = m.covariance * scale, pull = undefined ? W(0) : r / (m.var_x + eps);
      value[n % groups] += static_cast<T>(factor * r);
      if (!slope) continue;
      W carry = 0;  // what rounding takes from one slope the next one gets: their sum stays zero
      for (std::int64_t t = 0; t < s.frames; ++t) {
        const W dx = m.deviation_x(x[t * s.neurons]), dy = m.deviation_y(y[t * s.neurons]);
        const W exact = factor * (dy * scale - dx * pull) / static_cast<W>(s.frames) + carry;
        T& rounded = slope[(b * s.frames + t) * s.neurons + n];
        rounded = static_cast<T>(exact);
        carry = exact - static_cast<W>(rounded);
      }
    }
}

template <class T>
void scale_slope(T* dx, const T* slope, const T* upstream, std::int64_t count, std::int64_t groups,
                 Write mode, const Queue&) {
  for (std::int64_t i = 0; i < count; ++i) write(dx[i], upstream[i % groups] * slope[i], mode);
}

}  // namespace

template <class T>
void fill(LossKernels<T>& table) {
  table = {poisson<T>, correlation<T>, scale_slope<T>};
}
template void fill(LossKernels<float>&);
template void fill(LossKernels<double>&);

}  // namespace fovea::reference
