// Elementwise kernels: y = f(x...) over any number of values, four to an access where the operands are
// aligned to that. An operand may be y itself: a thread reads what it needs before it writes.
#pragma once
#include "engine/gpu.hpp"
#include "engine/queue.hpp"
#include "kernels/cuda/vectors.hpp"

namespace fovea::FOVEA_GPU {
namespace {

// Four blocks of 256 threads at least share a multiprocessor: with a bound of its own (64 registers) ptxas
// does not spill to get more of them.
constexpr int kMapThreads = 256, kMapBlocks = 4;

/// The function that the threads apply; overloads read parameters that are on the device.
template <class F>
__device__ __forceinline__ const F& ready(const F& f) {
  return f;
}

template <int N, class F, class... In>
__device__ __forceinline__ void map_at(float* y, std::int64_t i, bool accumulate, const F& f,
                                       const In*... in) {
  Values<N> result = [&](const auto&... x) {
    Values<N> values;
    GPU_UNROLL
    for (int k = 0; k < N; ++k) values.at[k] = f(x.at[k]...);
    return values;
  }(load<N>(in + i)...);
  if (accumulate) result = added(load<N>(y + i), result);
  store<N>(y + i, result);
}

template <int N, class F, class... In>
__global__ void __launch_bounds__(kMapThreads, kMapBlocks)
    map_kernel(float* y, std::int64_t count, bool accumulate, F parameters, const In*... in) {
  const auto f = ready(parameters);
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kMapThreads + threadIdx.x) * N;
  if (i + N <= count)
    map_at<N>(y, i, accumulate, f, in...);
  else
    for (std::int64_t rest = i; rest < count; ++rest) map_at<1>(y, rest, accumulate, f, in...);
}

/// Blocks for `items` threads of work.
inline unsigned blocks_for(std::int64_t items, int threads = kMapThreads) {
  return static_cast<unsigned>((items + threads - 1) / threads);
}

template <class F, class... In>
void map(float* y, std::int64_t count, Write mode, const Queue& queue, const F& f, const In*... in) {
  if (count <= 0) return;
  const bool accumulate = mode == Write::accumulate;
  if (aligned(static_cast<const float*>(y), in...))
    gpu::launch(map_kernel<4, F, In...>, blocks_for((count + 3) / 4), kMapThreads, 0, queue.stream, y, count,
                accumulate, f, in...);
  else
    gpu::launch(map_kernel<1, F, In...>, blocks_for(count), kMapThreads, 0, queue.stream, y, count,
                accumulate, f, in...);
}

}  // namespace
}  // namespace fovea::FOVEA_GPU
