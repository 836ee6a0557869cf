// Convolutions to few channels, which would leave most lanes empty: lanes are pixels of a row of results. The
// sources of a band of rows are staged with channels as planes. Sums are chains over (tap, source channel).
#pragma once
#include "kernels/cpu/conv3d_direct.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

/// Windows that move by one source, to fewer channels than pixels of a row fill vectors. By the shape alone.
inline bool is_planar(const Window& w) {
  return is_direct(w) && w.w.multiply == 1 && w.channels <= 8 &&
         3 * w.channels * rounded_up(w.w.results, 16) <= 32 * w.w.results;
}

/// The staged sources of a band: (time tap, row, channel, column).
struct Planes {
  Band band;
  std::int64_t channels, line;  // line: columns, and what the last vector of a row reads besides
  std::int64_t row_floats, plane_floats, floats;

  explicit Planes(const Window& w)
      : band(w, w.source_channels, least_tasks), channels(w.source_channels), line(band.columns + 16) {
    row_floats = channels * line;
    plane_floats = band.source_rows * row_floats;
    floats = rounded_up(w.t.taps * plane_floats, 16);
  }
};

/// to (channels, line) <- a row of sources (columns, channels), null where it does not exist.
inline void stage_planes(float* to, const float* row, const Window& w, const Planes& planes) {
  const std::int64_t channels = planes.channels, line = planes.line;
  const std::int64_t low = w.w.offset < 0 ? least(-w.w.offset, line) : 0;
  const std::int64_t end = least(w.w.sources - w.w.offset, planes.band.columns);
  const std::int64_t count = row && end > low ? end - low : 0;
  const float* from = row + (count ? (w.w.offset + low) * channels : 0);
  for (std::int64_t column = 0; column < count; column += 4)
    for (std::int64_t c = 0; c < channels; c += 4) {
      float* at = to + c * line + low + column;
      if (channels - c >= 4)
        transpose_4x4(at, line, from + column * channels + c, channels, count - column);
      else
        for (std::int64_t i = c; i < channels; ++i)
          for (std::int64_t j = column; j < least(column + 4, count); ++j)
            to[i * line + low + j] = from[j * channels + i];
    }
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t i = 0; i < low; ++i) to[c * line + i] = 0;
    for (std::int64_t i = low + count; i < line; ++i) to[c * line + i] = 0;
  }
}

struct PlanarTile {
  float* results;
  const float *sources, *weights;  // weights: (tap, source channel, channel)
  const std::int32_t* offsets;     // of (tap, source channel)
  std::int64_t ks, channels;       // channels: from one pixel of the results to the next
  std::int64_t row_stride, result_stride;
  Onto onto;
};

/// `sums`: (row, channel, 16 pixels). Once for all tiles: it is long where the compiler unrolls it.
__attribute__((noinline)) void store_planar(const float* sums, const PlanarTile& t, std::int64_t rows,
                                            std::int64_t outputs, std::int64_t pixels) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t o = 0; o < outputs; ++o, sums += 16) {
      const float first = t.onto.row ? t.onto.row[o] : 0;
      float* to = t.results + r * t.result_stride + o;
      for (std::int64_t p = 0; p < pixels; ++p, to += t.channels)
        *to = (t.onto.accumulate ? *to : first) + sums[p];
    }
}

/// Up to 16 pixels of some rows.
template <int outputs, int rows>
void planar_tile(const PlanarTile& t, std::int64_t pixels) {
  F16 sum[rows][outputs];
  FOVEA_UNROLL
  for (int r = 0; r < rows; ++r) {
    FOVEA_UNROLL
    for (int o = 0; o < outputs; ++o) sum[r][o] = F16::zero();
  }
  const float* weights = t.weights;
  for (std::int64_t k = 0; k < t.ks; ++k, weights += t.channels) {
    const float* from = t.sources + t.offsets[k];
    F16 weight[outputs];
    FOVEA_UNROLL
    for (int o = 0; o < outputs; ++o) weight[o] = F16::broadcast(weights[o]);
    FOVEA_UNROLL
    for (int r = 0; r < rows; ++r) {
      const F16 source = F16::load(from + r * t.row_stride);
      FOVEA_UNROLL
      for (int o = 0; o < outputs; ++o) sum[r][o] = madd(source, weight[o], sum[r][o]);
    }
  }
  float sums[rows * outputs * 16];
  FOVEA_UNROLL
  for (int r = 0; r < rows; ++r) {
    FOVEA_UNROLL
    for (int o = 0; o < outputs; ++o) store(sums + (r * outputs + o) * 16, sum[r][o]);
  }
  store_planar(sums, t, rows, outputs, pixels);
}

template <int outputs>
constexpr int planar_rows = accumulators16 >= 24 ? (outputs <= 2 ? 8 : 4)
                            : outputs == 1       ? 4
                            : outputs == 2       ? 2
                                                 : 1;

/// Rows of a band: whole tiles, then halves of them.
template <int outputs, int rows = planar_rows<outputs>>
void planar_band(PlanarTile t, std::int64_t row_count, std::int64_t pixels) {
  for (; row_count >= rows; row_count -= rows) {
    PlanarTile some = t;
    for (std::int64_t p = 0; p < pixels; p += 16) {
      planar_tile<outputs, rows>(some, least(16, pixels - p));
      some.sources += 16;
      some.results += 16 * t.channels;
    }
    t.sources += rows * t.row_stride;
    t.results += rows * t.result_stride;
  }
  if constexpr (rows > 1) planar_band<outputs, rows / 2>(t, row_count, pixels);
}

/// All channels of a band, up to four at once.
inline void planar_channels(PlanarTile t, std::int64_t rows, std::int64_t pixels) {
  for (std::int64_t left = t.channels; left > 0;) {
    const std::int64_t some = left == 5 || left == 6 ? 3 : least(4, left);
    (some == 4   ? planar_band<4>
     : some == 3 ? planar_band<3>
     : some == 2 ? planar_band<2>
                 : planar_band<1>)(t, rows, pixels);
    t.results += some;
    t.weights += some;
    t.onto = t.onto.from(some);
    left -= some;
  }
}

/// results (+)= windows of sources times weights.
inline void convolve_planar(float* results, const float* sources, const float* weights, const Window& w,
                            const Onto& onto, const Queue& queue) {
  const Planes planes(w);
  const Band& band = planes.band;
  const std::int64_t ks = w.taps() * w.source_channels;
  const std::int64_t offset_floats = rounded_up(ks, 16), weight_floats = rounded_up(ks * w.channels, 16);
  const Scratch scratch(queue, offset_floats + weight_floats + worker_count(queue) * planes.floats);
  auto* offsets = reinterpret_cast<std::int32_t*>(scratch.data);
  float *packed = scratch.data + offset_floats, *workers = packed + weight_floats;
  for (std::int64_t tap = 0; tap < w.taps(); ++tap) {
    const std::int64_t kernel_tap = w.kernel_tap(tap), row = tap / w.w.taps;
    const std::int64_t at =
        row / w.h.taps * planes.plane_floats + row % w.h.taps * w.h.step * planes.row_floats;
    for (std::int64_t c = 0; c < w.source_channels; ++c) {
      const std::int64_t k = tap * w.source_channels + c;
      offsets[k] = static_cast<std::int32_t>(at + c * planes.line + tap % w.w.taps * w.w.step);
      for (std::int64_t o = 0; o < w.channels; ++o)
        packed[k * w.channels + o] = weights[w.weight(0, o, c, kernel_tap)];
    }
  }
  for_each_task(queue, w.batch * w.t.results * band.bands, [&](std::int64_t task, int worker) {
    const std::int64_t frame = task / band.bands, first = task % band.bands * band.rows;
    float* staged = workers + worker * planes.floats;
    for (std::int64_t kt = 0; kt < w.t.taps; ++kt)
      for (std::int64_t r = 0; r < band.source_rows; ++r)
        stage_planes(staged + kt * planes.plane_floats + r * planes.row_floats,
                     band_row(sources, w, frame, kt, first * w.h.multiply + r), w, planes);
    planar_channels(
        {results + (frame * w.h.results + first) * w.w.results * w.channels, staged, packed, offsets, ks,
         w.channels, w.h.multiply * planes.row_floats, w.w.results * w.channels, onto},
        least(band.rows, w.h.results - first), w.w.results);
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
