// Copies, sums, layout changes and in-place constraints.
#include "kernels/cuda/kernels.hpp"

#include "kernels/cuda/copy_rows.hpp"
#include "kernels/cuda/map.hpp"

namespace fovea::FOVEA_GPU {
namespace {

struct Same {
  __device__ __forceinline__ float operator()(float x) const { return x; }
};

struct Scaled {
  float factor;
  __device__ __forceinline__ float operator()(float x) const { return x * factor; }
};

struct Product {
  __device__ __forceinline__ float operator()(float a, float b) const { return a * b; }
};

struct Clamped {
  float least, most;
  __device__ __forceinline__ float operator()(float x) const {
    if (x < least) x = least;
    return x > most ? most : x;
  }
};

struct Magnitude {
  __device__ __forceinline__ float operator()(float x) const { return fabsf(x); }
};

// ---- transposes: tiles of 1024 values through shared memory, read along columns and written along rows.
// Tiles are square where the matrix is large; of few rows or columns they take as many as there are, and of
// small matrices several. Rows and columns of one matrix are below 2^31.

constexpr int kTransposeThreads = 256, kLogTile = 10;

/// A tile is (1 << log_batch, 1 << log_rows, 1 << log_columns).
struct TransposeTile {
  int log_batch, log_rows, log_columns;
  // Words that follow every 32 of the tile in shared memory, so that neither access meets a bank twice: lanes
  // that walk along a column step through the banks by 32 / rows.
  int padding;

  explicit TransposeTile(const PermuteShape& s) {
    const auto log_of = [](std::int64_t extent, int most) {
      int log = 0;
      while (log < most && (std::int64_t{1} << log) < extent) ++log;
      return log;
    };
    log_rows = log_of(s.rows, 5);
    log_columns = log_of(s.columns, kLogTile - log_rows);
    if (log_rows == 5) {
      log_columns = log_of(s.columns, 5);
      log_rows = log_of(s.rows, kLogTile - log_columns);
    }
    log_batch = kLogTile - log_rows - log_columns;
    padding = log_columns >= 5 ? 1 << log_batch : log_rows >= 5 ? 1 : 32 >> log_rows;
  }

  std::size_t shared_bytes() const { return sizeof(float) * ((1 << kLogTile) + 32 * padding); }
  __device__ __forceinline__ int word(int batch, int row, int column) const {
    const int linear = (((batch << log_rows) + row) << log_columns) + column;
    return linear + (linear >> 5) * padding;
  }
};

/// Where in its tile value i of a thread lies.
struct TilePlace {
  int batch, row, column;
};

/// The matrices and how tiles cover them; what of a tile lies inside.
struct Transpose {
  std::int64_t batch;
  int rows, columns;
  TransposeTile tile;
  unsigned row_tiles, column_tiles;

  __device__ __forceinline__ TilePlace first_of(unsigned block) const {
    const unsigned matrix_row = block / column_tiles, batch_tile = matrix_row / row_tiles;
    return {static_cast<int>(batch_tile), static_cast<int>(matrix_row % row_tiles) << tile.log_rows,
            static_cast<int>(block % column_tiles) << tile.log_columns};
  }
};

template <bool several>  // matrices in a tile
__global__ void __launch_bounds__(kTransposeThreads)
    transpose_kernel(float* y, const float* x, Transpose s, bool accumulate) {
  GPU_DYN_SHARED(float, staged);
  constexpr int kEach = (1 << kLogTile) / kTransposeThreads;
  const TransposeTile& tile = s.tile;
  const TilePlace first = s.first_of(blockIdx.x);
  const std::int64_t first_batch = static_cast<std::int64_t>(first.batch) << tile.log_batch,
                     plane = static_cast<std::int64_t>(s.rows) * s.columns;
  const int rows = 1 << tile.log_rows, columns = 1 << tile.log_columns;
  const std::int64_t batch_here = s.batch - first_batch;
  const int rows_here = s.rows - first.row, columns_here = s.columns - first.column;
  const float* from =
      x + first_batch * plane + static_cast<std::int64_t>(first.row) * s.columns + first.column;
  float* to = y + first_batch * plane + static_cast<std::int64_t>(first.column) * s.rows + first.row;
  const auto inside = [&](const TilePlace& at) {
    return at.row < rows_here && at.column < columns_here && (!several || at.batch < batch_here);
  };
  const auto batch_of = [&](int i) { return several ? i >> (tile.log_columns + tile.log_rows) : 0; };
  float values[kEach];
  GPU_UNROLL
  for (int k = 0; k < kEach; ++k) {
    const int i = threadIdx.x + k * kTransposeThreads;
    const TilePlace at{batch_of(i), i >> tile.log_columns & (rows - 1), i & (columns - 1)};
    values[k] = 0;
    if (inside(at))
      values[k] = from[at.batch * plane + static_cast<std::int64_t>(at.row) * s.columns + at.column];
  }
  GPU_UNROLL
  for (int k = 0; k < kEach; ++k) {
    const int i = threadIdx.x + k * kTransposeThreads;
    staged[i + (i >> 5) * tile.padding] = values[k];
  }
  __syncthreads();
  GPU_UNROLL
  for (int k = 0; k < kEach; ++k) {
    const int i = threadIdx.x + k * kTransposeThreads;
    const TilePlace at{batch_of(i), i & (rows - 1), i >> tile.log_rows & (columns - 1)};
    if (!inside(at)) continue;
    const float value = staged[tile.word(at.batch, at.row, at.column)];
    float* own = to + at.batch * plane + static_cast<std::int64_t>(at.column) * s.rows + at.row;
    *own = accumulate ? *own + value : value;
  }
}

// ---- the norm constraint: a block takes 1 << log_lanes neighbours of the inner axis (lanes, so that loads
// are coalesced) and all of the reduced one.

constexpr int kNormThreads = 256;

__global__ void __launch_bounds__(kNormThreads)
    unit_norm_kernel(float* x, NormShape s, int log_lanes, unsigned inner_tiles) {
  GPU_SHARED(double, sums, [kNormThreads]);
  const int lanes = 1 << log_lanes, groups = kNormThreads >> log_lanes;
  const int lane = threadIdx.x & (lanes - 1), group = threadIdx.x >> log_lanes;
  const std::int64_t inner = (static_cast<std::int64_t>(blockIdx.x % inner_tiles) << log_lanes) + lane;
  float* own = x + static_cast<std::int64_t>(blockIdx.x / inner_tiles) * s.reduced * s.inner + inner;
  const std::int64_t reduced = inner < s.inner ? s.reduced : 0;
  double squares = 0;
  for (std::int64_t r = group; r < reduced; r += groups) {
    const double value = own[r * s.inner];
    squares += value * value;
  }
  sums[threadIdx.x] = squares;
  __syncthreads();
  for (int half = kNormThreads / 2; half >= lanes; half /= 2) {
    if (static_cast<int>(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  const float norm = static_cast<float>(sqrt(sums[lane] + s.eps));
  for (std::int64_t r = group; r < reduced; r += groups) own[r * s.inner] = own[r * s.inner] / norm;
}

// ---- launchers
// -------------------------------------------------------------------------------------------------

void add(float* y, const float* x, std::int64_t count, Write mode, const Queue& queue) {
  map(y, count, mode, queue, Same{}, x);
}

void scale(float* y, const float* x, double factor, std::int64_t count, Write mode, const Queue& queue) {
  map(y, count, mode, queue, Scaled{static_cast<float>(factor)}, x);
}

void permute(float* y, const float* x, const PermuteShape& s, Write mode, const Queue& queue) {
  if (s.rows == 1 || s.columns == 1) return add(y, x, s.batch * s.rows * s.columns, mode, queue);
  if (s.batch <= 0 || s.rows <= 0 || s.columns <= 0) return;
  const TransposeTile tile(s);
  const auto tiles = [](std::int64_t extent, int log) {
    return (extent + (std::int64_t{1} << log) - 1) >> log;
  };
  const std::int64_t row_tiles = tiles(s.rows, tile.log_rows),
                     column_tiles = tiles(s.columns, tile.log_columns),
                     blocks = tiles(s.batch, tile.log_batch) * row_tiles * column_tiles;
  const Transpose transpose{s.batch, static_cast<int>(s.rows),         static_cast<int>(s.columns),
                            tile,    static_cast<unsigned>(row_tiles), static_cast<unsigned>(column_tiles)};
  gpu::launch(tile.log_batch > 0 ? transpose_kernel<true> : transpose_kernel<false>,
              static_cast<unsigned>(blocks), kTransposeThreads, tile.shared_bytes(), queue.stream, y, x,
              transpose, mode == Write::accumulate);
}

void multiply(float* y, const float* a, const float* b, std::int64_t count, Write mode, const Queue& queue) {
  map(y, count, mode, queue, Product{}, a, b);
}

void copy_channels(float* y, const float* x, const ChannelCopy& s, Write mode, const Queue& queue) {
  copy_rows(y + s.y_first, x + s.x_first, {s.rows, s.count, s.y_channels, s.x_channels}, mode, queue);
}

void clamp(float* x, double least, double most, std::int64_t count, const Queue& queue) {
  map(x, count, Write::overwrite, queue, Clamped{static_cast<float>(least), static_cast<float>(most)},
      static_cast<const float*>(x));
}

void absolute(float* x, std::int64_t count, const Queue& queue) {
  map(x, count, Write::overwrite, queue, Magnitude{}, static_cast<const float*>(x));
}

void unit_norm(float* x, const NormShape& s, const Queue& queue) {
  if (s.outer <= 0 || s.reduced <= 0 || s.inner <= 0) return;
  int log_lanes = 0;
  while (log_lanes < 5 && (std::int64_t{1} << log_lanes) < s.inner) ++log_lanes;
  const unsigned inner_tiles = blocks_for(s.inner, 1 << log_lanes);
  gpu::launch(unit_norm_kernel, static_cast<unsigned>(s.outer * inner_tiles), kNormThreads, 0, queue.stream,
              x, s, log_lanes, inner_tiles);
}

}  // namespace

void fill(ElementwiseKernels<float>& table) {
  table = {add, scale, permute, multiply, copy_channels, clamp, absolute, unit_norm};
}

}  // namespace fovea::FOVEA_GPU
