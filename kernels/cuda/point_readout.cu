// Readout of points. Channels are the lanes: a group of lanes takes a point (or, for the gradient of the map,
// a pixel), four channels a lane, so that a corner is one contiguous read. Features are turned to (N, C)
// first.
//
// Requested bytes are up to 1.3 times the corners where a session has few images (tools/kernel-profile, W3f:
// 8): features are turned, read and summed once for all of them, and the sort of the points is in the
// gradient of the map.
#include "kernels/point_readout.hpp"

#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/point_position.hpp"
#include "kernels/cuda/point_sort.hpp"
#include "kernels/cuda/scratch.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kThreads = 256, kSlab = 128;  // channels of a warp

/// The sum over the lanes of a group, in each of them. All 32 lanes of the warp take part.
__device__ __forceinline__ float group_sum(float value, int lanes) {
  for (int other = lanes / 2; other > 0; other /= 2) value += __shfl_xor_sync(0xffffffffu, value, other);
  return value;
}

// ---- turned features
// --------------------------------------------------------------------------------------------

constexpr int kTile = 32;

// to (columns, rows) = or += the sum of `count` matrices (rows, columns). Blocks: x = all tiles.
__global__ void __launch_bounds__(kThreads)
    turn(float* to, const float* from, int count, int rows, int columns, bool accumulate) {
  GPU_SHARED(float, tile, [kTile][kTile + 1]);
  const int lane = threadIdx.x % kTile, warp = threadIdx.x / kTile;
  const int tiles_across = (columns + kTile - 1) / kTile;
  const int first_row = blockIdx.x / tiles_across * kTile, first_column = blockIdx.x % tiles_across * kTile;
  const std::size_t size = static_cast<std::size_t>(rows) * columns;
  for (int r = warp; r < kTile; r += kThreads / kTile) {
    if (first_row + r >= rows || first_column + lane >= columns) continue;
    const std::size_t at = static_cast<std::size_t>(first_row + r) * columns + first_column + lane;
    double sum = 0;
    for (int k = 0; k < count; ++k) sum += from[k * size + at];
    tile[r][lane] = static_cast<float>(sum);
  }
  __syncthreads();
  for (int c = warp; c < kTile; c += kThreads / kTile) {
    if (first_column + c >= columns || first_row + lane >= rows) continue;
    float& at = to[static_cast<std::size_t>(first_column + c) * rows + first_row + lane];
    at = accumulate ? at + tile[lane][c] : tile[lane][c];
  }
}

void launch_turn(float* to, const float* from, std::int64_t count, std::int64_t rows, std::int64_t columns,
                 bool accumulate, const Queue& queue) {
  const std::int64_t tiles = ceil_div(rows, kTile) * ceil_div(columns, kTile);
  if (tiles > 0)
    gpu::launch(turn, static_cast<unsigned>(tiles), kThreads, 0, queue.stream, to, from,
                static_cast<int>(count), static_cast<int>(rows), static_cast<int>(columns), accumulate);
}

/// Features as (N, C).
class TurnedFeatures {
 public:
  TurnedFeatures(const float* features, const PointReadoutShape& s, const Queue& queue)
      : memory_(queue, static_cast<std::size_t>(s.channels * s.neurons)) {
    launch_turn(memory_.data(), features, 1, s.channels, s.neurons, false, queue);
  }
  const float* data() const { return memory_.data(); }

 private:
  Scratch<float> memory_;
};

/// What the images first, first + 1, ... have for a neuron, read by as many lanes of its group, a lane an
/// image.
struct OfImages {
  GridPoint point;
  float dy;

  __device__ __forceinline__ OfImages(const float* grid, const float* upstream, int b, int n, int last,
                                      const PointGeometry& p)
      : point{0.f, 0.f}, dy(0.f) {
    if (b >= last || n >= p.neurons) return;
    point = grid_point(grid, b, n, p);
    if (upstream) dy = upstream[static_cast<std::size_t>(b) * p.neurons + n];
  }
  __device__ __forceinline__ GridPoint point_of(int image, const PointGeometry& p) const {
    return {__shfl_sync(0xffffffffu, point.x, image, p.lanes),
            __shfl_sync(0xffffffffu, point.y, image, p.lanes)};
  }
  __device__ __forceinline__ float dy_of(int image, const PointGeometry& p) const {
    return __shfl_sync(0xffffffffu, dy, image, p.lanes);
  }
};

// ---- forward
// ----------------------------------------------------------------------------------------------------

// y (B,N) <- x, grid, turned features (N,C), bias. Blocks: x = a few images, then neurons, so that maps stay
// in the L2 cache.
template <bool kVectors>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(float* y, const float* x, const float* grid, const float* turned, const float* bias,
                   PointGeometry p, int neuron_blocks, int images) {
  const int lane = threadIdx.x % p.lanes;
  const int n = blockIdx.x % neuron_blocks * (kThreads / p.lanes) + threadIdx.x / p.lanes;
  const int first = blockIdx.x / neuron_blocks * images, last = min(first + images, p.batch);
  const float* own = turned + static_cast<std::size_t>(n) * p.channels;
  // All features of most models; of further channels they are read for every image.
  const Values<4> features = n < p.neurons && 4 * lane < p.channels
                                 ? load_channels<kVectors>(own, 4 * lane, p.channels)
                                 : Values<4>{{0.f, 0.f, 0.f, 0.f}};
  OfImages of_images(grid, nullptr, first + lane, n, last, p);
  for (int b = first; b < last; ++b) {
    const int image = (b - first) % p.lanes;
    if (image == 0 && b > first) of_images = OfImages(grid, nullptr, b + lane, n, last, p);
    const Point at = point_at(of_images.point_of(image, p), p);
    float sum = 0.f;
    if (n < p.neurons) {
      const float above_left = at.above * at.left, above_right = at.above * at.right,
                  below_left = at.below * at.left, below_right = at.below * at.right;
      const float* map = x + b * p.map();
      for (int c = 4 * lane; at.inside() && c < p.channels; c += 4 * p.lanes) {
        const Corners q = load_corners<kVectors>(map, at, c, p);
        const Values<4> f = c == 4 * lane ? features : load_channels<kVectors>(own, c, p.channels);
        GPU_UNROLL
        for (int i = 0; i < 4; ++i) {
          const float upper = gpu::fma(above_right, q.above_right.at[i], above_left * q.above_left.at[i]);
          const float value =
              gpu::fma(below_right, q.below_right.at[i], gpu::fma(below_left, q.below_left.at[i], upper));
          sum = gpu::fma(value, f.at[i], sum);
        }
      }
    }
    sum = group_sum(sum, p.lanes);
    if (lane == 0 && n < p.neurons)
      y[static_cast<std::size_t>(b) * p.neurons + n] = sum + (bias ? bias[n] : 0.f);
  }
}

// ---- gradients of positions and features
// --------------------------------------------------------------------------

struct Slopes {
  float along, across;  // per pixel
};

// slopes (slabs of channels, chunks of images or images, N, 2), dfeatures (chunks, N, C); either may be null.
// Blocks: x = chunk of images, then neurons; y = slab.
template <bool kVectors>
__global__ void __launch_bounds__(kThreads)
    grad_points_kernel(float* slopes, float* dfeatures, const float* dy, const float* x, const float* grid,
                       const float* turned, PointGeometry p, int neuron_blocks, int chunk_images) {
  const int lane = threadIdx.x % p.lanes, c = blockIdx.y * kSlab + 4 * lane;
  const int n = blockIdx.x % neuron_blocks * (kThreads / p.lanes) + threadIdx.x / p.lanes;
  const int chunk = blockIdx.x / neuron_blocks, chunks = gridDim.x / neuron_blocks;
  const int first = chunk * chunk_images, last = min(first + chunk_images, p.batch);
  const bool here = n < p.neurons && c < p.channels;
  const float per_width = 0.5f * static_cast<float>(p.align_corners ? p.width - 1 : p.width),
              per_height = 0.5f * static_cast<float>(p.align_corners ? p.height - 1 : p.height);
  const auto write_slopes = [&](const Slopes& sum, int part, int parts) {
    const float along = group_sum(sum.along, p.lanes), across = group_sum(sum.across, p.lanes);
    if (lane != 0 || n >= p.neurons) return;
    float* to = slopes + ((static_cast<std::size_t>(blockIdx.y) * parts + part) * p.neurons + n) * 2;
    to[0] = along * per_width;
    to[1] = across * per_height;
  };
  const Values<4> f =
      here ? load_channels<kVectors>(turned + static_cast<std::size_t>(n) * p.channels, c, p.channels)
           : Values<4>{{0.f, 0.f, 0.f, 0.f}};
  Values<4> sums{{0.f, 0.f, 0.f, 0.f}};
  Slopes slope_sums{0.f, 0.f};
  OfImages of_images(grid, dy, first + lane, n, last, p);
  for (int b = first; b < last; ++b) {
    const int image = (b - first) % p.lanes;
    if (image == 0 && b > first) of_images = OfImages(grid, dy, b + lane, n, last, p);
    const GridPoint point = of_images.point_of(image, p);
    const float d = of_images.dy_of(image, p);
    if (here) {
      const Point at = point_at(point, p);
      if (at.inside()) {
        const Corners q = load_corners<kVectors>(x + b * p.map(), at, c, p);
        Slopes own{0.f, 0.f};
        GPU_UNROLL
        for (int i = 0; i < 4; ++i) {
          const float upper = gpu::fma(at.right, q.above_right.at[i], at.left * q.above_left.at[i]),
                      lower = gpu::fma(at.right, q.below_right.at[i], at.left * q.below_left.at[i]);
          const float along = gpu::fma(at.below, q.below_right.at[i] - q.below_left.at[i],
                                       at.above * (q.above_right.at[i] - q.above_left.at[i]));
          const float across = gpu::fma(at.right, q.below_right.at[i] - q.above_right.at[i],
                                        at.left * (q.below_left.at[i] - q.above_left.at[i]));
          sums.at[i] = gpu::fma(d, gpu::fma(at.below, lower, at.above * upper), sums.at[i]);
          own.along = gpu::fma(f.at[i], along, own.along);
          own.across = gpu::fma(f.at[i], across, own.across);
        }
        slope_sums.along = gpu::fma(d, own.along, slope_sums.along);
        slope_sums.across = gpu::fma(d, own.across, slope_sums.across);
      }
    }
    if (!slopes || p.shared_grid) continue;
    write_slopes(slope_sums, b, p.batch);
    slope_sums = {0.f, 0.f};
  }
  if (slopes && p.shared_grid) write_slopes(slope_sums, chunk, chunks);
  if (dfeatures && here)
    save_channels<kVectors>(dfeatures + (static_cast<std::size_t>(chunk) * p.neurons + n) * p.channels, c,
                            p.channels, sums);
}

// ---- gradient of the map
// ----------------------------------------------------------------------------------------

constexpr int kStrip = 4;  // pixels of a row that a group of lanes takes

/// The lanes that share a strip, of which the caller is `lane`.
struct Group {
  int lane, lanes;
  unsigned mask;

  __device__ __forceinline__ explicit Group(int group_lanes)
      : lane(threadIdx.x % group_lanes),
        lanes(group_lanes),
        mask((group_lanes < 32 ? (1u << group_lanes) - 1 : 0xffffffffu)
             << (threadIdx.x % 32 / group_lanes * group_lanes)) {}
  template <class T>
  __device__ __forceinline__ T from(int other, T value) const {
    return __shfl_sync(mask, value, other, lanes);
  }
};

/// A strip's share of the gradient, from the points in one row of cells: `above` its pixels or below them. A
/// point touches one or two pixels of the strip; a lane reads it and hands it to the others.
template <bool kVectors>
__device__ __forceinline__ void add_points(Values<4> (&sums)[kStrip], const Group& group,
                                           const SortedPoint* points, int begin, int end, bool above,
                                           int first_column, int c, const float* dy, const float* turned,
                                           const PointGeometry& p) {
  for (int first = begin; first < end; first += group.lanes) {
    SortedPoint own{};
    float own_slope = 0.f;
    if (first + group.lane < end) {
      own = points[first + group.lane];
      own_slope = dy[own.neuron] * (above ? own.below : own.above);
    }
    const int count = min(end - first, group.lanes);
    for (int i = 0; i < count; ++i) {
      const int neuron = group.from(i, own.neuron), column = group.from(i, own.column);
      const float slope = group.from(i, own_slope), left = group.from(i, own.left),
                  right = group.from(i, own.right);
      if (c >= p.channels) continue;
      const Values<4> f =
          load_channels<kVectors>(turned + static_cast<std::size_t>(neuron) * p.channels, c, p.channels);
      GPU_UNROLL
      for (int k = 0; k < kStrip; ++k) {
        const int after = first_column + k - column;
        if (after != 0 && after != 1) continue;
        const float factor = slope * (after ? right : left);
        GPU_UNROLL
        for (int v = 0; v < 4; ++v) sums[k].at[v] = gpu::fma(factor, f.at[v], sums[k].at[v]);
      }
    }
  }
}

// dx (B,H,W,C), every pixel once. Blocks: x = image, then strips of pixels.
template <bool kVectors>
__global__ void __launch_bounds__(kThreads, 4)
    gather_points(float* dx, const float* dy, const float* turned, const int* starts,
                  const SortedPoint* points, PointGeometry p, Cells cells, int strip_blocks,
                  bool accumulate) {
  const Group group(p.lanes);
  const int b = blockIdx.x / strip_blocks, g = p.shared_grid ? 0 : b;
  const int strip = blockIdx.x % strip_blocks * (kThreads / p.lanes) + threadIdx.x / p.lanes;
  const int strips_across = (p.width + kStrip - 1) / kStrip;
  const int row = strip / strips_across, first_column = strip % strips_across * kStrip;
  if (row >= p.height) return;
  const int pixels = min(kStrip, p.width - first_column);
  starts += static_cast<std::size_t>(g) * (cells.count + 1) + row * cells.across + first_column;
  const int begin_above = starts[0], end_above = starts[pixels + 1], begin_below = starts[cells.across],
            end_below = starts[cells.across + pixels + 1];
  points += static_cast<std::size_t>(g) * p.neurons;
  dy += static_cast<std::size_t>(b) * p.neurons;
  dx += (static_cast<std::size_t>(b) * p.height * p.width + row * p.width + first_column) * p.channels;
  for (int slab = 0; slab < p.channels; slab += 4 * p.lanes) {
    const int c = slab + 4 * group.lane;
    Values<4> sums[kStrip] = {};
    add_points<kVectors>(sums, group, points, begin_above, end_above, true, first_column, c, dy, turned, p);
    add_points<kVectors>(sums, group, points, begin_below, end_below, false, first_column, c, dy, turned, p);
    if (c >= p.channels) continue;
    GPU_UNROLL
    for (int k = 0; k < kStrip; ++k) {
      if (k >= pixels) break;
      float* to = dx + static_cast<std::size_t>(k) * p.channels;
      if (accumulate) {
        const Values<4> before = load_channels<kVectors>(to, c, p.channels);
        GPU_UNROLL
        for (int v = 0; v < 4; ++v) sums[k].at[v] = before.at[v] + sums[k].at[v];
      }
      save_channels<kVectors>(to, c, p.channels, sums[k]);
    }
  }
}

// ---- launchers
// --------------------------------------------------------------------------------------------------

constexpr int kImagesAtOnce = 4, kManyBlocks = 1024;

void forward(float* y, const float* x, const float* grid, const float* features, const float* bias,
             const PointReadoutShape& s, const Queue& queue) {
  if (s.batch * s.neurons == 0) return;
  const PointGeometry p(s);
  const TurnedFeatures turned(features, s, queue);
  const std::int64_t neuron_blocks = ceil_div(s.neurons, kThreads / p.lanes);
  // Features stay in registers over a few images, when enough blocks remain.
  const int images = neuron_blocks * s.batch >= kImagesAtOnce * kManyBlocks ? kImagesAtOnce : 1;
  gpu::launch(by_four(s.channels, x) ? forward_kernel<true> : forward_kernel<false>,
              static_cast<unsigned>(neuron_blocks * ceil_div(s.batch, images)), kThreads, 0, queue.stream, y,
              x, grid, turned.data(), bias, p, static_cast<int>(neuron_blocks), images);
}

void grad_points(float* dgrid, float* dfeatures, float* dbias, const float* dy, const float* x,
                 const float* grid, const float* features, const PointReadoutShape& s, Write grid_mode,
                 Write features_mode, Write bias_mode, const Queue& queue) {
  if (s.neurons == 0) return;
  if (dbias) sum_rows(dbias, dy, s.batch, s.neurons, bias_mode, queue);
  if (!dgrid && !dfeatures) return;
  const PointGeometry p(s);
  const TurnedFeatures turned(features, s, queue);
  const std::int64_t neuron_blocks = ceil_div(s.neurons, kThreads / p.lanes),
                     slabs = ceil_div(s.channels, kSlab);
  const std::int64_t wanted = ceil_div(kManyBlocks, neuron_blocks * (slabs ? slabs : 1));
  const std::int64_t chunk_images = wanted < s.batch ? ceil_div(s.batch, wanted) : 1;
  const std::int64_t chunks = ceil_div(s.batch, chunk_images);
  const std::int64_t slope_rows = s.shared_grid ? slabs * chunks : slabs,
                     slope_columns = (s.shared_grid ? 1 : s.batch) * s.neurons * 2;
  const Scratch<float> slopes(queue, dgrid ? static_cast<std::size_t>(slope_rows * slope_columns) : 0);
  const Scratch<float> sums(queue, dfeatures ? static_cast<std::size_t>(chunks * s.neurons * s.channels) : 0);
  if (chunks * slabs > 0)
    gpu::launch(by_four(s.channels, x) ? grad_points_kernel<true> : grad_points_kernel<false>,
                dim3(static_cast<unsigned>(neuron_blocks * chunks), static_cast<unsigned>(slabs)), kThreads,
                0, queue.stream, dgrid ? slopes.data() : nullptr, dfeatures ? sums.data() : nullptr, dy, x,
                grid, turned.data(), p, static_cast<int>(neuron_blocks), static_cast<int>(chunk_images));
  if (dgrid) sum_rows<float>(dgrid, slopes.data(), slope_rows, slope_columns, grid_mode, queue);
  if (dfeatures)
    launch_turn(dfeatures, sums.data(), chunks, s.neurons, s.channels, features_mode == Write::accumulate,
                queue);
}

void grad_input(float* dx, const float* dy, const float* grid, const float* features,
                const PointReadoutShape& s, Write mode, const Queue& queue) {
  if (s.batch * s.height * s.width * s.channels == 0) return;
  const PointGeometry p(s);
  const Cells cells(p);
  const TurnedFeatures turned(features, s, queue);
  const std::int64_t grids = s.shared_grid ? 1 : s.batch;
  const auto points_of_all = static_cast<std::size_t>(grids * s.neurons);
  const Scratch<CellOfNeuron> sorted(queue, 2 * points_of_all);
  const Scratch<SortedPoint> points(queue, points_of_all);
  const Scratch<int> starts(queue,
                            static_cast<std::size_t>(grids) * (static_cast<std::size_t>(cells.count) + 1));
  int passes = 1;
  while (static_cast<std::int64_t>(cells.count) >> (passes * kDigitBits)) ++passes;
  gpu::launch(sort_cells, static_cast<unsigned>(grids), kSortThreads, 0, queue.stream, sorted.data(), grid, p,
              cells, passes);
  const std::int64_t entries = s.neurons > cells.count ? s.neurons : cells.count + 1;
  const std::int64_t index_blocks = ceil_div(entries, kIndexThreads);
  gpu::launch(index_cells, static_cast<unsigned>(grids * index_blocks), kIndexThreads, 0, queue.stream,
              starts.data(), points.data(), sorted.data() + (passes + 1) % 2 * points_of_all, grid, p, cells,
              static_cast<int>(index_blocks));
  const std::int64_t strip_blocks = ceil_div(s.height * ceil_div(s.width, kStrip), kThreads / p.lanes);
  gpu::launch(by_four(s.channels, dx) ? gather_points<true> : gather_points<false>,
              static_cast<unsigned>(s.batch * strip_blocks), kThreads, 0, queue.stream, dx, dy, turned.data(),
              starts.data(), points.data(), p, cells, static_cast<int>(strip_blocks),
              mode == Write::accumulate);
}

}  // namespace

void fill(PointReadoutKernels<float>& table) { table = {forward, grad_input, grad_points}; }

}  // namespace fovea::FOVEA_GPU
