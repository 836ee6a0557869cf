// The weight gradient of the separable convolution with kernel sizes known at compile time.
//
// window[k] of a thread is the row of dy that tap k of the temporal kernel ties to the current frame, so
//   d temporal[k] = <window[k], spatial result of the frame>,  slope = sum_k temporal[k] window[k],
//   d spatial[kh][kw] = <slope, frame shifted by kh, kw>.
// For a small kernel a thread sums all of d spatial over its own row, from the pixels that the spatial result
// needs as well. Of a larger one a lane sums the kernel rows kh that are its row modulo 8 over all rows of
// the tile, whose slopes the lanes of a warp exchange.
#pragma once
#include "kernels/cuda/sepconv3d_tile.hpp"

namespace fovea::FOVEA_GPU {

constexpr int kSlopeRow = 8;  // 6, padded to float4

template <class K>
constexpr int kWeightsPerPair = K::H* K::W + K::T;

/// Frames that are computed together: they share loads of weights, and the window moves less often.
template <class K>
constexpr int kGradientFrames = K::kSmall ? 2 : 1;

/// A thread's sums at the end, an odd number apart.
template <class K>
constexpr int kPaddedSums = kWeightsPerPair<K> | 1;

template <class K>
std::size_t weight_shared_bytes(int groups) {
  const int frames = 2 * kGradientFrames<K> * groups * K::kPlane;
  const int weights = kTileChannels * groups * K::kPaddedPacked;
  const int slopes = K::kSmall ? 0 : groups * kGroupThreads * kSlopeRow;
  const int sums = K::kSmall ? groups * kGroupThreads / 2 * kPaddedSums<K> : 0;  // in place of all the others
  return sizeof(float) * static_cast<std::size_t>(max(frames + weights + slopes, sums));
}

/// Sums over the rows of a channel, where a warp has them all: over the lane bits 1, 3 and 4.
__device__ __forceinline__ float sum_of_rows(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 16);
  value += __shfl_xor_sync(0xffffffffu, value, 8);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

/// d spatial of a large kernel: from the slopes of its warp a lane sums the kernel rows that are its own
/// modulo 8, and a half of one of those that are left over.
template <class K>
struct ExchangedGradient {
  static constexpr int kRounds = K::H / kTileRows, kLeft = K::H % kTileRows, kHalf = kTileRows / 2;
  static_assert(kLeft > 0 && kLeft <= kHalf);
  float sums[kRounds + 1][K::W] = {};

  __device__ __forceinline__ void add(float (&spatial)[1][kTileColumns], const float (&slope)[1][kSlopeRow],
                                      float* exchanged, const float* plane, int, const float* taps,
                                      const Owner<K>& own, Range rows) {
    const int h = own.row();
    float* slopes = exchanged + (own.group * kGroupThreads + own.channel()) * kSlopeRow;
    GPU_UNROLL
    for (int w = 0; w < kSlopeRow; w += 4)
      *reinterpret_cast<float4*>(&slopes[h * kTileChannels * kSlopeRow + w]) =
          make_float4(slope[0][w], slope[0][w + 1], slope[0][w + 2], slope[0][w + 3]);
    __syncwarp();
    spatial_row<K>(spatial, plane + h * K::kPlaneColumns, 0, taps, rows);
    GPU_UNROLL
    for (int round = 0; round < kRounds; ++round)
      add_rows(sums[round], slopes, plane, h + round * kTileRows, {0, kTileRows});
    const int half = h / kHalf * kHalf;
    if (h % kHalf < kLeft)
      add_rows(sums[kRounds], slopes, plane, kRounds * kTileRows + h % kHalf, {half, half + kHalf});
  }

  /// sums <- + of kernel row kh, over rows of the tile.
  static __device__ __forceinline__ void add_rows(float (&sums)[K::W], const float* slopes,
                                                  const float* plane, int kh, Range rows) {
    GPU_NO_UNROLL
    for (int row = rows.begin; row < rows.end; ++row) {
      float pixels[4 * K::kVectors], slope[kSlopeRow];
      load_row<K::kVectors>(pixels, plane + (row + kh) * K::kPlaneColumns);
      load_row<kSlopeRow / 4>(slope, slopes + row * kTileChannels * kSlopeRow);
      for_products<K>(
          [&](int kw, int w, int column) { sums[kw] = gpu::fma(slope[w], pixels[column], sums[kw]); });
    }
  }

  /// Writes what the block has of a pair of channels to where pair(channel, group) points.
  template <class Pair>
  __device__ __forceinline__ void write(const float (&temporal)[K::T], const Owner<K>& own, float*,
                                        const Pair& pair) const {
    float* to = pair(own.channel(), own.group);
    const int h = own.row();
    GPU_UNROLL
    for (int k = 0; k < K::T; ++k) {
      const float sum = sum_of_rows(temporal[k]);
      if (to && h == 0) to[K::H * K::W + k] = sum;
    }
    GPU_UNROLL
    for (int kw = 0; kw < K::W; ++kw) {
      GPU_UNROLL
      for (int round = 0; round < kRounds; ++round)
        if (to) to[(h + round * kTileRows) * K::W + kw] = sums[round][kw];
      const float left = sums[kRounds][kw] + __shfl_xor_sync(0xffffffffu, sums[kRounds][kw], 16);
      if (to && h < kLeft) to[(h + kRounds * kTileRows) * K::W + kw] = left;
    }
  }
};

/// d spatial of a small kernel at the thread's row.
template <class K>
struct RowGradient {
  static constexpr int U = kGradientFrames<K>;
  float sums[K::H * K::W] = {};

  __device__ __forceinline__ void add(float (&spatial)[U][kTileColumns], const float (&slope)[U][kSlopeRow],
                                      float*, const float* plane, int frame_size, const float* weights,
                                      const Owner<K>& own, Range rows) {
    GPU_UNROLL
    for (int f = 0; f < U; ++f) {
      GPU_UNROLL
      for (int w = 0; w < kTileColumns; ++w) spatial[f][w] = 0.f;
    }
    GPU_UNROLL
    for (int kh = 0; kh < K::H; ++kh) {
      if (kh < rows.begin || kh >= rows.end) continue;
      float taps[K::kRow];
      load_row<K::kRow / 4>(taps, weights + kh * K::kRow);
      GPU_UNROLL
      for (int f = 0; f < U; ++f) {
        float pixels[4 * K::kVectors];
        load_row<K::kVectors>(pixels, plane + f * frame_size + (own.row() + kh) * K::kPlaneColumns);
        for_products<K>([&](int kw, int w, int column) {
          spatial[f][w] = gpu::fma(pixels[column], taps[kw], spatial[f][w]);
          sums[kh * K::W + kw] = gpu::fma(slope[f][w], pixels[column], sums[kh * K::W + kw]);
        });
      }
    }
  }

  /// As of ExchangedGradient; `shared` is free to use.
  template <class Pair>
  __device__ __forceinline__ void write(const float (&temporal)[K::T], const Owner<K>& own, float* shared,
                                        const Pair& pair) const {
    constexpr int kSize = kWeightsPerPair<K>, kPadded = kPaddedSums<K>;
    const int channels = blockDim.x / kTileRows;  // and groups
    float* to = shared + (own.row() / 2 * channels + own.group * kTileChannels + own.channel()) * kPadded;
    const auto put = [&](int r, float sum) {
      const float both_rows = sum + __shfl_xor_sync(0xffffffffu, sum, 2);
      if (own.row() % 2 == 0) to[r] = both_rows;
    };
    GPU_UNROLL
    for (int r = 0; r < K::H * K::W; ++r) put(r, sums[r]);
    GPU_UNROLL
    for (int k = 0; k < K::T; ++k) put(K::H * K::W + k, temporal[k]);
    __syncthreads();
    for (int e = threadIdx.x; e < channels * kSize; e += blockDim.x) {
      const int r = e % kSize, channel = e / kSize;
      float sum = 0.f;
      for (int rows = 0; rows < kTileRows / 2; ++rows)
        sum += shared[(rows * channels + channel) * kPadded + r];
      if (float* at = pair(channel % kTileChannels, channel / kTileChannels)) at[r] = sum;
    }
  }
};

template <class K>
using SpatialGradient = std::conditional_t<K::kSmall, RowGradient<K>, ExchangedGradient<K>>;

/// row <- the thread's row of dy in frame t of an item, zeros outside.
__device__ __forceinline__ void load_slopes(float (&row)[kTileColumns], const float* dy, const Convolution& c,
                                            int item, int t, int h, int first_w, int channel) {
  const bool inside = t >= 0 && t < c.out_t && h < c.out_h && channel < c.out_channels;
  const float* from = dy + ((static_cast<std::size_t>(item) * c.out_t + (inside ? t : 0)) * c.out_h + h) *
                               c.out_w * c.out_channels;
  GPU_UNROLL
  for (int w = 0; w < kTileColumns; ++w)
    row[w] = inside && first_w + w < c.out_w ? from[(first_w + w) * c.out_channels + channel] : 0.f;
}

// partials (block, O, I, KH * KW + KT) <- the share of one tile and one chunk of input frames of one item.
// Blocks: x = chunk of frames and tile, y = four output channels and an input channel of each group, z =
// item.
template <class K>
__global__ void __launch_bounds__(kGroupThreads* kMaxGroups)
    weight_tiles(float* partials, const float* dy, const float* x, const float* packed, Convolution c,
                 int chunk_frames) {
  constexpr int U = kGradientFrames<K>, kWindow = K::T - 1 + U;
  GPU_DYN_SHARED(float, shared);
  const int groups = blockDim.x / kGroupThreads, ins = ceil_div(c.in_channels, groups);
  const int frame_size = groups * K::kPlane;
  float* all_weights = shared + 2 * U * frame_size;
  float* exchanged = all_weights + kTileChannels * groups * K::kPaddedPacked;
  const Owner<K> own(groups);
  const int item = blockIdx.z, first_in = blockIdx.y % ins * groups;
  const int first_out = static_cast<int>(blockIdx.y) / ins * kTileChannels;
  const Tile tile(blockIdx.x, ceil_div(c.out_h, kTileRows), ceil_div(c.out_w, kTileColumns));
  const Range rows = kernel_rows<K>(c, tile, own.row());
  const int begin = tile.chunk * chunk_frames, end = min(begin + chunk_frames, c.in_t);
  const float* taps = all_weights + (own.group * kTileChannels + own.channel()) * K::kPaddedPacked;

  const auto stage = [&](int buffer, int frame) {
    for (int u = 0; u < U && frame < end; ++u)
      stage_frame<K>(shared + (buffer * U + u) * frame_size, x, c, tile, item,
                     frame + u < end ? frame + u : -1, first_in, groups);
    gpu::cp_commit();
  };
  const auto load = [&](float(&row)[kTileColumns], int t) {
    load_slopes(row, dy, c, item, t, tile.row + own.row(), tile.column, first_out + own.channel());
  };
  // Taps by which a frame reaches frames of dy.
  const auto taps_of = [&](int frame) { return Range{frame + c.pad_t - c.out_t + 1, frame + c.pad_t + 1}; };

  float window[kWindow][kTileColumns], dtemporal[K::T] = {};
  SpatialGradient<K> dspatial;
  GPU_UNROLL
  for (int j = 0; j < K::T - 1; ++j) load(window[j], begin - 1 + c.pad_t - j);
  stage_weights<K>(all_weights, packed, c, first_out, first_in, groups);
  stage(0, begin);
  for (int frame = begin, buffer = 0; frame < end; frame += U, buffer ^= 1) {
    stage(buffer ^ 1, frame + U);
    GPU_UNROLL
    for (int j = kWindow - 1; j >= U; --j) {
      GPU_UNROLL
      for (int w = 0; w < kTileColumns; ++w) window[j][w] = window[j - U][w];
    }
    GPU_UNROLL
    for (int u = 0; u < U; ++u) load(window[u], frame + U - 1 - u + c.pad_t);
    gpu::cp_wait<1>();
    __syncthreads();
    if (!rows.empty()) {
      const float* planes = shared + buffer * U * frame_size + own.group * K::kPlane;
      float slope[U][kSlopeRow] = {}, spatial[U][kTileColumns];
      for_temporal_taps<K>(taps, {taps_of(frame).begin, taps_of(frame + U - 1).end}, [&](int k, float tap) {
        GPU_UNROLL
        for (int f = 0; f < U; ++f) {
          GPU_UNROLL
          for (int w = 0; w < kTileColumns; ++w)
            slope[f][w] = gpu::fma(tap, window[U - 1 - f + k][w], slope[f][w]);
        }
      });
      // Frames from `end` on are another block's.
      GPU_UNROLL
      for (int f = 1; f < U; ++f) {
        GPU_UNROLL
        for (int w = 0; w < kTileColumns; ++w) slope[f][w] = frame + f < end ? slope[f][w] : 0.f;
      }
      dspatial.add(spatial, slope, exchanged, planes, frame_size, taps, own, rows);
      GPU_UNROLL
      for (int f = 0; f < U; ++f) {
        if (frame + f >= end) continue;
        for_temporal_taps<K>(taps, taps_of(frame + f), [&](int k, float) {
          GPU_UNROLL
          for (int w = 0; w < kTileColumns; ++w)
            dtemporal[k] = gpu::fma(window[U - 1 - f + k][w], spatial[f][w], dtemporal[k]);
        });
      }
    }
    __syncthreads();  // before the next frame overwrites the other buffer, and the slopes
  }
  // No copies are pending: none were started for frames from `end` on.
  const std::size_t block = static_cast<std::size_t>(item) * gridDim.x + blockIdx.x;
  dspatial.write(dtemporal, own, shared, [&](int o, int group) -> float* {
    if (first_out + o >= c.out_channels || first_in + group >= c.in_channels) return nullptr;
    const std::size_t pair = static_cast<std::size_t>(first_out + o) * c.in_channels + first_in + group;
    return partials + (block * c.out_channels * c.in_channels + pair) * kWeightsPerPair<K>;
  });
}

}  // namespace fovea::FOVEA_GPU
