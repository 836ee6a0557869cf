// Channels are the lanes; features are turned to (N, C) first. Forward and the gradients of points read the
// four pixels of every point once. The gradient of the maps is made row by row of the image from the points
// that touch it, in their order: each row is written once, whoever does it.
#include "kernels/point_readout.hpp"

#include "engine/simd_math.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t block_neurons = 64, most_block_neurons = 8192;

/// The pixels before and after a position along an axis; -2 and no weights where neither exists.
struct AxisPosition {
  std::int64_t pixel;
  float lower, upper;
};

FOVEA_INLINE AxisPosition axis_position(float g, std::int64_t length, bool align_corners) {
  const double one = static_cast<double>(g) + 1, pixels = static_cast<double>(length);
  const double position = align_corners ? one / 2 * (pixels - 1) : (one * pixels - 1) / 2;
  if (!(position >= -1 && position < pixels)) return {-2, 0, 0};  // NaN too
  std::int64_t pixel = static_cast<std::int64_t>(position);
  if (static_cast<double>(pixel) > position) --pixel;
  const double upper = position - static_cast<double>(pixel);
  return {pixel, static_cast<float>(1 - upper), static_cast<float>(upper)};
}

/// A position on the map: between rows `row` and `row` + 1, columns `column` and `column` + 1.
struct Point {
  std::int64_t row, column;
  float above, below, left, right;  // weights of the rows and of the columns

  FOVEA_INLINE bool outside() const { return row < -1; }
};

FOVEA_INLINE Point point_at(const float* grid, std::int64_t b, std::int64_t n, const PointReadoutShape& s) {
  const float* g = grid + ((s.shared_grid ? 0 : b) * s.neurons + n) * 2;
  const AxisPosition x = axis_position(g[0], s.width, s.align_corners),
                     y = axis_position(g[1], s.height, s.align_corners);
  if (x.pixel < -1 || y.pixel < -1) return {-2, -2, 0, 0, 0, 0};
  return {y.pixel, x.pixel, y.lower, y.upper, x.lower, x.upper};
}

/// The channels of the four pixels around a point; zeros in place of a pixel that does not exist.
struct Corners {
  const float *above_left, *above_right, *below_left, *below_right;
};

FOVEA_INLINE Corners corners_of(const Point& p, const float* map, const float* zeros,
                                const PointReadoutShape& s) {
  const auto pixel = [&](std::int64_t row, std::int64_t column) {
    const bool inside = row >= 0 && row < s.height && column >= 0 && column < s.width;
    return inside ? map + (row * s.width + column) * s.channels : zeros;
  };
  return {pixel(p.row, p.column), pixel(p.row, p.column + 1), pixel(p.row + 1, p.column),
          pixel(p.row + 1, p.column + 1)};
}

/// Sixteen channels of the four pixels.
struct Quad {
  F16 above_left, above_right, below_left, below_right;
};

template <class Part>
FOVEA_INLINE Quad load(const Corners& corners, std::int64_t c, Part part) {
  return {part.load(corners.above_left + c), part.load(corners.above_right + c),
          part.load(corners.below_left + c), part.load(corners.below_right + c)};
}

/// The weights of a point as vectors.
struct Weights {
  F16 above, below, left, right, above_left, above_right, below_left, below_right;

  explicit FOVEA_INLINE Weights(const Point& p)
      : above(F16::broadcast(p.above)),
        below(F16::broadcast(p.below)),
        left(F16::broadcast(p.left)),
        right(F16::broadcast(p.right)),
        above_left(mul(above, left)),
        above_right(mul(above, right)),
        below_left(mul(below, left)),
        below_right(mul(below, right)) {}

  FOVEA_INLINE F16 value(const Quad& q) const {
    const F16 upper = madd(above_right, q.above_right, mul(above_left, q.above_left));
    return madd(below_right, q.below_right, madd(below_left, q.below_left, upper));
  }
  /// Per pixel along the width, and along the height.
  FOVEA_INLINE F16 slope_along(const Quad& q) const {
    return madd(below, sub(q.below_right, q.below_left), mul(above, sub(q.above_right, q.above_left)));
  }
  FOVEA_INLINE F16 slope_across(const Quad& q) const {
    return madd(right, sub(q.below_right, q.above_right), mul(left, sub(q.below_left, q.above_left)));
  }
};

FOVEA_INLINE float pixels_per_unit(std::int64_t length, bool align_corners) {
  return static_cast<float>(align_corners ? length - 1 : length) * 0.5f;
}

/// turned (N, C) <- features (C, N).
void turn_features(float* turned, const float* features, const PointReadoutShape& s, const Queue& queue) {
  for_each_chunk(queue, s.neurons, block_neurons,
                 [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
                   for (std::int64_t c = 0; c < s.channels; ++c)
                     for (std::int64_t n = begin; n < end; ++n)
                       turned[n * s.channels + c] = features[c * s.neurons + n];
                 });
}

FOVEA_INLINE void fill_zeros(float* values, std::int64_t count) {
  for_each_vector(0, count, [&](std::int64_t i, auto part) { part.save(values + i, F16::zero()); });
}

void forward(float* y, const float* x, const float* grid, const float* features, const float* bias,
             const PointReadoutShape& s, const Queue& queue) {
  const Scratch memory(queue, (s.neurons + 1) * s.channels);
  float *const zeros = memory.data, *const turned = memory.data + s.channels;
  fill_zeros(zeros, s.channels);
  turn_features(turned, features, s, queue);
  const std::int64_t blocks = (s.neurons + block_neurons - 1) / block_neurons;
  for_each_task(queue, s.batch * blocks, [&](std::int64_t task, int) {
    const std::int64_t b = task / blocks, begin = task % blocks * block_neurons;
    const std::int64_t end = begin + block_neurons < s.neurons ? begin + block_neurons : s.neurons;
    const float* const map = x + b * s.height * s.width * s.channels;
    for (std::int64_t n = begin; n < end; ++n) {
      const Point p = point_at(grid, b, n, s);
      F16 total = F16::zero();
      if (!p.outside()) {
        const Corners corners = corners_of(p, map, zeros, s);
        const Weights weights(p);
        for_each_vector(0, s.channels, [&](std::int64_t c, auto part) {
          total = madd(weights.value(load(corners, c, part)), part.load(turned + n * s.channels + c), total);
        });
      }
      y[b * s.neurons + n] = sum(total) + (bias ? bias[n] : 0);
    }
  });
}

// ---- gradient of the maps

/// The points of one grid by the row they lie in, r = -1 to height - 1: those of row r are
/// points[order[i]] for i from ends[r + 1] to before ends[r + 2], by their number.
struct SortedPoints {
  Point* points;
  std::int64_t *order, *ends;

  /// Its size for one grid, in floats.
  static FOVEA_INLINE std::int64_t floats(const PointReadoutShape& s) {
    constexpr std::int64_t per_point = static_cast<std::int64_t>(sizeof(Point) / sizeof(float));
    return s.neurons * per_point + 2 * (s.neurons + s.height + 2);
  }
  FOVEA_INLINE SortedPoints(float* memory, const PointReadoutShape& s)
      : points(reinterpret_cast<Point*>(memory)),
        order(reinterpret_cast<std::int64_t*>(points + s.neurons)),
        ends(order + s.neurons) {}
};

/// A counting sort.
void sort_points(const SortedPoints& sorted, const float* grid, std::int64_t b, const PointReadoutShape& s) {
  std::int64_t* const next = sorted.ends + 1;  // next[r + 1]: where the next point of row r goes
  for (std::int64_t i = 0; i < s.height + 2; ++i) sorted.ends[i] = 0;
  for (std::int64_t n = 0; n < s.neurons; ++n) {
    sorted.points[n] = point_at(grid, b, n, s);
    if (!sorted.points[n].outside()) ++next[sorted.points[n].row + 1];
  }
  std::int64_t before = 0;
  for (std::int64_t i = 0; i < s.height + 1; ++i) {
    const std::int64_t count = next[i];
    next[i] = before;
    before += count;
  }
  for (std::int64_t n = 0; n < s.neurons; ++n)
    if (!sorted.points[n].outside()) sorted.order[next[sorted.points[n].row + 1]++] = n;
}

FOVEA_INLINE void add_scaled(float* to, const float* values, float factor, std::int64_t count) {
  const F16 by = F16::broadcast(factor);
  for_each_vector(0, count, [&](std::int64_t i, auto part) {
    part.save(to + i, madd(by, part.load(values + i), part.load(to + i)));
  });
}

/// Adds to one row of a map what its points give: first those of the row above, then its own.
void scatter_row(float* line, std::int64_t row, const SortedPoints& sorted, const float* dy,
                 const float* turned, const PointReadoutShape& s) {
  for (std::int64_t from = row - 1; from <= row; ++from)
    for (std::int64_t i = sorted.ends[from + 1]; i < sorted.ends[from + 2]; ++i) {
      const std::int64_t n = sorted.order[i];
      const Point& p = sorted.points[n];
      const float* const own = turned + n * s.channels;
      const float d = dy[n] * (from < row ? p.below : p.above);
      if (p.column >= 0) add_scaled(line + p.column * s.channels, own, d * p.left, s.channels);
      if (p.column + 1 < s.width)
        add_scaled(line + (p.column + 1) * s.channels, own, d * p.right, s.channels);
    }
}

void grad_input(float* dx, const float* dy, const float* grid, const float* features,
                const PointReadoutShape& s, Write mode, const Queue& queue) {
  const std::int64_t grids = s.shared_grid ? 1 : s.batch, sorted_floats = SortedPoints::floats(s);
  const Scratch memory(queue, grids * sorted_floats + s.neurons * s.channels);
  const auto sorted = [&](std::int64_t g) { return SortedPoints(memory.data + g * sorted_floats, s); };
  float* const turned = memory.data + grids * sorted_floats;
  turn_features(turned, features, s, queue);
  for_each_task(queue, grids, [&](std::int64_t g, int) { sort_points(sorted(g), grid, g, s); });
  for_each_task(queue, s.batch * s.height, [&](std::int64_t task, int) {
    const std::int64_t b = task / s.height, line_floats = s.width * s.channels;
    float* const line = dx + task * line_floats;
    if (mode == Write::overwrite) fill_zeros(line, line_floats);
    scatter_row(line, task % s.height, sorted(s.shared_grid ? 0 : b), dy + b * s.neurons, turned, s);
  });
}

// ---- gradients of positions, features and bias

/// Sums over the batch of a block of neurons.
struct BlockSums {
  float* features;  // [neuron][channel]
  double *along, *across, *bias;

  static FOVEA_INLINE std::int64_t floats(std::int64_t neurons, std::int64_t channels) {
    return ((neurons * (channels + 6) + 15) / 16) * 16;
  }
  /// All of them zero.
  FOVEA_INLINE BlockSums(float* memory, std::int64_t neurons, std::int64_t channels)
      : features(memory + 6 * neurons),
        along(reinterpret_cast<double*>(memory)),
        across(along + neurons),
        bias(across + neurons) {
    fill_zeros(memory, neurons * (channels + 6));
  }
};

struct Slopes {
  float along, across;
};

/// The slopes of one point's output along the width and the height; adds dy * value to dfeatures.
FOVEA_INLINE Slopes point_slopes(float* dfeatures, const Point& p, const Corners& corners,
                                 const float* turned, float dy, std::int64_t channels) {
  const Weights weights(p);
  const F16 d = F16::broadcast(dy);
  F16 along = F16::zero(), across = F16::zero();
  for_each_vector(0, channels, [&](std::int64_t c, auto part) {
    const Quad q = load(corners, c, part);
    const F16 f = part.load(turned + c);
    part.save(dfeatures + c, madd(d, weights.value(q), part.load(dfeatures + c)));
    along = madd(f, weights.slope_along(q), along);
    across = madd(f, weights.slope_across(q), across);
  });
  return {sum(along), sum(across)};
}

/// dgrid where every image has its own; the sums of everything else.
void grad_block(float* dgrid, const BlockSums& sums, std::int64_t begin, std::int64_t end, const float* dy,
                const float* x, const float* grid, const float* turned, const float* zeros,
                const PointReadoutShape& s, Write grid_mode) {
  const float per_width = pixels_per_unit(s.width, s.align_corners),
              per_height = pixels_per_unit(s.height, s.align_corners);
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t n = begin; n < end; ++n) {
      const float d = dy[b * s.neurons + n];
      const Point p = point_at(grid, b, n, s);
      Slopes slopes{0, 0};
      if (!p.outside())
        slopes = point_slopes(sums.features + (n - begin) * s.channels, p,
                              corners_of(p, x + b * s.height * s.width * s.channels, zeros, s),
                              turned + n * s.channels, d, s.channels);
      const float along = p.outside() ? 0 : d * (slopes.along * per_width),
                  across = p.outside() ? 0 : d * (slopes.across * per_height);
      sums.bias[n - begin] += static_cast<double>(d);
      sums.along[n - begin] += static_cast<double>(along);
      sums.across[n - begin] += static_cast<double>(across);
      if (!dgrid || s.shared_grid) continue;
      float* const to = dgrid + (b * s.neurons + n) * 2;
      to[0] = grid_mode == Write::accumulate ? to[0] + along : along;
      to[1] = grid_mode == Write::accumulate ? to[1] + across : across;
    }
}

FOVEA_INLINE void write_sum(float& to, double sum, Write mode) {
  to = static_cast<float>(mode == Write::accumulate ? static_cast<double>(to) + sum : sum);
}

void grad_points(float* dgrid, float* dfeatures, float* dbias, const float* dy, const float* x,
                 const float* grid, const float* features, const PointReadoutShape& s, Write grid_mode,
                 Write features_mode, Write bias_mode, const Queue& queue) {
  if (s.neurons == 0) return;
  // Every neuron is summed by itself. Of a large block many points lie in what is cached of an image.
  const std::int64_t workers = worker_count(queue);
  const std::int64_t rounds = (s.neurons + workers * most_block_neurons - 1) / (workers * most_block_neurons);
  const std::int64_t block = (s.neurons + workers * rounds - 1) / (workers * rounds);
  const std::int64_t block_floats = BlockSums::floats(block, s.channels);
  const Scratch memory(queue, workers * block_floats + (s.neurons + 1) * s.channels);
  float *const turned = memory.data + workers * block_floats, *const zeros = turned + s.neurons * s.channels;
  fill_zeros(zeros, s.channels);
  turn_features(turned, features, s, queue);
  for_each_chunk(queue, s.neurons, block,
                 [&](std::int64_t begin, std::int64_t end, std::int64_t, int worker) {
                   const BlockSums sums(memory.data + worker * block_floats, end - begin, s.channels);
                   grad_block(dgrid, sums, begin, end, dy, x, grid, turned, zeros, s, grid_mode);
                   for (std::int64_t n = begin; n < end; ++n) {
                     if (dbias) write_sum(dbias[n], sums.bias[n - begin], bias_mode);
                     if (!dgrid || !s.shared_grid) continue;
                     write_sum(dgrid[2 * n], sums.along[n - begin], grid_mode);
                     write_sum(dgrid[2 * n + 1], sums.across[n - begin], grid_mode);
                   }
                   for (std::int64_t c = 0; dfeatures && c < s.channels; ++c)
                     for (std::int64_t n = begin; n < end; ++n) {
                       float& to = dfeatures[c * s.neurons + n];
                       const float own = sums.features[(n - begin) * s.channels + c];
                       to = features_mode == Write::accumulate ? to + own : own;
                     }
                 });
}

}  // namespace

void fill(PointReadoutKernels<float>& table) { table = {forward, grad_input, grad_points}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
