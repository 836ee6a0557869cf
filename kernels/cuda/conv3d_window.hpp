// Convolutions of one to four input channels with square kernels, stride 1 and no dilation: the first layers
// of image models.
//
// A product of matrices would gather every input pixel K * K times. Here a tile of one input channel lies in
// shared memory, and a thread slides along rows of it with float4 loads: forward it owns 4 neighbouring
// pixels of 8 output channels, for the weight gradient one row of the kernel of 4 output channels.
//
// Predicted on an H100 (tools/kernel-profile, W2 and W3): 1.5 times the useful multiply-adds forward, of
// which the padding takes 1.1 to 1.4 and loads the rest; 1.8 for the weight gradient of 9 x 9 on 36 x 64, of
// whose 160 threads a tenth have no row, and whose partial sums go through memory.
#pragma once
#include "kernels/cuda/conv3d_general.hpp"

namespace fovea::FOVEA_GPU {

constexpr int kStripPixels = 4, kWindowColumns = 32, kWindowThreads = 256, kGradientRows = 8;
constexpr int kWindowStrips = kWindowColumns / kStripPixels;

template <int K>
struct SquareWindow {
  static constexpr int kPixels = ceil_div(kStripPixels + K - 1, 4) * 4;  // that a strip loads from a row
  static constexpr int kPitch = kWindowColumns - kStripPixels + kPixels;
};

struct WindowShape {
  int in_channels, out_channels, in_h, in_w, out_h, out_w, pad_h, pad_w;
  int rows, tiles_h, tiles_w;  // rows of a tile
  std::int64_t images;

  std::int64_t tiles() const { return images * tiles_h * tiles_w; }
};

struct WindowTile {
  int row, column;
  std::int64_t image;

  __device__ WindowTile(const WindowShape& s, std::int64_t tile)
      : row(static_cast<int>(tile / s.tiles_w % s.tiles_h) * s.rows),
        column(static_cast<int>(tile % s.tiles_w) * kWindowColumns),
        image(tile / s.tiles_w / s.tiles_h) {}
};

/// Starts copying one channel of the tile with its halo, zeros outside the image.
template <int K>
__device__ __forceinline__ void stage_window(float* plane, const float* x, const WindowShape& s,
                                             const WindowTile& tile, int channel) {
  constexpr int pitch = SquareWindow<K>::kPitch;
  const float* image = x + tile.image * s.in_h * s.in_w * s.in_channels + channel;
  for (int e = threadIdx.x; e < (s.rows + K - 1) * pitch; e += blockDim.x) {
    const int h = tile.row + e / pitch - s.pad_h, w = tile.column + e % pitch - s.pad_w;
    const bool ok = inside(h, s.in_h) && inside(w, s.in_w);
    gpu::cp_async<4>(&plane[e], ok ? image + (static_cast<std::int64_t>(h) * s.in_w + w) * s.in_channels : x,
                     ok);
  }
}

template <int K>
__device__ __forceinline__ void load_strip(float (&pixels)[SquareWindow<K>::kPixels], const float* from) {
  GPU_UNROLL
  for (int i = 0; i < SquareWindow<K>::kPixels; i += 4) load_four(pixels + i, from + i);
}

// y (images, out h, out w, O) <- x, packed weights [tap * I + i][O, padded to blocks]. Blocks: x = tile, y =
// 8 * `groups` output channels. A thread's channels are two runs of 4, the second 4 * groups further, so that
// neighbouring lanes load and write neighbouring float4.
template <int K>
__global__ void __launch_bounds__(kWindowThreads, 2)
    convolve_window(GemmOutput out, const float* x, const float* packed, WindowShape s, int groups,
                    int padded) {
  GPU_DYN_SHARED(float, shared);
  const int channels = 8 * groups;
  float* weights = shared;
  float* plane = shared + K * K * channels;
  const WindowTile tile(s, blockIdx.x);
  const int group = threadIdx.x % groups, strip = threadIdx.x / groups % kWindowStrips;
  const int row = threadIdx.x / groups / kWindowStrips, first = blockIdx.y * channels;
  float sums[kStripPixels][8];
  GPU_UNROLL
  for (int p = 0; p < kStripPixels; ++p) {
    GPU_UNROLL
    for (int o = 0; o < 8; ++o) sums[p][o] = 0.f;
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
    for (int kh = 0; kh < K; ++kh) {
      float pixels[SquareWindow<K>::kPixels];
      load_strip<K>(pixels, plane + (row + kh) * SquareWindow<K>::kPitch + strip * kStripPixels);
      GPU_UNROLL
      for (int kw = 0; kw < K; ++kw) {
        float taps[8];
        load_four(taps, weights + (kh * K + kw) * channels + group * 4);
        load_four(taps + 4, weights + (kh * K + kw) * channels + (groups + group) * 4);
        GPU_UNROLL
        for (int p = 0; p < kStripPixels; ++p) {
          GPU_UNROLL
          for (int o = 0; o < 8; ++o) sums[p][o] = gpu::fma(pixels[p + kw], taps[o], sums[p][o]);
        }
      }
    }
    __syncthreads();
  }
  const int h = tile.row + row;
  GPU_UNROLL
  for (int p = 0; p < kStripPixels; ++p) {
    const int w = tile.column + strip * kStripPixels + p;
    if (h >= s.out_h || w >= s.out_w) continue;
    float* pixel = out.c + ((tile.image * s.out_h + h) * s.out_w + w) * out.stride;
    GPU_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int o = first + (half * groups + group) * 4;
      float four[4];
      GPU_UNROLL
      for (int l = 0; l < 4; ++l)
        four[l] = out.bias && o + l < s.out_channels ? sums[p][half * 4 + l] + out.bias[o + l]
                                                     : sums[p][half * 4 + l];
      if (out.vector && o < s.out_channels) {
        *reinterpret_cast<float4*>(pixel + o) = make_float4(four[0], four[1], four[2], four[3]);
        continue;
      }
      GPU_UNROLL
      for (int l = 0; l < 4; ++l)
        if (o + l < s.out_channels) pixel[o + l] = four[l];
    }
  }
}

/// Threads of a block of the weight gradient: a kernel row of 4 output channels each, `slots` times, which
/// share the tile's strips.
struct GradientThreads {
  int groups, owners, slots;

  __host__ __device__ GradientThreads(int out_channels, int kernel)
      : groups(min(ceil_div(out_channels, 4), 16)),
        owners(groups * kernel),
        slots(max(1, kWindowThreads / owners)) {}
  int threads() const { return ceil_div(owners * slots, 32) * 32; }
};

// partials (blocks x, K * K * I, O) <- dy, x. Blocks: x = a run of tiles, y = 64 output channels, z = input
// channel.
template <int K>
__global__ void __launch_bounds__(kWindowThreads, 2)
    window_weights(float* partials, const float* dy, const float* x, WindowShape s, std::int64_t tiles,
                   int run, bool vector) {
  GPU_DYN_SHARED(float, shared);
  const GradientThreads t(s.out_channels, K);
  const int owner = threadIdx.x % t.owners, slot = threadIdx.x / t.owners;
  const int first = blockIdx.y * 4 * t.groups + owner % t.groups * 4, kh = owner / t.groups;
  float sums[4][K];
  GPU_UNROLL
  for (int o = 0; o < 4; ++o) {
    GPU_UNROLL
    for (int kw = 0; kw < K; ++kw) sums[o][kw] = 0.f;
  }
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * run, end = min(begin + run, tiles);
  for (std::int64_t at = begin; at < end; ++at) {
    const WindowTile tile(s, at);
    stage_window<K>(shared, x, s, tile, blockIdx.z);
    gpu::cp_commit();
    gpu::cp_wait<0>();
    __syncthreads();
    GPU_NO_UNROLL
    for (int strip = slot; strip < kGradientRows * kWindowStrips && slot < t.slots; strip += t.slots) {
      const int row = strip / kWindowStrips, column = strip % kWindowStrips * kStripPixels;
      if (tile.row + row >= s.out_h || tile.column + column >= s.out_w) continue;
      float pixels[SquareWindow<K>::kPixels], slopes[kStripPixels][4];
      const float* from =
          dy + ((tile.image * s.out_h + tile.row + row) * s.out_w + tile.column + column) * s.out_channels +
          first;
      GPU_UNROLL
      for (int p = 0; p < kStripPixels; ++p) {
        const bool ok = tile.column + column + p < s.out_w;
        if (vector && ok && first < s.out_channels) {
          load_four(slopes[p], from + static_cast<std::int64_t>(p) * s.out_channels);
          continue;
        }
        GPU_UNROLL
        for (int o = 0; o < 4; ++o)
          slopes[p][o] = ok && first + o < s.out_channels
                             ? from[static_cast<std::int64_t>(p) * s.out_channels + o]
                             : 0.f;
      }
      load_strip<K>(pixels, shared + (row + kh) * SquareWindow<K>::kPitch + column);
      GPU_UNROLL
      for (int p = 0; p < kStripPixels; ++p) {
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
  if (slot < t.slots) {
    GPU_UNROLL
    for (int kw = 0; kw < K; ++kw) {
      GPU_UNROLL
      for (int o = 0; o < 4; ++o) shared[(kw * 4 + o) * t.slots * t.owners + threadIdx.x] = sums[o][kw];
    }
  }
  __syncthreads();
  if (slot > 0) return;
  for (int kw = 0; kw < K; ++kw)
    for (int o = 0; o < 4; ++o) {
      if (first + o >= s.out_channels) continue;
      float sum = 0.f;
      for (int other = 0; other < t.slots; ++other)
        sum += shared[((kw * 4 + o) * t.slots + other) * t.owners + owner];
      const int term = (kh * K + kw) * s.in_channels + blockIdx.z;
      partials[(static_cast<std::int64_t>(blockIdx.x) * K * K * s.in_channels + term) * s.out_channels +
               first + o] = sum;
    }
}

}  // namespace fovea::FOVEA_GPU
