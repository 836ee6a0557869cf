// Correlation of two series, as the tables and pictures of a simulated retina report it.
#pragma once
#include <cmath>
#include <cstddef>
#include <vector>

namespace fovea {

/// Pearson correlation of equally long series; 0 where either is constant.
inline double pearson(const std::vector<double>& a, const std::vector<double>& b) {
  const auto count = static_cast<double>(a.size());
  double mean_a = 0, mean_b = 0, aa = 0, bb = 0, ab = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    mean_a += a[i] / count;
    mean_b += b[i] / count;
  }
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double x = a[i] - mean_a, y = b[i] - mean_b;
    aa += x * x;
    bb += y * y;
    ab += x * y;
  }
  // Rounding leaves a constant series with a variance of order (eps mean)^2.
  const double none_a = 1e-24 * mean_a * mean_a * count, none_b = 1e-24 * mean_b * mean_b * count;
  return aa > none_a && bb > none_b ? ab / std::sqrt(aa) / std::sqrt(bb) : 0;
}

}  // namespace fovea
