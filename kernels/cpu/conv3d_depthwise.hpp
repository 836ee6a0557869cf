// Depthwise convolution: every channel by itself, channels as lanes, directly from the images.
#pragma once
#include "kernels/cpu/conv3d_window.hpp"

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

/// A row of results: for every pixel and 16 channels the sum over the taps in order.
inline void convolve_row(float* results, const TapRow* rows, std::int64_t row_count, const Window& window,
                         bool accumulate) {
  const std::int64_t channels = window.channels;
  for (std::int64_t w = 0; w < window.w.results; ++w)
    for (std::int64_t c = 0; c < channels; c += 16) {
      const int lanes = static_cast<int>(channels - c < 16 ? channels - c : 16);
      float* to = results + w * channels + c;
      F16 sum = accumulate ? F16::load_first(to, lanes) : F16::zero();
      for (std::int64_t r = 0; r < row_count; ++r)
        for (std::int64_t k = 0; k < window.w.taps; ++k) {
          const std::int64_t source = window.w.source(w, k);
          if (source < 0) continue;
          sum = madd(F16::load_first(rows[r].weights + k * channels + c, lanes),
                     F16::load_first(rows[r].sources + source * channels + c, lanes), sum);
        }
      store_first(to, sum, lanes);
    }
}

/// results (+)= windows of sources times weights (C,1,taps).
inline void convolve_depthwise(float* results, const float* sources, const float* weights,
                               const Window& window, bool accumulate, const Queue& queue) {
  const std::int64_t channels = window.channels, taps = window.taps(), row_taps = window.w.taps;
  const std::int64_t tap_rows = window.t.taps * window.h.taps;
  constexpr std::int64_t floats_of_row = sizeof(TapRow) / sizeof(float);
  const Scratch scratch(queue, taps * channels + worker_count(queue) * tap_rows * floats_of_row);
  // The rows of taps come first: they hold pointers, which the start of the memory is aligned for.
  auto* tap_row_memory = reinterpret_cast<TapRow*>(scratch.data);
  float* by_tap = scratch.data + worker_count(queue) * tap_rows * floats_of_row;
  for (std::int64_t tap = 0; tap < taps; ++tap)
    for (std::int64_t c = 0; c < channels; ++c)
      by_tap[tap * channels + c] = weights[window.weight(c, 0, 0, tap)];
  for_each_task(queue, window.batch * window.t.results * window.h.results, [&](std::int64_t row, int worker) {
    TapRow* inside = tap_row_memory + worker * tap_rows;
    std::int64_t count = 0;
    const Pixel pixel = window.pixel(row * window.w.results);
    for (std::int64_t k = 0; k < tap_rows; ++k)
      if (const float* from = window.source_row(sources, pixel, k / window.h.taps, k % window.h.taps))
        inside[count++] = {from, by_tap + k * row_taps * channels};
    convolve_row(results + row * window.w.results * channels, inside, count, window, accumulate);
  });
}

/// Adds one row of dy times the sources that its taps see to (taps, channels).
inline void add_weight_row(float* part, const float* dy, const float* sources, const Window& window,
                           std::int64_t row) {
  const std::int64_t channels = window.channels;
  const Pixel pixel = window.pixel(row * window.w.results);
  for (std::int64_t k = 0; k < window.taps(); ++k) {
    const std::int64_t tap_row = k / window.w.taps, tap = k % window.w.taps;
    const float* from = window.source_row(sources, pixel, tap_row / window.h.taps, tap_row % window.h.taps);
    if (!from) continue;
    for (std::int64_t c = 0; c < channels; c += 16) {
      const int lanes = static_cast<int>(channels - c < 16 ? channels - c : 16);
      F16 sum = F16::load_first(part + k * channels + c, lanes);
      for (std::int64_t w = 0; w < window.w.results; ++w) {
        const std::int64_t source = window.w.source(w, tap);
        if (source < 0) continue;
        sum = madd(F16::load_first(dy + (row * window.w.results + w) * channels + c, lanes),
                   F16::load_first(from + source * channels + c, lanes), sum);
      }
      store_first(part + k * channels + c, sum, lanes);
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
  for_each_task(queue, parts, [&](std::int64_t part, int) {
    float* sum = scratch.data + part * weights;
    for (std::int64_t i = 0; i < weights; ++i) sum[i] = 0;
    const std::int64_t end = (part + 1) * part_rows < rows ? (part + 1) * part_rows : rows;
    for (std::int64_t row = part * part_rows; row < end; ++row) add_weight_row(sum, dy, x, window, row);
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
