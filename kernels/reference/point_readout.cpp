#include "kernels/point_readout.hpp"

#include <cmath>

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

/// Where a point lies along one axis: the weights of its two pixels, and the pixels per unit of the grid.
template <class T>
struct AxisPosition {
  std::int64_t pixel = 0;  // the lower one
  Wide<T> lower = 0, upper = 0, slope = 0;
  bool inside = false;  // at least one of the pixels exists
};

template <class T>
AxisPosition<T> axis_position(T g, std::int64_t length, bool align_corners) {
  const Wide<T> one = static_cast<Wide<T>>(g) + 1, pixels = static_cast<Wide<T>>(length);
  const Wide<T> position = align_corners ? one / 2 * (pixels - 1) : (one * pixels - 1) / 2;
  if (!(position >= -1 && position < pixels)) return {};  // NaN too
  const Wide<T> floor = std::floor(position);
  return {static_cast<std::int64_t>(floor), floor + 1 - position, position - floor,
          (align_corners ? pixels - 1 : pixels) / 2, true};
}

/// One of the four pixels around a point.
template <class T>
struct Corner {
  std::int64_t pixel;      // of all images
  Wide<T> weight, dx, dy;  // and its slopes along width and height, per unit of the grid
};

/// Calls visit(Corner) for the pixels around the point of neuron n in image b that exist.
template <class T, class Visit>
void for_each_corner(const T* grid, std::int64_t b, std::int64_t n, const PointReadoutShape& s, Visit visit) {
  const T* g = grid + ((s.shared_grid ? 0 : b) * s.neurons + n) * 2;
  const AxisPosition<T> x = axis_position(g[0], s.width, s.align_corners),
                        y = axis_position(g[1], s.height, s.align_corners);
  if (!x.inside || !y.inside) return;
  for (int down = 0; down < 2; ++down)
    for (int right = 0; right < 2; ++right) {
      const std::int64_t row = y.pixel + down, column = x.pixel + right;
      if (row < 0 || row >= s.height || column < 0 || column >= s.width) continue;
      const Wide<T> along = right ? x.upper : x.lower, across = down ? y.upper : y.lower;
      visit(Corner<T>{(b * s.height + row) * s.width + column, along * across,
                      (right ? x.slope : -x.slope) * across, (down ? y.slope : -y.slope) * along});
    }
}

template <class T>
void forward(T* y, const T* x, const T* grid, const T* features, const T* bias, const PointReadoutShape& s,
             const Queue&) {
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t n = 0; n < s.neurons; ++n) {
      Wide<T> sum = bias ? bias[n] : T(0);
      for_each_corner(grid, b, n, s, [&](const Corner<T>& corner) {
        for (std::int64_t c = 0; c < s.channels; ++c)
          sum += corner.weight * x[corner.pixel * s.channels + c] * features[c * s.neurons + n];
      });
      y[b * s.neurons + n] = static_cast<T>(sum);
    }
}

template <class T>
void grad_input(T* dx, const T* dy, const T* grid, const T* features, const PointReadoutShape& s, Write mode,
                const Queue&) {
  if (mode == Write::overwrite) fill(dx, s.batch * s.height * s.width * s.channels, T(0));
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t n = 0; n < s.neurons; ++n)
      for_each_corner(grid, b, n, s, [&](const Corner<T>& corner) {
        for (std::int64_t c = 0; c < s.channels; ++c)
          dx[corner.pixel * s.channels + c] += static_cast<T>(
              corner.weight * static_cast<Wide<T>>(dy[b * s.neurons + n]) * features[c * s.neurons + n]);
      });
}

/// d loss / d grid[..,n] over the images [first, last).
template <class T>
void write_grid_gradient(T* to, const T* dy, const T* x, const T* grid, const T* features,
                         const PointReadoutShape& s, std::int64_t n, std::int64_t first, std::int64_t last,
                         Write mode) {
  Wide<T> along = 0, across = 0;
  for (std::int64_t b = first; b < last; ++b)
    for_each_corner(grid, b, n, s, [&](const Corner<T>& corner) {
      for (std::int64_t c = 0; c < s.channels; ++c) {
        const Wide<T> term = static_cast<Wide<T>>(dy[b * s.neurons + n]) * x[corner.pixel * s.channels + c] *
                             features[c * s.neurons + n];
        along += term * corner.dx;
        across += term * corner.dy;
      }
    });
  write(to[0], static_cast<T>(along), mode);
  write(to[1], static_cast<T>(across), mode);
}

template <class T>
Wide<T> feature_gradient(const T* dy, const T* x, const T* grid, const PointReadoutShape& s, std::int64_t c,
                         std::int64_t n) {
  Wide<T> sum = 0;
  for (std::int64_t b = 0; b < s.batch; ++b)
    for_each_corner(grid, b, n, s, [&](const Corner<T>& corner) {
      sum += corner.weight * x[corner.pixel * s.channels + c] * dy[b * s.neurons + n];
    });
  return sum;
}

template <class T>
void grad_points(T* dgrid, T* dfeatures, T* dbias, const T* dy, const T* x, const T* grid, const T* features,
                 const PointReadoutShape& s, Write grid_mode, Write features_mode, Write bias_mode,
                 const Queue&) {
  for (std::int64_t n = 0; n < s.neurons; ++n) {
    if (dgrid && s.shared_grid)
      write_grid_gradient(dgrid + 2 * n, dy, x, grid, features, s, n, 0, s.batch, grid_mode);
    for (std::int64_t b = 0; dgrid && !s.shared_grid && b < s.batch; ++b)
      write_grid_gradient(dgrid + (b * s.neurons + n) * 2, dy, x, grid, features, s, n, b, b + 1, grid_mode);
    for (std::int64_t c = 0; dfeatures && c < s.channels; ++c)
      write(dfeatures[c * s.neurons + n], static_cast<T>(feature_gradient(dy, x, grid, s, c, n)),
            features_mode);
    Wide<T> sum = 0;
    for (std::int64_t b = 0; b < s.batch; ++b) sum += dy[b * s.neurons + n];
    if (dbias) write(dbias[n], static_cast<T>(sum), bias_mode);
  }
}

}  // namespace

template <class T>
void fill(PointReadoutKernels<T>& table) {
  table = {forward<T>, grad_input<T>, grad_points<T>};
}
template void fill(PointReadoutKernels<float>&);
template void fill(PointReadoutKernels<double>&);

}  // namespace fovea::reference
