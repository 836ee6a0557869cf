// What the kernels of the separable convolution share: geometry, tiles, staging of frames, the spatial row.
//
// A block covers a tile of 8 rows x 6 columns of 4 output channels. A thread owns the 6 columns of a row and
// channel, and a group of input channels, of which there are up to 8. Frames come into shared memory
// transposed into planes (channel, row, column) with the halo of the kernel around the tile and zeros where
// the image ends.
//
// Products with those zeros are left out where that costs nothing: columns at compile time, where an image is
// no wider than a tile (Taps::kWholeRows); rows where the lanes of a warp agree, which therefore own a pair
// of neighbouring rows where kernels are small (kernel_rows).
//
// Shared memory would be the limit, so every load of it is a float4 that takes half the usual passes: a half
// of a warp is served at once where lanes i and i ^ 1, or i and i ^ 2, read the same address. Hence the
// lowest bit of a lane is one of its channel (pixels) and the next one of its row (weights); rows of planes,
// planes and weights of a channel are as many float4 apart as puts the others into different banks.
#pragma once
#include "kernels/cuda/sepconv3d_plain.hpp"

namespace fovea::FOVEA_GPU {

constexpr int kTileRows = 8, kTileColumns = 6, kTileChannels = 4, kMaxGroups = 8;
constexpr int kGroupThreads = kTileRows * kTileChannels;

/// Float4 of a plane: an odd number, for the transposing copies. `pairs`: a half of a warp reads two rows of
/// two planes, from different banks.
constexpr int plane_vectors(int rows, int row_vectors, bool pairs) {
  int vectors = rows * row_vectors | 1;
  while (pairs && ((vectors + row_vectors) % 8 == 0 || (vectors - row_vectors) % 8 == 0)) vectors += 2;
  return vectors;
}

/// Kernel sizes known at compile time: what the window of a thread holds in registers.
template <int T_, int H_, int W_, bool WholeRows_ = false>
struct Taps {
  static constexpr int T = T_, H = H_, W = W_;
  /// A thread can hold the gradient of a spatial kernel.
  static constexpr bool kSmall = H * W <= 32;
  /// Input and output are no wider than a tile and padded by W / 2 columns, which planes lack.
  static constexpr bool kWholeRows = WholeRows_;
  static constexpr int kMissingColumns = kWholeRows ? W / 2 : 0;
  static constexpr int kRow = ceil_div(W, 4) * 4, kTemporal = ceil_div(T, 4) * 4;
  static constexpr int kPacked = H * kRow + kTemporal, kPaddedPacked = (kPacked / 4 | 1) * 4;
  static constexpr int kPlaneRows = kTileRows + H - 1;
  static constexpr int kUsedColumns = kTileColumns + (kWholeRows ? 0 : W - 1);
  static constexpr int kVectors = ceil_div(kUsedColumns, 4);
  // An odd number of float4; two are as good where a half of a warp reads a pair of rows.
  static constexpr int kPlaneColumns = (kSmall && kVectors == 2 ? kVectors : kVectors | 1) * 4;
  static constexpr int kPlane = plane_vectors(kPlaneRows, kPlaneColumns / 4, kSmall) * 4;
};

/// What a thread owns, of 32 rows and channels ("slot") and the groups of input channels. The threads of a
/// group are a warp; of small kernels, whose gradients no lanes exchange, those of a pair of rows follow each
/// other instead.
template <class K>
struct Owner {
  int slot, group;

  __device__ explicit Owner(int groups) {
    const int eight = threadIdx.x / 8, pairs = kTileRows / 2;
    slot = (K::kSmall ? eight / groups : eight % pairs) * 8 + threadIdx.x % 8;
    group = K::kSmall ? eight % groups : eight / pairs;
  }
  /// The thread that owns a slot and group.
  static __device__ int thread(int slot, int group, int groups) {
    return K::kSmall ? (slot / 8 * groups + group) * 8 + slot % 8 : group * kGroupThreads + slot;
  }
  __device__ int row() const { return row(slot); }
  __device__ int channel() const { return channel(slot); }
  static __device__ int row(int slot) { return (slot >> 1 & 1) | (slot >> 2 & 6); }
  static __device__ int channel(int slot) { return (slot & 1) | (slot >> 1 & 2); }
};

/// Which tile of the output, and which frames, a block works on.
struct Tile {
  int row, column, chunk;

  __device__ Tile(int index, int tiles_h, int tiles_w)
      : row(index / tiles_w % tiles_h * kTileRows),
        column(index % tiles_w * kTileColumns),
        chunk(index / tiles_w / tiles_h) {}
};

struct Range {
  int begin, end;
  __device__ bool empty() const { return begin >= end; }
};

/// The kernel rows of a thread that may meet the image. Of small kernels those that do at its row of the tile
/// or the other one of its pair (none below the last output), of larger ones all.
template <class K>
__device__ __forceinline__ Range kernel_rows(const Convolution& c, Tile tile, int row) {
  if (!K::kSmall) return {0, K::H};
  const int first = tile.row + row / 2 * 2;
  return {max(0, c.pad_h - first - 1), first < c.out_h ? min(K::H, c.in_h + c.pad_h - first) : 0};
}

/// The rows of a plane that kernel_rows can reach: those of the image and one beyond either end.
template <class K>
__device__ __forceinline__ Range plane_rows(const Convolution& c, Tile tile) {
  if (!K::kSmall) return {0, K::kPlaneRows};
  const int image = c.pad_h - tile.row;
  return {max(0, image - 1), min(K::kPlaneRows, image + c.in_h + 1)};
}

/// Starts copying one frame, channels [channel, channel + channels), to planes; frames outside the recording
/// and pixels outside the image become zeros, rows outside of plane_rows stay as they are. The caller commits
/// and waits.
template <class K>
__device__ __forceinline__ void stage_frame(float* planes, const float* x, const Convolution& c, Tile tile,
                                            int item, int frame, int channel, int channels) {
  const bool inside = frame >= 0 && frame < c.in_t;
  const float* image =
      x + (static_cast<std::size_t>(item) * c.in_t + (inside ? frame : 0)) * c.in_h * c.in_w * c.in_channels;
  const Range rows = plane_rows<K>(c, tile);
  for (int e = threadIdx.x; e < channels * (rows.end - rows.begin) * K::kUsedColumns; e += blockDim.x) {
    const int i = e % channels, column = e / channels % K::kUsedColumns;
    const int row = rows.begin + e / channels / K::kUsedColumns;
    const int h = tile.row + row - c.pad_h, w = tile.column + column + K::kMissingColumns - c.pad_w;
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

/// Calls use(kw, w, column) where tap kw of a kernel row meets the plane's column at the thread's pixel w.
template <class K, class Use>
__device__ __forceinline__ void for_products(const Use& use) {
  GPU_UNROLL
  for (int kw = 0; kw < K::W; ++kw) {
    GPU_UNROLL
    for (int w = 0; w < kTileColumns; ++w) {
      const int column = w + kw - K::kMissingColumns;
      if (column >= 0 && column < K::kUsedColumns) use(kw, w, column);
    }
  }
}

/// sums <- the 2-D convolution at the thread's 6 pixels in Frames frames; plane at the thread's row of the
/// first one, weights of the channel pair.
template <class K, int Frames>
__device__ __forceinline__ void spatial_row(float (&sums)[Frames][kTileColumns], const float* plane,
                                            int frame_size, const float* weights, Range rows) {
  GPU_UNROLL
  for (int f = 0; f < Frames; ++f) {
    GPU_UNROLL
    for (int w = 0; w < kTileColumns; ++w) sums[f][w] = 0.f;
  }
  GPU_NO_UNROLL
  for (int kh = rows.begin; kh < rows.end; ++kh) {
    float taps[K::kRow];
    load_row<K::kRow / 4>(taps, weights + kh * K::kRow);
    GPU_UNROLL
    for (int f = 0; f < Frames; ++f) {
      float pixels[4 * K::kVectors];
      load_row<K::kVectors>(pixels, plane + f * frame_size + kh * K::kPlaneColumns);
      for_products<K>(
          [&](int kw, int w, int column) { sums[f][w] = gpu::fma(pixels[column], taps[kw], sums[f][w]); });
    }
  }
}

/// Calls use(k, tap) for the taps of the temporal kernel of a channel pair, `wanted` ones and some next to
/// them.
template <class K, class Use>
__device__ __forceinline__ void for_temporal_taps(const float* weights, Range wanted, const Use& use) {
  GPU_UNROLL
  for (int first = 0; first < K::T; first += 4) {
    if (first >= wanted.end || first + 4 <= wanted.begin) continue;
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
