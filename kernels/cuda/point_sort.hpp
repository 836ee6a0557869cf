// The points of a grid by the cell between pixels they lie in, for the gradient of the map: with them, each
// pixel gathers from its four cells in a fixed order and nothing is added by atomics.
#pragma once
#include "kernels/cuda/point_position.hpp"

namespace fovea::FOVEA_GPU {

/// Cells (row + 1) * (width + 1) + column + 1 of the points between pixels; points outside come last.
struct Cells {
  int across, count;

  explicit Cells(const PointGeometry& p) : across(p.width + 1), count((p.height + 1) * (p.width + 1)) {}
  __device__ __forceinline__ int of(const Point& at) const {
    return at.inside() ? (at.row + 1) * across + at.column + 1 : count;
  }
};

struct CellOfNeuron {
  int cell, neuron;
};

// As many digits as banks: counts of different digits never meet in one.
constexpr int kSortThreads = 1024, kSortWarps = kSortThreads / 32, kDigitBits = 5, kDigits = 1 << kDigitBits;

/// The lanes of a warp with the same digit; `present` are those that have one.
__device__ __forceinline__ unsigned same_digit(int digit, unsigned present) {
  unsigned same = present;
  GPU_UNROLL
  for (int bit = 0; bit < kDigitBits; ++bit) {
    const unsigned set = __ballot_sync(0xffffffffu, digit >> bit & 1);
    same &= digit >> bit & 1 ? set : ~set;
  }
  return same;
}

/// The sum of the counts of the lanes before.
__device__ __forceinline__ int sum_before(int count, int lane) {
  int sum = count;
  GPU_UNROLL
  for (int delta = 1; delta < 32; delta *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, sum, delta);
    if (lane >= delta) sum += other;
  }
  return sum - count;
}

// sorted (2, grids, neurons): a stable radix sort of each grid by one block; the result lies in half
// (passes - 1) % 2. A warp has a run of neurons and keeps their order. Blocks: x = grid.
__global__ void __launch_bounds__(kSortThreads)
    sort_cells(CellOfNeuron* sorted, const float* grid, PointGeometry p, Cells cells, int passes) {
  static_assert(kDigits == 32);
  GPU_SHARED(int, next, [kSortWarps][kDigits]);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = blockIdx.x;
  const int run = (p.neurons + kSortThreads - 1) / kSortThreads * 32;
  const int begin = min(warp * run, p.neurons), end = min(begin + run, p.neurons);
  const std::size_t half = static_cast<std::size_t>(gridDim.x) * p.neurons,
                    own = static_cast<std::size_t>(g) * p.neurons;
  for (int pass = 0; pass < passes; ++pass) {
    const CellOfNeuron* from = sorted + (pass + 1) % 2 * half + own;
    CellOfNeuron* to = sorted + pass % 2 * half + own;
    const int shift = pass * kDigitBits;
    const auto read = [&](int i) {
      return pass == 0 ? CellOfNeuron{cells.of(point_at(grid, g, i, p)), i} : from[i];
    };
    next[warp][lane] = 0;
    __syncthreads();
    for (int i = begin + lane; i < end; i += 32)
      atomicAdd(&next[warp][read(i).cell >> shift & (kDigits - 1)], 1);
    __syncthreads();
    if (warp == 0) {  // a lane a digit: where the run of every warp goes
      int sum = 0;
      for (int w = 0; w < kSortWarps; ++w) sum += next[w][lane];
      int to_warp = sum_before(sum, lane);
      for (int w = 0; w < kSortWarps; ++w) {
        const int count = next[w][lane];
        next[w][lane] = to_warp;
        to_warp += count;
      }
    }
    __syncthreads();
    const auto read_if_there = [&](int i) { return i < end ? read(i) : CellOfNeuron{0, 0}; };
    CellOfNeuron following = read_if_there(begin + lane);
    for (int first = begin; first < end; first += 32) {
      const bool present = first + lane < end;
      const CellOfNeuron item = following;
      following = read_if_there(first + 32 + lane);
      const int digit = item.cell >> shift & (kDigits - 1);
      const unsigned same = same_digit(digit, __ballot_sync(0xffffffffu, present));
      const unsigned before = same & ((1u << lane) - 1);
      if (present) to[next[warp][digit] + __popc(before)] = item;
      __syncwarp();
      if (present && before == 0) next[warp][digit] += __popc(same);
      __syncwarp();
    }
    __syncthreads();
  }
}

/// What a pixel needs of a point.
struct SortedPoint {
  float above, below, left, right;
  int neuron, column;
};

constexpr int kIndexThreads = 256;

// starts (grids, cells + 1): the first point of a cell or behind it; points (grids, neurons) in order of
// their cells. Blocks: x = grid and 256 entries of both.
__global__ void __launch_bounds__(kIndexThreads)
    index_cells(int* starts, SortedPoint* points, const CellOfNeuron* sorted, const float* grid,
                PointGeometry p, Cells cells, int blocks_per_grid) {
  const int g = blockIdx.x / blocks_per_grid;
  const int e = blockIdx.x % blocks_per_grid * kIndexThreads + threadIdx.x;
  const CellOfNeuron* own = sorted + static_cast<std::size_t>(g) * p.neurons;
  if (e <= cells.count) {
    int low = 0, high = p.neurons;
    while (low < high) {
      const int middle = low + (high - low) / 2;
      if (own[middle].cell < e)
        low = middle + 1;
      else
        high = middle;
    }
    starts[static_cast<std::size_t>(g) * (cells.count + 1) + e] = low;
  }
  if (e >= p.neurons) return;
  const Point at = point_at(grid, g, own[e].neuron, p);
  points[static_cast<std::size_t>(g) * p.neurons + e] = {at.above, at.below,      at.left,
                                                         at.right, own[e].neuron, at.column};
}

}  // namespace fovea::FOVEA_GPU
