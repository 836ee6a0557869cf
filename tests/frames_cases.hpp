// Shapes and passes of the kernels on frames, for the tests of the CPU and of the CUDA kernels.
#pragma once
#include <string>
#include <vector>

#include "tests/cpu_kernels.hpp"

namespace fovea::test {

inline constexpr Write write_modes[] = {Write::overwrite, Write::accumulate};

inline std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

/// What an output holds before a pass.
inline std::vector<float> before(std::size_t count, Write mode) {
  return mode == Write::accumulate ? random_whole(count, 9) : std::vector<float>{};
}

inline PoolShape pool_of(std::int64_t batch, std::int64_t t, std::int64_t h, std::int64_t w,
                         std::int64_t channels, std::int64_t kernel_t, std::int64_t kernel_h,
                         std::int64_t kernel_w) {
  return {batch, t, h, w, channels, kernel_t, kernel_h, kernel_w, t / kernel_t, h / kernel_h, w / kernel_w};
}

inline std::size_t inputs_of(const PoolShape& s) {
  return size(s.batch * s.in_t * s.in_h * s.in_w * s.channels);
}
inline std::size_t outputs_of(const PoolShape& s) {
  return size(s.batch * s.out_t * s.out_h * s.out_w * s.channels);
}
inline std::int64_t taps_of(const PoolShape& s) { return s.kernel_t * s.kernel_h * s.kernel_w; }

inline std::string text_of(const PoolShape& s) {
  std::string text = "pool:";
  for (const std::int64_t value :
       {s.batch, s.in_t, s.in_h, s.in_w, s.channels, s.kernel_t, s.kernel_h, s.kernel_w})
    text += " " + std::to_string(value);
  return text;
}

/// Places of maxima for a gradient, spread over the windows.
inline std::vector<std::int32_t> some_places(const PoolShape& s) {
  std::vector<std::int32_t> index(outputs_of(s));
  for (std::size_t i = 0; i < index.size(); ++i)
    index[i] = static_cast<std::int32_t>(i * 7919 % size(taps_of(s)));
  return index;
}

/// Runs `max_pool` with the 32-bit index in an output of floats; the f64 oracle's are made the same.
template <class Tables, class T>
void run_max_pool(const Tables& tables, T* y, T* index, const T* x, const PoolShape& s, const Queue& queue) {
  if constexpr (sizeof(T) == 4) {
    tables.frames.max_pool(y, reinterpret_cast<std::int32_t*>(index), x, s, queue);
  } else {
    std::vector<std::int32_t> positions(outputs_of(s));
    tables.frames.max_pool(y, positions.data(), x, s, queue);
    for (std::size_t i = 0; i < positions.size(); ++i)
      index[i] = static_cast<T>(__builtin_bit_cast(float, positions[i]));
  }
}

struct ChannelDropout {
  std::int64_t batch, inner, channels;
  Write mode = Write::overwrite;

  std::size_t count() const { return size(std::max<std::int64_t>(1, batch * inner * channels)); }
  void operator()(const auto& tables, const auto& in, const auto& out, const Queue& queue) const {
    tables.frames.scale_channels(out[0], in[0], in[1], batch, inner, channels, mode, queue);
  }
};

struct Slice {
  std::int64_t batch, frames, inner, first, count;

  std::size_t all() const { return size(batch * frames * inner); }
  std::size_t some() const { return size(batch * count * inner); }
  void operator()(const auto& tables, const auto& in, const auto& out, const Queue& queue) const {
    tables.frames.slice_frames(out[0], in[0], batch, frames, inner, first, count, queue);
  }
};

struct SliceGradient {
  const Slice& slice;
  Write mode;

  void operator()(const auto& tables, const auto& in, const auto& out, const Queue& queue) const {
    tables.frames.slice_frames_grad(out[0], in[0], slice.batch, slice.frames, slice.inner, slice.first,
                                    slice.count, mode, queue);
  }
};

}  // namespace fovea::test
