// Separable 3-D convolution. Forward and input gradient are one kernel: the gradient is the convolution of dy
// with mirrored kernels and exchanged channels. No kernel stores the spatial result of a channel pair (its
// traffic would cost more than the arithmetic): a thread keeps the running time window in registers instead.
//
// Predicted on an H100 (tools/kernel-profile; the limit is 1.3 times the useful multiply-adds): in W1 1.1 to
// 1.3. What is left: loads from shared memory (one for about 10 multiply-adds, for 20 in the weight gradient
// of 5 x 5), 128 or 256 equal blocks on 132 multiprocessors, a kernel row that only one of a pair of rows at
// the edge needs, and for 11 x 11 the KT - 1 frames that two chunks of time both compute. In W1s 1.1 to 1.4:
// tiles of 8 x 6 reach beyond the 22 x 22 pixels, by 9% in columns and for 11 x 11, where a warp owns all
// rows of a tile, by 9% in rows; 5 x 5 with a halo of columns waits for shared memory as well.
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/scratch.hpp"
#include "kernels/cuda/sepconv3d_plain.hpp"
#include "kernels/cuda/sepconv3d_tile.hpp"
#include "kernels/cuda/sepconv3d_weights.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kPackThreads = 256, kSumThreads = 64;

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
std::size_t convolve_shared_bytes(const Convolution& c, int groups) {
  const int frames = 2 * kFramesAtOnce * c.in_channels * K::kPlane;
  const int weights = kTileChannels * c.in_channels * K::kPaddedPacked;
  const int results = kFramesAtOnce * groups * kGroupThreads * kTileColumns;
  return sizeof(float) * static_cast<std::size_t>(frames + weights + results);
}

/// What a thread has for kFramesAtOnce finished frames, in float4.
constexpr int kResultVectors = kFramesAtOnce * kTileColumns / 4;
static_assert(kFramesAtOnce * kTileColumns % 4 == 0);

template <class K>
__device__ __forceinline__ void store_results(float4* results,
                                              const float (&window)[K::T - 1 + kFramesAtOnce][kTileColumns]) {
  constexpr int oldest = K::T - 2 + kFramesAtOnce;
  const auto value = [&](int n) { return window[oldest - n / kTileColumns][n % kTileColumns]; };
  GPU_UNROLL
  for (int v = 0; v < kResultVectors; ++v)
    results[v * blockDim.x + threadIdx.x] =
        make_float4(value(4 * v), value(4 * v + 1), value(4 * v + 2), value(4 * v + 3));
}

// Sums the groups' shares (float4 of a thread's frames and columns, thread) of finished frames in a fixed
// order and writes them, channels fastest.
template <class K>
__device__ __forceinline__ void write_results(float* y, const float4* results, const Convolution& c,
                                              Tile tile, int item, int first_channel, int first_t,
                                              Range chunk, bool accumulate) {
  const int groups = blockDim.x / kGroupThreads;
  for (int e = threadIdx.x; e < kResultVectors * kGroupThreads; e += blockDim.x) {
    const int slot = e % kGroupThreads, vector = e / kGroupThreads;
    const int h = tile.row + Owner<K>::row(slot), o = first_channel + Owner<K>::channel(slot);
    if (h >= c.out_h || o >= c.out_channels) continue;
    float sums[4] = {};
    for (int group = 0; group < groups; ++group) {
      const float4 share = results[vector * blockDim.x + Owner<K>::thread(slot, group, groups)];
      sums[0] += share.x, sums[1] += share.y, sums[2] += share.z, sums[3] += share.w;
    }
    GPU_UNROLL
    for (int j = 0; j < 4; ++j) {
      const int u = (4 * vector + j) / kTileColumns, w = tile.column + (4 * vector + j) % kTileColumns;
      const int t = first_t + u;
      if (t < chunk.begin || t >= chunk.end || w >= c.out_w) continue;
      float& to =
          y[(((static_cast<std::size_t>(item) * c.out_t + t) * c.out_h + h) * c.out_w + w) * c.out_channels +
            o];
      to = accumulate ? to + sums[j] : sums[j];
    }
  }
}

// y (B,To,Ho,Wo,O) <- x (B,T,H,W,I). Blocks: x = chunk of frames and tile, y = four output channels, z =
// item. Each group of threads does its share of the input channels. window[j] of a thread is the partial
// output j frames before the newest one; a tap k of the temporal kernel adds to the output k frames back.
template <class K>
__global__ void __launch_bounds__(kGroupThreads* kMaxGroups)
    convolve_tiles(float* y, const float* x, const float* packed, Convolution c, int chunk_frames,
                   bool accumulate) {
  constexpr int U = kFramesAtOnce, kWindow = K::T - 1 + U;
  GPU_DYN_SHARED(float, shared);
  const int buffer_size = U * c.in_channels * K::kPlane, groups = blockDim.x / kGroupThreads;
  float* weights = shared + 2 * buffer_size;
  float4* results = reinterpret_cast<float4*>(weights + kTileChannels * c.in_channels * K::kPaddedPacked);
  const Owner<K> own(groups);
  const int h = own.row(), item = blockIdx.z, first_channel = blockIdx.y * kTileChannels;
  const Tile tile(blockIdx.x, ceil_div(c.out_h, kTileRows), ceil_div(c.out_w, kTileColumns));
  const Range rows = kernel_rows<K>(c, tile, h);
  const int begin_t = tile.chunk * chunk_frames;
  const Range chunk{begin_t, min(begin_t + chunk_frames, c.out_t)};
  const int frames = chunk.end - chunk.begin + K::T - 1, first_frame = chunk.begin - c.pad_t;

  // Whether a step has frames of the recording; others are neither staged nor computed.
  const auto any_inside = [&](int frame) {
    return frame < frames && first_frame + frame + U > 0 && first_frame + frame < c.in_t;
  };
  const auto stage = [&](int buffer, int frame) {
    for (int u = 0; u < U && any_inside(frame); ++u)
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
    // Taps by which a frame of the step reaches an output of the chunk.
    const Range wanted{frame - (chunk.end - chunk.begin) + 1, frame + U};
    GPU_NO_UNROLL
    for (int i = any_inside(frame) && !rows.empty() ? own.group : c.in_channels; i < c.in_channels;
         i += groups) {
      const float* taps = weights + (i * kTileChannels + own.channel()) * K::kPaddedPacked;
      const float* planes = shared + buffer * buffer_size + i * K::kPlane;
      float sums[U][kTileColumns];
      spatial_row<K>(sums, planes + h * K::kPlaneColumns, c.in_channels * K::kPlane, taps, rows);
      for_temporal_taps<K>(taps, wanted, [&](int k, float tap) {
        GPU_UNROLL
        for (int f = 0; f < U; ++f) {
          GPU_UNROLL
          for (int w = 0; w < kTileColumns; ++w) {
            float& to = window[U - 1 - f + k][w];
            to = gpu::fma(tap, sums[f][w], to);
          }
        }
      });
    }
    const int first_t = chunk.begin + frame - (K::T - 1);
    const bool any_finished = first_t + U > chunk.begin;
    if (any_finished) store_results<K>(results, window);
    __syncthreads();
    if (any_finished) write_results<K>(y, results, c, tile, item, first_channel, first_t, chunk, accumulate);
    GPU_UNROLL
    for (int j = kWindow - 1; j >= 0; --j) {
      GPU_UNROLL
      for (int w = 0; w < kTileColumns; ++w) window[j][w] = j >= U ? window[j < U ? 0 : j - U][w] : 0.f;
    }
  }
  gpu::cp_wait<0>();
}

// dspatial (pair, KH * KW), dtemporal (pair, KT) <- sum over the blocks of partials (block, pair, KH * KW +
// KT)
__global__ void __launch_bounds__(kSumThreads)
    sum_partials(float* dspatial, float* dtemporal, const float* partials, int blocks, int pairs, int spatial,
                 int temporal) {
  const int size = spatial + temporal, e = blockIdx.x * kSumThreads + threadIdx.x;
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

// What every architecture lets a block use; with more input channels than that the plain kernels serve.
constexpr std::size_t kSharedOfEveryGpu = 64 * 1024;
constexpr int kWantedBlocks = 256, kWantedWarps = 1024;

int tiles(const Convolution& c) { return ceil_div(c.out_h, kTileRows) * ceil_div(c.out_w, kTileColumns); }

/// Into how many chunks to cut `frames`, so that there are blocks or warps enough but the frames that two
/// chunks share stay few.
int chunk_count(int blocks, int warps, int frames, int shared_frames) {
  const int wanted = min(ceil_div(kWantedBlocks, blocks), ceil_div(kWantedWarps, blocks * warps));
  return max(1, min(wanted, frames / max(1, 2 * shared_frames)));
}

int groups_of(const Convolution& c) { return min(c.in_channels, kMaxGroups); }

template <class K>
bool serves(const Convolution& c) {
  const bool whole_rows = max(c.in_w, c.out_w) <= kTileColumns && c.pad_w == K::W / 2;
  return c.kernel_t == K::T && c.kernel_h == K::H && c.kernel_w == K::W && (whole_rows || !K::kWholeRows);
}

template <class K>
bool try_convolve(float* y, const float* x, const float* packed, const Convolution& c, bool accumulate,
                  const Queue& queue) {
  const int groups = groups_of(c);
  const std::size_t bytes = convolve_shared_bytes<K>(c, groups);
  if (!serves<K>(c) || bytes > kSharedOfEveryGpu) return false;
  const int fours = ceil_div(c.out_channels, kTileChannels), blocks = c.batch * fours * tiles(c);
  const int count = chunk_count(blocks, groups, c.out_t, K::T - 1);
  const int chunk = ceil_div(ceil_div(c.out_t, count), kFramesAtOnce) * kFramesAtOnce;
  gpu::launch(convolve_tiles<K>, dim3(tiles(c) * ceil_div(c.out_t, chunk), fours, c.batch),
              kGroupThreads * groups, bytes, queue.stream, y, x, packed, c, chunk, accumulate);
  return true;
}

template <class K>
bool try_weights(float* dspatial, float* dtemporal, const float* dy, const float* x, const float* packed,
                 const Convolution& c, const Queue& queue) {
  if (!serves<K>(c)) return false;
  const int groups = groups_of(c), pairs = c.out_channels * c.in_channels;
  const int channels = ceil_div(c.out_channels, kTileChannels) * ceil_div(c.in_channels, groups);
  const int chunk = ceil_div(c.in_t, chunk_count(c.batch * channels * tiles(c), groups, c.in_t, K::T - 1));
  const int blocks = tiles(c) * ceil_div(c.in_t, chunk), parts = blocks * c.batch;
  const Scratch<float> partials(queue, static_cast<std::size_t>(parts) * pairs * kWeightsPerPair<K>);
  gpu::launch(weight_tiles<K>, dim3(blocks, channels, c.batch), kGroupThreads * groups,
              weight_shared_bytes<K>(groups), queue.stream, partials.data(), dy, x, packed, c, chunk);
  gpu::launch(sum_partials, ceil_div(pairs * kWeightsPerPair<K>, kSumThreads), kSumThreads, 0, queue.stream,
              dspatial, dtemporal, static_cast<const float*>(partials.data()), parts, pairs, K::H * K::W,
              K::T);
  return true;
}

// The layers of the shipped models: openretina's core, 2 -> 16 and 16 -> 16 channels; the second one also
// where its images are a tile wide.
using FirstLayer = Taps<21, 11, 11>;
using SecondLayer = Taps<11, 5, 5>;
using NarrowSecondLayer = Taps<11, 5, 5, true>;

void convolve(float* y, const float* x, const float* spatial, const float* temporal, const Convolution& c,
              bool mirrored, bool accumulate, const Queue& queue) {
  const std::int64_t count =
      static_cast<std::int64_t>(c.batch) * c.out_t * c.out_h * c.out_w * c.out_channels;
  if (count == 0) return;
  const Scratch<float> packed(queue, packed_size(c));
  pack(packed.data(), spatial, temporal, c, mirrored, queue);
  if (c.in_channels > 0 && try_convolve<FirstLayer>(y, x, packed.data(), c, accumulate, queue)) return;
  if (c.in_channels > 0 && try_convolve<NarrowSecondLayer>(y, x, packed.data(), c, accumulate, queue)) return;
  if (c.in_channels > 0 && try_convolve<SecondLayer>(y, x, packed.data(), c, accumulate, queue)) return;
  gpu::launch(convolve_plain, static_cast<int>((count + kPlainThreads - 1) / kPlainThreads), kPlainThreads, 0,
              queue.stream, y, x, packed.data(), c, accumulate);
}

// Inner sums are never kept: the arithmetic of taking them again costs less than their way through memory.

void forward(float* y, float*, const float* x, const float* spatial, const float* temporal,
             const SepConv3dShape& shape, const Queue& queue) {
  convolve(y, x, spatial, temporal, forward_convolution(shape), false, false, queue);
}

void grad_input(float* dx, const float* dy, const float* spatial, const float* temporal,
                const SepConv3dShape& shape, Write mode, const Queue& queue) {
  convolve(dx, dy, spatial, temporal, transposed(forward_convolution(shape)), true, mode == Write::accumulate,
           queue);
}

void grad_weight(float* dspatial, float* dtemporal, const float* dy, const float* x, const float*,
                 const float* spatial, const float* temporal, const SepConv3dShape& shape,
                 const Queue& queue) {
  const Convolution c = forward_convolution(shape);
  const int pairs = c.out_channels * c.in_channels, taps = c.kernel_h * c.kernel_w + c.kernel_t;
  if (pairs == 0) return;
  if (c.batch == 0 || c.in_t * c.in_h * c.in_w == 0) {  // sums of nothing
    gpu::launch(sum_partials, ceil_div(pairs * taps, kSumThreads), kSumThreads, 0, queue.stream, dspatial,
                dtemporal, static_cast<const float*>(nullptr), 0, pairs, c.kernel_h * c.kernel_w, c.kernel_t);
    return;
  }
  const Scratch<float> packed(queue, packed_size(c));
  pack(packed.data(), spatial, temporal, c, false, queue);
  if (try_weights<FirstLayer>(dspatial, dtemporal, dy, x, packed.data(), c, queue)) return;
  if (try_weights<NarrowSecondLayer>(dspatial, dtemporal, dy, x, packed.data(), c, queue)) return;
  if (try_weights<SecondLayer>(dspatial, dtemporal, dy, x, packed.data(), c, queue)) return;
  gpu::launch(weight_plain, pairs * taps, kPlainThreads, 0, queue.stream, dspatial, dtemporal, dy, x,
              packed.data(), c);
}

void grad(float* dx, float* dspatial, float* dtemporal, const float* dy, const float* x, const float* kept,
          const float* spatial, const float* temporal, const SepConv3dShape& shape, Write dx_mode,
          const Queue& queue) {
  grad_input(dx, dy, spatial, temporal, shape, dx_mode, queue);
  grad_weight(dspatial, dtemporal, dy, x, kept, spatial, temporal, shape, queue);
}

}  // namespace

void fill(SepConv3dKernels<float>& table) { table = {forward, grad_input, grad_weight, grad}; }

}  // namespace fovea::FOVEA_GPU
