// Convolutions of one to four input channels with square kernels, stride 1 and no dilation: the first layers
// of image models.
//
// A product of matrices would gather every input pixel K * K times. Here a tile of one input channel lies in
// shared memory, and a thread slides along rows of it with float4 loads: forward it owns a strip of 8
// neighbouring pixels of 4 output channels, for the weight gradient one row of the kernel of as many. A tile
// is a run of strips in reading order, so that no lane hangs over the end of a row.
//
// Predicted on an H100 (tools/kernel-profile, W2 and W3): 1.1 times the useful multiply-adds forward, 1.2 for
// the weight gradient: loads, padding left and right of the image, and blocks that fill the last wave to 97
// %.
#pragma once
#include "kernels/cuda/conv3d_general.hpp"

namespace fovea::FOVEA_GPU {

constexpr int kForwardPixels = 8, kGradientPixels = 4;  // of a strip
constexpr int kWindowThreads = 192;

template <int K>
struct SquareWindow {
  /// Of the weight gradient: a warp for every row of the kernel, about 20 on a multiprocessor.
  static constexpr int kGradientThreads = 32 * K, kGradientBlocks = 21 / K;

  /// Pixels of an input row that a strip of outputs sees, in whole float4.
  __host__ __device__ static constexpr int seen(int strip_pixels) {
    return ceil_div(strip_pixels + K - 1, 4) * 4;
  }
};

struct WindowShape {
  int in_channels, out_channels, in_h, in_w, out_h, out_w, pad_h, pad_w;
  int strip_pixels;
  int columns, strips;  // columns of a map, strips across each
  int runs, run;        // tiles of a column, strips of a tile
  std::int64_t images;

  std::int64_t tiles() const { return images * columns * runs; }
  /// The last strip of a row and the first one of the next are as many banks apart as neighbours are.
  __host__ __device__ int pitch() const { return strips * strip_pixels + 32; }
  int plane(int kernel) const { return (min((run + strips - 2) / strips + 1, out_h) + kernel - 1) * pitch(); }
};

/// A tile's first output pixel of row `row`, and its strips as counted from there: begin to end.
struct WindowTile {
  int row, column, begin, end;
  std::int64_t image;

  __device__ WindowTile(const WindowShape& s, std::int64_t tile)
      : column(static_cast<int>(tile % s.columns) * s.strips * s.strip_pixels),
        image(tile / s.columns / s.runs) {
    const int first = static_cast<int>(tile / s.columns % s.runs) * s.run;
    row = first / s.strips;
    begin = first - row * s.strips;
    end = begin + min(s.run, s.out_h * s.strips - first);
  }
};

/// Starts copying one channel of the tile with its halo, a row a warp: zeros left and right of the image;
/// rows above and below stay as they are.
template <int K>
__device__ __forceinline__ void stage_window(float* plane, const float* x, const WindowShape& s,
                                             const WindowTile& tile, int channel) {
  const int rows = ceil_div(tile.end, s.strips) + K - 1;
  const int width = (s.strips - 1) * s.strip_pixels + SquareWindow<K>::seen(s.strip_pixels);
  const float* image = x + tile.image * s.in_h * s.in_w * s.in_channels + channel;
  for (int row = threadIdx.x / 32; row < rows; row += blockDim.x / 32) {
    const int h = tile.row + row - s.pad_h;
    if (!inside(h, s.in_h)) continue;
    for (int e = threadIdx.x % 32; e < width; e += 32) {
      const int w = tile.column + e - s.pad_w;
      const bool ok = inside(w, s.in_w);
      gpu::cp_async<4>(&plane[row * s.pitch() + e],
                       ok ? image + (static_cast<std::int64_t>(h) * s.in_w + w) * s.in_channels : x, ok);
    }
  }
}

template <int Count>
__device__ __forceinline__ void load_strip(float (&pixels)[Count], const float* from) {
  GPU_UNROLL
  for (int i = 0; i < Count; i += 4) load_four(pixels + i, from + i);
}

/// Adds the bias and writes 4 channels of a pixel from `channel` on, those that exist.
__device__ __forceinline__ void write_channels(const GemmOutput& out, float* pixel, const float (&sums)[4],
                                               int channel, int channels) {
  if (channel >= channels) return;
  float four[4];
  GPU_UNROLL
  for (int l = 0; l < 4; ++l)
    four[l] = out.bias && channel + l < channels ? sums[l] + out.bias[channel + l] : sums[l];
  if (out.vector) {
    *reinterpret_cast<float4*>(pixel + channel) = make_float4(four[0], four[1], four[2], four[3]);
    return;
  }
  GPU_UNROLL
  for (int l = 0; l < 4; ++l)
    if (channel + l < channels) pixel[channel + l] = four[l];
}

// y (images, out h, out w, O) <- x, packed weights [tap * I + i][O, padded to blocks]. Blocks: x = tile, y =
// 4 * `groups` output channels. Rows of taps above and below the image are left out.
template <int K>
__global__ void __launch_bounds__(kWindowThreads, 3)
    convolve_window(GemmOutput out, const float* x, const float* packed, WindowShape s, int groups,
                    int padded) {
  GPU_DYN_SHARED(float, shared);
  const int channels = 4 * groups;
  float* weights = shared;
  float* plane = shared + K * K * channels;
  const WindowTile tile(s, blockIdx.x);
  const int own = threadIdx.x % groups * 4, first = blockIdx.y * channels;
  const int place = tile.begin + threadIdx.x / groups;
  const int row = place / s.strips, column = place % s.strips * kForwardPixels, h = tile.row + row;
  const int first_tap = max(0, s.pad_h - h);
  const int taps_end = place < tile.end ? min(K, s.in_h + s.pad_h - h) : 0;
  float sums[kForwardPixels][4];
  GPU_UNROLL
  for (int p = 0; p < kForwardPixels; ++p) {
    GPU_UNROLL
    for (int o = 0; o < 4; ++o) sums[p][o] = 0.f;
  }
  for (int i = 0; i < s.in_channels; ++i) {
    stage_window<K>(plane, x, s, tile, i);
    for (int e = threadIdx.x; e < K * K * channels / 4; e += kWindowThreads) {
      const int tap = e / (channels / 4), o = e % (channels / 4) * 4;
      gpu::cp_async<16>(&weights[e * 4], &packed[(tap * s.in_channels + i) * padded + first + o]);
    }
    gpu::cp_commit();
    gpu::cp_wait<0>();
    __syncthreads();
    GPU_NO_UNROLL
    for (int kh = first_tap; kh < taps_end; ++kh) {
      float pixels[SquareWindow<K>::seen(kForwardPixels)];
      load_strip(pixels, plane + (row + kh) * s.pitch() + column);
      GPU_UNROLL
      for (int kw = 0; kw < K; ++kw) {
        float taps[4];
        load_four(taps, weights + (kh * K + kw) * channels + own);
        GPU_UNROLL
        for (int p = 0; p < kForwardPixels; ++p) {
          GPU_UNROLL
          for (int o = 0; o < 4; ++o) sums[p][o] = gpu::fma(pixels[p + kw], taps[o], sums[p][o]);
        }
      }
    }
    __syncthreads();
  }
  if (place >= tile.end) return;
  float* pixel = out.c + ((tile.image * s.out_h + h) * s.out_w + tile.column + column) * out.stride;
  GPU_UNROLL
  for (int p = 0; p < kForwardPixels; ++p) {
    if (tile.column + column + p >= s.out_w) continue;
    write_channels(out, pixel + p * out.stride, sums[p], first + own, s.out_channels);
  }
}

/// Lanes of the weight gradient that share a strip, with 4 output channels each.
inline int gradient_groups(int out_channels) { return out_channels > 8 ? 4 : out_channels > 4 ? 2 : 1; }

/// The strip of a thread, `step` strips further at every call of next(), without divisions.
struct StripWalk {
  int row, strip;

  __device__ StripWalk(const WindowShape& s, int place) : row(place / s.strips), strip(place % s.strips) {}
  __device__ void next(const WindowShape& s, int step) {
    for (strip += step; strip >= s.strips; strip -= s.strips) ++row;
  }
};

/// Slopes of 4 channels of a strip's pixels, zeros where there is none.
__device__ __forceinline__ void load_slopes(float (&slopes)[kGradientPixels][4], const float* from,
                                            int pixels, int channels, int stride, bool vector) {
  GPU_UNROLL
  for (int p = 0; p < kGradientPixels; ++p) {
    if (vector && p < pixels && channels > 0) {
      load_four(slopes[p], from + static_cast<std::int64_t>(p) * stride);
      continue;
    }
    GPU_UNROLL
    for (int o = 0; o < 4; ++o)
      slopes[p][o] = p < pixels && o < channels ? from[static_cast<std::int64_t>(p) * stride + o] : 0.f;
  }
}

// partials (blocks x, K * K * I, O) <- dy, x. Blocks: x = `run` tiles, y = 4 * `groups` output channels, z =
// input channel.
template <int K>
__global__ void __launch_bounds__(SquareWindow<K>::kGradientThreads, SquareWindow<K>::kGradientBlocks)
    window_weights(float* partials, const float* dy, const float* x, WindowShape s, int groups, int run,
                   bool vector) {
  GPU_DYN_SHARED(float, shared);
  const int kh = threadIdx.x / 32, lane = threadIdx.x % 32, slot = lane / groups, slots = 32 / groups;
  const int first = blockIdx.y * 4 * groups, channel = first + lane % groups * 4;
  float sums[4][K];
  GPU_UNROLL
  for (int o = 0; o < 4; ++o) {
    GPU_UNROLL
    for (int kw = 0; kw < K; ++kw) sums[o][kw] = 0.f;
  }
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * run;
  const std::int64_t end = min(begin + run, s.images * s.columns * s.runs);
  for (std::int64_t at = begin; at < end; ++at) {
    const WindowTile tile(s, at);
    StripWalk walk(s, tile.begin + slot);
    stage_window<K>(shared, x, s, tile, blockIdx.z);
    gpu::cp_commit();
    gpu::cp_wait<0>();
    __syncthreads();
    GPU_NO_UNROLL
    for (int place = tile.begin + slot; place < tile.end; place += slots, walk.next(s, slots)) {
      const int column = walk.strip * kGradientPixels, h = tile.row + walk.row, w = tile.column + column;
      if (w >= s.out_w || !inside(h + kh - s.pad_h, s.in_h)) continue;
      float pixels[SquareWindow<K>::seen(kGradientPixels)], slopes[kGradientPixels][4];
      load_slopes(slopes, dy + ((tile.image * s.out_h + h) * s.out_w + w) * s.out_channels + channel,
                  s.out_w - w, s.out_channels - channel, s.out_channels, vector);
      load_strip(pixels, shared + (walk.row + kh) * s.pitch() + column);
      GPU_UNROLL
      for (int p = 0; p < kGradientPixels; ++p) {
        GPU_UNROLL
        for (int kw = 0; kw < K; ++kw) {
          GPU_UNROLL
          for (int o = 0; o < 4; ++o) sums[o][kw] = gpu::fma(pixels[p + kw], slopes[p][o], sums[o][kw]);
        }
      }
    }
    __syncthreads();
  }
  // The slots' shares, in order.
  float* shares = shared + kh * 128;
  GPU_UNROLL
  for (int kw = 0; kw < K; ++kw) {
    *reinterpret_cast<float4*>(shares + lane * 4) =
        make_float4(sums[0][kw], sums[1][kw], sums[2][kw], sums[3][kw]);
    __syncwarp();
    if (lane < 4 * groups && first + lane < s.out_channels) {
      float sum = 0.f;
      for (int other = 0; other < slots; ++other) sum += shares[other * 4 * groups + lane];
      const int term = (kh * K + kw) * s.in_channels + blockIdx.z;
      partials[(static_cast<std::int64_t>(blockIdx.x) * K * K * s.in_channels + term) * s.out_channels +
               first + lane] = sum;
    }
    __syncwarp();
  }
}

}  // namespace fovea::FOVEA_GPU
