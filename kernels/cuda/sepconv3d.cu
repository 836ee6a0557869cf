// Separable 3-D convolution. Forward and input gradient are one kernel: the gradient is the convolution of dy
// with mirrored kernels and exchanged channels. No kernel stores the spatial result of a channel pair (its
// traffic would cost more than the arithmetic): a thread keeps the running time window in registers instead.
//
// Predicted on an H100 (tools/kernel-profile, W1; the limit is 1.3 times the useful multiply-adds): 1.4 for
// 11 x 11, 1.7 to 2.2 for 5 x 5. Taps outside of the image are multiplied as zeros (a third of those of 5 x 5
// on 8 x 6 pixels), chunks of time compute KT - 1 frames of their neighbours again, and the spatial gradient
// leaves the lanes without a kernel row idle.
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/scratch.hpp"
#include "kernels/cuda/sepconv3d_plain.hpp"
#include "kernels/cuda/sepconv3d_tile.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kPackThreads = 256;

// packed (out, in, packed_pair) <- spatial, temporal; mirrored: of the transposed convolution
__global__ void __launch_bounds__(kPackThreads)
    pack_weights(float* packed, const float* spatial, const float* temporal, Convolution c, bool mirrored) {
  const int pair_size = c.packed_pair(), e = blockIdx.x * kPackThreads + threadIdx.x;
  if (e >= c.out_channels * c.in_channels * pair_size) return;
  const int r = e % pair_size, i = e / pair_size % c.in_channels, o = e / pair_size / c.in_channels;
  const int pair = mirrored ? i * c.out_channels + o : o * c.in_channels + i;
  const int kh = r / c.kernel_row(), kw = r % c.kernel_row(), k = r - c.kernel_h * c.kernel_row();
  float weight = 0.f;
  if (kh < c.kernel_h && kw < c.kernel_w)
    weight = spatial[(pair * c.kernel_h + (mirrored ? c.kernel_h - 1 - kh : kh)) * c.kernel_w +
                     (mirrored ? c.kernel_w - 1 - kw : kw)];
  else if (k >= 0 && k < c.kernel_t)
    weight = temporal[pair * c.kernel_t + (mirrored ? c.kernel_t - 1 - k : k)];
  packed[e] = weight;
}

// ---- forward, kernel sizes known
// ---------------------------------------------------------------------------------

// Frames that are staged and computed together: more of them make moving the window cheaper.
constexpr int kFramesAtOnce = 2;

template <class K>
std::size_t convolve_shared_bytes(const Convolution& c, int warps) {
  const int frames = 2 * kFramesAtOnce * c.in_channels * K::kPlane;
  const int weights = kTileChannels * c.in_channels * K::kPaddedPacked;
  const int results = kFramesAtOnce * warps * 32 * kTileColumns;
  return sizeof(float) * static_cast<std::size_t>(frames + weights + results);
}

// Sums the warps' shares (frame, warp, column, lane) of finished frames in a fixed order and writes them,
// channels fastest.
template <class K>
__device__ __forceinline__ void write_results(float* y, const float* results, const Convolution& c, Tile tile,
                                              int item, int first_channel, int first_t, int begin_t,
                                              int end_t, bool accumulate) {
  const int warps = blockDim.x / 32;
  for (int e = threadIdx.x; e < kFramesAtOnce * 32 * kTileColumns; e += blockDim.x) {
    const int lane = e % 32, o = lane_channel(lane), h = lane_row(lane), w = e / 32 % kTileColumns;
    const int u = e / (32 * kTileColumns);
    const int t = first_t + u;
    if (t < begin_t || t >= end_t || tile.row + h >= c.out_h || tile.column + w >= c.out_w ||
        first_channel + o >= c.out_channels)
      continue;
    float sum = 0.f;
    for (int warp = 0; warp < warps; ++warp)
      sum += results[((u * warps + warp) * kTileColumns + w) * 32 + lane];
    float& to = y[(((static_cast<std::size_t>(item) * c.out_t + t) * c.out_h + tile.row + h) * c.out_w +
                   tile.column + w) *
                      c.out_channels +
                  first_channel + o];
    to = accumulate ? to + sum : sum;
  }
}

// y (B,To,Ho,Wo,O) <- x (B,T,H,W,I). Blocks: x = chunk of frames and tile, y = four output channels, z =
// item. Each warp does its share of the input channels. window[j] of a thread is the partial output j frames
// before the newest one; a tap k of the temporal kernel adds to the output k frames back.
template <class K>
__global__ void __launch_bounds__(32 * kMaxWarps)
    convolve_tiles(float* y, const float* x, const float* packed, Convolution c, int chunk_frames,
                   bool accumulate) {
  constexpr int U = kFramesAtOnce, kWindow = K::T - 1 + U;
  constexpr int kTogether = K::T <= 11 ? U : 1;  // frames that share loads of weights, where registers last
  GPU_DYN_SHARED(float, shared);
  const int buffer_size = U * c.in_channels * K::kPlane, warps = blockDim.x / 32;
  float* weights = shared + 2 * buffer_size;
  float* results = weights + kTileChannels * c.in_channels * K::kPaddedPacked;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, h = lane_row(lane), o = lane_channel(lane);
  const int item = blockIdx.z, first_channel = blockIdx.y * kTileChannels;
  const Tile tile(blockIdx.x, ceil_div(c.out_h, kTileRows), ceil_div(c.out_w, kTileColumns));
  const int begin_t = tile.chunk * chunk_frames, end_t = min(begin_t + chunk_frames, c.out_t);
  const int frames = end_t - begin_t + K::T - 1, first_frame = begin_t - c.pad_t;

  const auto stage = [&](int buffer, int frame) {
    for (int u = 0; u < U; ++u)
      stage_frame<K>(shared + buffer * buffer_size + u * c.in_channels * K::kPlane, x, c, tile, item,
                     frame + u < frames ? first_frame + frame + u : -1, 0, c.in_channels);
    gpu::cp_commit();
  };

  float window[kWindow][kTileColumns];
  GPU_UNROLL
  for (int j = 0; j < kWindow; ++j) {
    GPU_UNROLL
    for (int w = 0; w < kTileColumns; ++w) window[j][w] = 0.f;
  }
  stage_weights<K>(weights, packed, c, first_channel, 0, c.in_channels);
  stage(0, 0);
  for (int frame = 0, buffer = 0; frame < frames; frame += U, buffer ^= 1) {
    stage(buffer ^ 1, frame + U);
    gpu::cp_wait<1>();
    __syncthreads();
    GPU_NO_UNROLL
    for (int i = warp; i < c.in_channels; i += warps) {
      const float* taps = weights + (i * kTileChannels + o) * K::kPaddedPacked;
      GPU_UNROLL
      for (int first = 0; first < U; first += kTogether) {
        float sums[kTogether][kTileColumns];
        const float* planes = shared + buffer * buffer_size + (first * c.in_channels + i) * K::kPlane;
        spatial_row<K>(sums, planes + h * K::kPlaneColumns, c.in_channels * K::kPlane, taps);
        for_temporal_taps<K>(taps, [&](int k, float tap) {
          GPU_UNROLL
          for (int f = 0; f < kTogether; ++f) {
            GPU_UNROLL
            for (int w = 0; w < kTileColumns; ++w) {
              float& to = window[U - 1 - first - f + k][w];
              to = gpu::fma(tap, sums[f][w], to);
            }
          }
        });
      }
    }
    GPU_UNROLL
    for (int u = 0; u < U; ++u) {
      GPU_UNROLL
      for (int w = 0; w < kTileColumns; ++w)
        results[((u * warps + warp) * kTileColumns + w) * 32 + lane] = window[kWindow - 1 - u][w];
    }
    __syncthreads();
    write_results<K>(y, results, c, tile, item, first_channel, begin_t + frame - (K::T - 1), begin_t, end_t,
                     accumulate);
    GPU_UNROLL
    for (int j = kWindow - 1; j >= 0; --j) {
      GPU_UNROLL
      for (int w = 0; w < kTileColumns; ++w) window[j][w] = j >= U ? window[j < U ? 0 : j - U][w] : 0.f;
    }
  }
  gpu::cp_wait<0>();
}

// ---- weight gradient, kernel sizes known
// -------------------------------------------------------------------------

template <class K>
constexpr int kWeightsPerPair = K::H* K::W + K::T;

template <class K>
std::size_t weight_shared_bytes(int warps) {
  const int frames = 2 * warps * K::kPlane, weights = kTileChannels * warps * K::kPaddedPacked;
  const int slopes = warps * 32 * 8;  // rows of 6, padded to float4
  return sizeof(float) * static_cast<std::size_t>(frames + weights + slopes);
}

// partials (block, O, I, KH * KW + KT) <- the share of one tile and one chunk of input frames of one item.
// Blocks: x = chunk of frames and tile, y = four output channels and `warps` input channels, z = item; a warp
// owns one input channel. window[k] of a thread is the row of dy that tap k of the temporal kernel ties to
// the current frame, so
//   d temporal[k] = <window[k], spatial result of the frame>,  dS = sum_k temporal[k] window[k],
//   d spatial[kh][kw] = <dS, frame shifted by kh, kw>, for which a lane's row is kh mod 8.
template <class K>
__global__ void __launch_bounds__(32 * kMaxWarps)
    weight_tiles(float* partials, const float* dy, const float* x, const float* packed, Convolution c,
                 int chunk_frames) {
  constexpr int kRounds = ceil_div(K::H, kTileRows), kSlopeRow = 8;
  GPU_DYN_SHARED(float, shared);
  const int warps = blockDim.x / 32, groups_in = ceil_div(c.in_channels, warps),
            buffer_size = warps * K::kPlane;
  float* all_weights = shared + 2 * buffer_size;
  float* slopes = all_weights + kTileChannels * warps * K::kPaddedPacked + threadIdx.x / 32 * 32 * kSlopeRow;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, h = lane_row(lane), o = lane_channel(lane);
  const int item = blockIdx.z, first_in = blockIdx.y % groups_in * warps;
  const int first_out = static_cast<int>(blockIdx.y) / groups_in * kTileChannels;
  const int tiles_h = ceil_div(c.out_h, kTileRows), tiles_w = ceil_div(c.out_w, kTileColumns);
  const Tile tile(blockIdx.x, tiles_h, tiles_w);
  const int begin = tile.chunk * chunk_frames, end = min(begin + chunk_frames, c.in_t);
  const float* taps = all_weights + (warp * kTileChannels + o) * K::kPaddedPacked;

  const auto stage = [&](int buffer, int frame) {
    stage_frame<K>(shared + buffer * buffer_size, x, c, tile, item, frame < end ? frame : -1, first_in,
                   warps);
    gpu::cp_commit();
  };
  const auto load_slopes = [&](float(&row)[kTileColumns], int t) {
    const bool inside = t >= 0 && t < c.out_t && tile.row + h < c.out_h && first_out + o < c.out_channels;
    const float* from =
        dy + ((static_cast<std::size_t>(item) * c.out_t + (inside ? t : 0)) * c.out_h + tile.row + h) *
                 c.out_w * c.out_channels;
    GPU_UNROLL
    for (int w = 0; w < kTileColumns; ++w)
      row[w] = inside && tile.column + w < c.out_w ? from[(tile.column + w) * c.out_channels + first_out + o]
                                                   : 0.f;
  };

  float window[K::T][kTileColumns], dtemporal[K::T], dspatial[kRounds][K::W];
  GPU_UNROLL
  for (int k = 0; k < K::T; ++k) {
    dtemporal[k] = 0.f;
    if (k < K::T - 1) load_slopes(window[k], begin - 1 + c.pad_t - k);
  }
  GPU_UNROLL
  for (int round = 0; round < kRounds; ++round) {
    GPU_UNROLL
    for (int kw = 0; kw < K::W; ++kw) dspatial[round][kw] = 0.f;
  }
  stage_weights<K>(all_weights, packed, c, first_out, first_in, warps);
  stage(0, begin);
  for (int frame = begin, buffer = 0; frame < end; ++frame, buffer ^= 1) {
    stage(buffer ^ 1, frame + 1);
    GPU_UNROLL
    for (int k = K::T - 1; k > 0; --k) {
      GPU_UNROLL
      for (int w = 0; w < kTileColumns; ++w) window[k][w] = window[k - 1][w];
    }
    load_slopes(window[0], frame + c.pad_t);
    gpu::cp_wait<1>();
    __syncthreads();
    const float* plane = shared + buffer * buffer_size + warp * K::kPlane;
    float sums[1][kTileColumns], slope[kSlopeRow] = {};
    spatial_row<K>(sums, plane + h * K::kPlaneColumns, 0, taps);
    for_temporal_taps<K>(taps, [&](int k, float tap) {
      GPU_UNROLL
      for (int w = 0; w < kTileColumns; ++w) {
        dtemporal[k] = gpu::fma(window[k][w], sums[0][w], dtemporal[k]);
        slope[w] = gpu::fma(tap, window[k][w], slope[w]);
      }
    });
    GPU_UNROLL
    for (int w = 0; w < kSlopeRow; w += 4)
      *reinterpret_cast<float4*>(&slopes[(h * kTileChannels + o) * kSlopeRow + w]) =
          make_float4(slope[w], slope[w + 1], slope[w + 2], slope[w + 3]);
    __syncwarp();
    GPU_UNROLL
    for (int round = 0; round < kRounds; ++round) {
      const int kh = h + round * kTileRows;
      if (kh < K::H) {
        GPU_NO_UNROLL
        for (int row = 0; row < kTileRows; ++row) {
          float pixels[4 * K::kVectors], row_slopes[kSlopeRow];
          load_row<K::kVectors>(pixels, plane + (row + kh) * K::kPlaneColumns);
          load_row<kSlopeRow / 4>(row_slopes, slopes + (row * kTileChannels + o) * kSlopeRow);
          GPU_UNROLL
          for (int kw = 0; kw < K::W; ++kw) {
            GPU_UNROLL
            for (int w = 0; w < kTileColumns; ++w)
              dspatial[round][kw] = gpu::fma(row_slopes[w], pixels[w + kw], dspatial[round][kw]);
          }
        }
      }
    }
    __syncthreads();  // before the next frame overwrites the other buffer, and the slopes
  }
  gpu::cp_wait<0>();

  const std::size_t block = static_cast<std::size_t>(item) * gridDim.x + blockIdx.x;
  const bool mine = first_out + o < c.out_channels && first_in + warp < c.in_channels;
  const std::size_t pair = static_cast<std::size_t>(first_out + o) * c.in_channels + first_in + warp;
  float* to = partials + (block * c.out_channels * c.in_channels + pair) * kWeightsPerPair<K>;
  GPU_UNROLL
  for (int k = 0; k < K::T; ++k) {
    const float sum = sum_of_rows(dtemporal[k]);
    if (mine && h == 0) to[K::H * K::W + k] = sum;
  }
  GPU_UNROLL
  for (int round = 0; round < kRounds; ++round) {
    const int kh = h + round * kTileRows;
    GPU_UNROLL
    for (int kw = 0; kw < K::W; ++kw)
      if (mine && kh < K::H) to[kh * K::W + kw] = dspatial[round][kw];
  }
}

// dspatial (pair, KH * KW), dtemporal (pair, KT) <- sum over the blocks of partials (block, pair, KH * KW +
// KT)
__global__ void __launch_bounds__(kPackThreads)
    sum_partials(float* dspatial, float* dtemporal, const float* partials, int blocks, int pairs, int spatial,
                 int temporal) {
  const int size = spatial + temporal, e = blockIdx.x * kPackThreads + threadIdx.x;
  if (e >= pairs * size) return;
  double sum = 0;
  for (int block = 0; block < blocks; ++block)
    sum += partials[(static_cast<std::size_t>(block) * pairs * size) + e];
  const int pair = e / size, r = e % size;
  (r < spatial ? dspatial[pair * spatial + r] : dtemporal[pair * temporal + r - spatial]) =
      static_cast<float>(sum);
}

// ---- launchers
// -----------------------------------------------------------------------------------------------------

Convolution forward_convolution(const SepConv3dShape& s) {
  const auto n = [](std::int64_t value) { return static_cast<int>(value); };
  return {n(s.batch),    n(s.in_channels), n(s.out_channels), n(s.in_t),  n(s.in_h),
          n(s.in_w),     n(s.out_t),       n(s.out_h),        n(s.out_w), n(s.kernel_t),
          n(s.kernel_h), n(s.kernel_w),    n(s.pad_t),        n(s.pad_h), n(s.pad_w)};
}

Convolution transposed(const Convolution& c) {
  Convolution r = c;
  r.in_channels = c.out_channels, r.out_channels = c.in_channels;
  r.in_t = c.out_t, r.in_h = c.out_h, r.in_w = c.out_w;
  r.out_t = c.in_t, r.out_h = c.in_h, r.out_w = c.in_w;
  r.pad_t = c.kernel_t - 1 - c.pad_t, r.pad_h = c.kernel_h - 1 - c.pad_h, r.pad_w = c.kernel_w - 1 - c.pad_w;
  return r;
}

std::size_t packed_size(const Convolution& c) {
  return static_cast<std::size_t>(c.out_channels) * c.in_channels * c.packed_pair();
}

void pack(float* packed, const float* spatial, const float* temporal, const Convolution& c, bool mirrored,
          const Queue& queue) {
  if (packed_size(c) == 0) return;
  gpu::launch(pack_weights, ceil_div(static_cast<int>(packed_size(c)), kPackThreads), kPackThreads, 0,
              queue.stream, packed, spatial, temporal, c, mirrored);
}

template <class K>
bool has_taps(const Convolution& c) {
  return c.kernel_t == K::T && c.kernel_h == K::H && c.kernel_w == K::W;
}

// What every architecture lets a block use; with more input channels than that the plain kernels serve.
constexpr std::size_t kSharedOfEveryGpu = 64 * 1024;
constexpr int kWantedBlocks = 256;

int tiles(const Convolution& c) { return ceil_div(c.out_h, kTileRows) * ceil_div(c.out_w, kTileColumns); }

/// Into how many chunks to cut `frames`, so that there are blocks enough but the frames that two chunks share
/// stay few.
int chunk_count(int blocks, int frames, int shared_frames) {
  return max(1, min(ceil_div(kWantedBlocks, blocks), frames / max(1, 2 * shared_frames)));
}

template <class K>
bool try_convolve(float* y, const float* x, const float* packed, const Convolution& c, bool accumulate,
                  const Queue& queue) {
  const int warps = min(c.in_channels, kMaxWarps);
  const std::size_t bytes = convolve_shared_bytes<K>(c, warps);
  if (!has_taps<K>(c) || bytes > kSharedOfEveryGpu) return false;
  const int groups = ceil_div(c.out_channels, kTileChannels);
  const int chunk = ceil_div(c.out_t, chunk_count(c.batch * groups * tiles(c), c.out_t, K::T - 1));
  gpu::launch(convolve_tiles<K>, dim3(tiles(c) * ceil_div(c.out_t, chunk), groups, c.batch), 32 * warps,
              bytes, queue.stream, y, x, packed, c, chunk, accumulate);
  return true;
}

template <class K>
bool try_weights(float* dspatial, float* dtemporal, const float* dy, const float* x, const float* packed,
                 const Convolution& c, const Queue& queue) {
  if (!has_taps<K>(c)) return false;
  const int warps = min(c.in_channels, kMaxWarps), pairs = c.out_channels * c.in_channels;
  const int groups = ceil_div(c.out_channels, kTileChannels) * ceil_div(c.in_channels, warps);
  const int chunk = ceil_div(c.in_t, chunk_count(c.batch * groups * tiles(c), c.in_t, K::T - 1));
  const int blocks = tiles(c) * ceil_div(c.in_t, chunk), parts = blocks * c.batch;
  const Scratch<float> partials(queue, static_cast<std::size_t>(parts) * pairs * kWeightsPerPair<K>);
  gpu::launch(weight_tiles<K>, dim3(blocks, groups, c.batch), 32 * warps, weight_shared_bytes<K>(warps),
              queue.stream, partials.data(), dy, x, packed, c, chunk);
  gpu::launch(sum_partials, ceil_div(pairs * kWeightsPerPair<K>, kPackThreads), kPackThreads, 0, queue.stream,
              dspatial, dtemporal, static_cast<const float*>(partials.data()), parts, pairs, K::H * K::W,
              K::T);
  return true;
}

// The layers of the shipped models: openretina's core, 2 -> 16 and 16 -> 16 channels.
using FirstLayer = Taps<21, 11, 11>;
using SecondLayer = Taps<11, 5, 5>;

void convolve(float* y, const float* x, const float* spatial, const float* temporal, const Convolution& c,
              bool mirrored, bool accumulate, const Queue& queue) {
  const std::int64_t count =
      static_cast<std::int64_t>(c.batch) * c.out_t * c.out_h * c.out_w * c.out_channels;
  if (count == 0) return;
  const Scratch<float> packed(queue, packed_size(c));
  pack(packed.data(), spatial, temporal, c, mirrored, queue);
  if (c.in_channels > 0 && try_convolve<FirstLayer>(y, x, packed.data(), c, accumulate, queue)) return;
  if (c.in_channels > 0 && try_convolve<SecondLayer>(y, x, packed.data(), c, accumulate, queue)) return;
  gpu::launch(convolve_plain, static_cast<int>((count + kPlainThreads - 1) / kPlainThreads), kPlainThreads, 0,
              queue.stream, y, x, packed.data(), c, accumulate);
}

void forward(float* y, const float* x, const float* spatial, const float* temporal,
             const SepConv3dShape& shape, const Queue& queue) {
  convolve(y, x, spatial, temporal, forward_convolution(shape), false, false, queue);
}

void grad_input(float* dx, const float* dy, const float* spatial, const float* temporal,
                const SepConv3dShape& shape, Write mode, const Queue& queue) {
  convolve(dx, dy, spatial, temporal, transposed(forward_convolution(shape)), true, mode == Write::accumulate,
           queue);
}

void grad_weight(float* dspatial, float* dtemporal, const float* dy, const float* x, const float* spatial,
                 const float* temporal, const SepConv3dShape& shape, const Queue& queue) {
  const Convolution c = forward_convolution(shape);
  const int pairs = c.out_channels * c.in_channels, taps = c.kernel_h * c.kernel_w + c.kernel_t;
  if (pairs == 0) return;
  if (c.batch == 0 || c.in_t * c.in_h * c.in_w == 0) {  // sums of nothing
    gpu::launch(sum_partials, ceil_div(pairs * taps, kPackThreads), kPackThreads, 0, queue.stream, dspatial,
                dtemporal, static_cast<const float*>(nullptr), 0, pairs, c.kernel_h * c.kernel_w, c.kernel_t);
    return;
  }
  const Scratch<float> packed(queue, packed_size(c));
  pack(packed.data(), spatial, temporal, c, false, queue);
  if (try_weights<FirstLayer>(dspatial, dtemporal, dy, x, packed.data(), c, queue)) return;
  if (try_weights<SecondLayer>(dspatial, dtemporal, dy, x, packed.data(), c, queue)) return;
  gpu::launch(weight_plain, pairs * taps, kPlainThreads, 0, queue.stream, dspatial, dtemporal, dy, x,
              packed.data(), c);
}

}  // namespace

void fill(SepConv3dKernels<float>& table) { table = {forward, grad_input, grad_weight}; }

}  // namespace fovea::FOVEA_GPU
