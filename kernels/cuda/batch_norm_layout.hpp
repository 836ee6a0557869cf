// Where the values of (rows, channels) go: to vectors of threads whose channels never change, and to sums per
// channel in shared memory. For kernels/cuda/batch_norm.cu.
#pragma once
#include "kernels/batch_norm.hpp"
#include "kernels/cuda/vectors.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kMaxThreads = 512, kThreads = 256, kVectors = 8;

/// How the values are spread over the threads. `pitch` values that a row of vectors covers: the shortest
/// whole number of rows that is a whole number of vectors; one row where that would be too long for a block.
/// A block takes `columns` vectors of `groups` such rows at once.
struct Layout {
  std::int64_t count, rows;
  int channels, pitch, columns, groups, chunks, tiles;
  bool wide;  // one row is a row of vectors, in `tiles` blocks

  int threads() const { return (columns * groups + 31) / 32 * 32; }
  dim3 grid() const { return dim3(static_cast<unsigned>(chunks), static_cast<unsigned>(tiles)); }
};

Layout layout_of(const BatchNormShape& s) {
  const int channels = static_cast<int>(s.channels);
  const int period = channels % 4 == 0 ? channels / 4 : channels % 2 == 0 ? channels / 2 : channels;
  Layout l{s.rows * s.channels, s.rows, channels, 4 * period, period, 1, 0, 1, period > kMaxThreads};
  if (l.wide) {
    l.pitch = channels;
    l.columns = kThreads;
    l.tiles = (channels + 4 * kThreads - 1) / (4 * kThreads);
  } else if (period < kThreads) {
    l.groups = kThreads / period;
  }
  const std::int64_t chunk = std::int64_t{l.pitch} * l.groups * kVectors;
  l.chunks = static_cast<int>((l.count + chunk - 1) / chunk);
  return l;
}

/// The values of one thread: vector k begins at at(k) and has values(k) of them.
struct Place {
  std::int64_t first;
  int step, lanes, left;  // lanes: of a vector that lie in a row of vectors; left: values from first on

  __device__ explicit Place(const Layout& l) {
    const int thread = threadIdx.x, group = thread / l.columns;
    const int column = 4 * (static_cast<int>(blockIdx.y) * l.columns + thread % l.columns);
    first = (static_cast<std::int64_t>(blockIdx.x) * kVectors * l.groups + group) * l.pitch + column;
    step = l.groups * l.pitch;
    lanes = group < l.groups ? max(min(l.pitch - column, 4), 0) : 0;
    left = static_cast<int>(max(min(l.count - first, std::int64_t{0x40000000}), std::int64_t{0}));
  }
  __device__ std::int64_t at(int k) const { return first + std::int64_t{k} * step; }
  __device__ int values(int k) const { return max(min(left - k * step, lanes), 0); }
};

/// Sums in shared memory, a slot per value of the threads' vectors; those of one channel are `slots_of`
/// apart. Vectors, so that what a warp stores at once has no bank conflicts.
using SumTable = float4[kMaxThreads];

__host__ __device__ __forceinline__ int slots_of(const Layout& l) {
  return l.wide ? 4 * l.columns : l.channels;
}

__device__ __forceinline__ float* values_of(SumTable& table) { return &table[0].x; }

__device__ __forceinline__ void put(SumTable& table, const Values<4>& v) {
  table[threadIdx.x] = make_float4(v.at[0], v.at[1], v.at[2], v.at[3]);
}

/// What a table with a value per slot has for the thread's four channels.
__device__ __forceinline__ Values<4> of_channels(const float* table, const Layout& l) {
  const int slots = slots_of(l), slot = 4 * static_cast<int>(threadIdx.x) % slots;
  if (slots % 4 == 0) return load<4>(table + slot);
  Values<4> v;
  GPU_UNROLL
  for (int j = 0; j < 4; ++j) v.at[j] = table[(slot + j) % slots];
  return v;
}

/// Slot c of tables[begin .. end) <- the sum of its channel, by a fixed tree.
template <int begin, int end>
__device__ __forceinline__ void sum_slots(SumTable* tables, const Layout& l) {
  const int slots = slots_of(l);
  int rows = 4 * l.columns * l.groups / slots;
  __syncthreads();
  while (rows > 1) {
    const int half = (rows + 1) / 2, pairs = (rows - half) * slots;
    for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
      GPU_UNROLL
      for (int t = begin; t < end; ++t) {
        float* sums = values_of(tables[t]);
        sums[i] += sums[i + half * slots];
      }
    }
    __syncthreads();
    rows = half;
  }
}

__device__ __forceinline__ std::int64_t rows_of_chunk(const Layout& l) {
  const std::int64_t chunk = static_cast<std::int64_t>(l.pitch) / l.channels * l.groups * kVectors;
  return min(l.rows - blockIdx.x * chunk, chunk);
}

}  // namespace
}  // namespace fovea::FOVEA_GPU
