// What the kernels of the separable convolution share: geometry, tiles, staging of frames, the spatial row.
//
// A warp covers a tile of 8 rows x 6 columns of 4 output channels, and a thread owns the 6 columns of its row
// and channel. Frames come into shared memory transposed into planes (channel, row, column) with the halo of
// the kernel around the tile and zeros where the image ends.
//
// Shared memory would be the limit, so every load of it is a float4 that takes half the usual passes: a half
// of a warp is served at once where lanes i and i ^ 1, or i and i ^ 2, read the same address. Hence the
// lowest bit of a lane is one of its channel (pixels) and the next one of its row (weights); rows of planes
// and weights of a channel are an odd number of float4 apart, which puts the others into different banks.
#pragma once
#include "kernels/cuda/sepconv3d_plain.hpp"

namespace fovea::FOVEA_GPU {

constexpr int kTileRows = 8, kTileColumns = 6, kTileChannels = 4, kMaxWarps = 4;

/// Kernel sizes known at compile time: what the window of a thread holds in registers.
template <int T_, int H_, int W_>
struct Taps {
  static constexpr int T = T_, H = H_, W = W_;
  static constexpr int kRow = ceil_div(W, 4) * 4, kTemporal = ceil_div(T, 4) * 4;
  static constexpr int kPacked = H * kRow + kTemporal, kPaddedPacked = (kPacked / 4 | 1) * 4;
  static constexpr int kPlaneRows = kTileRows + H - 1, kUsedColumns = kTileColumns + W - 1;
  static constexpr int kVectors = ceil_div(kUsedColumns, 4);
  static constexpr int kPlaneColumns = (kVectors | 1) * 4;
  // An odd number of float4, for the transposing copies.
  static constexpr int kPlane = (kPlaneRows * kPlaneColumns / 4 | 1) * 4;
};

/// What a lane owns. Sums over the rows of a channel go over the lane bits 1, 3 and 4.
__device__ __forceinline__ int lane_channel(int lane) { return (lane & 1) | (lane >> 1 & 2); }
__device__ __forceinline__ int lane_row(int lane) { return (lane >> 1 & 1) | (lane >> 2 & 6); }
__device__ __forceinline__ float sum_of_rows(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 16);
  value += __shfl_xor_sync(0xffffffffu, value, 8);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

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

/// sums <- the 2-D convolution at the thread's 6 pixels in Frames frames; plane at the thread's row of the
/// first one, weights of the channel pair.
template <class K, int Frames>
__device__ __forceinline__ void spatial_row(float (&sums)[Frames][kTileColumns], const float* plane,
                                            int frame_size, const float* weights) {
  GPU_UNROLL
  for (int f = 0; f < Frames; ++f) {
    GPU_UNROLL
    for (int w = 0; w < kTileColumns; ++w) sums[f][w] = 0.f;
  }
  GPU_NO_UNROLL
  for (int kh = 0; kh < K::H; ++kh) {
    float taps[K::kRow];
    load_row<K::kRow / 4>(taps, weights + kh * K::kRow);
    GPU_UNROLL
    for (int f = 0; f < Frames; ++f) {
      float pixels[4 * K::kVectors];
      load_row<K::kVectors>(pixels, plane + f * frame_size + kh * K::kPlaneColumns);
      GPU_UNROLL
      for (int kw = 0; kw < K::W; ++kw) {
        GPU_UNROLL
        for (int w = 0; w < kTileColumns; ++w) sums[f][w] = gpu::fma(pixels[w + kw], taps[kw], sums[f][w]);
      }
    }
  }
}

/// Calls use(k, tap) for the taps of the temporal kernel of a channel pair.
template <class K, class Use>
__device__ __forceinline__ void for_temporal_taps(const float* weights, const Use& use) {
  GPU_UNROLL
  for (int first = 0; first < K::T; first += 4) {
    float taps[4];
    load_row<1>(taps, weights + K::H * K::kRow + first);
    GPU_UNROLL
    for (int k = 0; k < 4; ++k)
      if (first + k < K::T) use(first + k, taps[k]);
  }
}

/// Copies the packed weights of 4 output channels from `first` and of `channels` input channels to (input,
/// output) pairs; zeros beyond the last.
template <class K>
__device__ __forceinline__ void stage_weights(float* shared, const float* packed, const Convolution& c,
                                              int first, int channel, int channels) {
  for (int e = threadIdx.x; e < kTileChannels * channels * K::kPacked; e += blockDim.x) {
    const int r = e % K::kPacked, pair = e / K::kPacked;
    const int o = first + pair % kTileChannels, i = channel + pair / kTileChannels;
    const bool ok = o < c.out_channels && i < c.in_channels;
    shared[pair * K::kPaddedPacked + r] =
        ok ? packed[(static_cast<std::size_t>(o) * c.in_channels + i) * K::kPacked + r] : 0.f;
  }
}

}  // namespace fovea::FOVEA_GPU
