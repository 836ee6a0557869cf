#include "kernels/frames.hpp"

#include <cmath>

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

/// Calls visit(output element, its window), the window being called as window(f) with f(input element,
/// position inside the window).
template <class Visit>
void for_each_window(const PoolShape& s, Visit visit) {
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t t = 0; t < s.out_t; ++t)
      for (std::int64_t h = 0; h < s.out_h; ++h)
        for (std::int64_t w = 0; w < s.out_w; ++w)
          for (std::int64_t c = 0; c < s.channels; ++c)
            visit((((b * s.out_t + t) * s.out_h + h) * s.out_w + w) * s.channels + c, [&](auto f) {
              std::int32_t position = 0;
              for (std::int64_t it = t * s.kernel_t; it < (t + 1) * s.kernel_t; ++it)
                for (std::int64_t ih = h * s.kernel_h; ih < (h + 1) * s.kernel_h; ++ih)
                  for (std::int64_t iw = w * s.kernel_w; iw < (w + 1) * s.kernel_w; ++iw)
                    f((((b * s.in_t + it) * s.in_h + ih) * s.in_w + iw) * s.channels + c, position++);
            });
}

std::int64_t input_elements(const PoolShape& s) { return s.batch * s.in_t * s.in_h * s.in_w * s.channels; }

template <class T>
void max_pool(T* y, std::int32_t* index, const T* x, const PoolShape& s, const Queue&) {
  for_each_window(s, [&](std::int64_t out, auto window) {
    index[out] = -1;
    window([&](std::int64_t in, std::int32_t position) {
      if (index[out] >= 0 && !(x[in] > y[out]) && !std::isnan(x[in])) return;  // NaN wins, as in PyTorch
      y[out] = x[in];
      index[out] = position;
    });
  });
}

template <class T>
void max_pool_grad(T* dx, const T* dy, const std::int32_t* index, const PoolShape& s, Write mode,
                   const Queue&) {
  if (mode == Write::overwrite) fill(dx, input_elements(s), T(0));
  for_each_window(s, [&](std::int64_t out, auto window) {
    window([&](std::int64_t in, std::int32_t position) {
      if (position == index[out]) dx[in] += dy[out];
    });
  });
}

template <class T>
void average_pool(T* y, const T* x, const PoolShape& s, const Queue&) {
  const T taps = static_cast<T>(s.kernel_t * s.kernel_h * s.kernel_w);
  for_each_window(s, [&](std::int64_t out, auto window) {
    T sum = 0;
    window([&](std::int64_t in, std::int32_t) { sum += x[in]; });
    y[out] = sum / taps;
  });
}

template <class T>
void average_pool_grad(T* dx, const T* dy, const PoolShape& s, Write mode, const Queue&) {
  const T taps = static_cast<T>(s.kernel_t * s.kernel_h * s.kernel_w);
  if (mode == Write::overwrite) fill(dx, input_elements(s), T(0));
  for_each_window(s, [&](std::int64_t out, auto window) {
    window([&](std::int64_t in, std::int32_t) { dx[in] += dy[out] / taps; });
  });
}

template <class T>
void scale_channels(T* y, const T* x, const T* factor, std::int64_t batch, std::int64_t inner,
                    std::int64_t channels, Write mode, const Queue&) {
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t s = 0; s < inner; ++s)
      for (std::int64_t c = 0; c < channels; ++c) {
        const std::int64_t i = (b * inner + s) * channels + c;
        write(y[i], x[i] * factor[b * channels + c], mode);
      }
}

template <class T>
void slice_frames(T* y, const T* x, std::int64_t batch, std::int64_t frames, std::int64_t inner,
                  std::int64_t first, std::int64_t count, const Queue&) {
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t i = 0; i < count * inner; ++i)
      y[b * count * inner + i] = x[(b * frames + first) * inner + i];
}

template <class T>
void slice_frames_grad(T* dx, const T* dy, std::int64_t batch, std::int64_t frames, std::int64_t inner,
                       std::int64_t first, std::int64_t count, Write mode, const Queue&) {
  if (mode == Write::overwrite) fill(dx, batch * frames * inner, T(0));
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t i = 0; i < count * inner; ++i)
      dx[(b * frames + first) * inner + i] += dy[b * count * inner + i];
}

}  // namespace

template <class T>
void fill(FramesKernels<T>& table) {
  table = {max_pool<T>,       max_pool_grad<T>, average_pool<T>,     average_pool_grad<T>,
           scale_channels<T>, slice_frames<T>,  slice_frames_grad<T>};
}
template void fill(FramesKernels<float>&);
template void fill(FramesKernels<double>&);

}  // namespace fovea::reference
