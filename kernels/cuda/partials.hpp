// Sums over all values of a tensor in two stages: the blocks of a first kernel each leave a partial sum in
// f64, one block of a second kernel adds those up. How many there are depends on the number of values only.
#pragma once
#include "kernels/cuda/map.hpp"
#include "kernels/cuda/reduce.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kSumThreads = 256, kSumBlocks = 1024;
constexpr int kValuesPerSumBlock = kSumThreads * 16;  // as long as there are too few for all blocks

inline int sum_blocks(std::int64_t count) {
  const std::int64_t blocks = (count + kValuesPerSumBlock - 1) / kValuesPerSumBlock;
  return static_cast<int>(blocks < kSumBlocks ? blocks : kSumBlocks);
}

/// Values i to i + 3 of `count`, zeros behind the last one.
template <bool vectors>
__device__ __forceinline__ Values<4> load_four(const float* x, std::int64_t i, std::int64_t count) {
  if (vectors && i + 4 <= count) return load<4>(x + i);
  Values<4> four;
  GPU_UNROLL
  for (int k = 0; k < 4; ++k) four.at[k] = i + k < count ? x[i + k] : 0.f;
  return four;
}

template <bool vectors>
__device__ __forceinline__ void store_four(float* y, std::int64_t i, std::int64_t count, Values<4> four,
                                           bool accumulate) {
  if (accumulate) four = added(load_four<vectors>(y, i, count), four);
  if (vectors && i + 4 <= count) return store<4>(y + i, four);
  GPU_UNROLL
  for (int k = 0; k < 4; ++k)
    if (i + k < count) y[i + k] = four.at[k];
}

/// The sum of all partials, by one block of kSumThreads.
__device__ __forceinline__ double sum_of_partials(const double* partials, int count) {
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += kSumThreads) sum += partials[i];
  return block_sum<kSumThreads>(sum);
}

}  // namespace
}  // namespace fovea::FOVEA_GPU
