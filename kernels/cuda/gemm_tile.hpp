// One tile of a matrix product C = A B by one block: what matrix products and convolutions share.
//
// Slices of kDepth terms of the sum come into shared memory by asynchronous copies, kStages of them in
// flight, both operands with the sum along the rows: a[k][row], b[k][column]. A warp covers 32 rows and
// 8 * ThreadColumns columns, a thread 8 rows and ThreadColumns columns in groups of 4, so that the float4
// loads of 8 neighbouring lanes are one broadcast (a) or 128 neighbouring bytes (b). Rows are padded by 4
// floats: operands whose sum runs along memory are copied transposed, 8 terms of 4 rows by a warp, to 32
// different banks.
#pragma once
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/reduce.hpp"

namespace fovea::FOVEA_GPU {

constexpr int kDepth = 8, kStages = 3, kThreadRows = 8;

template <int WarpRows, int WarpColumns, int ThreadColumns_>
struct GemmTile {
  static constexpr int ThreadColumns = ThreadColumns_;
  static constexpr int Threads = 32 * WarpRows * WarpColumns;
  static constexpr int Rows = 32 * WarpRows, Columns = 8 * ThreadColumns * WarpColumns;
  static constexpr int ARow = Rows + 4, BRow = Columns + 4;
  static constexpr int Stage = kDepth * (ARow + BRow);
  static constexpr int Blocks = Threads == 256 ? 2 : ThreadColumns == 8 ? 3 : 4;  // on a multiprocessor

  __device__ static int warp_row() { return threadIdx.x / 32 / WarpColumns * 32; }
  __device__ static int warp_column() { return threadIdx.x / 32 % WarpColumns * 8 * ThreadColumns; }
  /// The thread's first row and column; group g of 4 follows g * 16 rows or g * 32 columns further.
  __device__ static int row() { return warp_row() + threadIdx.x % 32 / 8 * 4; }
  __device__ static int column() { return warp_column() + threadIdx.x % 8 * 4; }
};

/// 128 x 128, 128 x 64, 128 x 32, and 64 x 64 for products with few tiles.
using LargeTile = GemmTile<4, 2, 8>;
using TallTile = GemmTile<4, 1, 8>;
using NarrowTile = GemmTile<4, 1, 4>;
using SmallTile = GemmTile<2, 2, 4>;

/// A thread's results.
template <class Tile>
struct TileSums {
  float at[kThreadRows][Tile::ThreadColumns];
};

__device__ __forceinline__ void load_four(float* to, const float* from) {
  const float4 four = *reinterpret_cast<const float4*>(from);
  to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
}

/// Calls use(a, b) with each of `steps` slices in shared memory. stage(step, a, b) starts the copies of a
/// slice; it is called for the steps in order.
template <class Tile, class StageSlice, class UseSlice>
__device__ __forceinline__ void for_slices(int steps, const StageSlice& stage, const UseSlice& use) {
  GPU_SHARED(float, slices, [kStages][Tile::Stage]);
  const auto stage_step = [&](int step) {
    float* a = slices[step % kStages];
    if (step < steps) stage(step, a, a + kDepth * Tile::ARow);
    gpu::cp_commit();
  };
  for (int step = 0; step < kStages - 1; ++step) stage_step(step);
  GPU_NO_UNROLL
  for (int step = 0; step < steps; ++step) {
    gpu::cp_wait<kStages - 2>();
    __syncthreads();
    stage_step(step + kStages - 1);
    const float* a = slices[step % kStages];
    use(a, a + kDepth * Tile::ARow);
  }
  gpu::cp_wait<0>();
}

/// sums <- the product over `steps` slices, by exactly rounded multiply-adds. stage as above.
template <class Tile, class StageSlice>
__device__ __forceinline__ void multiply_tile(TileSums<Tile>& sums, int steps, const StageSlice& stage) {
  GPU_UNROLL
  for (int i = 0; i < kThreadRows; ++i) {
    GPU_UNROLL
    for (int j = 0; j < Tile::ThreadColumns; ++j) sums.at[i][j] = 0.f;
  }
  for_slices<Tile>(steps, stage, [&](const float* a, const float* b) {
    a += Tile::row();
    b += Tile::column();
    GPU_UNROLL
    for (int k = 0; k < kDepth; ++k) {
      float rows[kThreadRows], columns[Tile::ThreadColumns];
      GPU_UNROLL
      for (int i = 0; i < kThreadRows; i += 4) load_four(rows + i, a + k * Tile::ARow + i * 4);
      GPU_UNROLL
      for (int j = 0; j < Tile::ThreadColumns; j += 4) load_four(columns + j, b + k * Tile::BRow + j * 8);
      GPU_UNROLL
      for (int i = 0; i < kThreadRows; ++i) {
        GPU_UNROLL
        for (int j = 0; j < Tile::ThreadColumns; ++j)
          sums.at[i][j] = gpu::fma(rows[i], columns[j], sums.at[i][j]);
      }
    }
  });
}

/// Starts copying `Extent` rows of a slice whose terms are neighbours in memory: from[row * stride + term].
/// Zeros beyond `rows` and `terms`.
template <int Threads, int Extent>
__device__ __forceinline__ void stage_transposed(float* to, const float* from, std::int64_t stride, int rows,
                                                 int terms) {
  const int k = threadIdx.x % kDepth;
  int row = threadIdx.x / kDepth;
  const float* source = from + row * stride + k;
  GPU_NO_UNROLL
  for (; row < Extent; row += Threads / kDepth, source += Threads / kDepth * stride) {
    const bool ok = row < rows && k < terms;
    gpu::cp_async<4>(&to[k * (Extent + 4) + row], ok ? source : from, ok);
  }
}

/// The same where the rows are neighbours: from[term * stride + row]. `vector`: rows, from and stride allow
/// float4.
template <int Threads, int Extent>
__device__ __forceinline__ void stage_straight(float* to, const float* from, std::int64_t stride, int rows,
                                               int terms, bool vector) {
  if (vector) {
    GPU_NO_UNROLL
    for (int e = threadIdx.x; e < Extent * kDepth / 4; e += Threads) {
      const int row = e % (Extent / 4) * 4, k = e / (Extent / 4);
      const bool ok = row < rows && k < terms;
      gpu::cp_async<16>(&to[k * (Extent + 4) + row], ok ? from + k * stride + row : from, ok);
    }
  } else {
    GPU_NO_UNROLL
    for (int e = threadIdx.x; e < Extent * kDepth; e += Threads) {
      const int row = e % Extent, k = e / Extent;
      const bool ok = row < rows && k < terms;
      gpu::cp_async<4>(&to[k * (Extent + 4) + row], ok ? from + k * stride + row : from, ok);
    }
  }
}

// ---- the result
// ------------------------------------------------------------------------------------------------

/// Where a product goes: c[row * stride + column], plus bias[column] unless null.
struct GemmOutput {
  float* c;
  const float* bias;
  std::int64_t stride;
  bool accumulate, vector;  // vector: c, stride and the number of columns allow float4
};

/// Writes the thread's sums; the tile begins at c and has `rows` and `columns` valid ones.
template <class Tile>
__device__ __forceinline__ void write_tile(const GemmOutput& out, float* c, const float* bias,
                                           const TileSums<Tile>& sums, int rows, int columns) {
  GPU_UNROLL
  for (int i = 0; i < kThreadRows; ++i) {
    const int row = Tile::row() + i / 4 * 16 + i % 4;
    if (row >= rows) continue;
    GPU_UNROLL
    for (int j = 0; j < Tile::ThreadColumns; j += 4) {
      const int column = Tile::column() + j * 8;
      float* to = c + row * out.stride + column;
      if (out.vector && column < columns) {
        float4 four = make_float4(sums.at[i][j], sums.at[i][j + 1], sums.at[i][j + 2], sums.at[i][j + 3]);
        if (bias)
          four = make_float4(four.x + bias[column], four.y + bias[column + 1], four.z + bias[column + 2],
                             four.w + bias[column + 3]);
        if (out.accumulate) {
          const float4 old = *reinterpret_cast<const float4*>(to);
          four = make_float4(old.x + four.x, old.y + four.y, old.z + four.z, old.w + four.w);
        }
        *reinterpret_cast<float4*>(to) = four;
        continue;
      }
      GPU_UNROLL
      for (int l = 0; l < 4; ++l) {
        if (column + l >= columns) continue;
        const float sum = bias ? sums.at[i][j + l] + bias[column + l] : sums.at[i][j + l];
        to[l] = out.accumulate ? to[l] + sum : sum;
      }
    }
  }
}

inline bool allows_vectors(const void* pointer, std::int64_t size) {
  return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0 && size % 4 == 0;
}

// ---- how a product is cut
// --------------------------------------------------------------------------------------

/// Chunks of the sum that different blocks take; their results are added in a second pass, in order and in
/// f64. All of it depends on the shape only.
struct GemmSplit {
  int splits;
  std::int64_t chunk;  // a multiple of kDepth

  /// For `tiles` tiles, a sum of `depth` terms and results of `outputs` numbers.
  GemmSplit(std::int64_t tiles, std::int64_t depth, std::int64_t outputs) {
    constexpr std::int64_t wanted_blocks = 264, least = 128, most = 4096, scratch_floats = 1 << 26;
    std::int64_t count = min((wanted_blocks + tiles - 1) / tiles, depth / least);
    count = max(count, (depth + most - 1) / most);  // short sums of f32 round little
    count = min(count, min(scratch_floats / outputs, std::int64_t{65535}));
    count = max(count, std::int64_t{1});
    chunk = max(std::int64_t{1}, ((depth + count - 1) / count + kDepth - 1) / kDepth) * kDepth;
    splits = static_cast<int>(max(std::int64_t{1}, (depth + chunk - 1) / chunk));
  }
};

enum class TileChoice { large, tall, narrow, small };

inline std::int64_t tile_count(std::int64_t rows, std::int64_t columns, int tile_rows, int tile_columns) {
  return ((rows + tile_rows - 1) / tile_rows) * ((columns + tile_columns - 1) / tile_columns);
}

inline TileChoice choose_tile(std::int64_t rows, std::int64_t columns, std::int64_t products = 1) {
  constexpr std::int64_t enough_blocks = 264;
  const auto enough = [&](int tile_rows, int tile_columns) {
    return products * tile_count(rows, columns, tile_rows, tile_columns) >= enough_blocks;
  };
  if (columns <= 32 && rows > 64) return TileChoice::narrow;
  if (columns <= 64) return enough(128, 64) ? TileChoice::tall : TileChoice::small;
  return enough(128, 128) ? TileChoice::large : TileChoice::small;
}

/// Calls run(tile) with a value of the chosen tile's type.
template <class Run>
void with_tile(TileChoice choice, const Run& run) {
  switch (choice) {
    case TileChoice::large:
      return run(LargeTile());
    case TileChoice::tall:
      return run(TallTile());
    case TileChoice::narrow:
      return run(NarrowTile());
    case TileChoice::small:
      return run(SmallTile());
  }
}

// ---- the second pass of sums that were cut
// ----------------------------------------------------------------------

constexpr int kFinishOutputs = 32, kFinishWarps = 8, kFinishThreads = kFinishOutputs * kFinishWarps;

/// The sum of entry 32 * block + lane over partials (splits, outputs), in order of warps; valid in warp 0.
template <class T>
__device__ __forceinline__ double sum_of_splits(const T* partials, int splits, std::int64_t outputs) {
  GPU_SHARED(double, sums, [kFinishWarps][kFinishOutputs]);
  const int lane = threadIdx.x % kFinishOutputs, warp = threadIdx.x / kFinishOutputs;
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * kFinishOutputs + lane;
  double sum = 0;
  if (e < outputs) {
    for (int split = warp; split < splits; split += kFinishWarps)
      sum += static_cast<double>(partials[split * outputs + e]);
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp > 0) return 0;
  GPU_UNROLL
  for (int w = 1; w < kFinishWarps; ++w) sum += sums[w][lane];
  return sum;
}

inline unsigned finish_blocks(std::int64_t outputs) {
  return static_cast<unsigned>((outputs + kFinishOutputs - 1) / kFinishOutputs);
}

// out (rows, columns) <- sum over splits of partials (splits, rows, columns)
static __global__ void __launch_bounds__(kFinishThreads)
    sum_splits(GemmOutput out, const float* partials, int splits, std::int64_t rows, int columns) {
  const double sum = sum_of_splits(partials, splits, rows * columns);
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * kFinishOutputs + threadIdx.x;
  if (threadIdx.x >= kFinishOutputs || e >= rows * columns) return;
  const int column = static_cast<int>(e % columns);
  const float value = static_cast<float>(out.bias ? sum + static_cast<double>(out.bias[column]) : sum);
  float& to = out.c[e / columns * out.stride + column];
  to = out.accumulate ? to + value : value;
}

}  // namespace fovea::FOVEA_GPU
