#include "kernels/regularizer.hpp"

#include <cmath>
#include <vector>

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

/// Calls visit(filter element, coefficient) for the taps of the Laplacian centred on (h, w) that lie inside
/// the filter.
template <class Visit>
void for_each_tap(const LaplaceShape& s, std::int64_t h, std::int64_t w, Visit visit) {
  constexpr int taps[5][2] = {{0, 0}, {-1, 0}, {1, 0}, {0, -1}, {0, 1}};
  const int neighbours = s.in_time ? 2 : 4;
  for (int n = 0; n <= neighbours; ++n) {
    const std::int64_t row = h + taps[n][0], column = w + taps[n][1];
    if (row < 0 || row >= s.height || column < 0 || column >= s.width) continue;
    visit(row * s.width + column, n ? -1 : neighbours);
  }
}

/// Calls visit(filter, row, column, position among the centres of the filter) for every centre of the
/// Laplacian.
template <class Visit>
void for_each_centre(const LaplaceShape& s, Visit visit) {
  const std::int64_t border = 1 - s.padding, sides = s.in_time ? 0 : border;
  for (std::int64_t filter = 0; filter < s.filters; ++filter) {
    std::int64_t position = 0;
    for (std::int64_t h = border; h < s.height - border; ++h)
      for (std::int64_t w = sides; w < s.width - sides; ++w) visit(filter, h, w, position++);
  }
}

// Sums and slopes are wide: a regularizer of a large readout has tens of millions of terms, and a slope can
// be the difference of nearly equal numbers.

template <class T>
Wide<T> laplacian(const T* filter, const LaplaceShape& s, std::int64_t h, std::int64_t w) {
  Wide<T> sum = 0;
  for_each_tap(s, h, w, [&](std::int64_t at, int coefficient) {
    sum += static_cast<Wide<T>>(coefficient) * static_cast<Wide<T>>(filter[at]);
  });
  return sum;
}

template <class T>
Wide<T> squared_norm(const T* w, std::int64_t count) {
  Wide<T> sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += static_cast<Wide<T>>(w[i]) * w[i];
  return sum;
}

template <class T>
void laplace(T* value, T* slope, const T* w, const T* window, const LaplaceShape& s, const Queue&) {
  using W = Wide<T>;
  const std::int64_t size = s.height * s.width, count = s.filters * size;
  const W factor = static_cast<W>(s.factor);
  const auto windowed = [&](std::int64_t filter, std::int64_t h, std::int64_t column, std::int64_t position) {
    return laplacian(w + filter * size, s, h, column) * (window ? static_cast<W>(window[position]) : W(1));
  };
  W energy = 0;
  for_each_centre(s, [&](std::int64_t filter, std::int64_t h, std::int64_t column, std::int64_t position) {
    const W lap = windowed(filter, h, column, position);
    energy += s.absolute ? std::abs(lap) : lap * lap;
  });
  const W norm = s.ratio ? static_cast<W>(s.eps) + squared_norm(w, count) : W(1);
  *value = static_cast<T>(factor * energy / norm);
  if (!slope) return;
  std::vector<W> slopes(static_cast<std::size_t>(count));
  if (s.ratio)
    for (std::int64_t i = 0; i < count; ++i)
      slopes[static_cast<std::size_t>(i)] = W(-2) * factor * w[i] * (energy / norm) / norm;
  for_each_centre(s, [&](std::int64_t filter, std::int64_t h, std::int64_t column, std::int64_t position) {
    const W lap = windowed(filter, h, column, position);
    W own = s.absolute ? W(lap > W(0)) - W(lap < W(0)) : W(2) * lap;
    own *= factor * (window ? static_cast<W>(window[position]) : W(1)) / norm;
    for_each_tap(s, h, column, [&](std::int64_t at, int coefficient) {
      slopes[static_cast<std::size_t>(filter * size + at)] += static_cast<W>(coefficient) * own;
    });
  });
  for (std::int64_t i = 0; i < count; ++i) slope[i] = static_cast<T>(slopes[static_cast<std::size_t>(i)]);
}

/// The slope of a norm at zero is taken as zero.
template <class T>
void filter_norms(T* value, T* slope, const T* w, std::int64_t rows, std::int64_t taps, double factor,
                  const Queue&) {
  using W = Wide<T>;
  W total = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* filter = w + row * taps;
    const W norm = std::sqrt(squared_norm(filter, taps));
    total += norm;
    if (!slope) continue;
    const W by = norm == W(0) ? W(0) : static_cast<W>(factor) / norm;
    for (std::int64_t k = 0; k < taps; ++k) slope[row * taps + k] = static_cast<T>(by * filter[k]);
  }
  *value = static_cast<T>(static_cast<W>(factor) * total);
}

template <class T>
void square_sum(T* value, T* slope, const T* w, std::int64_t count, double factor, const Queue&) {
  using W = Wide<T>;
  *value = static_cast<T>(static_cast<W>(factor) * squared_norm(w, count));
  if (!slope) return;
  for (std::int64_t i = 0; i < count; ++i)
    slope[i] = static_cast<T>(W(2) * static_cast<W>(factor) * static_cast<W>(w[i]));
}

/// The slope of a norm at zero is taken as zero.
template <class T>
void group_sparsity(T* value, T* slope, const T* w, const GroupSparsityShape& s, const Queue&) {
  using W = Wide<T>;
  W total = 0;
  for (std::int64_t o = 0; o < s.out_channels; ++o) {
    const T* group = w + o * s.in_channels * s.taps;
    W norms = 0;
    for (std::int64_t i = 0; i < s.in_channels; ++i)
      norms += std::sqrt(squared_norm(group + i * s.taps, s.taps));
    const W root = std::sqrt(W(1e-8) + squared_norm(group, s.in_channels * s.taps));
    total += norms / root;
    if (!slope) continue;
    for (std::int64_t i = 0; i < s.in_channels; ++i) {
      const W norm = std::sqrt(squared_norm(group + i * s.taps, s.taps));
      const W own = norm == W(0) ? W(0) : W(1) / (norm * root), shared = norms / (root * root * root);
      for (std::int64_t k = 0; k < s.taps; ++k)
        slope[(o * s.in_channels + i) * s.taps + k] = static_cast<T>(group[i * s.taps + k] * (own - shared));
    }
  }
  *value = static_cast<T>(total);
}

/// r_k = linspace(0.1, 0.9, K), 0.1 if K = 1
template <class W>
W ramp(std::int64_t k, std::int64_t harmonics) {
  return harmonics == 1 ? W(0.1) : W(0.1) + W(0.8) * static_cast<W>(k) / static_cast<W>(harmonics - 1);
}

template <class T>
void temporal_smoothing(T* value, T* slope_sin, T* slope_cos, const T* sin_weights, const T* cos_weights,
                        const TemporalSmoothingShape& s, const Queue&) {
  using W = Wide<T>;
  const std::int64_t count = s.out_channels * s.in_channels * s.harmonics;
  const W channels = static_cast<W>(s.out_channels);
  W energy = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const W r = ramp<W>(i % s.harmonics, s.harmonics), a = r * sin_weights[i], b = r * cos_weights[i];
    energy += a * a + b * b;
    if (slope_sin) slope_sin[i] = static_cast<T>(W(2) * r * a / channels);
    if (slope_cos) slope_cos[i] = static_cast<T>(W(2) * r * b / channels);
  }
  *value = static_cast<T>(energy / channels);
}

template <class T>
void absolute_sum(T* value, T* slope, const T* w, std::int64_t count, double factor, const Queue&) {
  const T scale = static_cast<T>(factor);
  Wide<T> sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    sum += std::abs(w[i]);
    if (slope) slope[i] = w[i] > T(0) ? scale : w[i] < T(0) ? -scale : T(0);
  }
  *value = static_cast<T>(static_cast<Wide<T>>(factor) * sum);
}

template <class T>
void gaussian_extent(T* value, T* slope_mean, T* slope_log_var, const T* mean, const T* log_var,
                     std::int64_t neurons, double mean_scale, double var_scale, double factor_mean,
                     double factor_var, const Queue&) {
  using W = Wide<T>;
  const W mean_by = static_cast<W>(mean_scale), var_by = static_cast<W>(var_scale);
  W variances = 0, distances = 0;
  for (std::int64_t n = 0; n < neurons; ++n) {
    const W variance = std::exp(log_var[n] * var_by);
    variances += variance;
    if (slope_log_var) slope_log_var[n] = static_cast<T>(static_cast<W>(factor_var) * var_by * variance);
  }
  for (std::int64_t i = 0; i < 2 * neurons; ++i) {
    const W distance = mean[i] * mean_by;
    distances += distance * distance;
    if (slope_mean) slope_mean[i] = static_cast<T>(static_cast<W>(factor_mean) * W(2) * distance * mean_by);
  }
  *value = static_cast<T>(static_cast<W>(factor_var) * variances + static_cast<W>(factor_mean) * distances);
}

}  // namespace

template <class T>
void fill(RegularizerKernels<T>& table) {
  table = {laplace<T>,    group_sparsity<T>, temporal_smoothing<T>, filter_norms<T>,
           square_sum<T>, absolute_sum<T>,   gaussian_extent<T>};
}
template void fill(RegularizerKernels<float>&);
template void fill(RegularizerKernels<double>&);

}  // namespace fovea::reference
