// The end of sums whose parts lie in memory: in double precision, in an order that depends on their number
// only.
#pragma once
#include "engine/queue.hpp"
#include "kernels/cuda/reduce.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kSumThreads = 1024, kSumAtOnce = 8, kColumnThreads = 128;

// value (1) <- factor * sum of all partials, by one block
__global__ void __launch_bounds__(kSumThreads)
    sum_all_kernel(float* value, const double* partials, std::int64_t count, double factor) {
  double sum = 0;
  for (std::int64_t first = threadIdx.x; first < count; first += kSumThreads * kSumAtOnce) {
    double parts[kSumAtOnce];  // loads that do not wait for each other
    GPU_UNROLL
    for (int i = 0; i < kSumAtOnce; ++i) {
      const std::int64_t at = first + i * kSumThreads;
      parts[i] = at < count ? partials[at] : 0.0;
    }
    GPU_UNROLL
    for (int i = 0; i < kSumAtOnce; ++i) sum += parts[i];
  }
  sum = block_sum<kSumThreads>(sum);
  if (threadIdx.x == 0) *value = static_cast<float>(factor * sum);
}

// value (columns) <- factor * sum over the rows of partials (rows, columns)
__global__ void __launch_bounds__(kColumnThreads)
    sum_columns_kernel(float* value, const double* partials, std::int64_t rows, std::int64_t columns,
                       double factor) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kColumnThreads + threadIdx.x;
  if (column >= columns) return;
  double sum = 0;
  for (std::int64_t row = 0; row < rows; ++row) sum += partials[row * columns + column];
  value[column] = static_cast<float>(factor * sum);
}

inline void sum_all(float* value, const double* partials, std::int64_t count, double factor,
                    const Queue& queue) {
  gpu::launch(sum_all_kernel, 1, kSumThreads, 0, queue.stream, value, partials, count, factor);
}

inline void sum_columns(float* value, const double* partials, std::int64_t rows, std::int64_t columns,
                        double factor, const Queue& queue) {
  if (columns == 0) return;
  gpu::launch(sum_columns_kernel, static_cast<unsigned>((columns + kColumnThreads - 1) / kColumnThreads),
              kColumnThreads, 0, queue.stream, value, partials, rows, columns, factor);
}

}  // namespace
}  // namespace fovea::FOVEA_GPU
