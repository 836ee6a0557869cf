// Depthwise convolution: every channel by itself, channels as lanes, directly from the images.
#pragma once
#include "kernels/cpu/conv3d_window.hpp"
#include "kernels/cpu/gemm_tile.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

FOVEA_INLINE bool is_depthwise(const Window& window) {
  return window.groups > 1 && window.channels == window.groups && window.source_channels == window.groups;
}

/// A row of taps that falls inside the images.
struct TapRow {
  const float* sources;  // (pixels of the row, channels)
  const float* weights;  // (taps of the row, channels)
};

/// Pixels of a row, or taps, whose sums are in registers at once: each sum is a chain that waits for itself.
constexpr int chains = accumulators16 >= 24 ? 8 : 4;

struct Interior {
  std::int64_t begin, end;
};

/// The pixels of a row that see sources through all taps; none where pixels skip taps.
FOVEA_INLINE Interior interior(const WindowAxis& axis) {
  Interior inside{axis.results, axis.results};
  if (axis.divide != 1) return inside;
  const auto sees_all = [&](std::int64_t w) {
    return axis.source(w, 0) >= 0 && axis.source(w, axis.taps - 1) >= 0;
  };
  inside.begin = 0;
  while (inside.begin < axis.results && !sees_all(inside.begin)) ++inside.begin;
  inside.end = inside.begin;
  while (inside.end < axis.results && sees_all(inside.end)) ++inside.end;
  return inside;
}

/// Results of some pixels next to each other and of some runs of 16 channels: the sums over the taps in
/// order.
template <int pixels, int runs, bool checked, bool full>
FOVEA_INLINE void convolve_pixels(float* results, const TapRow* rows, std::int64_t row_count,
                                  const Window& window, std::int64_t w, std::int64_t c, const Onto& onto) {
  const std::int64_t channels = window.channels;
  const WindowAxis& axis = window.w;
  const std::int64_t left = channels - c - 16 * (runs - 1);
  const int last = full || left > 16 ? 16 : static_cast<int>(left);  // lanes of the last run
  float* const to = results + w * channels + c;
  F16 sums[pixels * runs];
  FOVEA_UNROLL
  for (int i = 0; i < pixels * runs; ++i)
    sums[i] = onto.first(to + i / runs * channels + i % runs * 16, c + i % runs * 16,
                         i % runs == runs - 1 ? last : 16);
  const std::int64_t apart = axis.multiply * channels;
  for (std::int64_t r = 0; r < row_count; ++r)
    for (std::int64_t k = 0; k < axis.taps; ++k) {
      const std::int64_t source =
          checked ? axis.source(w, k) : w * axis.multiply + axis.offset + k * axis.step;
      if (checked && source < 0) continue;
      const float* const weights = rows[r].weights + k * channels + c;
      const float* const from = rows[r].sources + source * channels + c;
      FOVEA_UNROLL
      for (int i = 0; i < pixels * runs; ++i) {
        const float *a = weights + i % runs * 16, *b = from + i / runs * apart + i % runs * 16;
        sums[i] = full || i % runs < runs - 1
                      ? madd(F16::load(a), F16::load(b), sums[i])
                      : madd(F16::load_first(a, last), F16::load_first(b, last), sums[i]);
      }
    }
  FOVEA_UNROLL
  for (int i = 0; i < pixels * runs; ++i)
    store_first(to + i / runs * channels + i % runs * 16, sums[i], i % runs == runs - 1 ? last : 16);
}

/// A row of results, the same bits however its pixels and channels are taken together. `full`: channels are
/// whole runs.
template <bool full>
inline void convolve_row(float* results, const TapRow* rows, std::int64_t row_count, const Window& window,
                         const Interior& inside, const Onto& onto) {
  constexpr int runs = 4;  // of a pixel at the border
  for (std::int64_t w = 0; w < window.w.results;) {
    const bool together = w >= inside.begin && w + chains <= inside.end;
    for (std::int64_t c = 0; c < window.channels;) {
      if (together) {
        convolve_pixels<chains, 1, false, full>(results, rows, row_count, window, w, c, onto);
        c += 16;
      } else if (window.channels - c > 16 * (runs - 1)) {
        convolve_pixels<1, runs, true, full>(results, rows, row_count, window, w, c, onto);
        c += 16 * runs;
      } else {
        convolve_pixels<1, 1, true, full>(results, rows, row_count, window, w, c, onto);
        c += 16;
      }
    }
    w += together ? chains : 1;
  }
}

/// results (+)= windows of sources times weights (C,1,taps).
inline void convolve_depthwise(float* results, const float* sources, const float* weights,
                               const Window& window, const Onto& onto, const Queue& queue) {
  const std::int64_t channels = window.channels, taps = window.taps(), row_taps = window.w.taps;
  const std::int64_t tap_rows = window.t.taps * window.h.taps;
  constexpr std::int64_t floats_of_row = sizeof(TapRow) / sizeof(float), line = 16;  // floats of a cache line
  const std::int64_t row_floats = (worker_count(queue) * tap_rows * floats_of_row + line - 1) / line * line;
  const Scratch scratch(queue, taps * channels + row_floats);
  // The rows of taps come first: they hold pointers, which the start of the memory is aligned for.
  auto* tap_row_memory = reinterpret_cast<TapRow*>(scratch.data);
  float* by_tap = scratch.data + row_floats;
  for (std::int64_t tap = 0; tap < taps; ++tap)
    for (std::int64_t c = 0; c < channels; ++c)
      by_tap[tap * channels + c] = weights[window.weight(c, 0, 0, tap)];
  const Interior inside_row = interior(window.w);
  for_each_task(queue, window.batch * window.t.results * window.h.results, [&](std::int64_t row, int worker) {
    TapRow* inside = tap_row_memory + worker * tap_rows;
    std::int64_t count = 0;
    const Pixel pixel = window.pixel(row * window.w.results);
    for (std::int64_t k = 0; k < tap_rows; ++k)
      if (const float* from = window.source_row(sources, pixel, k / window.h.taps, k % window.h.taps))
        inside[count++] = {from, by_tap + k * row_taps * channels};
    float* const to = results + row * window.w.results * channels;
    if (channels % 16 == 0)
      convolve_row<true>(to, inside, count, window, inside_row, onto);
    else
      convolve_row<false>(to, inside, count, window, inside_row, onto);
  });
}

/// Adds one row of dy times the sources that some taps of a row see to (taps, channels), pixels in order.
/// `full`: 16 channels.
template <int count, bool full>
FOVEA_INLINE void add_taps(float* part, const float* dy, const float* from, const Window& window,
                           const Interior& inside, std::int64_t tap, std::int64_t c) {
  const std::int64_t channels = window.channels;
  const WindowAxis& axis = window.w;
  const int lanes = static_cast<int>(channels - c < 16 ? channels - c : 16);
  const auto load = [&](const float* at) __attribute__((always_inline)) {
    return full ? F16::load(at) : F16::load_first(at, lanes);
  };
  F16 sums[count];
  FOVEA_UNROLL
  for (int k = 0; k < count; ++k) sums[k] = F16::load_first(part + k * channels + c, lanes);
  const auto border = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t w = begin; w < end; ++w) {
      const F16 slope = load(dy + w * channels + c);
      const std::int64_t first = w * axis.multiply + axis.offset + tap * axis.step;
      FOVEA_UNROLL
      for (int k = 0; k < count; ++k)
        if (const std::int64_t source = first + k * axis.step; source >= 0 && source < axis.sources)
          sums[k] = madd(slope, load(from + source * channels + c), sums[k]);
    }
  };
  border(0, inside.begin);
  const std::int64_t apart = axis.step * channels;
  for (std::int64_t w = inside.begin; w < inside.end; ++w) {
    const F16 slope = load(dy + w * channels + c);
    const float* first = from + (w * axis.multiply + axis.offset + tap * axis.step) * channels + c;
    FOVEA_UNROLL
    for (int k = 0; k < count; ++k) sums[k] = madd(slope, load(first + k * apart), sums[k]);
  }
  border(inside.end, axis.results);
  FOVEA_UNROLL
  for (int k = 0; k < count; ++k) store_first(part + k * channels + c, sums[k], lanes);
}

template <int count>
inline void add_taps_of(float* part, const float* dy, const float* from, const Window& window,
                        const Interior& inside, std::int64_t tap, std::int64_t c) {
  if (window.channels - c >= 16)
    add_taps<count, true>(part, dy, from, window, inside, tap, c);
  else
    add_taps<count, false>(part, dy, from, window, inside, tap, c);
}

/// Adds one row of dy times the sources that its taps see to (taps, channels).
inline void add_weight_row(float* part, const float* dy, const float* sources, const Window& window,
                           const Interior& inside, std::int64_t row) {
  const std::int64_t channels = window.channels, row_taps = window.w.taps;
  const float* const slopes = dy + row * window.w.results * channels;
  const Pixel pixel = window.pixel(row * window.w.results);
  for (std::int64_t r = 0; r < window.t.taps * window.h.taps; ++r) {
    const float* from = window.source_row(sources, pixel, r / window.h.taps, r % window.h.taps);
    if (!from) continue;
    for (std::int64_t tap = 0; tap < row_taps;) {
      float* const to = part + (r * row_taps + tap) * channels;
      const std::int64_t left = row_taps - tap;
      const int count = left >= 7 ? 7 : left >= 3 ? 3 : 1;
      for (std::int64_t c = 0; c < channels; c += 16) {
        if (count == 7)
          add_taps_of<7>(to, slopes, from, window, inside, tap, c);
        else if (count == 3)
          add_taps_of<3>(to, slopes, from, window, inside, tap, c);
        else
          add_taps_of<1>(to, slopes, from, window, inside, tap, c);
      }
      tap += count;
    }
  }
}

/// dweight (C,1,taps), from parts (taps, C) over at most 64 runs of rows.
inline void grad_weight_depthwise(float* dweight, const float* dy, const float* x, const Window& window,
                                  const Queue& queue) {
  const std::int64_t rows = window.batch * window.t.results * window.h.results;
  const std::int64_t part_rows = (rows + 63) / 64, parts = (rows + part_rows - 1) / part_rows;
  const std::int64_t weights = window.taps() * window.channels;
  const Scratch scratch(queue, parts * weights);
  const Interior inside = interior(window.w);
  for_each_task(queue, parts, [&](std::int64_t part, int) {
    float* sum = scratch.data + part * weights;
    for (std::int64_t i = 0; i < weights; ++i) sum[i] = 0;
    const std::int64_t end = (part + 1) * part_rows < rows ? (part + 1) * part_rows : rows;
    for (std::int64_t row = part * part_rows; row < end; ++row)
      add_weight_row(sum, dy, x, window, inside, row);
  });
  for (std::int64_t c = 0; c < window.channels; ++c)
    for (std::int64_t k = 0; k < window.taps(); ++k) {
      float sum = 0;
      for (std::int64_t part = 0; part < parts; ++part)
        sum += scratch.data[part * weights + k * window.channels + c];
      dweight[c * window.taps() + k] = sum;
    }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
