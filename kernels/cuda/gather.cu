// Entries of one axis by index. The gradient needs no atomics: the choices of every source entry are first
// chained in their order, then each source entry adds up its own chain.
#include "kernels/cuda/kernels.hpp"

#include "kernels/cuda/division.hpp"
#include "kernels/cuda/map.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/cuda/scratch.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kWarps = 8;

/// The axes of an item of N values of the inner axis: (outer, entry, unit).
struct Item {
  std::int64_t outer, entry, unit;
};

struct ItemAxes {
  std::int64_t items;
  Divisor units, entries;

  ItemAxes(std::int64_t outer, std::int64_t entries_, std::int64_t units_)
      : items(outer * entries_ * units_), units(units_), entries(entries_) {}
  __device__ __forceinline__ Item operator()(std::int64_t item) const {
    const Division by_unit = units(item), by_entry = entries(by_unit.quotient);
    return {by_entry.quotient, by_entry.remainder, by_unit.remainder};
  }
};

template <int N>
__global__ void __launch_bounds__(kMapThreads)
    gather_kernel(float* y, const float* x, const std::int64_t* index, const float* scales, GatherShape s,
                  ItemAxes axes) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kMapThreads + threadIdx.x;
  if (i >= axes.items) return;
  const Item item = axes(i);
  const float scale = scales ? scales[item.entry] : 1.f;
  Values<N> values = load<N>(x + (item.outer * s.source + index[item.entry]) * s.inner + item.unit * N);
  GPU_UNROLL
  for (int k = 0; k < N; ++k) values.at[k] = values.at[k] * scale;
  store<N>(y + i * N, values);
}

// chain (source + count) <- for every source entry the first n that chose it, then for every n the next that
// chose the same; -1: none. A warp looks for one of them.
__global__ void __launch_bounds__(32 * kWarps)
    chain_kernel(int* chain, const std::int64_t* index, int source, int count) {
  const std::int64_t slot = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (slot >= static_cast<std::int64_t>(source) + count) return;
  const bool first = slot < source;
  const int self = static_cast<int>(slot - source);
  const std::int64_t wanted = first ? slot : index[self];
  int found = -1;
  for (int begin = first ? 0 : self + 1; begin < count && found < 0; begin += 32) {
    const bool chosen = begin < count - lane && index[begin + lane] == wanted;
    const unsigned lanes = __ballot_sync(0xffffffffu, chosen);
    if (lanes) found = begin + __ffs(static_cast<int>(lanes)) - 1;
  }
  if (lane == 0) chain[slot] = found;
}

template <int N>
__global__ void __launch_bounds__(kMapThreads)
    scatter_kernel(float* dx, const float* dy, const int* chain, const float* scales, GatherShape s,
                   ItemAxes axes, bool accumulate) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kMapThreads + threadIdx.x;
  if (i >= axes.items) return;
  const Item item = axes(i);
  Values<N> sum{};
  for (int n = chain[item.entry]; n >= 0; n = chain[s.source + n]) {
    const float scale = scales ? scales[n] : 1.f;
    const Values<N> d = load<N>(dy + (item.outer * s.count + n) * s.inner + item.unit * N);
    GPU_UNROLL
    for (int k = 0; k < N; ++k) sum.at[k] = gpu::fma(d.at[k], scale, sum.at[k]);
  }
  if (accumulate) sum = added(load<N>(dx + i * N), sum);
  store<N>(dx + i * N, sum);
}

// ---- dscales: a warp to an entry, lanes along the inner axis; where that is short lanes are neighbouring
// entries, and the warps of a block share the outer axis.

__device__ __forceinline__ void write(float* to, double sum, bool accumulate) {
  const float value = static_cast<float>(sum);
  *to = accumulate ? *to + value : value;
}

__global__ void __launch_bounds__(32 * kWarps)
    scales_along_inner(float* dscales, const float* dy, const float* x, const std::int64_t* index,
                       GatherShape s, Divisor inner, bool accumulate) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (n >= s.count) return;
  const int lane = threadIdx.x % 32;
  double sum = 0;
  for (std::int64_t i = lane; i < s.outer * s.inner; i += 32) {
    const Division at = inner(i);
    sum += static_cast<double>(dy[(at.quotient * s.count + n) * s.inner + at.remainder]) *
           static_cast<double>(x[(at.quotient * s.source + index[n]) * s.inner + at.remainder]);
  }
  sum = warp_sum<32>(sum);
  if (lane == 0) write(dscales + n, sum, accumulate);
}

__global__ void __launch_bounds__(32 * kWarps)
    scales_along_outer(float* dscales, const float* dy, const float* x, const std::int64_t* index,
                       GatherShape s, bool accumulate) {
  GPU_SHARED(double, sums, [kWarps][32]);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * 32 + lane;
  double sum = 0;
  if (n < s.count)
    for (std::int64_t o = warp; o < s.outer; o += kWarps)
      for (std::int64_t i = 0; i < s.inner; ++i)
        sum += static_cast<double>(dy[(o * s.count + n) * s.inner + i]) *
               static_cast<double>(x[(o * s.source + index[n]) * s.inner + i]);
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || n >= s.count) return;
  double total = 0;
  GPU_UNROLL
  for (int w = 0; w < kWarps; ++w) total += sums[w][lane];
  write(dscales + n, total, accumulate);
}

// ---- launchers
// -------------------------------------------------------------------------------------------------

void forward(float* y, const float* x, const std::int64_t* index, const float* scales, const GatherShape& s,
             const Queue& queue) {
  if (s.outer <= 0 || s.count <= 0 || s.inner <= 0) return;
  const bool vectors = aligned(y, x) && s.inner % 4 == 0;
  const ItemAxes axes(s.outer, s.count, vectors ? s.inner / 4 : s.inner);
  gpu::launch(vectors ? gather_kernel<4> : gather_kernel<1>, blocks_for(axes.items), kMapThreads, 0,
              queue.stream, y, x, index, scales, s, axes);
}

void grad_input(float* dx, const float* dy, const std::int64_t* index, const float* scales,
                const GatherShape& s, bool accumulate, const Queue& queue) {
  if (s.outer <= 0 || s.source <= 0 || s.inner <= 0) return;
  const Scratch<int> chain(queue, static_cast<std::size_t>(s.source + s.count));
  gpu::launch(chain_kernel, blocks_for(s.source + s.count, kWarps), 32 * kWarps, 0, queue.stream,
              chain.data(), index, static_cast<int>(s.source), static_cast<int>(s.count));
  const bool vectors = aligned(dx, dy) && s.inner % 4 == 0;
  const ItemAxes axes(s.outer, s.source, vectors ? s.inner / 4 : s.inner);
  gpu::launch(vectors ? scatter_kernel<4> : scatter_kernel<1>, blocks_for(axes.items), kMapThreads, 0,
              queue.stream, dx, dy, static_cast<const int*>(chain.data()), scales, s, axes, accumulate);
}

void grad_scales(float* dscales, const float* dy, const float* x, const std::int64_t* index,
                 const GatherShape& s, bool accumulate, const Queue& queue) {
  if (s.count <= 0) return;
  if (s.inner >= 8)
    gpu::launch(scales_along_inner, blocks_for(s.count, kWarps), 32 * kWarps, 0, queue.stream, dscales, dy, x,
                index, s, Divisor(s.inner), accumulate);
  else
    gpu::launch(scales_along_outer, blocks_for(s.count, 32), 32 * kWarps, 0, queue.stream, dscales, dy, x,
                index, s, accumulate);
}

void grad(float* dx, float* dscales, const float* dy, const float* x, const std::int64_t* index,
          const float* scales, const GatherShape& s, Write dx_mode, Write scales_mode, const Queue& queue) {
  if (dx) grad_input(dx, dy, index, scales, s, dx_mode == Write::accumulate, queue);
  if (dscales) grad_scales(dscales, dy, x, index, s, scales_mode == Write::accumulate, queue);
}

}  // namespace

void fill(GatherKernels<float>& table) { table = {forward, grad}; }

}  // namespace fovea::FOVEA_GPU
