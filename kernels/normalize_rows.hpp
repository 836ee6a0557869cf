// Rows divided by their norm: y[n,p] = x[n,p] / (s_n + 1e-6), s_n = sqrt(sum_p x[n,p]^2). The gradient is
// dx = dy / (s + 1e-6) - x * (sum dy x) / (s (s + 1e-6)^2), without the second term where s = 0.
#pragma once
#include "engine/queue.hpp"

namespace fovea {

constexpr double row_norm_eps = 1e-6;

template <class T>
struct NormalizeRowsKernels {
  // y (rows, columns) <- x
  void (*forward)(T* y, const T* x, std::int64_t rows, std::int64_t columns, const Queue&);
  // dx <- dy, x. It never sees y, which the caller may have overwritten.
  void (*grad)(T* dx, const T* dy, const T* x, std::int64_t rows, std::int64_t columns, Write, const Queue&);
};

}  // namespace fovea
