// AdamW in one pass over the four arenas, and the sum of squares that clipping needs.
#include "kernels/cuda/kernels.hpp"

#include <cmath>

#include "engine/backend.hpp"
#include "kernels/cuda/map.hpp"
#include "kernels/cuda/scratch.hpp"
#include "kernels/cuda/sums.hpp"

namespace fovea::FOVEA_GPU {
namespace {

struct AdamW {
  float decay, size, root, keep1, beta2, keep2, eps, scale;

  explicit AdamW(const AdamWStep& step) {
    const double steps = static_cast<double>(step.step);
    const double correction1 = 1 - std::pow(step.beta1, steps), correction2 = 1 - std::pow(step.beta2, steps);
    decay = static_cast<float>(1 - step.learning_rate * step.weight_decay);
    size = static_cast<float>(-step.learning_rate / correction1);
    root = static_cast<float>(std::sqrt(correction2));
    keep1 = static_cast<float>(1 - step.beta1);
    beta2 = static_cast<float>(step.beta2);
    keep2 = static_cast<float>(1 - step.beta2);
    eps = static_cast<float>(step.eps);
    scale = static_cast<float>(step.gradient_scale);
  }

  __device__ __forceinline__ void update(float& parameter, float& m, float& v, float gradient) const {
    const float g = scale * gradient;
    m = gpu::fma(keep1, g - m, m);
    v = gpu::fma(beta2, v, keep2 * g * g);
    const float change = size * m / (sqrtf(v) / root + eps);
    parameter = gpu::fma(parameter, decay, change);
  }
};

template <int N>
__device__ __forceinline__ void adamw_at(float* parameter, float* exp_avg, float* exp_avg_sq,
                                         const float* gradient, const AdamW& step) {
  const Values<N> g = load<N>(gradient);
  Values<N> p = load<N>(parameter), m = load<N>(exp_avg), v = load<N>(exp_avg_sq);
  GPU_UNROLL
  for (int k = 0; k < N; ++k) step.update(p.at[k], m.at[k], v.at[k], g.at[k]);
  store<N>(exp_avg, m);
  store<N>(exp_avg_sq, v);
  store<N>(parameter, p);
}

template <int N>
__global__ void __launch_bounds__(kMapThreads)
    adamw_kernel(float* parameter, float* exp_avg, float* exp_avg_sq, const float* gradient,
                 std::int64_t count, AdamW step) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kMapThreads + threadIdx.x) * N;
  if (i + N <= count)
    adamw_at<N>(parameter + i, exp_avg + i, exp_avg_sq + i, gradient + i, step);
  else
    for (std::int64_t rest = i; rest < count; ++rest)
      adamw_at<1>(parameter + rest, exp_avg + rest, exp_avg_sq + rest, gradient + rest, step);
}

// partials (blocks) <- sums of squares: thread i of the grid takes fours i, i + threads, ... in order,
// whether or not they are read as one.
template <bool vectors>
__global__ void __launch_bounds__(kSumThreads)
    sum_of_squares_kernel(double* partials, const float* x, std::int64_t count) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kSumThreads * 4;
  double sum = 0;
  for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kSumThreads + threadIdx.x) * 4; i < count;
       i += stride) {
    const Values<4> four = load_first<vectors>(x + i, count - i);
    GPU_UNROLL
    for (int k = 0; k < 4; ++k) sum += static_cast<double>(four.at[k]) * static_cast<double>(four.at[k]);
  }
  sum = block_sum<kSumThreads>(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kSumThreads) finish_sum(double* sum, const double* partials, int count) {
  const double total = sum_of_partials<kSumThreads>(partials, count);
  if (threadIdx.x == 0) *sum = total;
}

// ---- launchers
// -------------------------------------------------------------------------------------------------

void adamw(float* parameter, float* exp_avg, float* exp_avg_sq, const float* gradient, std::int64_t count,
           const AdamWStep& step, const Queue& queue) {
  if (count <= 0) return;
  if (aligned(parameter, exp_avg, exp_avg_sq, gradient))
    gpu::launch(adamw_kernel<4>, blocks_for((count + 3) / 4), kMapThreads, 0, queue.stream, parameter,
                exp_avg, exp_avg_sq, gradient, count, AdamW(step));
  else
    gpu::launch(adamw_kernel<1>, blocks_for(count), kMapThreads, 0, queue.stream, parameter, exp_avg,
                exp_avg_sq, gradient, count, AdamW(step));
}

void sum_of_squares(double* sum, const float* x, std::int64_t count, const Queue& queue) {
  *sum = 0;
  if (count <= 0) return;
  const int blocks = sum_blocks(count);
  const Scratch<double> memory(queue, static_cast<std::size_t>(blocks) + 1);  // the sum, then the partials
  double* partials = memory.data() + 1;
  gpu::launch(aligned(x) ? sum_of_squares_kernel<true> : sum_of_squares_kernel<false>, blocks, kSumThreads, 0,
              queue.stream, partials, x, count);
  gpu::launch(finish_sum, 1, kSumThreads, 0, queue.stream, memory.data(),
              static_cast<const double*>(partials), blocks);
  queue.backend->memory->copy_to_host(sum, memory.data(), sizeof *sum);
}

}  // namespace

void fill(OptimizerKernels<float>& table) { table = {adamw, sum_of_squares}; }

}  // namespace fovea::FOVEA_GPU
