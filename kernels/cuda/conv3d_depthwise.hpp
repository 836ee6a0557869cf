// Depthwise convolutions with square kernels, stride 1 and no dilation: one channel in, one out.
//
// Lane = channel, so that every access is coalesced and free of bank conflicts. A block stages a tile of the
// image with its halo; a thread holds its channel's weights (forward) or their gradient in registers and
// works on 2 rows x 8 columns, for which it loads 14 pixels of each of 8 rows at K = 7: 7 multiply-adds a
// load. The input gradient is the forward pass of dy with mirrored weights.
//
// A block works on a run of tiles, and so loads its weights, or leaves 49 partial sums of a channel, once.
#pragma once
#include "kernels/cuda/gemm_tile.hpp"

namespace fovea::FOVEA_GPU {

constexpr int kPatchRows = 2, kPatchColumns = 8, kMapColumns = 2 * kPatchColumns, kMapWarps = 8;

struct DepthwiseShape {
  int channels, in_h, in_w, out_h, out_w, pad_h, pad_w;
  int tile_rows, tiles_h, tiles_w;  // rows of a tile: even, a warp for every two
  std::int64_t images;
  int run;      // tiles that a block works on, one after the other
  bool vector;  // the staged map allows float4

  __host__ __device__ std::int64_t tiles() const { return images * tiles_h * tiles_w; }
  unsigned blocks() const { return static_cast<unsigned>(ceil_div(tiles(), run)); }
  int threads() const { return 32 * tile_rows / kPatchRows; }
};

template <int K>
struct Depthwise {
  static constexpr int kMostRows = K > 7 ? 8 : K > 5 ? 14 : 16;  // 64 KiB of shared memory on sm_75
  static constexpr int kColumns = kMapColumns + K - 1;
  static int tile_size(int tile_rows) { return (tile_rows + K - 1) * kColumns * 32; }
};

/// Which tile of which image, and the 32 channels, a block works on.
struct MapTile {
  int row, column, channel;
  std::int64_t image;

  __device__ MapTile(const DepthwiseShape& s, std::int64_t tile)
      : row(static_cast<int>(tile / s.tiles_w % s.tiles_h) * s.tile_rows),
        column(static_cast<int>(tile % s.tiles_w) * kMapColumns),
        channel(blockIdx.y * 32),
        image(tile / s.tiles_w / s.tiles_h) {}
};

/// Copies the tile and its halo, zeros outside the image, to map[(row * columns + column) * 32 + channel].
template <int K>
__device__ __forceinline__ void stage_map(float* map, const float* x, const DepthwiseShape& s,
                                          const MapTile& tile) {
  const int width = s.vector ? 4 : 1, per_pixel = 32 / width;
  const int lane = threadIdx.x % per_pixel * width, channels = s.channels - tile.channel;
  const float* image = x + tile.image * s.in_h * s.in_w * s.channels + tile.channel + lane;
  for (int e = threadIdx.x / per_pixel; e < (s.tile_rows + K - 1) * Depthwise<K>::kColumns;
       e += blockDim.x / per_pixel) {
    const int h = tile.row + e / Depthwise<K>::kColumns - s.pad_h;
    const int w = tile.column + e % Depthwise<K>::kColumns - s.pad_w;
    const bool ok = lane < channels && h >= 0 && h < s.in_h && w >= 0 && w < s.in_w;
    const float* from = ok ? image + (static_cast<std::int64_t>(h) * s.in_w + w) * s.channels : x;
    if (s.vector)
      gpu::cp_async<16>(&map[e * 32 + lane], from, ok);
    else
      gpu::cp_async<4>(&map[e * 32 + lane], from, ok);
  }
  gpu::cp_commit();
}

/// Calls visit(row of the patch's halo, the row's pixels) for the rows that the patch sees.
template <int K, class Visit>
__device__ __forceinline__ void for_each_halo_row(const float* map, int row, int column, const Visit& visit) {
  GPU_UNROLL_LARGE
  for (int r = 0; r < kPatchRows + K - 1; ++r) {
    float pixels[kPatchColumns + K - 1];
    GPU_UNROLL
    for (int c = 0; c < kPatchColumns + K - 1; ++c)
      pixels[c] = map[((row + r) * Depthwise<K>::kColumns + column + c) * 32 + threadIdx.x % 32];
    visit(r, pixels);
  }
}

/// The tiles of a block: begin to end.
struct MapRun {
  std::int64_t begin, end;

  __device__ explicit MapRun(const DepthwiseShape& s)
      : begin(static_cast<std::int64_t>(blockIdx.x) * s.run), end(min(begin + s.run, s.tiles())) {}
};

/// Writes a patch, or adds it to what is there.
__device__ __forceinline__ void write_patch(float* y, const float (&sums)[kPatchRows][kPatchColumns],
                                            const DepthwiseShape& s, const MapTile& tile, int row, int column,
                                            bool accumulate) {
  const int channel = tile.channel + threadIdx.x % 32;
  GPU_UNROLL
  for (int i = 0; i < kPatchRows; ++i) {
    const int h = tile.row + row + i;
    GPU_UNROLL
    for (int j = 0; j < kPatchColumns; ++j) {
      const int w = tile.column + column + j;
      if (channel >= s.channels || h >= s.out_h || w >= s.out_w) continue;
      float& to = y[((tile.image * s.out_h + h) * s.out_w + w) * s.channels + channel];
      to = accumulate ? to + sums[i][j] : sums[i][j];
    }
  }
}

// y (images, out h, out w, C) <- x, weight (C, K, K), bias or null. Blocks: x = run of tiles, y = 32
// channels.
template <int K>
__global__ void __launch_bounds__(32 * kMapWarps)
    depthwise(float* y, const float* x, const float* weight, const float* bias, DepthwiseShape s,
              bool mirrored, bool accumulate) {
  GPU_DYN_SHARED(float, map);
  GPU_SHARED(float, weights, [32 * K * K]);
  const MapRun run(s);
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * kPatchRows;
  const int first_channel = blockIdx.y * 32, channels = s.channels - first_channel;
  stage_map<K>(map, x, s, MapTile(s, run.begin));
  for (int e = threadIdx.x; e < 32 * K * K; e += blockDim.x)
    weights[e] = e < channels * K * K ? weight[static_cast<std::int64_t>(first_channel) * K * K + e] : 0.f;
  __syncthreads();
  float taps[K * K];
  GPU_UNROLL
  for (int k = 0; k < K * K; ++k) taps[k] = weights[lane * K * K + (mirrored ? K * K - 1 - k : k)];
  const float first = bias && lane < channels ? bias[first_channel + lane] : 0.f;

  for (std::int64_t at = run.begin; at < run.end; ++at) {
    const MapTile tile(s, at);
    if (at > run.begin) stage_map<K>(map, x, s, tile);
    gpu::cp_wait<0>();
    __syncthreads();
    GPU_NO_UNROLL
    for (int column = 0; column < kMapColumns; column += kPatchColumns) {
      float sums[kPatchRows][kPatchColumns];
      GPU_UNROLL
      for (int i = 0; i < kPatchRows; ++i) {
        GPU_UNROLL
        for (int j = 0; j < kPatchColumns; ++j) sums[i][j] = first;
      }
      for_each_halo_row<K>(map, row, column, [&](int r, const auto& pixels) {
        GPU_UNROLL_LARGE
        for (int i = 0; i < kPatchRows; ++i) {
          if (r < i || r >= i + K) continue;
          GPU_UNROLL
          for (int k = 0; k < K; ++k) {
            GPU_UNROLL
            for (int j = 0; j < kPatchColumns; ++j)
              sums[i][j] = gpu::fma(pixels[j + k], taps[(r - i) * K + k], sums[i][j]);
          }
        }
      });
      write_patch(y, sums, s, tile, row, column, accumulate);
    }
    __syncthreads();
  }
}

// partials (blocks x, K * K, C) <- dy, x. Blocks: x = a run of tiles, y = 32 channels; warps share the tile's
// rows and are summed in order.
template <int K>
__global__ void __launch_bounds__(32 * kMapWarps)
    depthwise_weights(float* partials, const float* dy, const float* x, DepthwiseShape s) {
  GPU_DYN_SHARED(float, map);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  float taps[K * K];
  GPU_UNROLL
  for (int k = 0; k < K * K; ++k) taps[k] = 0.f;
  const MapRun run(s);
  for (std::int64_t at = run.begin; at < run.end; ++at) {
    const MapTile tile(s, at);
    stage_map<K>(map, x, s, tile);
    gpu::cp_wait<0>();
    __syncthreads();
    GPU_NO_UNROLL
    for (int column = 0; column < kMapColumns; column += kPatchColumns) {
      float slopes[kPatchRows][kPatchColumns];
      GPU_UNROLL
      for (int i = 0; i < kPatchRows; ++i) {
        const int h = tile.row + warp * kPatchRows + i;
        GPU_UNROLL
        for (int j = 0; j < kPatchColumns; ++j) {
          const int w = tile.column + column + j;
          const bool ok = tile.channel + lane < s.channels && h < s.out_h && w < s.out_w;
          slopes[i][j] =
              ok ? dy[((tile.image * s.out_h + h) * s.out_w + w) * s.channels + tile.channel + lane] : 0.f;
        }
      }
      for_each_halo_row<K>(map, warp * kPatchRows, column, [&](int r, const auto& pixels) {
        GPU_UNROLL_LARGE
        for (int i = 0; i < kPatchRows; ++i) {
          if (r < i || r >= i + K) continue;
          GPU_UNROLL
          for (int j = 0; j < kPatchColumns; ++j) {
            GPU_UNROLL
            for (int k = 0; k < K; ++k)
              taps[(r - i) * K + k] = gpu::fma(pixels[j + k], slopes[i][j], taps[(r - i) * K + k]);
          }
        }
      });
    }
    __syncthreads();
  }
  GPU_UNROLL
  for (int k = 0; k < K * K; ++k) map[(warp * K * K + k) * 32 + lane] = taps[k];
  __syncthreads();
  const int channel = blockIdx.y * 32 + lane;
  if (channel >= s.channels) return;
  for (int k = warp; k < K * K; k += warps) {
    float sum = 0.f;
    for (int w = 0; w < warps; ++w) sum += map[(w * K * K + k) * 32 + lane];
    partials[(static_cast<std::int64_t>(blockIdx.x) * K * K + k) * s.channels + channel] = sum;
  }
}

}  // namespace fovea::FOVEA_GPU
