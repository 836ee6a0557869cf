// Convolutions of any geometry as products of matrices that are never stored: rows are target pixels, columns
// the channels of a group, the sum runs over taps and source channels.
//
// Forward and input gradient are the same gather with other numbers: target pixel p sees through tap k the
// source pixel (p * scale + k * step + shift) / divisor, where that is whole and inside.
#pragma once
#include "kernels/cuda/gemm_tile.hpp"

namespace fovea::FOVEA_GPU {

struct GatherAxis {
  int source, target, kernel;
  int scale, step, shift, divisor;
};

struct Gather {
  int source_channels, target_channels, groups;  // channels of all groups
  GatherAxis t, h, w;
  std::int64_t pixels;  // of the target, all items

  __host__ __device__ int sources() const { return source_channels / groups; }
  __host__ __device__ int targets() const { return target_channels / groups; }
  __host__ __device__ int taps() const { return t.kernel * h.kernel * w.kernel; }
  __host__ __device__ int terms() const { return taps() * sources(); }
};

/// Where in the source the window of a target pixel begins: coordinates times the divisors, and the item.
struct Window {
  int t, h, w;
  std::int64_t item;

  __device__ Window(const Gather& g, std::int64_t pixel) {
    w = static_cast<int>(pixel % g.w.target) * g.w.scale + g.w.shift;
    pixel /= g.w.target;
    h = static_cast<int>(pixel % g.h.target) * g.h.scale + g.h.shift;
    pixel /= g.h.target;
    t = static_cast<int>(pixel % g.t.target) * g.t.scale + g.t.shift;
    item = pixel / g.t.target;
  }
};

// ---- weights and terms in the order of the sum
// -------------------------------------------------------------------

constexpr int kPackThreads = 256;

/// Packed weights: packed[group * group_stride + term * term_stride + target], targets padded with zeros to
/// `padded`; term = tap * sources + source.
struct Packing {
  std::int64_t group_stride, term_stride;
  int padded;
};

// packed <- weight (O, I/G, taps); transposed: sources are the O. offsets (terms) <- per term the steps along
// t, h, w and, where no divisor cuts them, the distance of the source element.
static __global__ void __launch_bounds__(kPackThreads)
    pack_weights(float* packed, int4* offsets, const float* weight, Gather g, Packing p, bool transposed) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * kPackThreads + threadIdx.x;
  const int sources = g.sources(), targets = g.targets(), taps = g.taps(), terms = g.terms();
  if (e < terms) {
    const int tap = static_cast<int>(e) / sources, source = static_cast<int>(e) % sources;
    const int t = tap / g.w.kernel / g.h.kernel * g.t.step, h = tap / g.w.kernel % g.h.kernel * g.h.step,
              w = tap % g.w.kernel * g.w.step;
    offsets[e] = make_int4(t, h, w, ((t * g.h.source + h) * g.w.source + w) * g.source_channels + source);
  }
  if (e >= static_cast<std::int64_t>(g.groups) * terms * p.padded) return;
  const int target = static_cast<int>(e % p.padded), term = static_cast<int>(e / p.padded % terms);
  const std::int64_t group = e / p.padded / terms;
  const int tap = term / sources, source = term % sources;
  float value = 0.f;
  if (target < targets)
    value = transposed ? weight[((group * sources + source) * targets + target) * taps + tap]
                       : weight[((group * targets + target) * sources + source) * taps + tap];
  packed[group * p.group_stride + term * p.term_stride + target] = value;
}

// ---- tiles
// -------------------------------------------------------------------------------------------------------

__device__ __forceinline__ bool inside(int i, int size) {
  return static_cast<unsigned>(i) < static_cast<unsigned>(size);
}

/// The source element that a window sees at an offset, relative to the element of the window's base; false if
/// there is none. Bases and offsets count elements; with divisors the base is the item's first element and
/// the offset the channel.
template <bool Divided>
__device__ __forceinline__ bool seen(const Gather& g, int4 window, int4 offset, std::int64_t& element) {
  int t = window.x + offset.x, h = window.y + offset.y, w = window.z + offset.z;
  if constexpr (Divided) {
    if (t < 0 || h < 0 || w < 0 || t % g.t.divisor || h % g.h.divisor || w % g.w.divisor) return false;
    t /= g.t.divisor, h /= g.h.divisor, w /= g.w.divisor;
    element = ((static_cast<std::int64_t>(t) * g.h.source + h) * g.w.source + w) * g.source_channels;
  } else {
    element = offset.w;
  }
  return inside(t, g.t.source) && inside(h, g.h.source) && inside(w, g.w.source);
}

// out (chunks, pixels, target channels) <- source, packed weights. Blocks: x = tile (columns, then groups,
// then rows), y = chunk of terms.
template <class Tile, bool Divided>
__global__ void __launch_bounds__(Tile::Threads, Tile::Blocks)
    convolve_tiles(GemmOutput out, const float* source, const float* packed, const int4* offsets, Gather g,
                   Packing packing, int column_tiles, int chunk) {
  GPU_SHARED(int4, windows, [Tile::Rows]);
  GPU_SHARED(std::int64_t, bases, [Tile::Rows]);
  const int column = blockIdx.x % column_tiles * Tile::Columns;
  const int group = blockIdx.x / column_tiles % g.groups;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x / column_tiles / g.groups) * Tile::Rows;
  const int rows = static_cast<int>(min(g.pixels - row, static_cast<std::int64_t>(Tile::Rows)));
  const int columns = min(g.targets() - column, Tile::Columns);
  const int begin = blockIdx.y * chunk, terms = min(chunk, g.terms() - begin);
  for (int r = threadIdx.x; r < rows; r += Tile::Threads) {
    const Window window(g, row + r);
    windows[r] = make_int4(window.t, window.h, window.w, 0);
    std::int64_t pixel = window.item * g.t.source * g.h.source * g.w.source;
    if (!Divided)
      pixel += (static_cast<std::int64_t>(window.t) * g.h.source + window.h) * g.w.source + window.w;
    bases[r] = pixel * g.source_channels + group * g.sources();
  }
  __syncthreads();
  const float* weights = packed + group * packing.group_stride + column;
  TileSums<Tile> sums;
  multiply_tile<Tile>(sums, ceil_div(terms, kDepth), [&](int step, float* a, float* b) {
    const int done = begin + step * kDepth, left = terms - step * kDepth;
    const int k = threadIdx.x % kDepth;
    const int4 offset = k < left ? offsets[done + k] : make_int4(0, 0, 0, 0);
    const int channel = (done + k) % g.sources();
    GPU_NO_UNROLL
    for (int r = threadIdx.x / kDepth; r < Tile::Rows; r += Tile::Threads / kDepth) {
      std::int64_t element = 0;
      const bool ok = k < left && r < rows && seen<Divided>(g, windows[r], offset, element);
      if (Divided) element += channel;
      gpu::cp_async<4>(&a[k * Tile::ARow + r], ok ? source + bases[r] + element : source, ok);
    }
    stage_straight<Tile::Threads, Tile::Columns>(b, weights + done * packing.term_stride, packing.term_stride,
                                                 columns, left, true);
  });
  const int first = group * g.targets() + column;
  write_tile<Tile>(out, out.c + (blockIdx.y * g.pixels + row) * out.stride + first,
                   out.bias ? out.bias + first : nullptr, sums, rows, columns);
}

// ---- groups of few channels
// --------------------------------------------------------------------------------------

constexpr int kPlainThreads = 128;

// One thread per output, channels fastest; packed[term * target channels + target channel].
template <bool Divided>
__global__ void __launch_bounds__(kPlainThreads)
    convolve_plain(GemmOutput out, const float* source, const float* packed, Gather g) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * kPlainThreads + threadIdx.x;
  if (e >= g.pixels * g.target_channels) return;
  const int target = static_cast<int>(e % g.target_channels), sources = g.sources();
  const Window window(g, e / g.target_channels);
  const int4 begin = make_int4(window.t, window.h, window.w, 0);
  const float* item = source + window.item * g.t.source * g.h.source * g.w.source * g.source_channels +
                      target / g.targets() * sources;
  const float* weights = packed + target;
  float sum = 0.f;
  for (int kt = 0; kt < g.t.kernel; ++kt)
    for (int kh = 0; kh < g.h.kernel; ++kh)
      for (int kw = 0; kw < g.w.kernel;
           ++kw, weights += static_cast<std::int64_t>(sources) * g.target_channels) {
        std::int64_t element = 0;
        const int t = kt * g.t.step, h = kh * g.h.step, w = kw * g.w.step;
        if (!seen<Divided>(g, begin, make_int4(t, h, w, 0), element)) continue;
        if (!Divided)
          element = ((static_cast<std::int64_t>(begin.x + t) * g.h.source + begin.y + h) * g.w.source +
                     begin.z + w) *
                    g.source_channels;
        for (int i = 0; i < sources; ++i)
          sum = gpu::fma(item[element + i], weights[static_cast<std::int64_t>(i) * g.target_channels], sum);
      }
  if (out.bias) sum += out.bias[target];
  out.c[e] = out.accumulate ? out.c[e] + sum : sum;
}

}  // namespace fovea::FOVEA_GPU
