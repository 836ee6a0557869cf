// The parts of the mask readout around its matrix product. Neurons are the lanes; masks that come as (N,
// pixels) are turned in shared memory.
#include "kernels/mask_readout.hpp"

#include <type_traits>

#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/math.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/cuda/scratch.hpp"
#include "kernels/cuda/sums.hpp"
#include "kernels/cuda/vectors.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kLanes = 32, kWarps = 8, kThreads = kLanes * kWarps;

// ---- weight
// -----------------------------------------------------------------------------------------------------

struct Mask {
  int pixels, channels, neurons;
  bool neurons_last;

  explicit Mask(const MaskReadoutShape& s)
      : pixels(static_cast<int>(s.pixels)),
        channels(static_cast<int>(s.channels)),
        neurons(static_cast<int>(s.neurons)),
        neurons_last(s.mask_neurons_last) {}

  __device__ __forceinline__ std::size_t at(int pixel, int neuron) const {
    return neurons_last ? static_cast<std::size_t>(pixel) * neurons + neuron
                        : static_cast<std::size_t>(neuron) * pixels + pixel;
  }
};

/// Calls visit(pixel, neuron) of the tile for every value of a mask that exists, so that neighbouring threads
/// get neighbours in memory.
template <int kPixels, class Visit>
__device__ __forceinline__ void for_each_in_tile(const Mask& m, int first_pixel, int first_neuron,
                                                 const Visit& visit) {
  for (int e = threadIdx.x; e < kPixels * kLanes; e += kThreads) {
    const int p = m.neurons_last ? e / kLanes : e % kPixels, n = m.neurons_last ? e % kLanes : e / kPixels;
    if (first_pixel + p < m.pixels && first_neuron + n < m.neurons) visit(p, n);
  }
}

/// Floats between the pixels of a tile: a warp that has all pixels of some neurons meets every bank once.
template <int kPixels>
constexpr int kTileRow = kLanes + kLanes / kPixels;

// weight (pixels, C, N). Blocks: x = one pixel a warp, y = 32 neurons.
__global__ void __launch_bounds__(kThreads)
    weight_kernel(float* __restrict__ weight, const float* mask, const float* __restrict__ features, Mask m) {
  GPU_SHARED(float, tile, [kWarps][kTileRow<kWarps>]);
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int first_pixel = blockIdx.x * kWarps, first_neuron = blockIdx.y * kLanes;
  for_each_in_tile<kWarps>(m, first_pixel, first_neuron,
                           [&](int p, int n) { tile[p][n] = mask[m.at(first_pixel + p, first_neuron + n)]; });
  __syncthreads();
  const int pixel = first_pixel + warp, neuron = first_neuron + lane;
  if (pixel >= m.pixels || neuron >= m.neurons) return;
  const float own = tile[warp][lane];
  float* to = weight + static_cast<std::size_t>(pixel) * m.channels * m.neurons + neuron;
  for (int c = 0; c < m.channels; ++c)
    to[static_cast<std::size_t>(c) * m.neurons] =
        own * features[static_cast<std::size_t>(c) * m.neurons + neuron];
}

constexpr int kPixelsPerWarp = 2, kPixelsPerBlock = kWarps * kPixelsPerWarp, kChannelsAtOnce = 16;

// dmask, and partials (pixel blocks, C, N): sums of dweight * mask over the pixels of a block. Either may be
// null. Blocks: x = 16 pixels, y = 32 neurons. dweight is read once.
__global__ void __launch_bounds__(kThreads)
    grad_weight_kernel(float* dmask, float* partials, const float* dweight, const float* mask,
                       const float* features, Mask m, bool accumulate) {
  GPU_SHARED(float, tile, [kPixelsPerBlock][kTileRow<kPixelsPerBlock>]);
  GPU_SHARED(float, sums, [kWarps][kChannelsAtOnce][kLanes]);
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int first_pixel = blockIdx.x * kPixelsPerBlock, first_neuron = blockIdx.y * kLanes;
  const int neuron = first_neuron + lane;
  const std::size_t neurons = static_cast<std::size_t>(m.neurons), map = m.channels * neurons;
  for_each_in_tile<kPixelsPerBlock>(m, first_pixel, first_neuron, [&](int p, int n) {
    tile[p][n] = mask[m.at(first_pixel + p, first_neuron + n)];
  });
  __syncthreads();

  float mask_sums[kPixelsPerWarp] = {};
  for (int first = 0; first < m.channels; first += kChannelsAtOnce) {
    float feature_sums[kChannelsAtOnce];
    GPU_UNROLL
    for (int c = 0; c < kChannelsAtOnce; ++c) feature_sums[c] = 0.f;
    const auto add = [&](auto all_channels) {  // loads of a full set are not held up by comparisons
      GPU_UNROLL
      for (int i = 0; i < kPixelsPerWarp; ++i) {
        const int p = warp * kPixelsPerWarp + i;
        if (first_pixel + p >= m.pixels) break;
        const float own = tile[p][lane];
        const float* from = dweight + (first_pixel + p) * map + first * neurons + neuron;
        GPU_UNROLL
        for (int c = 0; c < kChannelsAtOnce; ++c) {
          if (!all_channels.value && first + c >= m.channels) break;
          const float d = from[c * neurons];
          mask_sums[i] = gpu::fma(d, features[(first + c) * neurons + neuron], mask_sums[i]);
          feature_sums[c] = gpu::fma(d, own, feature_sums[c]);
        }
      }
    };
    if (neuron < m.neurons) {
      if (first + kChannelsAtOnce <= m.channels)
        add(std::true_type());
      else
        add(std::false_type());
    }
    if (!partials) continue;
    GPU_UNROLL
    for (int c = 0; c < kChannelsAtOnce; ++c) sums[warp][c][lane] = feature_sums[c];
    __syncthreads();
    for (int c = warp; c < kChannelsAtOnce && first + c < m.channels; c += kWarps) {
      float sum = 0.f;
      GPU_UNROLL
      for (int w = 0; w < kWarps; ++w) sum += sums[w][c][lane];
      if (neuron < m.neurons) partials[blockIdx.x * map + (first + c) * neurons + neuron] = sum;
    }
    __syncthreads();
  }

  if (!dmask) return;
  __syncthreads();
  GPU_UNROLL
  for (int i = 0; i < kPixelsPerWarp; ++i) tile[warp * kPixelsPerWarp + i][lane] = mask_sums[i];
  __syncthreads();
  for_each_in_tile<kPixelsPerBlock>(m, first_pixel, first_neuron, [&](int p, int n) {
    float& to = dmask[m.at(first_pixel + p, first_neuron + n)];
    to = accumulate ? to + tile[p][n] : tile[p][n];
  });
}

// ---- activation
// -------------------------------------------------------------------------------------------------

constexpr int kVectorsPerThread = 4;

__device__ __forceinline__ float value_or(const float* values, int n, float otherwise) {
  return values ? values[n] : otherwise;
}

// y (rows, N): a flat run of vectors of N floats each, `neurons` of them a row.
template <int N, class Act>
__global__ void __launch_bounds__(kThreads)
    activate_kernel(float* __restrict__ y, const float* __restrict__ z, const float* scale, const float* bias,
                    std::int64_t count, int neurons, Act activation) {
  std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * (kThreads * kVectorsPerThread) + threadIdx.x;
  int n = static_cast<int>(i % neurons);
  const int step = kThreads % neurons;
  GPU_UNROLL
  for (int k = 0; k < kVectorsPerThread; ++k, i += kThreads) {
    if (i >= count) return;
    Values<N> values = load<N>(z + i * N);
    GPU_UNROLL
    for (int v = 0; v < N; ++v)
      values.at[v] = activation.value(
          gpu::fma(values.at[v], value_or(scale, n * N + v, 1.f), value_or(bias, n * N + v, 0.f)));
    store(y + i * N, values);
    n += step;
    if (n >= neurons) n -= neurons;
  }
}

constexpr int kRowsPerThread = 8, kRowsPerBlock = kWarps * kRowsPerThread;

// dz (rows, N); partials (2, row blocks, N) <- sums of dy * slope * z and of dy * slope, unless null. Blocks:
// x = 64 rows, y = 32 neurons.
template <class Act>
__global__ void __launch_bounds__(kThreads)
    grad_activate_kernel(float* __restrict__ dz, double* partials, const float* __restrict__ dy,
                         const float* __restrict__ z, const float* scale, const float* bias,
                         std::int64_t rows, int neurons, Act activation) {
  GPU_SHARED(double, sums, [2][kWarps][kLanes]);
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int neuron = blockIdx.y * kLanes + lane;
  double scale_sum = 0, bias_sum = 0;
  if (neuron < neurons) {
    const float factor = value_or(scale, neuron, 1.f), offset = value_or(bias, neuron, 0.f);
    const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock + warp;
    GPU_UNROLL
    for (int i = 0; i < kRowsPerThread; ++i) {
      const std::int64_t row = first + i * kWarps;
      if (row >= rows) break;
      const std::int64_t at = row * neurons + neuron;
      const float input = z[at];
      const double slope =
          static_cast<double>(dy[at]) * activation.wide_slope(gpu::fma(input, factor, offset));
      dz[at] = static_cast<float>(slope * factor);
      scale_sum += slope * input;
      bias_sum += slope;
    }
  }
  if (!partials) return;
  sums[0][warp][lane] = scale_sum;
  sums[1][warp][lane] = bias_sum;
  __syncthreads();
  if (warp > 1 || neuron >= neurons) return;
  double sum = 0;
  GPU_UNROLL
  for (int w = 0; w < kWarps; ++w) sum += sums[warp][w][lane];
  partials[(static_cast<std::size_t>(warp) * gridDim.x + blockIdx.x) * neurons + neuron] = sum;
}

// ---- launchers
// --------------------------------------------------------------------------------------------------

void weight(float* weight, const float* mask, const float* features, const MaskReadoutShape& s,
            const Queue& queue) {
  const Mask m(s);
  if (s.pixels * s.channels * s.neurons == 0) return;
  gpu::launch(weight_kernel, dim3(ceil_div(m.pixels, kWarps), ceil_div(m.neurons, kLanes)), kThreads, 0,
              queue.stream, weight, mask, features, m);
}

void grad_weight(float* dmask, float* dfeatures, const float* dweight, const float* mask,
                 const float* features, const MaskReadoutShape& s, Write mask_mode, Write features_mode,
                 const Queue& queue) {
  const Mask m(s);
  if (s.neurons == 0) return;
  const int blocks = ceil_div(m.pixels, kPixelsPerBlock);
  const std::int64_t columns = s.channels * s.neurons;
  const Scratch<float> partials(queue, dfeatures ? static_cast<std::size_t>(blocks * columns) : 0);
  if (blocks > 0)
    gpu::launch(grad_weight_kernel, dim3(blocks, ceil_div(m.neurons, kLanes)), kThreads, 0, queue.stream,
                dmask, dfeatures ? partials.data() : nullptr, dweight, mask, features, m,
                mask_mode == Write::accumulate);
  if (dfeatures) sum_rows<float>(dfeatures, partials.data(), blocks, columns, features_mode, queue);
}

template <int N>
void launch_activate(float* y, const float* z, const float* scale, const float* bias,
                     const MaskReadoutShape& s, const Queue& queue) {
  const std::int64_t count = s.rows * s.neurons / N;
  const auto blocks = static_cast<unsigned>(ceil_div(count, kThreads * kVectorsPerThread));
  with_activation(s.activation, [&](auto activation) {
    gpu::launch(activate_kernel<N, decltype(activation)>, blocks, kThreads, 0, queue.stream, y, z, scale,
                bias, count, static_cast<int>(s.neurons / N), activation);
  });
}

void activate(float* y, const float* z, const float* scale, const float* bias, const MaskReadoutShape& s,
              const Queue& queue) {
  if (s.rows * s.neurons == 0) return;
  if (by_four(s.neurons, y, z))
    launch_activate<4>(y, z, scale, bias, s, queue);
  else
    launch_activate<1>(y, z, scale, bias, s, queue);
}

void grad_activate(float* dz, float* dscale, float* dbias, const float* dy, const float* z,
                   const float* scale, const float* bias, const MaskReadoutShape& s, Write scale_mode,
                   Write bias_mode, const Queue& queue) {
  if (s.neurons == 0) return;
  const std::int64_t blocks = ceil_div(s.rows, kRowsPerBlock);
  const bool summed = dscale || dbias;
  const Scratch<double> partials(queue, summed ? static_cast<std::size_t>(2 * blocks * s.neurons) : 0);
  const int neurons = static_cast<int>(s.neurons);
  if (blocks > 0)
    with_activation(s.activation, [&](auto activation) {
      gpu::launch(grad_activate_kernel<decltype(activation)>,
                  dim3(static_cast<unsigned>(blocks), ceil_div(neurons, kLanes)), kThreads, 0, queue.stream,
                  dz, summed ? partials.data() : nullptr, dy, z, scale, bias, s.rows, neurons, activation);
    });
  if (dscale) sum_rows<double>(dscale, partials.data(), blocks, s.neurons, scale_mode, queue);
  if (dbias)
    sum_rows<double>(dbias, partials.data() + blocks * s.neurons, blocks, s.neurons, bias_mode, queue);
}

}  // namespace

void fill(MaskReadoutKernels<float>& table) { table = {weight, grad_weight, activate, grad_activate}; }

}  // namespace fovea::FOVEA_GPU
