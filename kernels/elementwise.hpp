// Copies, sums, layout changes and in-place constraints.
#pragma once
#include "engine/queue.hpp"

namespace fovea {

struct PermuteShape {
  std::int64_t batch, rows, columns;  // (batch, rows, columns) -> (batch, columns, rows)
};

/// `count` channels of x (rows, x_channels) from x_first on, to y (rows, y_channels) from y_first on.
struct ChannelCopy {
  std::int64_t rows, count;
  std::int64_t y_channels, y_first, x_channels, x_first;
};

/// x (outer, reduced, inner)
struct NormShape {
  std::int64_t outer, reduced, inner;
  double eps;
};

template <class T>
struct ElementwiseKernels {
  void (*add)(T* y, const T* x, std::int64_t count, Write, const Queue&);  // y = x or y += x
  void (*scale)(T* y, const T* x, double factor, std::int64_t count, Write, const Queue&);
  void (*permute)(T* y, const T* x, const PermuteShape&, Write, const Queue&);  // swaps the last two axes
  void (*multiply)(T* y, const T* a, const T* b, std::int64_t count, Write, const Queue&);
  void (*copy_channels)(T* y, const T* x, const ChannelCopy&, Write, const Queue&);  // the others stay
  void (*clamp)(T* x, double least, double most, std::int64_t count, const Queue&);  // in place, NaN stays
  void (*absolute)(T* x, std::int64_t count, const Queue&);                          // in place
  void (*unit_norm)(T* x, const NormShape&, const Queue&);  // in place: x / sqrt(sum_reduced x^2 + eps)
};

}  // namespace fovea
