// Depthwise convolution: every channel by itself, channels as lanes, 16 of them at a time from a staged band
// of rows. Bound by multiply-adds from 5 x 5 on, where 64 channels of 36 x 64, 7 x 7, run at 30 to 48 % of
// that limit (Zen 5): padded taps are 7 %, staging takes time of its own. Strips of columns staged row by
// row, sources fetched ahead and results past the caches were no faster.
#pragma once
#include "kernels/cpu/conv3d_band_sums.hpp"
#include "kernels/cpu/conv3d_depthwise_maps.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

FOVEA_INLINE bool is_depthwise(const Window& window) {
  return window.groups > 1 && window.channels == window.groups && window.source_channels == window.groups;
}

struct DepthwiseRow {
  float* results;
  const float *sources, *weights;  // weights: (taps, 16)
  const std::int32_t* offsets;     // of the taps
  std::int64_t taps, run, step;    // run: taps of a row, `step` floats apart
  std::int64_t channels;           // from one pixel of the results to the next
  Onto onto;
  int lanes;
};

/// `tile` neighbouring pixels, as many as exist of them. `run`: the taps of a row where that is known and
/// they lie side by side, which spares a fifth of the time; else 0.
template <int tile, int pixel_stride, int run>
FOVEA_INLINE void depthwise_tile(const DepthwiseRow& row, const float* sources, std::int64_t pixel,
                                 std::int64_t pixels) {
  float* const to = row.results + pixel * row.channels;
  F16 sum[tile];
#pragma GCC unroll 16
  for (int p = 0; p < tile; ++p)
    sum[p] = pixel + p < pixels ? row.onto.first(to + p * row.channels, 0, row.lanes) : F16::zero();
  constexpr int together = run > 0 ? run : 1;
  for (std::int64_t first = 0; first < row.taps; first += together) {
    const float *weights = row.weights + 16 * first, *from = sources + row.offsets[first];
#pragma GCC unroll 16
    for (int k = 0; k < together; ++k) {
      const F16 weight = F16::load(weights + 16 * k);
#pragma GCC unroll 16
      for (int p = 0; p < tile; ++p)
        sum[p] = madd(weight, F16::load(from + 16 * k + p * pixel_stride), sum[p]);
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < tile; ++p) {
    if (pixel + p >= pixels) break;
    if (row.lanes == 16)
      store(to + p * row.channels, sum[p]);
    else
      store_first(to + p * row.channels, sum[p], row.lanes);
  }
}

/// Whole tiles, then quarters of them; strides other than 1 and 2 pixel by pixel.
template <int multiply, int run>
void depthwise_row(const DepthwiseRow& row, std::int64_t pixels) {
  constexpr int whole = accumulators16 >= 16 ? 16 : 4, quarter = whole / 4;
  std::int64_t pixel = 0;
  for (; pixel + whole <= pixels; pixel += whole)
    depthwise_tile<whole, 16 * multiply, run>(row, row.sources + pixel * 16 * multiply, pixel, pixels);
  for (; pixel < pixels; pixel += quarter)
    depthwise_tile<quarter, 16 * multiply, run>(row, row.sources + pixel * 16 * multiply, pixel, pixels);
}

void depthwise_pixels(const DepthwiseRow& row, std::int64_t pixels, std::int64_t pixel_stride) {
  if (pixel_stride == 16) {
    const std::int64_t run = row.step == 16 ? row.run : 0;
    const auto known = run == 3   ? depthwise_row<1, 3>
                       : run == 5 ? depthwise_row<1, 5>
                       : run == 7 ? depthwise_row<1, 7>
                       : run == 9 ? depthwise_row<1, 9>
                                  : depthwise_row<1, 0>;
    return known(row, pixels);
  }
  if (pixel_stride == 32) return depthwise_row<2, 0>(row, pixels);
  for (std::int64_t p = 0; p < pixels; ++p)
    depthwise_tile<1, 16, 0>(row, row.sources + p * pixel_stride, p, pixels);
}

/// packed (runs of 16 channels, taps, 16) <- weights (C,1,taps), zeros for channels that do not exist.
void pack_depthwise(float* packed, const float* weights, const Window& w) {
  const std::int64_t taps = w.taps();
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    const std::int64_t kernel_tap = w.kernel_tap(tap);
    for (std::int64_t c = 0; c < rounded_up(w.channels, 16); ++c)
      packed[(c / 16 * taps + tap) * 16 + c % 16] =
          c < w.channels ? weights[w.weight(c, 0, 0, kernel_tap)] : 0;
  }
}

/// How a convolution is cut into tasks: bands of rows, of some stretches of channels.
struct DepthwiseBands {
  std::int64_t stretches, stretch_tasks;
  Band band;

  explicit DepthwiseBands(const Window& w)
      : stretches(stretches_at_once(w, w.batch * w.t.results * Band(w, 16, 1).bands)),
        stretch_tasks(blocks(w.channels, stretches * 16)),
        band(w, 16, blocks(least_tasks, stretch_tasks)) {}
  std::int64_t worker_floats() const { return stretches * band.floats; }
};

/// results (+)= windows of sources times packed weights. `memory`: offsets of the taps, then that of workers.
inline void convolve_depthwise_bands(float* results, float* memory, const float* sources, const float* packed,
                                     const Window& w, const DepthwiseBands& cut, const Onto& onto,
                                     const Queue& queue) {
  const Band& band = cut.band;
  const std::int64_t taps = w.taps();
  auto* offsets = reinterpret_cast<std::int32_t*>(memory);
  float* workers = memory + rounded_up(taps, 16);
  for (std::int64_t tap = 0; tap < taps; ++tap)
    offsets[tap] = static_cast<std::int32_t>(
        band.tap_offset(w, tap / (w.h.taps * w.w.taps), tap / w.w.taps % w.h.taps, tap % w.w.taps));
  const std::int64_t tasks = w.batch * w.t.results * band.bands * cut.stretch_tasks;
  for_each_task(queue, tasks, [&](std::int64_t task, int worker) {
    const std::int64_t some = task % cut.stretch_tasks * cut.stretches * 16,
                       band_task = task / cut.stretch_tasks;
    const std::int64_t frame = band_task / band.bands, first = band_task % band.bands * band.rows;
    const std::int64_t rows = least(band.rows, w.h.results - first);
    const std::int64_t channels = least(cut.stretches * 16, w.channels - some);
    float* const staged = workers + worker * cut.worker_floats();
    stage_band(staged, sources + some, channels, w, band, frame, first);
    for (std::int64_t c = some; c < some + channels; c += 16)
      for (std::int64_t r = 0; r < rows; ++r)
        depthwise_pixels({results + (frame * w.h.results + first + r) * w.w.results * w.channels + c,
                          staged + (c - some) / 16 * band.floats + r * w.h.multiply * band.row_floats,
                          packed + c * taps, offsets, taps, w.w.taps, w.w.step * 16, w.channels, onto.from(c),
                          static_cast<int>(least(16, w.channels - c))},
                         w.w.results, band.pixel_floats(w));
  });
}

/// results (+)= windows of sources times weights (C,1,kernel taps).
inline void convolve_depthwise(float* results, const float* sources, const float* weights, const Window& w,
                               const Onto& onto, const Queue& queue) {
  const Maps maps(w);
  const DepthwiseBands cut(w);
  const std::int64_t packed_floats = rounded_up(w.channels, 16) * w.taps();
  const std::int64_t more = maps.small()
                                ? SeenLists::floats(maps)
                                : rounded_up(w.taps(), 16) + worker_count(queue) * cut.worker_floats();
  const Scratch scratch(queue, packed_floats + more);
  float* memory = scratch.data + packed_floats;
  pack_depthwise(scratch.data, weights, w);
  if (maps.small())
    convolve_depthwise_maps(results, memory, sources, scratch.data, w, maps, onto, queue);
  else
    convolve_depthwise_bands(results, memory, sources, scratch.data, w, cut, onto, queue);
}

/// Whether weight gradients go map by map; larger maps have rows that are long enough for the registers.
inline bool sums_depthwise_maps(const Maps& maps) {
  constexpr std::int64_t most_summed_places = 16;
  return maps.small() && maps.places <= most_summed_places;
}

/// dweight (C,1,kernel taps) from parts (taps, C).
inline void grad_weight_depthwise(float* dweight, float* dbias, const float* dy, const float* x,
                                  const Window& w, const Queue& queue) {
  Window one_group = w;  // whose parts are laid out so
  one_group.groups = one_group.source_channels = 1;
  if (const Maps maps(w); sums_depthwise_maps(maps)) {
    const DepthwiseMapSum sum(maps);
    const Scratch scratch(queue,
                          rounded_up(sum.parts * maps.taps * w.channels, 16) + SeenLists::floats(maps));
    sum_depthwise_maps(scratch.data, dy, x, w, maps, sum, queue);
    return add_parts(dweight, scratch.data, sum.parts, one_group, queue);
  }
  const BandSum<Lanes::both> sum(w);
  const Scratch scratch(queue, sum.floats(queue));
  sum_bands(scratch.data, dbias, dy, x, sum, queue);
  add_parts(dweight, scratch.data, sum.parts, one_group, queue);
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
