// Batch norm + activation over (rows, channels), channels last, three passes at most: moments of the rows,
// a tiny kernel per channel, the map.
//
// A thread owns four neighbouring values of every period of the pattern "channel of value", so that its
// channels never change and every access of a warp is contiguous, for 1 channel as for 512. A block takes
// kVectors such vectors a thread and keeps them in registers: mean, then centred sums, of one read. What the
// blocks found is merged in double precision, in their order.
//
// In training the rows are read twice, since no block knows the moments before all of them are read: 3
// accesses where the operands once are 2, and 5 for 3 in the gradient. What the map needs of the channels a
// block reads once, into shared memory.
#include "kernels/batch_norm.hpp"

#include "kernels/cuda/batch_norm_layout.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/math.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/cuda/scratch.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kFinishThreads = 256;
/// Vectors that are loaded before the first is stored: a store may alias what follows. Loads one by one need
/// more registers for each.
template <bool vectors>
constexpr int kBatch = vectors ? 4 : 2;

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
    const Values<4> sums = of_channels(values_of(table[0]), l);
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

/// What the map and the gradient need of a channel: z = (x - mean) * slope + bias, and with what goes through
/// the statistics dx = slope * (dz - constant - (x - mean) * per_input).
enum Field { field_mean, field_slope, field_bias, field_constant, field_per_input, field_inv_std, fields };
constexpr int kMapFields = field_bias + 1, kGradientFields = field_per_input + 1;

/// Fields by channel, (fields, C), in global memory.
struct ChannelTable {
  float* data;
  int channels;

  __device__ float& at(Field field, std::int64_t c) const {
    return data[field * static_cast<std::int64_t>(channels) + c];
  }
};

class ChannelScratch {
 public:
  ChannelScratch(const BatchNormShape& s, const Queue& queue)
      : memory_(queue, fields * static_cast<std::size_t>(s.channels)),
        channels_(static_cast<int>(s.channels)) {}
  ChannelTable table() const { return {memory_.data(), channels_}; }

 private:
  Scratch<float> memory_;
  int channels_;
};

using Parameters = BatchNormParameters<float>;

__device__ void write_channel(const ChannelTable& to, std::int64_t c, float mean, float inv_std,
                              const Parameters& p) {
  const float bias = p.bias ? p.bias[c] : 0.0f;
  to.at(field_mean, c) = mean;
  to.at(field_slope, c) = p.weight ? inv_std * p.weight[c] : inv_std;
  to.at(field_bias, c) = p.channel_bias ? bias + p.channel_bias[c] : bias;
  to.at(field_inv_std, c) = inv_std;
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
    merge_moments(Statistics to, ChannelTable channels, const Moments* partials, Parameters parameters,
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
  write_channel(channels, c, to.mean[c], to.inv_std[c], parameters);
}

// From mean and 1 / deviation, or from mean and variance.
__global__ void __launch_bounds__(kFinishThreads)
    prepare_channels(ChannelTable channels, const float* mean, const float* spread, bool variance,
                     Parameters parameters, double eps) {
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * kFinishThreads + threadIdx.x;
  if (c >= channels.channels) return;
  write_channel(channels, c, mean[c], variance ? reciprocal_deviation(spread[c], eps) : spread[c],
                parameters);
}

/// Of a thread's four channels.
struct OwnChannels {
  Values<4> mean, slope, bias;

  __device__ __forceinline__ float z(int j, float x) const {
    return gpu::fma(x - mean.at[j], slope.at[j], bias.at[j]);
  }
};

/// Puts the first `count` fields of the block's channels into `staged` (count, slots).
template <int count>
__device__ __forceinline__ OwnChannels stage_channels(float* staged, const ChannelTable& from,
                                                      const Layout& l) {
  const int slots = slots_of(l);
  for (int i = threadIdx.x; i < slots; i += blockDim.x) {
    const std::int64_t c =
        min(static_cast<std::int64_t>(blockIdx.y) * slots + i, static_cast<std::int64_t>(l.channels - 1));
    GPU_UNROLL
    for (int field = 0; field < count; ++field)
      staged[field * slots + i] = from.at(static_cast<Field>(field), c);
  }
  __syncthreads();
  return {of_channels(staged + field_mean * slots, l), of_channels(staged + field_slope * slots, l),
          of_channels(staged + field_bias * slots, l)};
}

template <bool vectors, class Activation>
__global__ void __launch_bounds__(kMaxThreads)
    normalise(float* y, const float* x, ChannelTable channels, Activation activation, Layout l) {
  GPU_DYN_SHARED(float, staged);
  const Place place(l);
  const OwnChannels own = stage_channels<kMapFields>(staged, channels, l);
  GPU_UNROLL
  for (int first = 0; first < kVectors; first += kBatch<vectors>) {
    Values<4> v[kBatch<vectors>];
    GPU_UNROLL
    for (int k = 0; k < kBatch<vectors>; ++k)
      v[k] = load_first<vectors>(x + place.at(first + k), place.values(first + k));
    GPU_UNROLL
    for (int k = 0; k < kBatch<vectors>; ++k) {
      GPU_UNROLL
      for (int j = 0; j < 4; ++j) v[k].at[j] = activation.value(own.z(j, v[k].at[j]));
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
    sum_slopes(Slopes* partials, const float* dy, const float* x, ChannelTable channels,
               Activation activation, Layout l) {
  GPU_DYN_SHARED(float, staged);
  GPU_SHARED(float4, table, [2][kMaxThreads]);
  const Place place(l);
  const int thread = threadIdx.x, slots = slots_of(l);
  const OwnChannels own = stage_channels<kMapFields>(staged, channels, l);
  Values<4> bias{}, weight{};
  GPU_UNROLL
  for (int k = 0; k < kVectors; ++k) {
    const int values = place.values(k);
    const Values<4> input = load_first<vectors>(x + place.at(k), values),
                    d = load_first<vectors>(dy + place.at(k), values);
    GPU_UNROLL
    for (int j = 0; j < 4; ++j) {
      // Lanes without a value: dy is 0 there, but the slope need not be finite.
      const float dz = j < values ? d.at[j] * activation.slope(own.z(j, input.at[j])) : 0.0f;
      bias.at[j] += dz;
      weight.at[j] = gpu::fma(dz, j < values ? input.at[j] - own.mean.at[j] : 0.0f, weight.at[j]);
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

// One block a channel.
template <int Threads>
__global__ void __launch_bounds__(Threads)
    merge_slopes(float* dweight, float* dbias, ChannelTable channels, const Slopes* partials,
                 std::int64_t rows, int chunks, bool training) {
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
  const double inv_std = channels.at(field_inv_std, c), n = static_cast<double>(rows);
  dbias[c] = static_cast<float>(bias);
  dweight[c] = static_cast<float>(weight * inv_std);
  const bool through = training && rows;  // the statistics
  channels.at(field_constant, c) = through ? static_cast<float>(bias / n) : 0.0f;
  channels.at(field_per_input, c) = through ? static_cast<float>(weight * inv_std * inv_std / n) : 0.0f;
}

template <bool vectors, class Activation>
__global__ void __launch_bounds__(kMaxThreads)
    grad_input(float* dx, const float* dy, const float* x, ChannelTable channels, Activation activation,
               bool accumulate, Layout l) {
  GPU_DYN_SHARED(float, staged);
  const Place place(l);
  const OwnChannels own = stage_channels<kGradientFields>(staged, channels, l);
  const Values<4> constant = of_channels(staged + field_constant * slots_of(l), l),
                  per_input = of_channels(staged + field_per_input * slots_of(l), l);
  GPU_UNROLL
  for (int first = 0; first < kVectors; first += kBatch<vectors>) {
    Values<4> input[kBatch<vectors>], d[kBatch<vectors>], before[kBatch<vectors>]{};
    GPU_UNROLL
    for (int k = 0; k < kBatch<vectors>; ++k) {
      const std::int64_t at = place.at(first + k);
      const int values = place.values(first + k);
      input[k] = load_first<vectors>(x + at, values);
      d[k] = load_first<vectors>(dy + at, values);
      if (accumulate) before[k] = load_first<vectors>(dx + at, values);
    }
    GPU_UNROLL
    for (int k = 0; k < kBatch<vectors>; ++k) {
      GPU_UNROLL
      for (int j = 0; j < 4; ++j) {
        const float dz = d[k].at[j] * activation.slope(own.z(j, input[k].at[j]));
        const float rest = gpu::fma(own.mean.at[j] - input[k].at[j], per_input.at[j], dz - constant.at[j]);
        const float slope = own.slope.at[j];
        d[k].at[j] = accumulate ? gpu::fma(slope, rest, before[k].at[j]) : slope * rest;
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

/// Bytes of shared memory for the first `count` fields of a block's channels.
unsigned staged_bytes(int count, const Layout& l) {
  return static_cast<unsigned>(count * slots_of(l)) * sizeof(float);
}

void apply(float* y, const float* x, const ChannelTable& channels, const BatchNormShape& s, const Layout& l,
           const Queue& queue) {
  if (l.count == 0) return;
  with_activation(s.activation, [&](auto activation) {
    with_vectors(l, {y, x}, [&](auto vectors) {
      gpu::launch(normalise<vectors(), decltype(activation)>, l.grid(), l.threads(),
                  staged_bytes(kMapFields, l), queue.stream, y, x, channels, activation, l);
    });
  });
}

void forward_training(float* y, float* mean, float* inv_std, float* running_mean, float* running_var,
                      const float* x, const Parameters& parameters, const BatchNormShape& s,
                      const Queue& queue) {
  if (s.channels == 0) return;
  const Layout l = layout_of(s);
  const Scratch<Moments> partials(queue, static_cast<std::size_t>(s.channels) * l.chunks);
  const ChannelScratch channels(s, queue);
  if (l.count)
    with_vectors(l, {x}, [&](auto vectors) {
      gpu::launch(moments<vectors()>, l.grid(), l.threads(), 0, queue.stream, partials.data(), x, l);
    });
  const std::int64_t chunk_rows = std::int64_t{l.pitch} / l.channels * l.groups * kVectors;
  gpu::launch(one_warp(l) ? merge_moments<32> : merge_moments<kFinishThreads>,
              static_cast<unsigned>(s.channels), one_warp(l) ? 32 : kFinishThreads, 0, queue.stream,
              Statistics{mean, inv_std, running_mean, running_var}, channels.table(), partials.data(),
              parameters, s.rows, chunk_rows, l.chunks, s.eps, s.momentum);
  apply(y, x, channels.table(), s, l, queue);
}

void prepare(const ChannelTable& channels, const float* mean, const float* spread, bool variance,
             const Parameters& parameters, const BatchNormShape& s, const Queue& queue) {
  gpu::launch(prepare_channels, blocks_of(s.channels), kFinishThreads, 0, queue.stream, channels, mean,
              spread, variance, parameters, s.eps);
}

void forward_evaluation(float* y, const float* running_mean, const float* running_var, const float* x,
                        const Parameters& parameters, const BatchNormShape& s, const Queue& queue) {
  if (s.rows * s.channels == 0) return;
  const ChannelScratch channels(s, queue);
  prepare(channels.table(), running_mean, running_var, true, parameters, s, queue);
  apply(y, x, channels.table(), s, layout_of(s), queue);
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
  const ChannelScratch channels(s, queue);
  const Scratch<Slopes> partials(queue, static_cast<std::size_t>(s.channels) * l.chunks);
  prepare(channels.table(), g.mean, g.spread, !g.training, parameters, s, queue);
  with_activation(s.activation, [&](auto activation) {
    using Activation = decltype(activation);
    if (l.count)
      with_vectors(l, {g.dy, g.x}, [&](auto vectors) {
        gpu::launch(sum_slopes<vectors(), Activation>, l.grid(), l.threads(), staged_bytes(kMapFields, l),
                    queue.stream, partials.data(), g.dy, g.x, channels.table(), activation, l);
      });
    gpu::launch(one_warp(l) ? merge_slopes<32> : merge_slopes<kFinishThreads>,
                static_cast<unsigned>(s.channels), one_warp(l) ? 32 : kFinishThreads, 0, queue.stream,
                g.dweight, g.dbias, channels.table(), partials.data(), s.rows, l.chunks, g.training);
    if (!g.dx || l.count == 0) return;
    with_vectors(l, {g.dx, g.dy, g.x}, [&](auto vectors) {
      gpu::launch(grad_input<vectors(), Activation>, l.grid(), l.threads(), staged_bytes(kGradientFields, l),
                  queue.stream, g.dx, g.dy, g.x, channels.table(), activation, mode == Write::accumulate, l);
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
