// Convolutions. Which kernel a geometry gets, and how its sums are cut, depends on the shape only.
#include "kernels/cuda/conv3d_depthwise.hpp"
#include "kernels/cuda/conv3d_general.hpp"
#include "kernels/cuda/conv3d_gradients.hpp"
#include "kernels/cuda/conv3d_window.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/matmul.hpp"
#include "kernels/cuda/scratch.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kMultiprocessors = 132;  // of the largest GPUs
constexpr int kWantedBlocks = 2 * kMultiprocessors;

unsigned blocks_of(std::int64_t threads, int block) {
  return static_cast<unsigned>((threads + block - 1) / block);
}

std::int64_t out_pixels(const Conv3dShape& s) { return s.batch * s.t.out * s.h.out * s.w.out; }
std::int64_t in_pixels(const Conv3dShape& s) { return s.batch * s.t.in * s.h.in * s.w.in; }

Gather forward_gather(const Conv3dShape& s) {
  const auto axis = [](const ConvAxis& a) {
    return GatherAxis{static_cast<int>(a.in),
                      static_cast<int>(a.out),
                      static_cast<int>(a.kernel),
                      static_cast<int>(a.stride),
                      static_cast<int>(a.dilation),
                      static_cast<int>(-a.pad),
                      1};
  };
  return {static_cast<int>(s.in_channels),
          static_cast<int>(s.out_channels),
          static_cast<int>(s.groups),
          axis(s.t),
          axis(s.h),
          axis(s.w),
          out_pixels(s)};
}

Gather transposed_gather(const Conv3dShape& s) {
  const auto axis = [](const ConvAxis& a) {
    return GatherAxis{static_cast<int>(a.out),       static_cast<int>(a.in),  static_cast<int>(a.kernel), 1,
                      static_cast<int>(-a.dilation), static_cast<int>(a.pad), static_cast<int>(a.stride)};
  };
  return {static_cast<int>(s.out_channels),
          static_cast<int>(s.in_channels),
          static_cast<int>(s.groups),
          axis(s.t),
          axis(s.h),
          axis(s.w),
          in_pixels(s)};
}

/// Whether tiles of channels would be nearly empty.
bool few_channels(const Gather& g) { return g.targets() < 4; }

// ---- forward and input gradient
// ----------------------------------------------------------------------------------

template <bool Divided>
void launch_tiles(const GemmOutput& out, const float* source, const float* packed, const int4* offsets,
                  const Gather& g, const Packing& packing, const Queue& queue) {
  with_tile(choose_tile(g.pixels, g.targets(), g.groups), [&]<class Tile>(Tile) {
    const int column_tiles = ceil_div(g.targets(), Tile::Columns);
    const std::int64_t tiles = tile_count(g.pixels, g.targets(), Tile::Rows, Tile::Columns) * g.groups;
    const std::int64_t outputs = g.pixels * g.target_channels;
    const GemmSplit split(tiles, g.terms(), outputs);
    const dim3 grid(static_cast<unsigned>(tiles), split.splits);
    const auto chunk = static_cast<int>(split.chunk);
    if (split.splits == 1) {
      gpu::launch(convolve_tiles<Tile, Divided>, grid, Tile::Threads, 0, queue.stream, out, source, packed,
                  offsets, g, packing, column_tiles, chunk);
      return;
    }
    const Scratch<float> partials(queue, static_cast<std::size_t>(split.splits * outputs));
    const GemmOutput part{partials.data(), nullptr, out.stride, false, g.targets() % 4 == 0};
    gpu::launch(convolve_tiles<Tile, Divided>, grid, Tile::Threads, 0, queue.stream, part, source, packed,
                offsets, g, packing, column_tiles, chunk);
    gpu::launch(sum_splits, finish_blocks(outputs), kFinishThreads, 0, queue.stream, out,
                static_cast<const float*>(partials.data()), split.splits, g.pixels, g.target_channels);
  });
}

template <bool Divided>
void launch_gather(float* target, const float* source, const float* weight, const float* bias,
                   const Gather& g, bool transposed, bool accumulate, const Queue& queue) {
  const bool plain = few_channels(g);
  const std::int64_t padded = plain ? g.targets() : ceil_div(g.targets(), 4) * 4;
  const Packing packing{plain ? g.targets() : g.terms() * padded, plain ? g.target_channels : padded,
                        static_cast<int>(padded)};
  const std::int64_t packed_size = g.groups * g.terms() * padded;
  const Scratch<float> packed(queue, static_cast<std::size_t>(packed_size));
  const Scratch<int4> offsets(queue, static_cast<std::size_t>(g.terms()));
  gpu::launch(pack_weights, blocks_of(packed_size, kPackThreads), kPackThreads, 0, queue.stream,
              packed.data(), offsets.data(), weight, g, packing, transposed);
  const GemmOutput out{target, bias, g.target_channels, accumulate, allows_vectors(target, g.targets())};
  const float* weights = packed.data();
  if (plain)
    gpu::launch(convolve_plain<Divided>, blocks_of(g.pixels * g.target_channels, kPlainThreads),
                kPlainThreads, 0, queue.stream, out, source, weights, g);
  else
    launch_tiles<Divided>(out, source, weights, offsets.data(), g, packing, queue);
}

// ---- square kernels known at compile time
// ---------------------------------------------------------------------------

/// A flat square kernel without stride or dilation.
bool square(const Conv3dShape& s) {
  const auto plain = [](const ConvAxis& a) { return a.stride == 1 && a.dilation == 1; };
  return s.t.kernel == 1 && s.t.pad == 0 && s.t.in == s.t.out && s.h.kernel == s.w.kernel && plain(s.t) &&
         plain(s.h) && plain(s.w);
}

/// Calls run(Kernel<K>()), if there are kernels of that size.
template <template <int> class Kernel, class Run>
bool with_square_kernel(std::int64_t size, const Run& run) {
  switch (size) {
    case 3:
      return run(Kernel<3>()), true;
    case 5:
      return run(Kernel<5>()), true;
    case 7:
      return run(Kernel<7>()), true;
    case 9:
      return run(Kernel<9>()), true;
    default:
      return false;
  }
}

bool depthwise_fits(const Conv3dShape& s) {
  return s.groups > 1 && s.groups == s.in_channels && s.groups == s.out_channels && square(s);
}

/// Tiles of equal heights: 36 rows are three tiles of 12. Blocks are no more than fit at once.
template <int K>
DepthwiseShape depthwise_shape(Depthwise<K>, const Conv3dShape& s, const float* staged, bool transposed) {
  const auto size = [](std::int64_t n) { return static_cast<int>(n); };
  DepthwiseShape d{};
  d.channels = size(s.in_channels);
  d.in_h = size(transposed ? s.h.out : s.h.in), d.in_w = size(transposed ? s.w.out : s.w.in);
  d.out_h = size(transposed ? s.h.in : s.h.out), d.out_w = size(transposed ? s.w.in : s.w.out);
  d.pad_h = size(transposed ? K - 1 - s.h.pad : s.h.pad);
  d.pad_w = size(transposed ? K - 1 - s.w.pad : s.w.pad);
  d.tiles_h = ceil_div(d.out_h, Depthwise<K>::kMostRows);
  d.tile_rows = ceil_div(ceil_div(d.out_h, d.tiles_h), kPatchRows) * kPatchRows;
  d.tiles_w = ceil_div(d.out_w, kMapColumns);
  d.images = s.batch * s.t.in;
  d.run = size(max(std::int64_t{1}, ceil_div(d.tiles() * ceil_div(d.channels, 32), kWantedBlocks)));
  d.vector = allows_vectors(staged, s.in_channels);
  return d;
}

bool try_depthwise(float* y, const float* x, const float* weight, const float* bias, const Conv3dShape& s,
                   bool transposed, bool accumulate, const Queue& queue) {
  if (!depthwise_fits(s)) return false;
  return with_square_kernel<Depthwise>(s.h.kernel, [&]<int K>(Depthwise<K> kernel) {
    const DepthwiseShape d = depthwise_shape(kernel, s, x, transposed);
    gpu::launch(depthwise<K>, dim3(d.blocks(), ceil_div(d.channels, 32)), d.threads(),
                sizeof(float) * static_cast<std::size_t>(kernel.tile_size(d.tile_rows)), queue.stream, y, x,
                weight, bias, d, transposed, accumulate);
  });
}

bool window_fits(const Conv3dShape& s) {
  return s.groups == 1 && s.in_channels <= 4 && s.out_channels >= 4 && square(s);
}

/// Columns of equal width, not cut into runs yet.
WindowShape window_shape(const Conv3dShape& s, int strip_pixels, int most_strips) {
  const auto size = [](std::int64_t n) { return static_cast<int>(n); };
  WindowShape w{};
  w.in_channels = size(s.in_channels), w.out_channels = size(s.out_channels);
  w.in_h = size(s.h.in), w.in_w = size(s.w.in), w.out_h = size(s.h.out), w.out_w = size(s.w.out);
  w.pad_h = size(s.h.pad), w.pad_w = size(s.w.pad);
  w.strip_pixels = strip_pixels;
  const int across = ceil_div(w.out_w, strip_pixels);
  w.columns = ceil_div(across, most_strips);
  w.strips = ceil_div(across, w.columns);
  w.images = s.batch * s.t.in;
  return w;
}

bool try_window(float* y, const float* x, const float* weight, const float* bias, const Conv3dShape& s,
                const Gather& g, const Queue& queue) {
  if (!window_fits(s)) return false;
  return with_square_kernel<SquareWindow>(s.h.kernel, [&]<int K>(SquareWindow<K>) {
    int groups = 1;  // of 4 output channels in a block
    while (groups < 8 && 4 * groups < s.out_channels) groups *= 2;
    const int blocks = ceil_div(g.target_channels, 4 * groups), padded = blocks * 4 * groups;
    WindowShape w = window_shape(s, kForwardPixels, 16);
    w.run = kWindowThreads / groups;
    w.runs = ceil_div(w.out_h * w.strips, w.run);
    const std::int64_t packed_size = static_cast<std::int64_t>(g.terms()) * padded;
    const Scratch<float> packed(queue, static_cast<std::size_t>(packed_size));
    const Scratch<int4> offsets(queue, static_cast<std::size_t>(g.terms()));
    gpu::launch(pack_weights, blocks_of(packed_size, kPackThreads), kPackThreads, 0, queue.stream,
                packed.data(), offsets.data(), weight, g, Packing{0, padded, padded}, false);
    const int shared = K * K * 4 * groups + w.plane(K);
    gpu::launch(convolve_window<K>, dim3(static_cast<unsigned>(w.tiles()), blocks), kWindowThreads,
                sizeof(float) * static_cast<std::size_t>(shared), queue.stream,
                GemmOutput{y, bias, g.target_channels, false, allows_vectors(y, g.target_channels)}, x,
                static_cast<const float*>(packed.data()), w, groups, padded);
  });
}

bool pointwise(const Conv3dShape& s) {
  const auto one = [](const ConvAxis& a) {
    return a.kernel == 1 && a.stride == 1 && a.pad == 0 && a.in == a.out;
  };
  return s.groups == 1 && one(s.t) && one(s.h) && one(s.w);
}

void forward(float* y, const float* x, const float* weight, const float* bias, const Conv3dShape& s,
             const Queue& queue) {
  if (out_pixels(s) * s.out_channels == 0) return;
  if (pointwise(s))
    return multiply(ProductForm::nt, y, x, weight, bias, {out_pixels(s), s.out_channels, s.in_channels},
                    Write::overwrite, queue);
  if (try_depthwise(y, x, weight, bias, s, false, false, queue)) return;
  const Gather g = forward_gather(s);
  if (try_window(y, x, weight, bias, s, g, queue)) return;
  launch_gather<false>(y, x, weight, bias, g, false, false, queue);
}

void grad_input(float* dx, const float* dy, const float* weight, const Conv3dShape& s, Write mode,
                const Queue& queue) {
  if (in_pixels(s) * s.in_channels == 0) return;
  if (pointwise(s))
    return multiply(ProductForm::nn, dx, dy, weight, nullptr, {in_pixels(s), s.in_channels, s.out_channels},
                    mode, queue);
  const Gather g = transposed_gather(s);
  const bool accumulate = mode == Write::accumulate;
  if (try_depthwise(dx, dy, weight, nullptr, s, true, accumulate, queue)) return;
  if (s.t.stride == 1 && s.h.stride == 1 && s.w.stride == 1)
    launch_gather<false>(dx, dy, weight, nullptr, g, true, accumulate, queue);
  else
    launch_gather<true>(dx, dy, weight, nullptr, g, true, accumulate, queue);
}

// ---- weight and bias gradient
// -------------------------------------------------------------------------------------

void finish_weight_gradient(float* dweight, const float* partials, int chunks, const Gather& g,
                            const Queue& queue) {
  gpu::launch(finish_weights, finish_blocks(static_cast<std::int64_t>(g.terms()) * g.target_channels),
              kFinishThreads, 0, queue.stream, dweight, partials, chunks, g);
}

void weight_gradient_plain(float* dweight, const float* dy, const float* x, const Gather& g,
                           const Queue& queue) {
  constexpr int least_pixels = 64;
  const int lanes = ceil_div(g.target_channels, kPlainLanes);
  const std::int64_t wanted = max(1, ceil_div(kWantedBlocks, lanes * g.terms()));
  const std::int64_t chunks =
      max(std::int64_t{1}, max(min(wanted, g.pixels / least_pixels), g.pixels / 16384));
  const std::int64_t chunk = (g.pixels + chunks - 1) / chunks;
  const std::int64_t weights = static_cast<std::int64_t>(g.terms()) * g.target_channels;
  const Scratch<float> partials(queue, static_cast<std::size_t>(chunks * weights));
  constexpr int most = 65535;
  for (int first = 0; first < g.terms(); first += most)
    gpu::launch(weight_plain, dim3(static_cast<unsigned>(chunks), min(most, g.terms() - first), lanes),
                kPlainLanes * kPlainWarps, 0, queue.stream, partials.data(), dy, x, g, chunk, first);
  finish_weight_gradient(dweight, partials.data(), static_cast<int>(chunks), g, queue);
}

bool try_depthwise_weights(float* dweight, const float* dy, const float* x, const Conv3dShape& s,
                           const Gather& g, const Queue& queue) {
  if (!depthwise_fits(s)) return false;
  return with_square_kernel<Depthwise>(s.h.kernel, [&]<int K>(Depthwise<K> kernel) {
    const DepthwiseShape d = depthwise_shape(kernel, s, x, false);
    const int shared = max(kernel.tile_size(d.tile_rows), d.threads() * K * K);
    const Scratch<float> partials(queue, static_cast<std::size_t>(d.blocks()) * K * K * d.channels);
    gpu::launch(depthwise_weights<K>, dim3(d.blocks(), ceil_div(d.channels, 32)), d.threads(),
                sizeof(float) * static_cast<std::size_t>(shared), queue.stream, partials.data(), dy, x, d);
    finish_weight_gradient(dweight, partials.data(), static_cast<int>(d.blocks()), g, queue);
  });
}

/// Cuts the columns into runs for the weight gradient; returns how many of them a block works on. Of the cuts
/// that leave `wanted` blocks at most, the one whose busiest multiprocessor has least to do.
int cut_window(WindowShape& w, std::int64_t wanted, std::int64_t products) {
  constexpr int most_rows = 24, least_strips = 64, choices = 8;
  constexpr std::int64_t tile_cost = 16;  // of staging, in strips
  const std::int64_t column = static_cast<std::int64_t>(w.out_h) * w.strips, columns = w.images * w.columns;
  const std::int64_t fewest = ceil_div(w.out_h, most_rows);
  const std::int64_t most = max(fewest, min(max(fewest + choices, wanted / columns), column / least_strips));
  std::int64_t least = 0, tiles = 1;
  for (std::int64_t runs = fewest; runs <= most; ++runs) {
    const std::int64_t run = ceil_div(column, runs), together = ceil_div(columns * runs, wanted);
    const std::int64_t blocks = ceil_div(columns * runs, together) * products;
    // One block alone leaves a multiprocessor half idle.
    const std::int64_t busiest = max(std::int64_t{2}, ceil_div(blocks, kMultiprocessors));
    const std::int64_t cost = busiest * together * (run + tile_cost);
    if (least > 0 && cost >= least) continue;
    least = cost, tiles = together;
    w.run = static_cast<int>(run), w.runs = static_cast<int>(ceil_div(column, run));
  }
  return static_cast<int>(tiles);
}

bool try_window_weights(float* dweight, const float* dy, const float* x, const Conv3dShape& s,
                        const Gather& g, const Queue& queue) {
  if (!window_fits(s)) return false;
  return with_square_kernel<SquareWindow>(s.h.kernel, [&]<int K>(SquareWindow<K>) {
    using Window = SquareWindow<K>;
    WindowShape w = window_shape(s, kGradientPixels, 32);
    const int groups = gradient_groups(w.out_channels), wide = ceil_div(w.out_channels, 4 * groups);
    const int products = wide * w.in_channels;
    const int run = cut_window(w, max(1, Window::kGradientBlocks * kMultiprocessors / products), products);
    const auto blocks = static_cast<int>((w.tiles() + run - 1) / run);
    const std::int64_t weights = static_cast<std::int64_t>(g.terms()) * g.target_channels;
    const int shared = max(w.plane(K), 4 * Window::kGradientThreads);
    const Scratch<float> partials(queue, static_cast<std::size_t>(blocks * weights));
    gpu::launch(window_weights<K>, dim3(blocks, wide, w.in_channels), Window::kGradientThreads,
                sizeof(float) * static_cast<std::size_t>(shared), queue.stream, partials.data(), dy, x, w,
                groups, run, allows_vectors(dy, g.target_channels));
    finish_weight_gradient(dweight, partials.data(), blocks, g, queue);
  });
}

void grad_weights(float* dweight, const float* dy, const float* x, const Conv3dShape& s, const Queue& queue) {
  const Gather g = forward_gather(s);
  if (g.terms() * s.out_channels == 0) return;
  if (g.pixels == 0) return finish_weight_gradient(dweight, nullptr, 0, g, queue);
  if (pointwise(s))
    return multiply(ProductForm::tn, dweight, dy, x, nullptr, {s.out_channels, s.in_channels, g.pixels},
                    Write::overwrite, queue);
  if (try_depthwise_weights(dweight, dy, x, s, g, queue)) return;
  if (try_window_weights(dweight, dy, x, s, g, queue)) return;
  if (g.groups > 1 && few_channels(g)) return weight_gradient_plain(dweight, dy, x, g, queue);
  with_tile(choose_tile(g.terms(), g.targets(), g.groups), [&]<class Chosen>(Chosen) {
    // The walk over pixels needs the registers that the largest tile does not leave.
    using Tile = std::conditional_t<std::is_same_v<Chosen, LargeTile>, TallTile, Chosen>;
    const int column_tiles = ceil_div(g.targets(), Tile::Columns),
              row_tiles = ceil_div(g.terms(), Tile::Rows);
    const std::int64_t tiles = static_cast<std::int64_t>(column_tiles) * row_tiles * g.groups;
    const std::int64_t weights = static_cast<std::int64_t>(g.terms()) * g.target_channels;
    const GemmSplit split(tiles, g.pixels, weights);
    const Scratch<float> partials(queue, static_cast<std::size_t>(split.splits * weights));
    const bool vector = g.targets() % 4 == 0;
    gpu::launch(weight_tiles<Tile>, dim3(static_cast<unsigned>(tiles), split.splits), Tile::Threads, 0,
                queue.stream, GemmOutput{partials.data(), nullptr, g.target_channels, false, vector}, dy, x,
                g, column_tiles, row_tiles, split.chunk, vector && allows_vectors(dy, 4));
    finish_weight_gradient(dweight, partials.data(), split.splits, g, queue);
  });
}

void grad_bias(float* dbias, const float* dy, const Conv3dShape& s, const Queue& queue) {
  if (s.out_channels == 0) return;
  const std::int64_t pixels = out_pixels(s);
  const auto channels = static_cast<int>(s.out_channels);
  const int wide = ceil_div(channels, kBiasThreads);
  const std::int64_t chunks =
      min(static_cast<std::int64_t>(max(1, 4 * kWantedBlocks / wide)), (pixels + 63) / 64);
  const Scratch<float> partials(queue, static_cast<std::size_t>(chunks * channels));
  if (chunks > 0)
    gpu::launch(bias_chunks, dim3(static_cast<unsigned>(chunks), wide), kBiasThreads, 0, queue.stream,
                partials.data(), dy, pixels, channels, (pixels + chunks - 1) / chunks);
  gpu::launch(finish_bias, finish_blocks(channels), kFinishThreads, 0, queue.stream, dbias,
              static_cast<const float*>(partials.data()), static_cast<int>(chunks), channels);
}

void grad_weight(float* dweight, float* dbias, const float* dy, const float* x, const Conv3dShape& s,
                 const Queue& queue) {
  grad_weights(dweight, dy, x, s, queue);
  if (dbias) grad_bias(dbias, dy, s, queue);
}

}  // namespace

void fill(Conv3dKernels<float>& table) { table = {forward, grad_input, grad_weight}; }

}  // namespace fovea::FOVEA_GPU
