// Poisson loss: value and slope in one pass over output and target.
//
// A block takes 32 neurons (lanes, so that loads are coalesced) and kRows rows of (batch, frame): every
// thread sums a few terms in f32, everything above is summed in f64 in an order that depends on the shape
// only. Of 8 images (tools/kernel-profile, W3f) the partial sums, doubles, are a sixth of the operands.
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/loss_reduction.hpp"
#include "kernels/cuda/math.hpp"
#include "kernels/cuda/scratch.hpp"
#include "kernels/cuda/vectors.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kLanes = 32, kWarps = 8, kRowsPerThread = 16, kRows = kWarps * kRowsPerThread;
constexpr int kScaleThreads = 256, kScaleVectors = 2, kScaleBlock = kScaleThreads * kScaleVectors * 4;

struct Poisson {
  int rows, frames, target_frames, neurons;
  float factor, eps;
  bool log_input, stirling;
};

__device__ __forceinline__ float stirling(float count) {
  if (!(count > 1.f)) return 0.f;
  constexpr float two_pi = 6.283185307179586f;
  return count * math::log(count) - count + 0.5f * math::log(two_pi * count);
}

__device__ __forceinline__ float term_and_slope(float output, float count, const Poisson& p, float& slope) {
  float term;
  if (p.log_input) {
    const float rate = math::exp(output);
    term = rate - count * output;
    slope = p.factor * (rate - count);
  } else {
    term = output - count * math::log(output + p.eps);
    slope = p.factor * (1.f - count / (output + p.eps));
  }
  return p.stirling ? term + stirling(count) : term;
}

// partials (row blocks, neurons) <- sums of terms; slope (rows, neurons) unless null
__global__ void __launch_bounds__(kLanes* kWarps)
    poisson_terms(double* partials, float* slope, const float* output, const float* target, Poisson p) {
  GPU_SHARED(double, sums, [kWarps][kLanes]);
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int neuron = blockIdx.y * kLanes + lane;
  float sum = 0;
  if (neuron < p.neurons)
    for (int i = 0; i < kRowsPerThread; ++i) {
      const int row = blockIdx.x * kRows + i * kWarps + warp;
      if (row >= p.rows) break;
      const int item = row / p.frames, frame = row % p.frames + p.target_frames - p.frames;
      const std::size_t at = static_cast<std::size_t>(row) * p.neurons + neuron;
      const float count =
          target[(static_cast<std::size_t>(item) * p.target_frames + frame) * p.neurons + neuron];
      float slope_here;
      sum += term_and_slope(output[at], count, p, slope_here);
      if (slope) slope[at] = slope_here;
    }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || neuron >= p.neurons) return;
  double total = 0;
  GPU_UNROLL
  for (int w = 0; w < kWarps; ++w) total += sums[w][lane];
  partials[static_cast<std::size_t>(blockIdx.x) * p.neurons + neuron] = total;
}

// A scalar is asked for once for all values of a warp.
template <bool kVectors, bool kScalar>
__global__ void __launch_bounds__(kScaleThreads)
    scale_slope_kernel(float* dx, const float* slope, const float* upstream, std::int64_t count,
                       std::int64_t groups, bool accumulate) {
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * kScaleBlock;
  const int lane = threadIdx.x % 32;
  float scalar = 0.f;
  if (kScalar) {
    if (lane == 0 && begin + 4 * threadIdx.x < count) scalar = upstream[0];
    scalar = __shfl_sync(0xffffffffu, scalar, 0);
  }
  GPU_UNROLL
  for (int k = 0; k < kScaleVectors; ++k) {
    const std::int64_t first = begin + 4 * (k * kScaleThreads + threadIdx.x);
    const std::int64_t values = count - first;
    Values<4> v = load_first<kVectors>(slope + first, values);
    GPU_UNROLL
    for (int j = 0; j < 4; ++j)
      if (j < values) v.at[j] *= kScalar ? scalar : upstream[(first + j) % groups];
    if (accumulate) v = added(load_first<kVectors>(dx + first, values), v);
    store_first<kVectors>(dx + first, v, values);
  }
}

// ---- launchers
// -------------------------------------------------------------------------------------------------

void poisson(float* value, float* slope, const float* output, const float* target, const LossShape& s,
             const PoissonOptions& options, const Queue& queue) {
  const double factor = reduction_factor(s, s.batch * s.frames);
  const Poisson p{static_cast<int>(s.batch * s.frames),
                  static_cast<int>(s.frames),
                  static_cast<int>(s.target_frames),
                  static_cast<int>(s.neurons),
                  static_cast<float>(factor),
                  static_cast<float>(options.eps),
                  options.log_input,
                  options.stirling};
  const int row_blocks = ceil_div(p.rows, kRows);
  const Scratch<double> partials(queue, static_cast<std::size_t>(row_blocks) * p.neurons);
  if (row_blocks && p.neurons)
    gpu::launch(poisson_terms, dim3(row_blocks, ceil_div(p.neurons, kLanes)), kLanes * kWarps, 0,
                queue.stream, partials.data(), slope, output, target, p);
  finish(value, partials.data(), row_blocks, factor, s, queue);
}

void scale_slope(float* dx, const float* slope, const float* upstream, std::int64_t count,
                 std::int64_t groups, Write mode, const Queue& queue) {
  if (count == 0) return;
  const bool vectors = aligned(dx, slope), scalar = groups == 1;
  const auto kernel = scalar    ? vectors ? scale_slope_kernel<true, true> : scale_slope_kernel<false, true>
                         : vectors ? scale_slope_kernel<true, false>
                                : scale_slope_kernel<false, false>;
  gpu::launch(kernel, static_cast<unsigned>((count + kScaleBlock - 1) / kScaleBlock), kScaleThreads, 0,
              queue.stream, dx, slope, upstream, count, groups, mode == Write::accumulate);
}

}  // namespace

void fill_poisson(LossKernels<float>& table) {
  table.poisson = poisson;
  table.scale_slope = scale_slope;
}

}  // namespace fovea::FOVEA_GPU
