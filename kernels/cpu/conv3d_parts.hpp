// Gradients of weights are summed in parts, which are then added up and brought into the order of the
// weights.
#pragma once
#include "kernels/cpu/conv3d_band.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

/// The first of some parts becomes their sum.
inline void sum_parts(float* parts, std::int64_t count, std::int64_t part_floats, const Queue& queue) {
  constexpr std::int64_t stretch = 1024;
  for_each_task(queue, count > 1 ? blocks(part_floats, stretch) : 0, [&](std::int64_t task, int) {
    const std::int64_t end = least((task + 1) * stretch, part_floats);
    for (std::int64_t i = task * stretch; i < end; i += 16) {
      const int lanes = static_cast<int>(least(16, end - i));
      F16 sum = F16::load_first(parts + i, lanes);
      for (std::int64_t part = 1; part < count; ++part)
        sum = add(sum, F16::load_first(parts + part * part_floats + i, lanes));
      store_first(parts + i, sum, lanes);
    }
  });
}

/// to = or += the sum of some pixels of dy, 16 channels or the first of them.
FOVEA_INLINE void add_slopes(float* to, const float* dy, std::int64_t pixels, std::int64_t channels,
                             int lanes, bool first) {
  constexpr int chains = 4;
  F16 sum[chains] = {F16::zero(), F16::zero(), F16::zero(), F16::zero()};
  std::int64_t p = 0;
  for (; p + chains <= pixels; p += chains) {
    FOVEA_UNROLL
    for (int i = 0; i < chains; ++i) sum[i] = add(sum[i], F16::load_first(dy + (p + i) * channels, lanes));
  }
  for (; p < pixels; ++p) sum[0] = add(sum[0], F16::load_first(dy + p * channels, lanes));
  const F16 all = add(add(sum[0], sum[1]), add(sum[2], sum[3]));
  store_first(to, add(F16::load_first(to, first ? 0 : lanes), all), lanes);
}

/// dbias (channels) from parts (count, channels).
inline void add_bias_parts(float* dbias, const float* parts, std::int64_t count, std::int64_t channels) {
  for (std::int64_t c = 0; c < channels; ++c) {
    dbias[c] = 0;
    for (std::int64_t part = 0; part < count; ++part) dbias[c] += parts[part * channels + c];
  }
}

/// Parts of a sum over `count` pixels of which each of `tasks` tasks has one: enough for many threads, each
/// of some length.
inline std::int64_t parts_of(std::int64_t tasks, std::int64_t count) {
  const std::int64_t parts = least(blocks(64, tasks), blocks(count, 1024));
  return parts < 1 ? 1 : parts;
}

/// dbias in a pass of its own over dy.
inline void sum_slopes(float* dbias, const float* dy, const Window& w, const Queue& queue) {
  const std::int64_t pixels = w.pixels(), channels = w.channels;
  const std::int64_t part_pixels = blocks(pixels, parts_of(1, pixels));
  const std::int64_t parts = pixels ? blocks(pixels, part_pixels) : 0;
  const Scratch scratch(queue, parts * channels + 1);
  for_each_task(queue, parts, [&](std::int64_t part, int) {
    const std::int64_t first = part * part_pixels;
    for (std::int64_t c = 0; c < channels; c += 16)
      add_slopes(scratch.data + part * channels + c, dy + first * channels + c,
                 least(part_pixels, pixels - first), channels, static_cast<int>(least(16, channels - c)),
                 true);
  });
  add_bias_parts(dbias, scratch.data, parts, channels);
}

/// Zeros where taps are left out, which others are written over.
FOVEA_INLINE void clear_left_out(float* dweight, const Window& w) {
  if (w.taps() < w.kernel_taps())
    for (std::int64_t i = 0; i < w.group_sources() * w.kernel_taps(); ++i) dweight[i] = 0;
}

/// dweight (O,I/G,kernel taps) = sum of parts (G,taps,I/G,O/G), which is lost; taps left out get zeros.
inline void add_parts(float* dweight, float* parts, std::int64_t count, const Window& window,
                      const Queue& queue) {
  const std::int64_t sources = window.group_sources(), taps = window.taps();
  const std::int64_t channels = window.group_channels();
  sum_parts(parts, count, window.channels * sources * taps, queue);
  for_each_task(queue, window.channels, [&](std::int64_t o, int) {
    const float* group = parts + o / channels * channels * sources * taps + o % channels;
    clear_left_out(dweight + o * sources * window.kernel_taps(), window);
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      const std::int64_t kernel_tap = window.kernel_tap(tap);
      for (std::int64_t i = 0; i < sources; ++i)
        dweight[window.weight(o / channels, o % channels, i, kernel_tap)] =
            group[(tap * sources + i) * channels];
    }
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
