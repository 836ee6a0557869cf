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
