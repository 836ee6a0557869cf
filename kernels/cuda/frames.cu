// Pooling, channel dropout and dropped frames. A thread makes four channels where they come in fours; the
// gradients of pools are gathered, every input value from the one window that it lies in.
#include "kernels/cuda/kernels.hpp"

#include "kernels/cuda/copy_rows.hpp"
#include "kernels/cuda/division.hpp"
#include "kernels/cuda/map.hpp"

namespace fovea::FOVEA_GPU {
namespace {

/// A place of a map (batch, T, H, W, units of channels).
struct Place {
  std::int64_t batch, t, h, w, unit;
};

struct MapAxes {
  std::int64_t items;
  Divisor units, w, h, t;

  MapAxes(std::int64_t batch, std::int64_t t_, std::int64_t h_, std::int64_t w_, std::int64_t units_)
      : items(batch * t_ * h_ * w_ * units_), units(units_), w(w_), h(h_), t(t_) {}
  __device__ __forceinline__ Place operator()(std::int64_t item) const {
    const Division by_unit = units(item), by_w = w(by_unit.quotient), by_h = h(by_w.quotient),
                   by_t = t(by_h.quotient);
    return {by_t.quotient, by_t.remainder, by_h.remainder, by_w.remainder, by_unit.remainder};
  }
};

/// The outputs of a pool, an item being N channels of one.
struct Pool {
  PoolShape s;
  MapAxes axes;

  Pool(const PoolShape& shape, std::int64_t units)
      : s(shape), axes(shape.batch, shape.out_t, shape.out_h, shape.out_w, units) {}

  /// body(offset of N input values, position in the window) for every tap.
  template <int N, class Body>
  __device__ __forceinline__ void for_each_tap(std::int64_t item, const Body& body) const {
    const Place at = axes(item);
    const std::int64_t row = s.in_w * s.channels, frame = s.in_h * row;
    const std::int64_t first = (at.batch * s.in_t + at.t * s.kernel_t) * frame + at.h * s.kernel_h * row +
                               at.w * s.kernel_w * s.channels + at.unit * N;
    int position = 0;
    GPU_NO_UNROLL
    for (int t = 0; t < static_cast<int>(s.kernel_t); ++t) GPU_NO_UNROLL
    for (int h = 0; h < static_cast<int>(s.kernel_h); ++h) {
      std::int64_t at_tap = first + t * frame + h * row;
      for (int w = 0; w < static_cast<int>(s.kernel_w); ++w, at_tap += s.channels) body(at_tap, position++);
    }
  }
};

template <int N>
__device__ __forceinline__ void store_index(std::int32_t* to, const std::int32_t (&index)[N]) {
  if constexpr (N == 4)
    *reinterpret_cast<int4*>(to) = make_int4(index[0], index[1], index[2], index[3]);
  else
    *to = index[0];
}

template <int N>
__device__ __forceinline__ void load_index(std::int32_t (&index)[N], const std::int32_t* from) {
  if constexpr (N == 4) {
    const int4 v = *reinterpret_cast<const int4*>(from);
    index[0] = v.x, index[1] = v.y, index[2] = v.z, index[3] = v.w;
  } else {
    index[0] = *from;
  }
}

template <int N>
__global__ void __launch_bounds__(kMapThreads, kMapBlocks)
    max_pool_kernel(float* y, std::int32_t* index, const float* x, Pool pool) {
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * kMapThreads + threadIdx.x;
  if (item >= pool.axes.items) return;
  Values<N> most{};
  std::int32_t where[N] = {};
  pool.for_each_tap<N>(item, [&](std::int64_t at, int position) {
    const Values<N> tap = load<N>(x + at);
    GPU_UNROLL
    for (int k = 0; k < N; ++k)
      if (position == 0 || tap.at[k] > most.at[k] || tap.at[k] != tap.at[k]) {  // NaN wins
        most.at[k] = tap.at[k];
        where[k] = position;
      }
  });
  store<N>(y + item * N, most);
  store_index<N>(index + item * N, where);
}

template <int N>
__global__ void __launch_bounds__(kMapThreads, kMapBlocks)
    average_pool_kernel(float* y, const float* x, Pool pool) {
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * kMapThreads + threadIdx.x;
  if (item >= pool.axes.items) return;
  Values<N> sum{};
  pool.for_each_tap<N>(item, [&](std::int64_t at, int) { sum = added(sum, load<N>(x + at)); });
  const float taps = static_cast<float>(pool.s.kernel_t * pool.s.kernel_h * pool.s.kernel_w);
  GPU_UNROLL
  for (int k = 0; k < N; ++k) sum.at[k] = sum.at[k] / taps;
  store<N>(y + item * N, sum);
}

/// The inputs of a pool, an item being N channels of one.
struct PoolInputs {
  PoolShape s;
  MapAxes axes;
  Divisor kernel_t, kernel_h, kernel_w;

  PoolInputs(const PoolShape& shape, std::int64_t units)
      : s(shape),
        axes(shape.batch, shape.in_t, shape.in_h, shape.in_w, units),
        kernel_t(shape.kernel_t),
        kernel_h(shape.kernel_h),
        kernel_w(shape.kernel_w) {}

  /// The offset of the N output values of the input's window, and its position in there; -1: in none.
  template <int N>
  __device__ __forceinline__ std::int64_t window_of(std::int64_t item, int& position) const {
    const Place at = axes(item);
    const Division t = kernel_t(at.t), h = kernel_h(at.h), w = kernel_w(at.w);
    if (t.quotient >= s.out_t || h.quotient >= s.out_h || w.quotient >= s.out_w) return -1;
    position = static_cast<int>((t.remainder * s.kernel_h + h.remainder) * s.kernel_w + w.remainder);
    const std::int64_t place =
        ((at.batch * s.out_t + t.quotient) * s.out_h + h.quotient) * s.out_w + w.quotient;
    return place * s.channels + at.unit * N;
  }
};

// index null: of an average
template <int N>
__global__ void __launch_bounds__(kMapThreads, kMapBlocks)
    pool_grad_kernel(float* dx, const float* dy, const std::int32_t* index, PoolInputs pool,
                     bool accumulate) {
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * kMapThreads + threadIdx.x;
  if (item >= pool.axes.items) return;
  int position = 0;
  const std::int64_t window = pool.window_of<N>(item, position);
  Values<N> result{};
  if (window >= 0) {
    const Values<N> up = load<N>(dy + window);
    if (index) {
      std::int32_t most[N];
      load_index<N>(most, index + window);
      GPU_UNROLL
      for (int k = 0; k < N; ++k) result.at[k] = most[k] == position ? up.at[k] : 0.f;
    } else {
      const float taps = static_cast<float>(pool.s.kernel_t * pool.s.kernel_h * pool.s.kernel_w);
      GPU_UNROLL
      for (int k = 0; k < N; ++k) result.at[k] = up.at[k] / taps;
    }
  } else if (accumulate) {
    return;
  }
  if (accumulate) result = added(load<N>(dx + item * N), result);
  store<N>(dx + item * N, result);
}

template <int N>
__global__ void __launch_bounds__(kMapThreads, kMapBlocks)
    scale_channels_kernel(float* y, const float* x, const float* factor, std::int64_t items, Divisor units,
                          Divisor inner, std::int64_t channels, bool accumulate) {
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * kMapThreads + threadIdx.x;
  if (item >= items) return;
  const Division at = units(item);
  const Values<N> own = load<N>(x + item * N),
                  scale = load<N>(factor + inner(at.quotient).quotient * channels + at.remainder * N);
  Values<N> result;
  GPU_UNROLL
  for (int k = 0; k < N; ++k) result.at[k] = own.at[k] * scale.at[k];
  if (accumulate) result = added(load<N>(y + item * N), result);
  store<N>(y + item * N, result);
}

// dx (rows, width) <- dy (rows, count) from `first` on, zeros elsewhere
template <int N>
__global__ void __launch_bounds__(kMapThreads, kMapBlocks)
    embed_rows_kernel(float* dx, const float* dy, std::int64_t items, Divisor units, std::int64_t first,
                      std::int64_t count) {
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * kMapThreads + threadIdx.x;
  if (item >= items) return;
  const Division at = units(item);
  const std::int64_t i = at.remainder * N - first;
  Values<N> values{};
  if (i >= 0 && i < count) values = load<N>(dy + at.quotient * count + i);
  store<N>(dx + item * N, values);
}

// ---- launchers
// -------------------------------------------------------------------------------------------------

void max_pool(float* y, std::int32_t* index, const float* x, const PoolShape& s, const Queue& queue) {
  const bool vectors = aligned(y, index, x) && s.channels % 4 == 0;
  const Pool pool(s, vectors ? s.channels / 4 : s.channels);
  if (pool.axes.items <= 0) return;
  gpu::launch(vectors ? max_pool_kernel<4> : max_pool_kernel<1>, blocks_for(pool.axes.items), kMapThreads, 0,
              queue.stream, y, index, x, pool);
}

void pool_grad(float* dx, const float* dy, const std::int32_t* index, const PoolShape& s, Write mode,
               const Queue& queue) {
  const bool vectors = aligned(dx, dy, index) && s.channels % 4 == 0;
  const PoolInputs pool(s, vectors ? s.channels / 4 : s.channels);
  if (pool.axes.items <= 0) return;
  gpu::launch(vectors ? pool_grad_kernel<4> : pool_grad_kernel<1>, blocks_for(pool.axes.items), kMapThreads,
              0, queue.stream, dx, dy, index, pool, mode == Write::accumulate);
}

void average_pool(float* y, const float* x, const PoolShape& s, const Queue& queue) {
  const bool vectors = aligned(y, x) && s.channels % 4 == 0;
  const Pool pool(s, vectors ? s.channels / 4 : s.channels);
  if (pool.axes.items <= 0) return;
  gpu::launch(vectors ? average_pool_kernel<4> : average_pool_kernel<1>, blocks_for(pool.axes.items),
              kMapThreads, 0, queue.stream, y, x, pool);
}

void average_pool_grad(float* dx, const float* dy, const PoolShape& s, Write mode, const Queue& queue) {
  pool_grad(dx, dy, nullptr, s, mode, queue);
}

void scale_channels(float* y, const float* x, const float* factor, std::int64_t batch, std::int64_t inner,
                    std::int64_t channels, Write mode, const Queue& queue) {
  if (batch <= 0 || inner <= 0 || channels <= 0) return;
  const bool vectors = aligned(y, x, factor) && channels % 4 == 0;
  const std::int64_t units = vectors ? channels / 4 : channels, items = batch * inner * units;
  gpu::launch(vectors ? scale_channels_kernel<4> : scale_channels_kernel<1>, blocks_for(items), kMapThreads,
              0, queue.stream, y, x, factor, items, Divisor(units), Divisor(inner), channels,
              mode == Write::accumulate);
}

void slice_frames(float* y, const float* x, std::int64_t batch, std::int64_t frames, std::int64_t inner,
                  std::int64_t first, std::int64_t count, const Queue& queue) {
  copy_rows(y, x + first * inner, {batch, count * inner, count * inner, frames * inner}, Write::overwrite,
            queue);
}

void slice_frames_grad(float* dx, const float* dy, std::int64_t batch, std::int64_t frames,
                       std::int64_t inner, std::int64_t first, std::int64_t count, Write mode,
                       const Queue& queue) {
  if (mode == Write::accumulate)
    return copy_rows(dx + first * inner, dy, {batch, count * inner, frames * inner, count * inner}, mode,
                     queue);
  const std::int64_t width = frames * inner;
  if (batch <= 0 || width <= 0) return;
  const bool vectors = aligned(dx, dy) && (width | (first * inner) | (count * inner)) % 4 == 0;
  const std::int64_t units = vectors ? width / 4 : width;
  gpu::launch(vectors ? embed_rows_kernel<4> : embed_rows_kernel<1>, blocks_for(batch * units), kMapThreads,
              0, queue.stream, dx, dy, batch * units, Divisor(units), first * inner, count * inner);
}

}  // namespace

void fill(FramesKernels<float>& table) {
  table = {max_pool,       pool_grad,    average_pool,     average_pool_grad,
           scale_channels, slice_frames, slice_frames_grad};
}

}  // namespace fovea::FOVEA_GPU
