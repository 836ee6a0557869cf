#include "bench/gpu_roofs.hpp"

#include "engine/gpu.hpp"

namespace fovea::bench::FOVEA_GPU {
namespace {

constexpr int kThreads = 256, kChains = 8, kUnrolled = 16;

__global__ void __launch_bounds__(kThreads) copy_kernel(float4* to, const float4* from, std::int64_t count) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += stride)
    to[i] = from[i];
}

__global__ void __launch_bounds__(kThreads) madd_kernel(float* sink, int rounds) {
  float sums[kChains];
  GPU_UNROLL
  for (int c = 0; c < kChains; ++c) sums[c] = static_cast<float>(threadIdx.x + c);
  for (int round = 0; round < rounds; ++round) {
    GPU_UNROLL
    for (int i = 0; i < kUnrolled; ++i) {
      GPU_UNROLL
      for (int c = 0; c < kChains; ++c) sums[c] = gpu::fma(sums[c], 0.999f, 1e-3f);
    }
  }
  float sum = 0;
  GPU_UNROLL
  for (int c = 0; c < kChains; ++c) sum += sums[c];
  if (sum == -1.f) *sink = sum;  // never: keeps the sums alive
}

void copy(void* to, const void* from, std::int64_t bytes, const Queue& queue) {
  const std::int64_t count = bytes / 16, blocks = (count + 4 * kThreads - 1) / (4 * kThreads);
  gpu::launch(copy_kernel, static_cast<int>(blocks), kThreads, 0, queue.stream, static_cast<float4*>(to),
              static_cast<const float4*>(from), count);
}

double madds(float* sink, int blocks, int rounds, const Queue& queue) {
  gpu::launch(madd_kernel, blocks, kThreads, 0, queue.stream, sink, rounds);
  return 2.0 * blocks * kThreads * kChains * kUnrolled * rounds;
}

}  // namespace

RoofKernels roof_kernels() { return {copy, madds}; }

}  // namespace fovea::bench::FOVEA_GPU
