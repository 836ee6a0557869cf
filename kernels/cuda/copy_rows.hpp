// Copies of parts of rows: channels of a tensor, frames of a movie.
#pragma once
#include "kernels/cuda/division.hpp"
#include "kernels/cuda/map.hpp"

namespace fovea::FOVEA_GPU {
namespace {

/// `count` values of every row, from x to y; rows are y_stride and x_stride values apart.
struct RowCopy {
  std::int64_t rows, count, y_stride, x_stride;
};

// items: rows * units, a unit being N of the values of a row
template <int N>
__global__ void __launch_bounds__(kMapThreads)
    copy_rows_kernel(float* y, const float* x, std::int64_t items, Divisor units, std::int64_t y_stride,
                     std::int64_t x_stride, bool accumulate) {
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * kMapThreads + threadIdx.x;
  if (item >= items) return;
  const Division at = units(item);  // row, unit
  Values<N> values = load<N>(x + at.quotient * x_stride + at.remainder * N);
  float* to = y + at.quotient * y_stride + at.remainder * N;
  if (accumulate) values = added(load<N>(to), values);
  store<N>(to, values);
}

inline void copy_rows(float* y, const float* x, const RowCopy& s, Write mode, const Queue& queue) {
  if (s.rows <= 0 || s.count <= 0) return;
  const bool vectors = aligned(y, x) && (s.count | s.y_stride | s.x_stride) % 4 == 0;
  const std::int64_t units = vectors ? s.count / 4 : s.count;
  gpu::launch(vectors ? copy_rows_kernel<4> : copy_rows_kernel<1>, blocks_for(s.rows * units), kMapThreads, 0,
              queue.stream, y, x, s.rows * units, Divisor(units), s.y_stride, s.x_stride,
              mode == Write::accumulate);
}

}  // namespace
}  // namespace fovea::FOVEA_GPU
