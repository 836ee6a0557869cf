// What the kernels of the separable convolution share: geometry, tiles, staging of frames, the spatial row.
//
// A warp covers a tile of 8 rows x 6 columns of 4 output channels: lane = 8 * channel + row, and a thread
// owns the 6 columns of its row. Frames come into shared memory transposed into planes (channel, row, column)
// with the halo of the kernel around the tile and zeros where the image ends. Rows of an odd number of float4
// keep the 8 rows of a warp's load in different banks.
#pragma once
#include "kernels/cuda/sepconv3d_plain.hpp"

namespace fovea::FOVEA_GPU {

constexpr int kTileRows = 8, kTileColumns = 6, kTileChannels = 4, kMaxWarps = 4;

/// Kernel sizes known at compile time: what the window of a thread holds in registers.
template <int T_, int H_, int W_>
struct Taps {
  static constexpr int T = T_, H = H_, W = W_;
  static constexpr int kRow = ceil_div(W, 4) * 4, kPacked = H * kRow + ceil_div(T, 4) * 4;
  static constexpr int kPlaneRows = kTileRows + H - 1, kUsedColumns = kTileColumns + W - 1;
  static constexpr int kVectors = ceil_div(kUsedColumns, 4);
  static constexpr int kPlaneColumns = (kVectors | 1) * 4;
  static constexpr int kPlane = kPlaneRows * kPlaneColumns;
};

/// Which tile of the output, and which frames, a block works on.
struct Tile {
  int row, column, chunk;

  __device__ Tile(int index, int tiles_h, int tiles_w)
      : row(index / tiles_w % tiles_h * kTileRows),
        column(index % tiles_w * kTileColumns),
        chunk(index / tiles_w / tiles_h) {}
};

/// Starts copying one frame, channels [channel, channel + channels), to planes; frames outside the recording
/// and pixels outside the image become zeros. The caller commits and waits.
template <class K>
__device__ __forceinline__ void stage_frame(float* planes, const float* x, const Convolution& c, Tile tile,
                                            int item, int frame, int channel, int channels) {
  const bool inside = frame >= 0 && frame < c.in_t;
  const float* image =
      x + (static_cast<std::size_t>(item) * c.in_t + (inside ? frame : 0)) * c.in_h * c.in_w * c.in_channels;
  for (int e = threadIdx.x; e < channels * K::kPlaneRows * K::kUsedColumns; e += blockDim.x) {
    const int i = e % channels, column = e / channels % K::kUsedColumns, row = e / channels / K::kUsedColumns;
    const int h = tile.row + row - c.pad_h, w = tile.column + column - c.pad_w;
    const bool ok = inside && channel + i < c.in_channels && h >= 0 && h < c.in_h && w >= 0 && w < c.in_w;
    const float* from = ok ? image + (h * c.in_w + w) * c.in_channels + channel + i : x;
    gpu::cp_async<4>(&planes[i * K::kPlane + row * K::kPlaneColumns + column], from, ok);
  }
}

template <int Vectors>
__device__ __forceinline__ void load_row(float (&row)[4 * Vectors], const float* from) {
  GPU_UNROLL
  for (int v = 0; v < Vectors; ++v) {
    const float4 four = *reinterpret_cast<const float4*>(from + 4 * v);
    row[4 * v] = four.x;
    row[4 * v + 1] = four.y;
    row[4 * v + 2] = four.z;
    row[4 * v + 3] = four.w;
  }
}

/// sums <- the 2-D convolution at the thread's 6 pixels; plane at the thread's row, weights of the channel
/// pair.
template <class K>
__device__ __forceinline__ void spatial_row(float (&sums)[kTileColumns], const float* plane,
                                            const float* weights) {
  GPU_UNROLL
  for (int w = 0; w < kTileColumns; ++w) sums[w] = 0.f;
  GPU_NO_UNROLL
  for (int kh = 0; kh < K::H; ++kh) {
    float pixels[4 * K::kVectors], taps[K::kRow];
    load_row<K::kVectors>(pixels, plane + kh * K::kPlaneColumns);
    load_row<K::kRow / 4>(taps, weights + kh * K::kRow);
    GPU_UNROLL
    for (int kw = 0; kw < K::W; ++kw) {
      GPU_UNROLL
      for (int w = 0; w < kTileColumns; ++w) sums[w] = gpu::fma(pixels[w + kw], taps[kw], sums[w]);
    }
  }
}

/// Copies the packed weights of 4 output channels from `first` and of `channels` input channels; zeros beyond
/// the last.
template <class K>
__device__ __forceinline__ void stage_weights(float* shared, const float* packed, const Convolution& c,
                                              int first, int channel, int channels) {
  for (int e = threadIdx.x; e < kTileChannels * channels * K::kPacked; e += blockDim.x) {
    const int r = e % K::kPacked, i = channel + e / K::kPacked % channels,
              o = first + e / K::kPacked / channels;
    const bool ok = o < c.out_channels && i < c.in_channels;
    shared[e] = ok ? packed[(static_cast<std::size_t>(o) * c.in_channels + i) * K::kPacked + r] : 0.f;
  }
}

}  // namespace fovea::FOVEA_GPU
