// Where a point of a readout lies between pixels, and their channels.
#pragma once
#include "kernels/cuda/sums.hpp"
#include "kernels/cuda/vectors.hpp"
#include "kernels/point_readout.hpp"

namespace fovea::FOVEA_GPU {

/// The geometry for the kernels' arguments. Channels go to lanes by fours; `lanes` (a power of two) of them
/// share a point, and further channels follow in steps of 4 * lanes.
struct PointGeometry {
  int batch, height, width, channels, neurons, lanes;
  bool shared_grid, align_corners;

  explicit PointGeometry(const PointReadoutShape& s)
      : batch(static_cast<int>(s.batch)),
        height(static_cast<int>(s.height)),
        width(static_cast<int>(s.width)),
        channels(static_cast<int>(s.channels)),
        neurons(static_cast<int>(s.neurons)),
        lanes(1),
        shared_grid(s.shared_grid),
        align_corners(s.align_corners) {
    while (lanes < 32 && lanes * 4 < channels) lanes *= 2;
  }
  __host__ __device__ std::size_t map() const { return static_cast<std::size_t>(height) * width * channels; }
};

/// The pixels before and after a position along an axis; -2 and no weights where neither exists.
struct AxisPosition {
  int pixel;
  float lower, upper;
};

/// In single precision and yet to the last place of both weights: the position is the unevaluated sum of its
/// rounded value and the rest. Double precision would be slow on many GPUs.
__device__ __forceinline__ AxisPosition axis_position(float g, int length, bool align_corners) {
  const float offset = 0.5f * static_cast<float>(length - 1);
  const float per_unit = align_corners ? offset : 0.5f * static_cast<float>(length);
  const float product = g * per_unit, position = product + offset;
  if (!(position > -2.f && position < static_cast<float>(length + 1))) return {-2, 0.f, 0.f};  // NaN too
  const float added = position - product;
  const float rest = gpu::fma(g, per_unit, -product) + ((product - (position - added)) + (offset - added));
  float whole = floorf(position);
  if ((position - whole) + rest < 0.f) whole -= 1.f;
  const int pixel = static_cast<int>(whole);
  if (pixel < -1 || pixel >= length) return {-2, 0.f, 0.f};
  return {pixel, (1.f - (position - whole)) - rest, (position - whole) + rest};
}

/// Between rows `row` and `row` + 1, columns `column` and `column` + 1.
struct Point {
  int row, column;
  float above, below, left, right;  // weights of the rows and of the columns

  __device__ __forceinline__ bool inside() const { return row >= -1; }
};

/// A pair of the grid.
struct GridPoint {
  float x, y;
};

__device__ __forceinline__ GridPoint grid_point(const float* grid, int b, int n, const PointGeometry& p) {
  const float* g = grid + (static_cast<std::size_t>(p.shared_grid ? 0 : b) * p.neurons + n) * 2;
  return {g[0], g[1]};
}

__device__ __forceinline__ Point point_at(const GridPoint& g, const PointGeometry& p) {
  const AxisPosition x = axis_position(g.x, p.width, p.align_corners),
                     y = axis_position(g.y, p.height, p.align_corners);
  if (x.pixel < -1 || y.pixel < -1) return {-2, -2, 0.f, 0.f, 0.f, 0.f};
  return {y.pixel, x.pixel, y.lower, y.upper, x.lower, x.upper};
}

__device__ __forceinline__ Point point_at(const float* grid, int b, int n, const PointGeometry& p) {
  return point_at(grid_point(grid, b, n, p), p);
}

/// Four channels of a pixel from `c` on; zeros beyond the last one. Both ways move the same values.
template <bool kVectors>
__device__ __forceinline__ Values<4> load_channels(const float* pixel, int c, int channels) {
  if constexpr (kVectors) {
    return load<4>(pixel + c);
  } else {
    Values<4> four;
    GPU_UNROLL
    for (int i = 0; i < 4; ++i) four.at[i] = c + i < channels ? pixel[c + i] : 0.f;
    return four;
  }
}

template <bool kVectors>
__device__ __forceinline__ void save_channels(float* pixel, int c, int channels, const Values<4>& four) {
  if constexpr (kVectors) {
    store(pixel + c, four);
  } else {
    GPU_UNROLL
    for (int i = 0; i < 4; ++i)
      if (c + i < channels) pixel[c + i] = four.at[i];
  }
}

/// Four channels of the four pixels around a point.
struct Corners {
  Values<4> above_left, above_right, below_left, below_right;
};

/// Pixels that do not exist are not read and count 0.
template <bool kVectors>
__device__ __forceinline__ Corners load_corners(const float* map, const Point& at, int c,
                                                const PointGeometry& p) {
  const bool above = at.row >= 0, below = at.row + 1 < p.height, left = at.column >= 0,
             right = at.column + 1 < p.width;
  const float* first = map + (static_cast<std::ptrdiff_t>(at.row) * p.width + at.column) * p.channels;
  const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(p.width) * p.channels;
  const auto pixel = [&](bool exists, std::ptrdiff_t offset) {
    return exists ? load_channels<kVectors>(first + offset, c, p.channels) : Values<4>{{0.f, 0.f, 0.f, 0.f}};
  };
  return {pixel(above && left, 0), pixel(above && right, p.channels), pixel(below && left, row),
          pixel(below && right, row + p.channels)};
}

}  // namespace fovea::FOVEA_GPU
