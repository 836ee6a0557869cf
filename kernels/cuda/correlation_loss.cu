// Correlation loss: value and slope in one pass over output and target.
//
// A block takes 32 neurons (lanes, so that loads are coalesced) and up to kChunk frames, which its threads
// keep in registers: means, then centred sums, then slopes, of one read. Longer recordings are read twice:
// chunks give their moments, which are merged; then come the slopes.
//
// All of it is in double precision: the slopes are differences of nearly equal numbers where the prediction
// hardly varies, and every rounding before the last one would be magnified. That is why as much as a quarter
// more than the operands is requested (tools/kernel-profile, W2 and W3f): moments and statistics of chunks,
// or the correlations of series of few frames, are doubles on their way to the next kernel.
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/loss_reduction.hpp"
#include "kernels/cuda/scratch.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kLanes = 32, kWarps = 16, kThreads = kLanes * kWarps, kFrames = 12, kChunk = kWarps * kFrames;

struct Correlation {
  std::int64_t frames, target_frames, neurons, series;  // series: batch * neurons
  int tiles, chunks;                                    // of neurons and of frames
  double eps, slope_factor;
};

/// The moments of chunks (5, batch * chunks, neurons), the statistics of series (4, batch, neurons).
enum MomentTable { mean_x, mean_y, square_x, square_y, product, moment_tables };
enum StatisticTable { statistic_mean_x, statistic_mean_y, statistic_scale, statistic_pull, statistic_tables };

/// Which neuron, item of the batch and chunk a thread works on; its frames are every kWarps-th of the chunk.
struct Place {
  int lane, warp, chunk, frames, left;  // frames: of the chunk; left: those from the thread's first on
  std::int64_t neuron, item, first, step;
  bool active;

  __device__ explicit Place(const Correlation& c) : lane(threadIdx.x % kLanes), warp(threadIdx.x / kLanes) {
    const std::int64_t tile = blockIdx.x % c.tiles, rest = blockIdx.x / c.tiles;
    chunk = static_cast<int>(rest % c.chunks);
    item = rest / c.chunks;
    neuron = tile * kLanes + lane;
    active = neuron < c.neurons;
    const std::int64_t frame = std::int64_t{chunk} * kChunk;
    frames = static_cast<int>(min(c.frames - frame, std::int64_t{kChunk}));
    left = active ? frames - warp : 0;
    first = (item * c.frames + frame + warp) * c.neurons + neuron;
    step = kWarps * c.neurons;
  }
  __device__ bool has(int k) const { return k * kWarps < left; }
  /// Of output and slope; the target has more frames before its first.
  __device__ std::int64_t at(int k) const { return first + k * step; }
  __device__ std::int64_t lag(const Correlation& c) const {
    return (item + 1) * (c.target_frames - c.frames) * c.neurons;
  }
};

/// The frames of a thread; zeros where it has none.
struct Series {
  float x[kFrames], y[kFrames];

  __device__ Series(const float* output, const float* target, const Place& place, const Correlation& c) {
    GPU_UNROLL
    for (int k = 0; k < kFrames; ++k) x[k] = place.has(k) ? output[place.at(k)] : 0.0f;
    target += place.lag(c);
    GPU_UNROLL
    for (int k = 0; k < kFrames; ++k) y[k] = place.has(k) ? target[place.at(k)] : 0.0f;
  }
};

using WarpTable = double[kWarps][kLanes];

/// The sum over the warps for the thread's lane; a table is used once.
__device__ __forceinline__ double read_sum(const WarpTable& table, int lane) {
  double sum = 0;
  GPU_UNROLL
  for (int warp = 0; warp < kWarps; ++warp) sum += table[warp][lane];
  return sum;
}

/// Means, sums of squared deviations and of their products.
struct Moments {
  double mean_x, mean_y, square_x, square_y, product;
};

// The sum of a constant has no rounding in double precision: its deviations are exactly zero.
__device__ __forceinline__ Moments moments_of(const Series& series, const Place& place, WarpTable* tables) {
  const int warp = place.warp, lane = place.lane;
  double x = 0, y = 0;
  GPU_UNROLL
  for (int k = 0; k < kFrames; ++k) {
    x += static_cast<double>(series.x[k]);
    y += static_cast<double>(series.y[k]);
  }
  tables[mean_x][warp][lane] = x;
  tables[mean_y][warp][lane] = y;
  __syncthreads();
  Moments m{};
  m.mean_x = read_sum(tables[mean_x], lane) / place.frames;
  m.mean_y = read_sum(tables[mean_y], lane) / place.frames;
  GPU_UNROLL
  for (int k = 0; k < kFrames; ++k) {
    if (!place.has(k)) break;
    const double dx = series.x[k] - m.mean_x, dy = series.y[k] - m.mean_y;
    m.square_x += dx * dx;
    m.square_y += dy * dy;
    m.product += dx * dy;
  }
  tables[square_x][warp][lane] = m.square_x;
  tables[square_y][warp][lane] = m.square_y;
  tables[product][warp][lane] = m.product;
  __syncthreads();
  m.square_x = read_sum(tables[square_x], lane);
  m.square_y = read_sum(tables[square_y], lane);
  m.product = read_sum(tables[product], lane);
  return m;
}

/// r = cov / sqrt((var_x + eps) (var_y + eps)); d r / d x_t = (dy_t * scale - dx_t * pull) / frames.
struct Statistics {
  double mean_x, mean_y, r, scale, pull;

  __device__ Statistics(double x, double y) : mean_x(x), mean_y(y), r(0), scale(0), pull(0) {}
  __device__ Statistics(const Moments& m, const Correlation& c) : Statistics(m.mean_x, m.mean_y) {
    const double frames = static_cast<double>(c.frames);
    const double wide_x = m.square_x / frames + c.eps, wide_y = m.square_y / frames + c.eps;
    if (wide_x == 0.0 || wide_y == 0.0) return;  // a constant has no correlation: 0, also without eps
    scale = 1.0 / sqrt(wide_x) / sqrt(wide_y);
    r = m.product / frames * scale;
    pull = r / wide_x;
  }
};

// What rounding takes from one slope the thread's next one gets, what it takes from a thread's last one the
// first of the block: the sum of the slopes, zero but for rounding, stays zero.
__device__ __forceinline__ void write_slopes(float* slope, const Series& series, const Statistics& s,
                                             const Place& place, WarpTable& table, const Correlation& c) {
  double carry = 0;
  float first = 0;
  GPU_UNROLL
  for (int k = 0; k < kFrames; ++k) {
    if (!place.has(k)) break;
    const double dx = series.x[k] - s.mean_x, dy = series.y[k] - s.mean_y;
    const double exact = c.slope_factor * (dy * s.scale - dx * s.pull) + carry;
    const float rounded = static_cast<float>(exact);
    carry = exact - static_cast<double>(rounded);
    if (k == 0 && place.warp == 0)
      first = rounded;
    else
      slope[place.at(k)] = rounded;
  }
  table[place.warp][place.lane] = carry;
  __syncthreads();
  if (place.warp == 0 && place.active)
    slope[place.at(0)] = static_cast<float>(first + read_sum(table, place.lane));
}

// Recordings of one chunk. correlations (batch, neurons); slope may be null.
__global__ void __launch_bounds__(kThreads)
    correlate(double* correlations, float* slope, const float* output, const float* target, Correlation c) {
  GPU_SHARED(double, tables, [moment_tables + 1][kWarps][kLanes]);
  const Place place(c);
  const Series series(output, target, place, c);
  const Statistics s(moments_of(series, place, tables), c);
  if (place.warp == 0 && place.active) correlations[place.item * c.neurons + place.neuron] = s.r;
  if (slope) write_slopes(slope, series, s, place, tables[moment_tables], c);
}

// Longer ones, in three steps.
__global__ void __launch_bounds__(kThreads)
    chunk_moments(double* moments, const float* output, const float* target, Correlation c) {
  GPU_SHARED(double, tables, [moment_tables][kWarps][kLanes]);
  const Place place(c);
  const Series series(output, target, place, c);
  const Moments m = moments_of(series, place, tables);
  if (place.warp != 0 || !place.active) return;
  const std::int64_t table = c.series * c.chunks;
  double* at = moments + (place.item * c.chunks + place.chunk) * c.neurons + place.neuron;
  at[mean_x * table] = m.mean_x;
  at[mean_y * table] = m.mean_y;
  at[square_x * table] = m.square_x;
  at[square_y * table] = m.square_y;
  at[product * table] = m.product;
}

// Chan, Golub and LeVeque (1979), all chunks at once, about the means of the first.
__global__ void __launch_bounds__(kThreads)
    merge_moments(double* correlations, double* statistics, const double* moments, Correlation c) {
  GPU_SHARED(double, tables, [moment_tables][kWarps][kLanes]);
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const std::int64_t item = blockIdx.x / c.tiles, neuron = blockIdx.x % c.tiles * std::int64_t{kLanes} + lane;
  const bool active = neuron < c.neurons;
  const std::int64_t table = c.series * c.chunks;
  const double* own = moments + item * c.chunks * c.neurons + neuron;
  const double centre_x = active ? own[mean_x * table] : 0.0, centre_y = active ? own[mean_y * table] : 0.0;
  Moments sum{};
  for (int chunk = warp; active && chunk < c.chunks; chunk += kWarps) {
    const double* at = own + chunk * c.neurons;
    const double n = static_cast<double>(min(c.frames - std::int64_t{chunk} * kChunk, std::int64_t{kChunk}));
    const double dx = at[mean_x * table] - centre_x, dy = at[mean_y * table] - centre_y;
    sum.mean_x += n * dx;
    sum.mean_y += n * dy;
    sum.square_x += at[square_x * table] + n * dx * dx;
    sum.square_y += at[square_y * table] + n * dy * dy;
    sum.product += at[product * table] + n * dx * dy;
  }
  tables[mean_x][warp][lane] = sum.mean_x;
  tables[mean_y][warp][lane] = sum.mean_y;
  tables[square_x][warp][lane] = sum.square_x;
  tables[square_y][warp][lane] = sum.square_y;
  tables[product][warp][lane] = sum.product;
  __syncthreads();
  if (warp != 0 || !active) return;
  const double frames = static_cast<double>(c.frames);
  const double x = read_sum(tables[mean_x], lane), y = read_sum(tables[mean_y], lane);
  const Moments m{
      centre_x + x / frames, centre_y + y / frames, read_sum(tables[square_x], lane) - x * x / frames,
      read_sum(tables[square_y], lane) - y * y / frames, read_sum(tables[product], lane) - x * y / frames};
  const Statistics s(m, c);
  const std::int64_t at = item * c.neurons + neuron;
  correlations[at] = s.r;
  statistics[statistic_mean_x * c.series + at] = s.mean_x;
  statistics[statistic_mean_y * c.series + at] = s.mean_y;
  statistics[statistic_scale * c.series + at] = s.scale;
  statistics[statistic_pull * c.series + at] = s.pull;
}

__global__ void __launch_bounds__(kThreads)
    chunk_slopes(float* slope, const double* statistics, const float* output, const float* target,
                 Correlation c) {
  GPU_SHARED(double, table, [kWarps][kLanes]);
  const Place place(c);
  const Series series(output, target, place, c);
  const std::int64_t at = place.item * c.neurons + place.neuron;
  Statistics s(0, 0);
  if (place.active) {
    s.mean_x = statistics[statistic_mean_x * c.series + at];
    s.mean_y = statistics[statistic_mean_y * c.series + at];
    s.scale = statistics[statistic_scale * c.series + at];
    s.pull = statistics[statistic_pull * c.series + at];
  }
  write_slopes(slope, series, s, place, table, c);
}

// ---- launchers
// -------------------------------------------------------------------------------------------------

void correlate_chunks(double* correlations, float* slope, const float* output, const float* target,
                      unsigned series_blocks, const Correlation& c, const Queue& queue) {
  const auto series = static_cast<std::size_t>(c.series);
  const Scratch<double> moments(queue, moment_tables * series * c.chunks);
  const Scratch<double> statistics(queue, statistic_tables * series);
  const unsigned blocks = series_blocks * c.chunks;
  gpu::launch(chunk_moments, blocks, kThreads, 0, queue.stream, moments.data(), output, target, c);
  gpu::launch(merge_moments, series_blocks, kThreads, 0, queue.stream, correlations, statistics.data(),
              moments.data(), c);
  if (slope)
    gpu::launch(chunk_slopes, blocks, kThreads, 0, queue.stream, slope, statistics.data(), output, target, c);
}

void correlation(float* value, float* slope, const float* output, const float* target, const LossShape& s,
                 const CorrelationOptions& options, const Queue& queue) {
  const double factor = options.sign * reduction_factor(s, s.batch);
  const Correlation c{s.frames,
                      s.target_frames,
                      s.neurons,
                      s.batch * s.neurons,
                      static_cast<int>((s.neurons + kLanes - 1) / kLanes),
                      static_cast<int>((s.frames + kChunk - 1) / kChunk),
                      options.eps,
                      factor / static_cast<double>(s.frames)};
  if (c.series * s.frames == 0) return finish(value, nullptr, 0, 1, s, queue);
  const Scratch<double> correlations(queue, static_cast<std::size_t>(c.series));
  const auto blocks = static_cast<unsigned>(s.batch * c.tiles);
  if (c.chunks == 1)
    gpu::launch(correlate, blocks, kThreads, 0, queue.stream, correlations.data(), slope, output, target, c);
  else
    correlate_chunks(correlations.data(), slope, output, target, blocks, c, queue);
  finish(value, correlations.data(), s.batch, factor, s, queue);
}

}  // namespace

void fill_correlation(LossKernels<float>& table) { table.correlation = correlation; }

}  // namespace fovea::FOVEA_GPU
