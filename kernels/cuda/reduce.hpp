// Sums over warps and blocks by a fixed tree: the same bits in every run and for every order of threads.
#pragma once
#include "engine/gpu.hpp"

namespace fovea::FOVEA_GPU {

/// The sum over groups of `Lanes` neighbouring lanes, in each of them. All 32 lanes take part.
template <int Lanes, class T>
__device__ __forceinline__ T warp_sum(T value) {
  GPU_UNROLL
  for (int lanes = Lanes / 2; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  return value;
}

/// The sum over a block of `Threads` threads, in each of them. A barrier before and after the use of shared
/// memory belongs to it.
template <int Threads, class T>
__device__ __forceinline__ T block_sum(T value) {
  static_assert(Threads % 32 == 0 && Threads <= 1024);
  GPU_SHARED(T, warps, [Threads / 32]);
  value = warp_sum<32>(value);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  T sum = 0;
  GPU_UNROLL
  for (int warp = 0; warp < Threads / 32; ++warp) sum += warps[warp];
  __syncthreads();
  return sum;
}

template <class A, class B>
__host__ __device__ constexpr auto ceil_div(A a, B b) {
  return (a + b - 1) / b;
}

}  // namespace fovea::FOVEA_GPU
