// Sums in two stages: the blocks of a first kernel each leave a part in memory, a second kernel adds those
// up in double precision. How many there are, and in which order they are added, depends on the shape only.
#pragma once
#include "engine/queue.hpp"
#include "kernels/cuda/reduce.hpp"

namespace fovea::FOVEA_GPU {
namespace {

// ---- the first stage over all values of a tensor
// --------------------------------------------------------------------

constexpr int kSumThreads = 256, kSumBlocks = 1024;
constexpr int kValuesPerSumBlock = kSumThreads * 16;  // as long as there are too few for all blocks

inline int sum_blocks(std::int64_t count) {
  const std::int64_t blocks = (count + kValuesPerSumBlock - 1) / kValuesPerSumBlock;
  return static_cast<int>(blocks < kSumBlocks ? blocks : kSumBlocks);
}

// ---- the second stage: one sum
// --------------------------------------------------------------------------------------

/// The sum of all partials, by one block of Threads.
template <int Threads>
__device__ __forceinline__ double sum_of_partials(const double* partials, std::int64_t count) {
  constexpr int kAtOnce = 8;
  double sum = 0;
  for (std::int64_t first = threadIdx.x; first < count; first += Threads * kAtOnce) {
    double parts[kAtOnce];  // loads that do not wait for each other
    GPU_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      const std::int64_t at = first + i * Threads;
      parts[i] = at < count ? partials[at] : 0.0;
    }
    GPU_UNROLL
    for (int i = 0; i < kAtOnce; ++i) sum += parts[i];
  }
  return block_sum<Threads>(sum);
}

constexpr int kSumAllThreads = 1024;

// value (1) <- factor * sum of all partials, by one block
__global__ void __launch_bounds__(kSumAllThreads)
    sum_all_kernel(float* value, const double* partials, std::int64_t count, double factor) {
  const double sum = sum_of_partials<kSumAllThreads>(partials, count);
  if (threadIdx.x == 0) *value = static_cast<float>(factor * sum);
}

inline void sum_all(float* value, const double* partials, std::int64_t count, double factor,
                    const Queue& queue) {
  gpu::launch(sum_all_kernel, 1, kSumAllThreads, 0, queue.stream, value, partials, count, factor);
}

// ---- the second stage: a sum per column
// -----------------------------------------------------------------------------

// to (columns) = or += factor * the sums of rows (row_count, columns). kSplit threads share a column.
template <int kSplit, class T>
__global__ void __launch_bounds__(kSumThreads)
    sum_rows_kernel(float* to, const T* rows, std::int64_t row_count, std::int64_t columns, double factor,
                    bool accumulate) {
  constexpr int kColumns = kSumThreads / kSplit;
  const int lane = threadIdx.x % kColumns, part = threadIdx.x / kColumns;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kColumns + lane;
  double sum = 0;
  if (column < columns)
    for (std::int64_t row = part; row < row_count; row += kSplit) sum += rows[row * columns + column];
  if constexpr (kSplit > 1) {
    GPU_SHARED(double, sums, [kSplit][kColumns]);
    sums[part][lane] = sum;
    __syncthreads();
    if (part != 0) return;
    GPU_UNROLL
    for (int other = 1; other < kSplit; ++other) sum += sums[other][lane];
  }
  if (column >= columns) return;
  const float total = static_cast<float>(factor * sum);
  to[column] = accumulate ? to[column] + total : total;
}

/// to (columns) = or += factor * the sums of rows (row_count, columns).
template <class T>
void sum_rows(float* to, const T* rows, std::int64_t row_count, std::int64_t columns, Write mode,
              const Queue& queue, double factor = 1) {
  if (columns == 0) return;
  const auto launch = [&](auto kernel, int split) {
    const int block_columns = kSumThreads / split;
    gpu::launch(kernel, static_cast<unsigned>((columns + block_columns - 1) / block_columns), kSumThreads, 0,
                queue.stream, to, rows, row_count, columns, factor, mode == Write::accumulate);
  };
  if (row_count > 8)
    launch(sum_rows_kernel<8, T>, 8);
  else
    launch(sum_rows_kernel<1, T>, 1);
}

}  // namespace
}  // namespace fovea::FOVEA_GPU
