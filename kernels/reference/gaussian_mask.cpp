#include "kernels/gaussian_mask.hpp"

#include <cmath>

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

constexpr double log_var_bound = 20, distance_bound = 20;

/// The Gaussian of one neuron.
template <class T>
struct Gaussian {
  const T* grid;  // (pixels, 2)
  T row, column;  // scaled mean
  T exponential;  // exp of the clamped log variance
  T variance;
  bool clamped;
  T sum;  // of the densities: NaN when the parameters or the grid are

  /// Squared distance, in variances; a comparison that keeps NaN.
  T distance(std::int64_t p) const {
    const T dr = grid[2 * p] - row, dc = grid[2 * p + 1] - column;
    return (dr * dr + dc * dc) / variance;
  }
  T density(std::int64_t p) const {
    const T d2 = distance(p);
    return std::exp(T(-0.5) * (d2 > T(distance_bound) ? T(distance_bound) : d2));
  }
};

template <class T>
Gaussian<T> gaussian(std::int64_t n, const T* mask_mean, const T* mask_log_var, const T* grid,
                     const GaussianMaskShape& s) {
  Gaussian<T> g;
  g.grid = grid + n * s.pixels * 2;
  g.row = mask_mean[2 * n] * static_cast<T>(s.mean_scale);
  g.column = mask_mean[2 * n + 1] * static_cast<T>(s.mean_scale);
  T log_var = mask_log_var[n] * static_cast<T>(s.var_scale);
  g.clamped = log_var <= T(-log_var_bound) || log_var >= T(log_var_bound);
  if (g.clamped) log_var = log_var < T(0) ? T(-log_var_bound) : T(log_var_bound);
  g.exponential = std::exp(log_var);
  g.variance = g.exponential + T(1e-8);
  g.sum = 0;
  for (std::int64_t p = 0; p < s.pixels; ++p) g.sum += g.density(p);
  return g;
}

template <class T>
void forward(T* mask, const T* mask_mean, const T* mask_log_var, const T* grid, const GaussianMaskShape& s,
             const Queue&) {
  for (std::int64_t n = 0; n < s.neurons; ++n) {
    const Gaussian<T> g = gaussian(n, mask_mean, mask_log_var, grid, s);
    for (std::int64_t p = 0; p < s.pixels; ++p)
      mask[n * s.pixels + p] = std::isnan(g.sum) ? T(0) : g.density(p) / g.sum;
  }
}

template <class T>
void grad_parameters(T* dmean, T* dlog_var, const T* dmask, const T* mask_mean, const T* mask_log_var,
                     const T* grid, const GaussianMaskShape& s, const Queue&) {
  for (std::int64_t n = 0; n < s.neurons; ++n) {
    const Gaussian<T> g = gaussian(n, mask_mean, mask_log_var, grid, s);
    const T* upstream = dmask + n * s.pixels;
    T drow = 0, dcolumn = 0, dvariance = 0;
    if (!std::isnan(g.sum)) {  // else the mask is the constant 0
      T mean_upstream = 0;
      for (std::int64_t p = 0; p < s.pixels; ++p) mean_upstream += upstream[p] * g.density(p) / g.sum;
      for (std::int64_t p = 0; p < s.pixels; ++p) {
        if (!(g.distance(p) < T(distance_bound))) continue;
        const T ddistance = T(-0.5) * g.density(p) * (upstream[p] - mean_upstream) / g.sum;
        drow -= ddistance * T(2) * (g.grid[2 * p] - g.row) / g.variance;
        dcolumn -= ddistance * T(2) * (g.grid[2 * p + 1] - g.column) / g.variance;
        dvariance -= ddistance * g.distance(p) / g.variance;
      }
    }
    dmean[2 * n] = drow * static_cast<T>(s.mean_scale);
    dmean[2 * n + 1] = dcolumn * static_cast<T>(s.mean_scale);
    const bool constant = g.clamped || std::isnan(g.sum);
    dlog_var[n] = constant ? T(0) : dvariance * g.exponential * static_cast<T>(s.var_scale);
  }
}

}  // namespace

template <class T>
void fill(GaussianMaskKernels<T>& table) {
  table = {forward<T>, grad_parameters<T>};
}
template void fill(GaussianMaskKernels<float>&);
template void fill(GaussianMaskKernels<double>&);

}  // namespace fovea::reference
