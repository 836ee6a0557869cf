// Copies, sums, layout changes and in-place constraints.
#pragma once
#include "engine/queue.hpp"

namespace fovea {

struct PermuteShape {
  std::int64_t batch, rows, columns;  // (batch, rows, columns) -> (batch, columns, rows)
};

template <class T>
struct ElementwiseKernels {
  void (*add)(T* y, const T* x, std::int64_t count, Write, const Queue&);  // y = x or y += x
  void (*scale)(T* y, const T* x, double factor, std::int64_t count, Write, const Queue&);
  void (*permute)(T* y, const T* x, const PermuteShape&, Write, const Queue&);  // swaps the last two axes
  void (*clamp_min)(T* x, double least, std::int64_t count, const Queue&);      // in place
  void (*absolute)(T* x, std::int64_t count, const Queue&);                     // in place
};

}  // namespace fovea
