// The feature sum of a factorized readout: one pass over z, neurons are the lanes.
#include "kernels/feature_sum.hpp"

#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/scratch.hpp"
#include "kernels/cuda/sums.hpp"
#include "kernels/cuda/vectors.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kLanes = 32, kWarps = 8, kThreads = kLanes * kWarps;
constexpr int kManyBlocks = 528;

struct Sums {
  std::int64_t rows;
  int channels, neurons;
};

template <int N>
__device__ __forceinline__ void add_product(Values<N>& sum, const Values<N>& a, const Values<N>& b) {
  GPU_UNROLL
  for (int i = 0; i < N; ++i) sum.at[i] = gpu::fma(a.at[i], b.at[i], sum.at[i]);
}

// u (rows, N). Blocks: x = R rows, y = 32 vectors of N neurons; warps share the channels.
template <int N, int R>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(float* u, const float* z, const float* features, Sums s) {
  GPU_SHARED(float, sums, [kWarps][R][N][kLanes]);
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int neuron = (blockIdx.y * kLanes + lane) * N;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * R;
  const std::size_t map = static_cast<std::size_t>(s.channels) * s.neurons;
  Values<N> own[R] = {};
  if (neuron < s.neurons)
    for (int c = warp; c < s.channels; c += kWarps) {
      const std::size_t at = static_cast<std::size_t>(c) * s.neurons + neuron;
      const Values<N> f = load<N>(features + at);
      GPU_UNROLL
      for (int r = 0; r < R; ++r)
        if (first + r < s.rows) add_product(own[r], load<N>(z + (first + r) * map + at), f);
    }
  GPU_UNROLL
  for (int r = 0; r < R; ++r) {
    GPU_UNROLL
    for (int i = 0; i < N; ++i) sums[warp][r][i][lane] = own[r].at[i];
  }
  __syncthreads();
  if (neuron >= s.neurons) return;
  for (int r = warp; r < R && first + r < s.rows; r += kWarps) {
    Values<N> total = {};
    GPU_UNROLL
    for (int w = 0; w < kWarps; ++w) {
      GPU_UNROLL
      for (int i = 0; i < N; ++i) total.at[i] += sums[w][r][i][lane];
    }
    store(u + (first + r) * s.neurons + neuron, total);
  }
}

constexpr int kRowsAtOnce = 4;

// dz (rows, C, N) and partials (row chunks, C, N): sums of du * z over the rows of a chunk. Either may be
// null. Blocks: x = chunk of rows, then a channel a warp; y = 32 vectors of N neurons.
template <int N>
__global__ void __launch_bounds__(kThreads)
    grad_kernel(float* __restrict__ dz, float* partials, const float* __restrict__ du,
                const float* __restrict__ z, const float* features, Sums s, int channel_blocks,
                std::int64_t chunk_rows) {
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int c = blockIdx.x % channel_blocks * kWarps + warp, chunk = blockIdx.x / channel_blocks;
  const int neuron = (blockIdx.y * kLanes + lane) * N;
  if (c >= s.channels || neuron >= s.neurons) return;
  const std::size_t map = static_cast<std::size_t>(s.channels) * s.neurons,
                    at = static_cast<std::size_t>(c) * s.neurons + neuron;
  const std::int64_t begin = chunk * chunk_rows, end = min(begin + chunk_rows, s.rows);
  const Values<N> f = load<N>(features + at);
  Values<N> sum = {};
  const auto row = [&](std::int64_t m) {
    const Values<N> d = load<N>(du + m * s.neurons + neuron);
    if (partials) add_product(sum, d, load<N>(z + m * map + at));
    if (!dz) return;
    Values<N> product;
    GPU_UNROLL
    for (int i = 0; i < N; ++i) product.at[i] = d.at[i] * f.at[i];
    store(dz + m * map + at, product);
  };
  std::int64_t m = begin;
  for (; m + kRowsAtOnce <= end; m += kRowsAtOnce) {
    GPU_UNROLL
    for (int k = 0; k < kRowsAtOnce; ++k) row(m + k);
  }
  for (; m < end; ++m) row(m);
  if (partials) store(partials + chunk * map + at, sum);
}

// ---- launchers
// --------------------------------------------------------------------------------------------------

Sums sums_of(const FeatureSumShape& s) {
  return {s.rows, static_cast<int>(s.channels), static_cast<int>(s.neurons)};
}

template <int N>
void launch_forward(float* u, const float* z, const float* features, const FeatureSumShape& s,
                    const Queue& queue) {
  constexpr int kRows = 4;  // that share the features, when enough blocks remain
  const std::int64_t neuron_blocks = ceil_div(s.neurons, kLanes * N);
  const bool many = neuron_blocks * s.rows >= kRows * kManyBlocks;
  gpu::launch(
      many ? forward_kernel<N, kRows> : forward_kernel<N, 1>,
      dim3(static_cast<unsigned>(ceil_div(s.rows, many ? kRows : 1)), static_cast<unsigned>(neuron_blocks)),
      kThreads, 0, queue.stream, u, z, features, sums_of(s));
}

void forward(float* u, const float* z, const float* features, const FeatureSumShape& s, const Queue& queue) {
  if (s.rows * s.neurons == 0) return;
  if (by_four(s.neurons, u, z, features))
    launch_forward<4>(u, z, features, s, queue);
  else
    launch_forward<1>(u, z, features, s, queue);
}

/// Chunks of rows: a choice of the shape, not of the alignment.
std::int64_t chunk_rows_of(const FeatureSumShape& s) {
  const std::int64_t blocks =
      ceil_div(s.channels, kWarps) * ceil_div(s.neurons, s.neurons % 4 ? kLanes : 4 * kLanes);
  const std::int64_t chunks = ceil_div(kManyBlocks, blocks);
  return chunks < s.rows ? ceil_div(s.rows, chunks) : 1;
}

template <int N>
void launch_grad(float* dz, float* partials, const float* du, const float* z, const float* features,
                 const FeatureSumShape& s, std::int64_t chunk_rows, std::int64_t chunks, const Queue& queue) {
  const std::int64_t channel_blocks = ceil_div(s.channels, kWarps);
  gpu::launch(grad_kernel<N>,
              dim3(static_cast<unsigned>(channel_blocks * chunks),
                   static_cast<unsigned>(ceil_div(s.neurons, kLanes * N))),
              kThreads, 0, queue.stream, dz, partials, du, z, features, sums_of(s),
              static_cast<int>(channel_blocks), chunk_rows);
}

void grad(float* dz, float* dfeatures, const float* du, const float* z, const float* features,
          const FeatureSumShape& s, Write features_mode, const Queue& queue) {
  const std::int64_t columns = s.channels * s.neurons;
  if (columns == 0 || (!dz && !dfeatures)) return;
  const std::int64_t chunk_rows = chunk_rows_of(s), chunks = ceil_div(s.rows, chunk_rows);
  const Scratch<float> partials(queue, dfeatures ? static_cast<std::size_t>(chunks * columns) : 0);
  float* const sums = dfeatures ? partials.data() : nullptr;
  if (chunks > 0) {
    if (by_four(s.neurons, dz, du, z, features))
      launch_grad<4>(dz, sums, du, z, features, s, chunk_rows, chunks, queue);
    else
      launch_grad<1>(dz, sums, du, z, features, s, chunk_rows, chunks, queue);
  }
  if (dfeatures) sum_rows<float>(dfeatures, sums, chunks, columns, features_mode, queue);
}

}  // namespace

void fill(FeatureSumKernels<float>& table) { table = {forward, grad}; }

}  // namespace fovea::FOVEA_GPU
