// Gradients of weights and bias for any geometry: sums over all output pixels, cut into chunks that depend on
// the shape only, and added in order in a second pass.
#pragma once
#include "kernels/cuda/conv3d_general.hpp"

namespace fovea::FOVEA_GPU {

/// The output pixel of a thread, `step` pixels further at every call of next(), without divisions.
struct PixelWalk {
  int t, h, w;
  std::int64_t item;

  __device__ PixelWalk(const Gather& g, std::int64_t pixel)
      : t(static_cast<int>(pixel / g.w.target / g.h.target % g.t.target)),
        h(static_cast<int>(pixel / g.w.target % g.h.target)),
        w(static_cast<int>(pixel % g.w.target)),
        item(pixel / g.w.target / g.h.target / g.t.target) {}

  __device__ void next(const Gather& g, int step) {
    w += step;
    while (w >= g.w.target) {
      w -= g.w.target;
      if (++h < g.h.target) continue;
      h = 0;
      if (++t < g.t.target) continue;
      t = 0;
      ++item;
    }
  }

  __device__ int4 window(const Gather& g) const {
    return make_int4(t * g.t.scale + g.t.shift, h * g.h.scale + g.h.shift, w * g.w.scale + g.w.shift, 0);
  }
  /// The source element at the window's begin, which may be outside.
  __device__ std::int64_t base(const Gather& g, int4 window) const {
    return (((item * g.t.source + window.x) * g.h.source + window.y) * g.w.source + window.z) *
           g.source_channels;
  }
};

// partials (chunks, terms, O) <- dy, x: rows are the terms of the convolution, the sum runs over output
// pixels. Blocks: x = tile (columns, then rows, then groups), y = chunk of pixels.
//
// The windows of a slice are made three slices ahead by 8 threads; of the 8 slots a slice's own is rewritten
// only after a barrier.
template <class Tile>
__global__ void __launch_bounds__(Tile::Threads, Tile::Blocks)
    weight_tiles(GemmOutput out, const float* dy, const float* x, Gather g, int column_tiles, int row_tiles,
                 std::int64_t chunk, bool vector) {
  constexpr int kAhead = 3, kSlots = 8;
  GPU_SHARED(int4, windows, [kSlots][kDepth]);
  GPU_SHARED(std::int64_t, bases, [kSlots][kDepth]);
  const int column = blockIdx.x % column_tiles * Tile::Columns;
  const int row = blockIdx.x / column_tiles % row_tiles * Tile::Rows;
  const int group = blockIdx.x / column_tiles / row_tiles, first = group * g.targets() + column;
  const int rows = min(g.terms() - row, Tile::Rows), columns = min(g.targets() - column, Tile::Columns);
  const std::int64_t begin = blockIdx.y * chunk, pixels = min(chunk, g.pixels - begin);

  PixelWalk walk(g, begin + threadIdx.x % kDepth);
  const auto make_windows = [&](int step) {
    if (threadIdx.x < kDepth) {
      const int4 window = walk.window(g);
      windows[step % kSlots][threadIdx.x] = window;
      bases[step % kSlots][threadIdx.x] = walk.base(g, window);
      walk.next(g, kDepth);
    }
  };
  for (int step = 0; step < kAhead; ++step) make_windows(step);
  __syncthreads();

  const int term = row + threadIdx.x % Tile::Rows;
  int4 offset = make_int4(0, 0, 0, 0);
  if (term < g.terms()) {
    const int tap = term / g.sources();
    offset = make_int4(tap / g.w.kernel / g.h.kernel * g.t.step, tap / g.w.kernel % g.h.kernel * g.h.step,
                       tap % g.w.kernel * g.w.step, 0);
    offset.w = ((offset.x * g.h.source + offset.y) * g.w.source + offset.z) * g.source_channels +
               group * g.sources() + term % g.sources();
  }
  TileSums<Tile> sums;
  multiply_tile<Tile>(
      sums, static_cast<int>((pixels + kDepth - 1) / kDepth), [&](int step, float* a, float* b) {
        const std::int64_t done = begin + static_cast<std::int64_t>(step) * kDepth;
        const int left = static_cast<int>(min(begin + pixels - done, static_cast<std::int64_t>(kDepth)));
        GPU_NO_UNROLL
        for (int k = threadIdx.x / Tile::Rows; k < kDepth; k += Tile::Threads / Tile::Rows) {
          std::int64_t element = 0;
          const bool ok =
              term < g.terms() && k < left && seen<false>(g, windows[step % kSlots][k], offset, element);
          gpu::cp_async<4>(&a[k * Tile::ARow + threadIdx.x % Tile::Rows],
                           ok ? x + bases[step % kSlots][k] + element : x, ok);
        }
        stage_straight<Tile::Threads, Tile::Columns>(b, dy + done * g.target_channels + first,
                                                     g.target_channels, columns, left, vector);
        make_windows(step + kAhead);
      });
  write_tile<Tile>(out,
                   out.c + (static_cast<std::int64_t>(blockIdx.y) * g.terms() + row) * out.stride + first,
                   nullptr, sums, rows, columns);
}

// ---- groups of few channels
// --------------------------------------------------------------------------------------

constexpr int kPlainLanes = 32, kPlainWarps = 8;

// partials (chunks, terms, O) <- dy, x: one term of 32 output channels, the warps share the pixels. Blocks:
// x = chunk, y = term, z = 32 channels.
static __global__ void __launch_bounds__(kPlainLanes* kPlainWarps)
    weight_plain(float* partials, const float* dy, const float* x, Gather g, std::int64_t chunk,
                 int first_term) {
  GPU_SHARED(float, sums, [kPlainWarps][kPlainLanes]);
  const int lane = threadIdx.x % kPlainLanes, warp = threadIdx.x / kPlainLanes;
  const int target = blockIdx.z * kPlainLanes + lane, term = first_term + blockIdx.y;
  const std::int64_t begin = blockIdx.x * chunk, end = min(begin + chunk, g.pixels);
  const int tap = term / g.sources();
  const int4 offset = make_int4(tap / g.w.kernel / g.h.kernel * g.t.step,
                                tap / g.w.kernel % g.h.kernel * g.h.step, tap % g.w.kernel * g.w.step, 0);
  float sum = 0.f;
  if (target < g.target_channels) {
    const int source = target / g.targets() * g.sources() + term % g.sources();
    PixelWalk walk(g, begin + warp);
    for (std::int64_t p = begin + warp; p < end; p += kPlainWarps, walk.next(g, kPlainWarps)) {
      int4 window = walk.window(g);
      window = make_int4(window.x + offset.x, window.y + offset.y, window.z + offset.z, 0);
      if (!inside(window.x, g.t.source) || !inside(window.y, g.h.source) || !inside(window.z, g.w.source))
        continue;
      sum = gpu::fma(x[walk.base(g, window) + source], dy[p * g.target_channels + target], sum);
    }
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || target >= g.target_channels) return;
  GPU_UNROLL
  for (int w = 1; w < kPlainWarps; ++w) sum += sums[w][lane];
  partials[(static_cast<std::int64_t>(blockIdx.x) * g.terms() + term) * g.target_channels + target] = sum;
}

// dweight (O, I/G, taps) <- sum over chunks of partials (chunks, terms, O)
static __global__ void __launch_bounds__(kFinishThreads)
    finish_weights(float* dweight, const float* partials, int chunks, Gather g) {
  const std::int64_t outputs = static_cast<std::int64_t>(g.terms()) * g.target_channels;
  const double sum = sum_of_splits(partials, chunks, outputs);
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * kFinishOutputs + threadIdx.x;
  if (threadIdx.x >= kFinishOutputs || e >= outputs) return;
  const std::int64_t target = e % g.target_channels;
  const int term = static_cast<int>(e / g.target_channels), tap = term / g.sources();
  dweight[(target * g.sources() + term % g.sources()) * g.taps() + tap] = static_cast<float>(sum);
}

// ---- bias
// --------------------------------------------------------------------------------------------------------

constexpr int kBiasThreads = 256;

// partials (chunks, O) <- dy (pixels, O). Blocks: x = chunk of pixels, y = 256 channels. As many whole pixels
// as fit stand side by side, so that neighbouring threads read neighbouring values.
static __global__ void __launch_bounds__(kBiasThreads)
    bias_chunks(float* partials, const float* dy, std::int64_t pixels, int channels, std::int64_t chunk) {
  GPU_SHARED(float, sums, [kBiasThreads]);
  const int first = blockIdx.y * kBiasThreads, width = min(channels - first, kBiasThreads);
  const int abreast = kBiasThreads / width, channel = threadIdx.x % width, place = threadIdx.x / width;
  const std::int64_t begin = blockIdx.x * chunk, end = min(begin + chunk, pixels);
  float sum = 0.f;
  if (place < abreast)
    for (std::int64_t p = begin + place; p < end; p += abreast) sum += dy[p * channels + first + channel];
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (place > 0) return;
  for (int other = 1; other < abreast; ++other) sum += sums[other * width + channel];
  partials[static_cast<std::int64_t>(blockIdx.x) * channels + first + channel] = sum;
}

// dbias (O) <- sum over chunks
static __global__ void __launch_bounds__(kFinishThreads)
    finish_bias(float* dbias, const float* partials, int chunks, int channels) {
  const double sum = sum_of_splits(partials, chunks, channels);
  const int channel = blockIdx.x * kFinishOutputs + threadIdx.x;
  if (threadIdx.x < kFinishOutputs && channel < channels) dbias[channel] = static_cast<float>(sum);
}

}  // namespace fovea::FOVEA_GPU
