// Batch norm + activation over (rows, channels), channels last, three passes at most: moments of the rows,
// a tiny kernel per channel, the map.
//
// A thread owns four neighbouring values of every period of the pattern "channel of value", so that its
// channels never change and every access of a warp is contiguous, for 1 channel as for 512. A block takes
// kVectors such vectors a thread and keeps them in registers: mean, then centred sums, of one read. What the
// blocks found is merged in double precision, in their order.
//
// In training the rows are read twice, since no block knows the moments before all of them are read: 3
// accesses where the operands once are 2, and 5 for 3 in the gradient. Requested bytes are 1.7 and 2.0 times
// the operands (tools/kernel-profile) with the moments of the channels, which every block reads and the
// caches hold.
#include "kernels/batch_norm.hpp"

#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/math.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/cuda/scratch.hpp"
#include "kernels/cuda/vectors.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kMaxThreads = 512, kThreads = 256, kVectors = 8, kFinishThreads = 256;
constexpr int kBatch =
    4;  // vectors that are loaded before the first is stored: a store may alias what follows

/// How the values are spread over the threads. `pitch` values that a row of vectors covers: the shortest
/// whole number of rows that is a whole number of vectors; one row where that would be too long for a block.
/// A block takes `columns` vectors of `groups` such rows at once.
struct Layout {
  std::int64_t count, rows;
  int channels, pitch, columns, groups, chunks, tiles;
  bool wide;  // one row is a row of vectors, in `tiles` blocks

  int threads() const { return (columns * groups + 31) / 32 * 32; }
  dim3 grid() const { return dim3(static_cast<unsigned>(chunks), static_cast<unsigned>(tiles)); }
};

Layout layout_of(const BatchNormShape& s) {
  const int channels = static_cast<int>(s.channels);
  const int period = channels % 4 == 0 ? channels / 4 : channels % 2 == 0 ? channels / 2 : channels;
  Layout l{s.rows * s.channels, s.rows, channels, 4 * period, period, 1, 0, 1, period > kMaxThreads};
  if (l.wide) {
    l.pitch = channels;
    l.columns = kThreads;
    l.tiles = (channels + 4 * kThreads - 1) / (4 * kThreads);
  } else if (period < kThreads) {
    l.groups = kThreads / period;
  }
  const std::int64_t chunk = std::int64_t{l.pitch} * l.groups * kVectors;
  l.chunks = static_cast<int>((l.count + chunk - 1) / chunk);
  return l;
}

/// The values of one thread: vector k begins at at(k) and has values(k) of them.
struct Place {
  std::int64_t first;
  int step, lanes, left;  // lanes: of a vector that lie in a row of vectors; left: values from first on

  __device__ explicit Place(const Layout& l) {
    const int thread = threadIdx.x, group = thread / l.columns;
    const int column = 4 * (static_cast<int>(blockIdx.y) * l.columns + thread % l.columns);
    first = (static_cast<std::int64_t>(blockIdx.x) * kVectors * l.groups + group) * l.pitch + column;
    step = l.groups * l.pitch;
    lanes = group < l.groups ? max(min(l.pitch - column, 4), 0) : 0;
    left = static_cast<int>(max(min(l.count - first, std::int64_t{0x40000000}), std::int64_t{0}));
  }
  __device__ std::int64_t at(int k) const { return first + std::int64_t{k} * step; }
  __device__ int values(int k) const { return max(min(left - k * step, lanes), 0); }
};

/// Sums in shared memory, a slot per value of the threads' vectors; those of one channel are `slots_of`
/// apart. Vectors, so that what a warp stores at once has no bank conflicts.
using SumTable = float4[kMaxThreads];

__device__ __forceinline__ int slots_of(const Layout& l) { return l.wide ? 4 * l.columns : l.channels; }

__device__ __forceinline__ float* values_of(SumTable& table) { return &table[0].x; }

__device__ __forceinline__ void put(SumTable& table, const Values<4>& v) {
  table[threadIdx.x] = make_float4(v.at[0], v.at[1], v.at[2], v.at[3]);
}

/// The four slots of the thread's channels.
__device__ __forceinline__ Values<4> read_channels(SumTable& table, const Layout& l) {
  const int slots = slots_of(l), slot = 4 * static_cast<int>(threadIdx.x) % slots;
  if (slots % 4 == 0) {
    const float4 v = table[slot / 4];
    return {{v.x, v.y, v.z, v.w}};
  }
  Values<4> v;
  GPU_UNROLL
  for (int j = 0; j < 4; ++j) v.at[j] = values_of(table)[(slot + j) % slots];
  return v;
}

/// Slot c of tables[begin .. end) <- the sum of its channel, by a fixed tree.
template <int begin, int end>
__device__ __forceinline__ void sum_slots(SumTable* tables, const Layout& l) {
  const int slots = slots_of(l);
  int rows = 4 * l.columns * l.groups / slots;
  __syncthreads();
  while (rows > 1) {
    const int half = (rows + 1) / 2, pairs = (rows - half) * slots;
    for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
      GPU_UNROLL
      for (int t = begin; t < end; ++t) {
        float* sums = values_of(tables[t]);
        sums[i] += sums[i + half * slots];
      }
    }
    __syncthreads();
    rows = half;
  }
}

__device__ __forceinline__ std::int64_t rows_of_chunk(const Layout& l) {
  const std::int64_t chunk = static_cast<std::int64_t>(l.pitch) / l.channels * l.groups * kVectors;
  return min(l.rows - blockIdx.x * chunk, chunk);
}

/// Mean and sum of squared deviations of a channel in a block's rows; (channels, chunks).
struct Moments {
  double mean, squares;
};

template <bool vectors>
__global__ void __launch_bounds__(kMaxThreads) moments(Moments* partials, const float* x, Layout l) {
  GPU_SHARED(float4, table, [3][kMaxThreads]);  // sums, sums of deviations and of their squares
  const Place place(l);
  const int thread = threadIdx.x, slots = slots_of(l);
  const bool active = thread < l.columns * l.groups;
  const std::int64_t rows = rows_of_chunk(l);
  Values<4> v[kVectors];
  GPU_UNROLL
  for (int k = 0; k < kVectors; ++k) v[k] = load_first<vectors>(x + place.at(k), place.values(k));
  Values<4> sum{};
  GPU_UNROLL
  for (int k = 0; k < kVectors; ++k) {
    GPU_UNROLL
    for (int j = 0; j < 4; ++j) sum.at[j] += v[k].at[j];
  }
  if (active) put(table[0], sum);
  sum_slots<0, 1>(table, l);
  const float count = static_cast<float>(rows);
  if (active) {
    const Values<4> sums = read_channels(table[0], l);
    Values<4> rest{}, squares{};
    GPU_UNROLL
    for (int j = 0; j < 4; ++j) {
      const float centre = sums.at[j] / count;
      GPU_UNROLL
      for (int k = 0; k < kVectors; ++k) {
        const float d = j < place.values(k) ? v[k].at[j] - centre : 0.0f;
        rest.at[j] += d;
        squares.at[j] = gpu::fma(d, d, squares.at[j]);
      }
    }
    put(table[1], rest);
    put(table[2], squares);
  }
  sum_slots<1, 3>(table, l);
  for (int i = thread; i < slots; i += blockDim.x) {
    const std::int64_t c = static_cast<std::int64_t>(blockIdx.y) * slots + i;
    if (c >= l.channels) break;
    // The centre is a rounded mean; what it missed counts where the mean is large.
    const double centre = values_of(table[0])[i] / count, n = static_cast<double>(rows);
    const double rest = values_of(table[1])[i], squares = values_of(table[2])[i];
    partials[c * l.chunks + blockIdx.x] = {centre + rest / n, squares - rest * rest / n};
  }
}

/// What the map needs of a channel: z = (x - mean) * slope + bias.
struct Channel {
  float mean, slope, bias, inv_std;

  __device__ __forceinline__ float z(float x) const { return gpu::fma(x - mean, slope, bias); }
};

using Parameters = BatchNormParameters<float>;

__device__ Channel channel_of(std::int64_t c, float mean, float inv_std, const Parameters& p) {
  const float bias = p.bias ? p.bias[c] : 0.0f;
  return {mean, p.weight ? inv_std * p.weight[c] : inv_std, p.channel_bias ? bias + p.channel_bias[c] : bias,
          inv_std};
}

__device__ float reciprocal_deviation(double variance, double eps) {
  return static_cast<float>(1.0 / sqrt(variance + eps));
}

/// Statistics of a training step, one value per channel.
struct Statistics {
  float *mean, *inv_std, *running_mean, *running_var;
};

// One block a channel. Chan, Golub and LeVeque (1979), all chunks at once, about the mean of the first.
template <int Threads>
__global__ void __launch_bounds__(Threads)
    merge_moments(Statistics to, Channel* channels, const Moments* partials, Parameters parameters,
                  std::int64_t rows, std::int64_t chunk_rows, int chunks, double eps, double momentum) {
  const std::int64_t c = blockIdx.x;
  const Moments* own = partials + c * chunks;
  const double centre = chunks ? own[0].mean : 0.0;
  double deviations = 0, squares = 0;
  for (int chunk = threadIdx.x; chunk < chunks; chunk += Threads) {
    const Moments m = own[chunk];
    const double n = static_cast<double>(min(rows - chunk * chunk_rows, chunk_rows)), d = m.mean - centre;
    deviations += n * d;
    squares += m.squares + n * d * d;
  }
  deviations = block_sum<Threads>(deviations);
  squares = block_sum<Threads>(squares);
  if (threadIdx.x != 0) return;
  const double n = static_cast<double>(rows), mean = centre + deviations / n;
  squares -= deviations * deviations / n;
  to.mean[c] = static_cast<float>(mean);
  to.inv_std[c] = reciprocal_deviation(squares / n, eps);
  to.running_mean[c] = static_cast<float>((1 - momentum) * to.running_mean[c] + momentum * mean);
  to.running_var[c] = static_cast<float>((1 - momentum) * to.running_var[c] + momentum * squares / (n - 1));
  channels[c] = channel_of(c, to.mean[c], to.inv_std[c], parameters);
}

// From mean and 1 / deviation, or from mean and variance.
__global__ void __launch_bounds__(kFinishThreads)
    prepare_channels(Channel* channels, const float* mean, const float* spread, bool variance,
                     Parameters parameters, int count, double eps) {
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * kFinishThreads + threadIdx.x;
  if (c >= count) return;
  channels[c] =
      channel_of(c, mean[c], variance ? reciprocal_deviation(spread[c], eps) : spread[c], parameters);
}

/// The entries of a thread's four values in a table per channel.
template <class T>
__device__ __forceinline__ void load_channels(T (&to)[4], const T* from, const Layout& l) {
  const int slots = slots_of(l), slot = 4 * static_cast<int>(threadIdx.x) % slots;
  GPU_UNROLL
  for (int j = 0; j < 4; ++j) {
    const std::int64_t c = static_cast<std::int64_t>(blockIdx.y) * slots + (slot + j) % slots;
    to[j] = from[min(c, static_cast<std::int64_t>(l.channels - 1))];
  }
}

template <bool vectors, class Activation>
__global__ void __launch_bounds__(kMaxThreads)
    normalise(float* y, const float* x, const Channel* channels, Activation activation, Layout l) {
  const Place place(l);
  Channel channel[4];
  load_channels(channel, channels, l);
  GPU_UNROLL
  for (int first = 0; first < kVectors; first += kBatch) {
    Values<4> v[kBatch];
    GPU_UNROLL
    for (int k = 0; k < kBatch; ++k)
      v[k] = load_first<vectors>(x + place.at(first + k), place.values(first + k));
    GPU_UNROLL
    for (int k = 0; k < kBatch; ++k) {
      GPU_UNROLL
      for (int j = 0; j < 4; ++j) v[k].at[j] = activation.value(channel[j].z(v[k].at[j]));
      store_first<vectors>(y + place.at(first + k), v[k], place.values(first + k));
    }
  }
}

/// Sums of dz and of dz * (x - mean) of a channel, dz = dy * slope of the activation; (channels, chunks).
struct Slopes {
  float bias, weight;
};

template <bool vectors, class Activation>
__global__ void __launch_bounds__(kMaxThreads)
    sum_slopes(Slopes* partials, const float* dy, const float* x, const Channel* channels,
               Activation activation, Layout l) {
  GPU_SHARED(float4, table, [2][kMaxThreads]);
  const Place place(l);
  const int thread = threadIdx.x, slots = slots_of(l);
  Channel channel[4];
  load_channels(channel, channels, l);
  Values<4> bias{}, weight{};
  GPU_UNROLL
  for (int k = 0; k < kVectors; ++k) {
    const int values = place.values(k);
    const Values<4> input = load_first<vectors>(x + place.at(k), values),
                    d = load_first<vectors>(dy + place.at(k), values);
    GPU_UNROLL
    for (int j = 0; j < 4; ++j) {
      // Lanes without a value: dy is 0 there, but the slope need not be finite.
      const float dz = j < values ? d.at[j] * activation.slope(channel[j].z(input.at[j])) : 0.0f;
      bias.at[j] += dz;
      weight.at[j] = gpu::fma(dz, j < values ? input.at[j] - channel[j].mean : 0.0f, weight.at[j]);
    }
  }
  if (thread < l.columns * l.groups) {
    put(table[0], bias);
    put(table[1], weight);
  }
  sum_slots<0, 2>(table, l);
  for (int i = thread; i < slots; i += blockDim.x) {
    const std::int64_t c = static_cast<std::int64_t>(blockIdx.y) * slots + i;
    if (c >= l.channels) break;
    partials[c * l.chunks + blockIdx.x] = {values_of(table[0])[i], values_of(table[1])[i]};
  }
}

/// What goes through the statistics: dx = slope * (dz - constant - (x - mean) * per_input).
struct Through {
  float constant, per_input;
};

// One block a channel.
template <int Threads>
__global__ void __launch_bounds__(Threads)
    merge_slopes(float* dweight, float* dbias, Through* through, const Slopes* partials,
                 const Channel* channels, std::int64_t rows, int chunks, bool training) {
  const std::int64_t c = blockIdx.x;
  double bias = 0, weight = 0;
  for (int chunk = threadIdx.x; chunk < chunks; chunk += Threads) {
    const Slopes s = partials[c * chunks + chunk];
    bias += s.bias;
    weight += s.weight;
  }
  bias = block_sum<Threads>(bias);
  weight = block_sum<Threads>(weight);
  if (threadIdx.x != 0) return;
  const double inv_std = channels[c].inv_std, n = static_cast<double>(rows);
  dbias[c] = static_cast<float>(bias);
  dweight[c] = static_cast<float>(weight * inv_std);
  through[c] = training && rows
                   ? Through{static_cast<float>(bias / n), static_cast<float>(weight * inv_std * inv_std / n)}
                   : Through{0, 0};
}

template <bool vectors, class Activation>
__global__ void __launch_bounds__(kMaxThreads)
    grad_input(float* dx, const float* dy, const float* x, const Channel* channels, const Through* through,
               Activation activation, bool accumulate, Layout l) {
  const Place place(l);
  Channel channel[4];
  Through statistics[4];
  load_channels(channel, channels, l);
  load_channels(statistics, through, l);
  GPU_UNROLL
  for (int first = 0; first < kVectors; first += kBatch) {
    Values<4> input[kBatch], d[kBatch], before[kBatch]{};
    GPU_UNROLL
    for (int k = 0; k < kBatch; ++k) {
      const std::int64_t at = place.at(first + k);
      const int values = place.values(first + k);
      input[k] = load_first<vectors>(x + at, values);
      d[k] = load_first<vectors>(dy + at, values);
      if (accumulate) before[k] = load_first<vectors>(dx + at, values);
    }
    GPU_UNROLL
    for (int k = 0; k < kBatch; ++k) {
      GPU_UNROLL
      for (int j = 0; j < 4; ++j) {
        const Channel& c = channel[j];
        const float dz = d[k].at[j] * activation.slope(c.z(input[k].at[j]));
        const float rest =
            gpu::fma(c.mean - input[k].at[j], statistics[j].per_input, dz - statistics[j].constant);
        d[k].at[j] = accumulate ? gpu::fma(c.slope, rest, before[k].at[j]) : c.slope * rest;
      }
      store_first<vectors>(dx + place.at(first + k), d[k], place.values(first + k));
    }
  }
}

// ---- launchers
// -------------------------------------------------------------------------------------------------

/// body(std::true_type) where operands and rows of vectors are aligned to vectors.
template <class Body>
void with_vectors(const Layout& l, std::initializer_list<const float*> operands, const Body& body) {
  bool by_four = l.pitch % 4 == 0;
  for (const float* operand : operands) by_four = by_four && aligned(operand);
  by_four ? body(std::true_type{}) : body(std::false_type{});
}

/// Where every chunk has a thread of one warp, a block of it merges them.
bool one_warp(const Layout& l) { return l.chunks <= 32; }

unsigned blocks_of(std::int64_t threads) {
  return static_cast<unsigned>((threads + kFinishThreads - 1) / kFinishThreads);
}

void apply(float* y, const float* x, const Channel* channels, const BatchNormShape& s, const Layout& l,
           const Queue& queue) {
  if (l.count == 0) return;
  with_activation(s.activation, [&](auto activation) {
    with_vectors(l, {y, x}, [&](auto vectors) {
      gpu::launch(normalise<vectors(), decltype(activation)>, l.grid(), l.threads(), 0, queue.stream, y, x,
                  channels, activation, l);
    });
  });
}

void forward_training(float* y, float* mean, float* inv_std, float* running_mean, float* running_var,
                      const float* x, const Parameters& parameters, const BatchNormShape& s,
                      const Queue& queue) {
  if (s.channels == 0) return;
  const Layout l = layout_of(s);
  const Scratch<Moments> partials(queue, static_cast<std::size_t>(s.channels) * l.chunks);
  const Scratch<Channel> channels(queue, static_cast<std::size_t>(s.channels));
  if (l.count)
    with_vectors(l, {x}, [&](auto vectors) {
      gpu::launch(moments<vectors()>, l.grid(), l.threads(), 0, queue.stream, partials.data(), x, l);
    });
  const std::int64_t chunk_rows = std::int64_t{l.pitch} / l.channels * l.groups * kVectors;
  gpu::launch(one_warp(l) ? merge_moments<32> : merge_moments<kFinishThreads>,
              static_cast<unsigned>(s.channels), one_warp(l) ? 32 : kFinishThreads, 0, queue.stream,
              Statistics{mean, inv_std, running_mean, running_var}, channels.data(), partials.data(),
              parameters, s.rows, chunk_rows, l.chunks, s.eps, s.momentum);
  apply(y, x, channels.data(), s, l, queue);
}

void prepare(Channel* channels, const float* mean, const float* spread, bool variance,
             const Parameters& parameters, const BatchNormShape& s, const Queue& queue) {
  gpu::launch(prepare_channels, blocks_of(s.channels), kFinishThreads, 0, queue.stream, channels, mean,
              spread, variance, parameters, static_cast<int>(s.channels), s.eps);
}

void forward_evaluation(float* y, const float* running_mean, const float* running_var, const float* x,
                        const Parameters& parameters, const BatchNormShape& s, const Queue& queue) {
  if (s.rows * s.channels == 0) return;
  const Scratch<Channel> channels(queue, static_cast<std::size_t>(s.channels));
  prepare(channels.data(), running_mean, running_var, true, parameters, s, queue);
  apply(y, x, channels.data(), s, layout_of(s), queue);
}

/// Operands of both gradients; spread: 1 / deviation in training, the variance in evaluation.
struct Gradient {
  float *dx, *dweight, *dbias;
  const float *dy, *x, *mean, *spread;
  bool training;
};

void grad(const Gradient& g, const Parameters& parameters, const BatchNormShape& s, Write mode,
          const Queue& queue) {
  if (s.channels == 0) return;
  const Layout l = layout_of(s);
  const Scratch<Channel> channels(queue, static_cast<std::size_t>(s.channels));
  const Scratch<Through> through(queue, static_cast<std::size_t>(s.channels));
  const Scratch<Slopes> partials(queue, static_cast<std::size_t>(s.channels) * l.chunks);
  prepare(channels.data(), g.mean, g.spread, !g.training, parameters, s, queue);
  with_activation(s.activation, [&](auto activation) {
    using Activation = decltype(activation);
    if (l.count)
      with_vectors(l, {g.dy, g.x}, [&](auto vectors) {
        gpu::launch(sum_slopes<vectors(), Activation>, l.grid(), l.threads(), 0, queue.stream,
                    partials.data(), g.dy, g.x, channels.data(), activation, l);
      });
    gpu::launch(one_warp(l) ? merge_slopes<32> : merge_slopes<kFinishThreads>,
                static_cast<unsigned>(s.channels), one_warp(l) ? 32 : kFinishThreads, 0, queue.stream,
                g.dweight, g.dbias, through.data(), partials.data(), channels.data(), s.rows, l.chunks,
                g.training);
    if (!g.dx || l.count == 0) return;
    with_vectors(l, {g.dx, g.dy, g.x}, [&](auto vectors) {
      gpu::launch(grad_input<vectors(), Activation>, l.grid(), l.threads(), 0, queue.stream, g.dx, g.dy, g.x,
                  channels.data(), through.data(), activation, mode == Write::accumulate, l);
    });
  });
}

void grad_training(float* dx, float* dweight, float* dbias, const float* dy, const float* x,
                   const float* mean, const float* inv_std, const Parameters& parameters,
                   const BatchNormShape& s, Write dx_mode, const Queue& queue) {
  grad({dx, dweight, dbias, dy, x, mean, inv_std, true}, parameters, s, dx_mode, queue);
}

void grad_evaluation(float* dx, float* dweight, float* dbias, const float* dy, const float* x,
                     const float* running_mean, const float* running_var, const Parameters& parameters,
                     const BatchNormShape& s, Write dx_mode, const Queue& queue) {
  grad({dx, dweight, dbias, dy, x, running_mean, running_var, false}, parameters, s, dx_mode, queue);
}

}  // namespace

void fill(BatchNormKernels<float>& table) {
  table = {forward_training, forward_evaluation, grad_training, grad_evaluation};
}

}  // namespace fovea::FOVEA_GPU
