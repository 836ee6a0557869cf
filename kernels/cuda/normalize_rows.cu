// Rows divided by their norm: a warp to a short row, a block to a long one. A row is read from memory once,
// and once more from the caches where its sums are known; sums are taken in f64.
#include "kernels/cuda/kernels.hpp"

#include "kernels/cuda/map.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/cuda/sums.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kShortRow = 1024;                       // columns that a warp takes
constexpr int kLongThreads = 512, kWarpsOfShort = 8;  // of a block

template <int Threads>
__device__ __forceinline__ double row_sum(double value) {
  if constexpr (Threads == 32)
    return warp_sum<32>(value);
  else
    return block_sum<Threads>(value);
}

/// The row of the calling thread, and which of its Threads it is.
template <int Threads>
struct RowThread {
  std::int64_t row;
  int rank;
  __device__ __forceinline__ RowThread() {
    constexpr int kRows = Threads == 32 ? kWarpsOfShort : 1;
    row = static_cast<std::int64_t>(blockIdx.x) * kRows + threadIdx.x / Threads;
    rank = threadIdx.x % Threads;
  }
};

template <int Threads, bool vectors>
__global__ void __launch_bounds__(Threads == 32 ? 32 * kWarpsOfShort : Threads)
    normalize_kernel(float* y, const float* x, std::int64_t rows, std::int64_t columns) {
  const RowThread<Threads> thread;
  if (thread.row >= rows) return;  // all threads of the row
  const float* own = x + thread.row * columns;
  double squares = 0;
  for (std::int64_t i = thread.rank * 4; i < columns; i += Threads * 4) {
    const Values<4> four = load_first<vectors>(own + i, columns - i);
    GPU_UNROLL
    for (int k = 0; k < 4; ++k) squares += static_cast<double>(four.at[k]) * static_cast<double>(four.at[k]);
  }
  const float factor = static_cast<float>(1 / (sqrt(row_sum<Threads>(squares)) + row_norm_eps));
  for (std::int64_t i = thread.rank * 4; i < columns; i += Threads * 4) {
    Values<4> four = load_first<vectors>(own + i, columns - i);
    GPU_UNROLL
    for (int k = 0; k < 4; ++k) four.at[k] = four.at[k] * factor;
    store_first<vectors>(y + thread.row * columns + i, four, columns - i);
  }
}

template <int Threads, bool vectors>
__global__ void __launch_bounds__(Threads == 32 ? 32 * kWarpsOfShort : Threads)
    normalize_grad_kernel(float* dx, const float* dy, const float* x, std::int64_t rows, std::int64_t columns,
                          bool accumulate) {
  const RowThread<Threads> thread;
  if (thread.row >= rows) return;
  const float *own = x + thread.row * columns, *upstream = dy + thread.row * columns;
  double squares = 0, product = 0;
  for (std::int64_t i = thread.rank * 4; i < columns; i += Threads * 4) {
    const Values<4> four = load_first<vectors>(own + i, columns - i),
                    up = load_first<vectors>(upstream + i, columns - i);
    GPU_UNROLL
    for (int k = 0; k < 4; ++k) {
      const double value = four.at[k];
      squares += value * value;
      product += value * static_cast<double>(up.at[k]);
    }
  }
  const double norm = sqrt(row_sum<Threads>(squares)), length = norm + row_norm_eps;
  product = row_sum<Threads>(product);
  const float factor = static_cast<float>(1 / length),
              along = norm > 0 ? static_cast<float>(product / (norm * length * length)) : 0.f;
  for (std::int64_t i = thread.rank * 4; i < columns; i += Threads * 4) {
    const Values<4> four = load_first<vectors>(own + i, columns - i),
                    up = load_first<vectors>(upstream + i, columns - i);
    Values<4> result;
    GPU_UNROLL
    for (int k = 0; k < 4; ++k) result.at[k] = gpu::fma(-four.at[k], along, up.at[k] * factor);
    float* to = dx + thread.row * columns + i;
    if (accumulate) result = added(load_first<vectors>(to, columns - i), result);
    store_first<vectors>(to, result, columns - i);
  }
}

// ---- launchers
// -------------------------------------------------------------------------------------------------

void forward(float* y, const float* x, std::int64_t rows, std::int64_t columns, const Queue& queue) {
  if (rows <= 0 || columns <= 0) return;
  const bool vectors = aligned(y, x) && columns % 4 == 0;
  if (columns <= kShortRow)
    gpu::launch(vectors ? normalize_kernel<32, true> : normalize_kernel<32, false>,
                blocks_for(rows, kWarpsOfShort), 32 * kWarpsOfShort, 0, queue.stream, y, x, rows, columns);
  else
    gpu::launch(vectors ? normalize_kernel<kLongThreads, true> : normalize_kernel<kLongThreads, false>,
                static_cast<unsigned>(rows), kLongThreads, 0, queue.stream, y, x, rows, columns);
}

void grad(float* dx, const float* dy, const float* x, std::int64_t rows, std::int64_t columns, Write mode,
          const Queue& queue) {
  if (rows <= 0 || columns <= 0) return;
  const bool vectors = aligned(dx, dy, x) && columns % 4 == 0, accumulate = mode == Write::accumulate;
  if (columns <= kShortRow)
    gpu::launch(vectors ? normalize_grad_kernel<32, true> : normalize_grad_kernel<32, false>,
                blocks_for(rows, kWarpsOfShort), 32 * kWarpsOfShort, 0, queue.stream, dx, dy, x, rows,
                columns, accumulate);
  else
    gpu::launch(
        vectors ? normalize_grad_kernel<kLongThreads, true> : normalize_grad_kernel<kLongThreads, false>,
        static_cast<unsigned>(rows), kLongThreads, 0, queue.stream, dx, dy, x, rows, columns, accumulate);
}

}  // namespace

void fill(NormalizeRowsKernels<float>& table) { table = {forward, grad}; }

}  // namespace fovea::FOVEA_GPU
