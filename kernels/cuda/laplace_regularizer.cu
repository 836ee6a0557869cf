// The Laplacian of filters: its energy and the slopes, in double precision, because a slope can be the
// difference of nearly equal numbers.
//
// First the sums, a thread a centre; then the slopes, which need the energy where it is divided by the norm:
// a block has a tile of elements and puts what every centre around them gives its taps into shared memory.
// Lanes take neighbours there, those of the border as well, so that none meet in banks.
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/cuda/scratch.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kThreads = 256, kPerThread = 8, kChunk = kThreads * kPerThread, kFinishThreads = 1024;
constexpr int kTileCentres = 1536;  // of a block's tile, its border of one centre included

struct Laplace {
  std::int64_t filters;
  int height, width, first_row, first_column, rows, columns;  // the centres: rows from first_row on
  bool in_time, absolute, ratio;
  double eps, factor;
};

Laplace laplace_of(const LaplaceShape& s) {
  const auto border = static_cast<int>(1 - s.padding), sides = s.in_time ? 0 : border;
  const auto height = static_cast<int>(s.height), width = static_cast<int>(s.width);
  const int rows = height - 2 * border, columns = width - 2 * sides;
  const bool any = rows > 0 && columns > 0;
  return {s.filters,         height,    width,      border,  sides, any ? rows : 0,
          any ? columns : 0, s.in_time, s.absolute, s.ratio, s.eps, s.factor};
}

/// The Laplacian of a filter times the window, where there is a centre.
struct Centres {
  const float *w, *window;
  Laplace l;

  __device__ double value(const float* filter, int row, int column) const {
    const auto at = [&](int r, int c) {
      const bool inside = r >= 0 && r < l.height && c >= 0 && c < l.width;
      return inside ? static_cast<double>(filter[r * l.width + c]) : 0.0;
    };
    double sum = (l.in_time ? 2.0 : 4.0) * at(row, column) - at(row - 1, column) - at(row + 1, column);
    if (!l.in_time) sum = sum - at(row, column - 1) - at(row, column + 1);
    return sum * weight(row, column);
  }
  __device__ double weight(int row, int column) const {
    const int position = (row - l.first_row) * l.columns + column - l.first_column;
    return window ? static_cast<double>(window[position]) : 1.0;
  }
  __device__ bool exist(int row, int column) const {
    return row >= l.first_row && row < l.first_row + l.rows && column >= l.first_column &&
           column < l.first_column + l.columns;
  }
  __device__ const float* filter(std::int64_t index) const { return w + index * l.height * l.width; }
};

/// Sums of the terms of a block's centres and of the squares of its elements.
struct Sums {
  double energy, squares;
};

__global__ void __launch_bounds__(kThreads) sum_centres(Sums* partials, Centres c) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kChunk + threadIdx.x;
  const int per_filter = c.l.rows * c.l.columns;
  const std::int64_t centres = c.l.filters * per_filter, elements = c.l.filters * c.l.height * c.l.width;
  double energy = 0, squares = 0;
  GPU_UNROLL
  for (int k = 0; k < kPerThread; ++k) {
    const std::int64_t i = first + k * kThreads;
    if (i < centres) {
      const int position = static_cast<int>(i % per_filter);
      const double lap = c.value(c.filter(i / per_filter), c.l.first_row + position / c.l.columns,
                                 c.l.first_column + position % c.l.columns);
      energy += c.l.absolute ? fabs(lap) : lap * lap;
    }
    if (c.l.ratio && i < elements) squares += static_cast<double>(c.w[i]) * c.w[i];
  }
  energy = block_sum<kThreads>(energy);
  if (c.l.ratio) squares = block_sum<kThreads>(squares);
  if (threadIdx.x == 0) partials[blockIdx.x] = {energy, squares};
}

/// What the slopes need of the sums; energy / norm and the norm.
struct Ratio {
  double value, norm;
};

__global__ void __launch_bounds__(kFinishThreads)
    finish_laplace(float* value, Ratio* ratio, const Sums* partials, int count, Laplace l) {
  Sums sums{};
  for (int i = threadIdx.x; i < count; i += kFinishThreads) {
    sums.energy += partials[i].energy;
    sums.squares += partials[i].squares;
  }
  const double energy = block_sum<kFinishThreads>(sums.energy);
  const double norm = l.ratio ? l.eps + block_sum<kFinishThreads>(sums.squares) : 1.0;
  if (threadIdx.x != 0) return;
  *value = static_cast<float>(l.factor * energy / norm);
  *ratio = {energy / norm, norm};
}

/// A block's elements: `filters` filters, or height x width elements of one.
struct Tile {
  int filters, height, width, across, down;  // across, down: tiles of a filter
};

__global__ void __launch_bounds__(kThreads)
    laplace_slopes(float* slope, const Ratio* ratio, Centres c, Tile tile) {
  GPU_SHARED(double, pulls, [kTileCentres]);  // of every centre, with a border of one around the tile
  const Laplace& l = c.l;
  const int in_filter = static_cast<int>(blockIdx.x % (tile.across * tile.down));
  const std::int64_t first_filter =
      static_cast<std::int64_t>(blockIdx.x / (tile.across * tile.down)) * tile.filters;
  const int first_row = in_filter / tile.across * tile.height,
            first_column = in_filter % tile.across * tile.width;
  const int filters =
      static_cast<int>(min(l.filters - first_filter, static_cast<std::int64_t>(tile.filters)));
  const double norm = ratio->norm;

  const int pitch = tile.width + 2, size = (tile.height + 2) * pitch;
  for (int i = threadIdx.x; i < filters * size; i += kThreads) {
    const int row = first_row - 1 + i % size / pitch, column = first_column - 1 + i % size % pitch;
    double pull = 0;
    if (c.exist(row, column)) {
      const double lap = c.value(c.filter(first_filter + i / size), row, column);
      pull = l.absolute ? (lap > 0.0 ? 1.0 : lap < 0.0 ? -1.0 : 0.0) : 2.0 * lap;
      pull *= l.factor * c.weight(row, column) / norm;
    }
    pulls[i] = pull;
  }
  __syncthreads();

  for (int i = threadIdx.x; i < filters * size; i += kThreads) {
    const int row = i % size / pitch - 1, column = i % size % pitch - 1;
    if (row < 0 || row >= min(tile.height, l.height - first_row)) continue;
    if (column < 0 || column >= min(tile.width, l.width - first_column)) continue;
    const double* at = pulls + i;
    double sum = (l.in_time ? 2.0 : 4.0) * at[0] - at[-pitch] - at[pitch];
    if (!l.in_time) sum = sum - at[-1] - at[1];
    const std::int64_t element =
        ((first_filter + i / size) * l.height + first_row + row) * l.width + first_column + column;
    if (l.ratio) sum -= 2.0 * l.factor * c.w[element] * ratio->value / norm;
    slope[element] = static_cast<float>(sum);
  }
}

/// Whole filters where they fit, else tiles of one, as wide as possible up to 64 columns.
Tile tile_of(const Laplace& l) {
  constexpr int widest = 64;
  const std::int64_t whole = std::int64_t{l.height + 2} * (l.width + 2);
  if (whole <= kTileCentres) return {kTileCentres / static_cast<int>(whole), l.height, l.width, 1, 1};
  const int width = l.width < widest ? l.width : widest;
  const int most = kTileCentres / (width + 2) - 2, height = l.height < most ? l.height : most;
  return {1, height, width, ceil_div(l.width, width), ceil_div(l.height, height)};
}

void laplace(float* value, float* slope, const float* w, const float* window, const LaplaceShape& s,
             const Queue& queue) {
  const Centres centres{w, window, laplace_of(s)};
  const Laplace& l = centres.l;
  const std::int64_t per_filter = std::int64_t{l.rows} * l.columns, size = s.height * s.width;
  const std::int64_t items = s.filters * (per_filter > size ? per_filter : size);
  const auto blocks = static_cast<int>((items + kChunk - 1) / kChunk);
  const Scratch<Sums> partials(queue, static_cast<std::size_t>(blocks));
  const Scratch<Ratio> ratio(queue, 1);
  if (blocks) gpu::launch(sum_centres, blocks, kThreads, 0, queue.stream, partials.data(), centres);
  gpu::launch(finish_laplace, 1, kFinishThreads, 0, queue.stream, value, ratio.data(), partials.data(),
              blocks, l);
  if (!slope || s.filters * size == 0) return;
  const Tile tile = tile_of(l);
  const std::int64_t groups = (s.filters + tile.filters - 1) / tile.filters;
  gpu::launch(laplace_slopes, static_cast<unsigned>(groups * tile.across * tile.down), kThreads, 0,
              queue.stream, slope, ratio.data(), centres, tile);
}

}  // namespace

void fill_laplace(RegularizerKernels<float>& table) { table.laplace = laplace; }

}  // namespace fovea::FOVEA_GPU
