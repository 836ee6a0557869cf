// Regularizers of models.md. Each writes its value (a scalar) and its slopes d value / d parameter in the
// same pass; a null slope is not computed. Values are not multiplied by the gamma: weighted_sum does that.
#pragma once
#include "engine/queue.hpp"

namespace fovea {

/// value = factor * E, E = sum (lap * window)^2 or sum |lap| over the centres; a ratio divides by
/// sum(w^2) + eps.
struct LaplaceShape {
  std::int64_t filters;        // O * I
  std::int64_t height, width;  // of a filter in time: its length and 1
  std::int64_t padding;        // zeros around the filter; 0: valid
  bool in_time = false;        // [-1 2 -1] along filters of width 1 instead of the 3x3 Laplacian
  bool absolute = false;       // sum |lap|
  bool ratio = true;
  double eps = 0;
  double factor = 1;
};

struct GroupSparsityShape {
  std::int64_t out_channels, in_channels, taps;
};

struct TemporalSmoothingShape {
  std::int64_t out_channels, in_channels, harmonics;
};

template <class T>
struct RegularizerKernels {
  // 3x3 Laplacian [0 -1 0; -1 4 -1; 0 -1 0] of every filter w (filters, height, width); window (centres of
  // one filter) may be null: 1
  void (*laplace)(T* value, T* slope, const T* w, const T* window, const LaplaceShape&, const Queue&);
  // sum_o [ sum_i |w_oi| / sqrt(1e-8 + sum_i |w_oi|^2) ], norms over the taps
  void (*group_sparsity)(T* value, T* slope, const T* w, const GroupSparsityShape&, const Queue&);
  // [ sum((r_k sin)^2) + sum((r_k cos)^2) ] / O, r = linspace(0.1, 0.9, K), 0.1 if K = 1
  void (*temporal_smoothing)(T* value, T* slope_sin, T* slope_cos, const T* sin_weights, const T* cos_weights,
                             const TemporalSmoothingShape&, const Queue&);
  // factor * sum over rows of the norm over the taps of w (rows, taps)
  void (*filter_norms)(T* value, T* slope, const T* w, std::int64_t rows, std::int64_t taps, double factor,
                       const Queue&);
  // factor * sum w^2
  void (*square_sum)(T* value, T* slope, const T* w, std::int64_t count, double factor, const Queue&);
  // factor * sum |w|
  void (*absolute_sum)(T* value, T* slope, const T* w, std::int64_t count, double factor, const Queue&);
  // factor_var * sum exp(log_var * var_scale) + factor_mean * sum (mean * mean_scale)^2; mean (N,2), log_var
  // (N)
  void (*gaussian_extent)(T* value, T* slope_mean, T* slope_log_var, const T* mean, const T* log_var,
                          std::int64_t neurons, double mean_scale, double var_scale, double factor_mean,
                          double factor_var, const Queue&);
};

}  // namespace fovea
