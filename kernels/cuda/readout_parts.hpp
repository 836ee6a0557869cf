// What the kernels around the readouts share: vectors of neurons or channels, and sums over rows in two
// stages.
#pragma once
#include <initializer_list>

#include "kernels/cuda/scratch.hpp"

namespace fovea::FOVEA_GPU::readout {

/// N neighbouring floats of memory; four of them are moved at once.
template <int N>
struct Floats {
  float v[N];
};

template <int N>
__device__ __forceinline__ Floats<N> load(const float* from) {
  static_assert(N == 1 || N == 4);
  if constexpr (N == 4) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    return {{four.x, four.y, four.z, four.w}};
  } else {
    return {{*from}};
  }
}

template <int N>
__device__ __forceinline__ void save(float* to, const Floats<N>& values) {
  if constexpr (N == 4)
    *reinterpret_cast<float4*>(to) = make_float4(values.v[0], values.v[1], values.v[2], values.v[3]);
  else
    *to = values.v[0];
}

/// Whether rows of `length` floats at these places can be moved by four; a null pointer does not matter.
inline bool by_four(std::int64_t length, std::initializer_list<const void*> places) {
  bool aligned = length % 4 == 0;
  for (const void* place : places) aligned = aligned && reinterpret_cast<std::uintptr_t>(place) % 16 == 0;
  return aligned;
}

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// ---- sums over rows
// ---------------------------------------------------------------------------------------------

constexpr int kSumThreads = 256;

// to (columns) = or += the sums of rows (row_count, columns), in double precision. kSplit threads share a
// column.
template <int kSplit, class T>
__global__ void __launch_bounds__(kSumThreads)
    sum_rows_kernel(float* to, const T* rows, std::int64_t row_count, std::int64_t columns, bool accumulate) {
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
  const float total = static_cast<float>(sum);
  to[column] = accumulate ? to[column] + total : total;
}

/// to (columns) = or += the sums of rows (row_count, columns).
template <class T>
void sum_rows(float* to, const T* rows, std::int64_t row_count, std::int64_t columns, Write mode,
              const Queue& queue) {
  if (columns == 0) return;
  const bool accumulate = mode == Write::accumulate;
  if (row_count > 8)
    gpu::launch(sum_rows_kernel<8, T>, static_cast<unsigned>(ceil_div(columns, kSumThreads / 8)), kSumThreads,
                0, queue.stream, to, rows, row_count, columns, accumulate);
  else
    gpu::launch(sum_rows_kernel<1, T>, static_cast<unsigned>(ceil_div(columns, kSumThreads)), kSumThreads, 0,
                queue.stream, to, rows, row_count, columns, accumulate);
}

}  // namespace fovea::FOVEA_GPU::readout
