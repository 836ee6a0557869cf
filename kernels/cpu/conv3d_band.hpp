// What convolutions without a matrix product share: a task stages the sources of a band of rows of results
// with their padding, so that products need no checks, and the gradient of the weights over such bands. Sums
// are chains over the taps in order (results) and over the pixels of a part (weights), whatever the
// registers: the same bits everywhere.
#pragma once
#include "kernels/cpu/conv3d_window.hpp"
#include "kernels/cpu/gemm_tile.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t cached_floats = std::int64_t{1} << 17;  // half of an L2 cache of 1 MB

/// Rows of one frame of results, and what they see of the sources: (time tap, row, column, column_floats). Of
/// strided windows seen backwards also what lies between the sources, as zeros.
struct Band {
  std::int64_t column_floats;
  std::int64_t rows, bands;           // of a frame
  std::int64_t source_rows, columns;  // staged
  std::int64_t row_floats, plane_floats, floats;

  Band(const Window& w, std::int64_t floats_of_column) : column_floats(floats_of_column) {
    columns = (w.w.results - 1) * w.w.multiply + (w.w.taps - 1) * w.w.step + 1;
    row_floats = columns * column_floats;
    const std::int64_t window_rows = (w.h.taps - 1) * w.h.step + 1;
    const std::int64_t all_rows = w.t.taps * row_floats;  // none of an empty map
    const std::int64_t cached =
        (cached_floats / (all_rows < 1 ? 1 : all_rows) - window_rows) / w.h.multiply + 1;
    const std::int64_t most = least(w.h.taps < 8 ? 16 : 2 * w.h.taps, cached < 4 ? 4 : cached);
    bands = blocks(w.h.results, most);
    rows = bands ? blocks(w.h.results, bands) : 0;
    source_rows = (rows - 1) * w.h.multiply + window_rows;
    plane_floats = source_rows * row_floats;
    // Tiles at the end of a row read on, and vectors write on.
    floats = rounded_up(w.t.taps * plane_floats + accumulators16 * w.w.multiply * column_floats + 16, 16);
  }
  std::int64_t pixel_floats(const Window& w) const { return w.w.multiply * column_floats; }
  std::int64_t tap_offset(const Window& w, std::int64_t kt, std::int64_t kh, std::int64_t kw) const {
    return kt * plane_floats + kh * w.h.step * row_floats + kw * w.w.step * column_floats;
  }
};

/// The source at a place that staged rows or columns have; -1 on padding and between sources.
FOVEA_INLINE std::int64_t source_at(const WindowAxis& axis, std::int64_t place) {
  if (place < 0 || place % axis.divide) return -1;
  return place / axis.divide < axis.sources ? place / axis.divide : -1;
}

/// Columns from `low` on, before `high`: `channels` floats of as many pixels from `from` on, zeros behind
/// them.
void stage_columns(float* to, const float* from, std::int64_t low, std::int64_t high, std::int64_t channels,
                   const Window& w, const Band& band) {
  to += low * band.column_floats;
  if (channels == w.source_channels && channels == band.column_floats) {
    __builtin_memcpy(to, from, static_cast<std::size_t>((high - low) * channels) * sizeof(float));
    return;
  }
  for (std::int64_t column = low; column < high; ++column, from += w.source_channels) {
    __builtin_prefetch(from + 16 * w.source_channels);
    for (std::int64_t c = 0; c < band.column_floats; c += 16, to += 16)
      store(to, channels - c >= 16 ? F16::load(from + c)
                                   : F16::load_first(from + c, static_cast<int>(channels - c)));
  }
}

void clear_columns(float* to, std::int64_t low, std::int64_t high, const Band& band) {
  for (std::int64_t i = low * band.column_floats; i < high * band.column_floats; ++i) to[i] = 0;
}

/// A row of sources, null where it does not exist, `channels` floats of every pixel: all channels, or some of
/// columns of 16.
void stage_row(float* to, const float* row, std::int64_t channels, const Window& w, const Band& band) {
  if (!row) return clear_columns(to, 0, band.columns, band);
  if (w.w.divide == 1) {
    const std::int64_t first = w.w.offset, low = first < 0 ? least(-first, band.columns) : 0;
    const std::int64_t end = least(w.w.sources - first, band.columns), high = end < low ? low : end;
    clear_columns(to, 0, low, band);
    stage_columns(to, row + (first + low) * w.source_channels, low, high, channels, w, band);
    return clear_columns(to, high, band.columns, band);
  }
  clear_columns(to, 0, band.columns, band);
  for (std::int64_t column = 0; column < band.columns; ++column)
    if (const std::int64_t at = source_at(w.w, column + w.w.offset); at >= 0)
      stage_columns(to, row + at * w.source_channels, column, column + 1, channels, w, band);
}

/// How many stretches of 16 channels are staged at once, one after the other, so that memory is read in lines
/// that lie together. Columns of other sizes hold all channels.
constexpr int most_stretches = 4;
FOVEA_INLINE int stretches_at_once(const Band& band) { return band.column_floats == 16 ? most_stretches : 1; }

/// `channels` of the sources, from their first on, a stretch of band.column_floats after the other.
void stage_band(float* to, const float* sources, std::int64_t channels, const Window& w, const Band& band,
                std::int64_t frame, std::int64_t first_row) {
  const std::int64_t source_row = w.w.sources * w.source_channels;
  for (std::int64_t kt = 0; kt < w.t.taps; ++kt) {
    const std::int64_t at_t = w.t.source(frame % w.t.results, kt);
    const float* plane = sources + (frame / w.t.results * w.t.sources + at_t) * w.h.sources * source_row;
    for (std::int64_t r = 0; r < band.source_rows; ++r) {
      const std::int64_t at_h = source_at(w.h, first_row * w.h.multiply + w.h.offset + r);
      const bool inside = at_t >= 0 && at_h >= 0;
      float* row = to + kt * band.plane_floats + r * band.row_floats;
      for (std::int64_t c = 0; c < channels; c += band.column_floats, row += band.floats)
        stage_row(row, inside ? plane + at_h * source_row + c : nullptr,
                  least(band.column_floats, channels - c), w, band);
    }
  }
  for (std::int64_t c = 0; c < channels; c += band.column_floats, to += band.floats)
    for (std::int64_t i = w.t.taps * band.plane_floats; i < band.floats; ++i) to[i] = 0;
}

// ---- gradient of the weights
// --------------------------------------------------------------------------------

constexpr int most_run = accumulators16 < 8 ? accumulators16 : 8, most_runs = 4;

/// What meets a vector of slopes: a staged float for all lanes (`unit` 1), or a vector of them (16).
template <int unit>
FOVEA_INLINE F16 staged_source(const float* at) {
  if constexpr (unit == 1)
    return F16::broadcast(*at);
  else
    return F16::load(at);
}

/// Sources that lie side by side, seen through one tap after another or through one alone: `count` runs of
/// `length` units, at offsets of a staged band.
struct Runs {
  std::int64_t columns, count, length;

  Runs(const Window& w, std::int64_t units_of_column)
      : columns(w.w.step == 1 ? 1 : w.w.taps),
        count(w.t.taps * w.h.taps * columns),
        length(w.w.taps / columns * units_of_column) {}
  std::int64_t offset(std::int64_t run, const Window& w, const Band& band) const {
    const std::int64_t row = run / columns;
    return band.tap_offset(w, row / w.h.taps, row % w.h.taps, run % columns);
  }
};

/// A band of dy, 16 channels or the first of them, beside the staged sources; adds to a part (runs, length,
/// channels).
struct BandGradient {
  float* part;
  const float *dy, *staged;
  std::int64_t rows, pixels, channels;    // pixels: of a row; channels: from one of dy to the next
  std::int64_t row_stride, pixel_stride;  // of the staged sources
  int lanes;
};

/// `runs` runs, `length` units of each.
template <int unit, int length, int runs>
void add_runs(const BandGradient& g, const std::int64_t* offsets, std::int64_t run_length) {
  F16 sum[runs][length];
  FOVEA_UNROLL
  for (int r = 0; r < runs; ++r) {
    FOVEA_UNROLL
    for (int j = 0; j < length; ++j) sum[r][j] = F16::zero();
  }
  for (std::int64_t row = 0; row < g.rows; ++row) {
    const float* dy = g.dy + row * g.pixels * g.channels;
    const float* from[runs];
    FOVEA_UNROLL
    for (int r = 0; r < runs; ++r) from[r] = g.staged + row * g.row_stride + offsets[r];
    for (std::int64_t p = 0, at = 0; p < g.pixels; ++p, at += g.pixel_stride, dy += g.channels) {
      const F16 d = g.lanes == 16 ? F16::load(dy) : F16::load_first(dy, g.lanes);
      FOVEA_UNROLL
      for (int r = 0; r < runs; ++r) {
        FOVEA_UNROLL
        for (int j = 0; j < length; ++j)
          sum[r][j] = madd(staged_source<unit>(from[r] + at + j * unit), d, sum[r][j]);
      }
    }
  }
  FOVEA_UNROLL
  for (int r = 0; r < runs; ++r) {
    FOVEA_UNROLL
    for (int j = 0; j < length; ++j) {
      float* to = g.part + (r * run_length + j) * g.channels;
      store_first(to, add(F16::load_first(to, g.lanes), sum[r][j]), g.lanes);
    }
  }
}

template <int length>
constexpr int runs_at_once = accumulators16 / length < most_runs ? accumulators16 / length : most_runs;

template <int unit, int length, int runs = runs_at_once<length>>
void add_some_runs(const BandGradient& g, const std::int64_t* offsets, std::int64_t run_length,
                   std::int64_t count) {
  if (count >= runs)
    add_runs<unit, length, runs>(g, offsets, run_length);
  else if constexpr (runs > 1)
    add_some_runs<unit, length, runs - 1>(g, offsets, run_length, count);
}

/// All runs, `wanted` units of each, in as few passes of nearly equal size as the registers allow.
template <int unit, int length = most_run>
void add_all_runs(const BandGradient& band, const std::int64_t* offsets, const Runs& runs,
                  std::int64_t wanted) {
  if constexpr (length > 1)
    if (wanted < length) return add_all_runs<unit, length - 1>(band, offsets, runs, wanted);
  const std::int64_t together = blocks(runs.count, blocks(runs.count, runs_at_once<length>));
  BandGradient g = band;
  for (std::int64_t run = 0; run < runs.count; run += together) {
    g.part = band.part + run * runs.length * band.channels;
    add_some_runs<unit, length>(g, offsets + run, runs.length, least(together, runs.count - run));
  }
}

template <int unit>
void add_band_gradient(const BandGradient& band, const std::int64_t* offsets, const Runs& runs) {
  const std::int64_t piece = blocks(runs.length, blocks(runs.length, most_run));
  for (std::int64_t first = 0; first < runs.length; first += piece) {
    BandGradient g = band;
    g.part += first * band.channels;
    g.staged += first * unit;
    add_all_runs<unit>(g, offsets, runs, least(piece, runs.length - first));
  }
}

/// dweight (O,I/G,kernel taps) = sum of parts (G,taps,I/G,O/G), which is lost; taps left out get zeros.
inline void add_parts(float* dweight, float* parts, std::int64_t count, const Window& window,
                      const Queue& queue) {
  const std::int64_t sources = window.group_sources(), taps = window.taps();
  const std::int64_t channels = window.group_channels(), row = sources * window.kernel_taps();
  const std::int64_t part_floats = window.channels * sources * taps;
  constexpr std::int64_t stretch = 1024;
  if (count > 1)
    for_each_task(queue, blocks(part_floats, stretch), [&](std::int64_t task, int) {
      const std::int64_t end = least((task + 1) * stretch, part_floats);
      for (std::int64_t i = task * stretch; i < end; i += 16) {
        const int lanes = static_cast<int>(least(16, end - i));
        F16 sum = F16::load_first(parts + i, lanes);
        for (std::int64_t part = 1; part < count; ++part)
          sum = add(sum, F16::load_first(parts + part * part_floats + i, lanes));
        store_first(parts + i, sum, lanes);
      }
    });
  for_each_task(queue, window.channels, [&](std::int64_t o, int) {
    const float* group = parts + o / channels * channels * sources * taps + o % channels;
    if (taps < window.kernel_taps())
      for (std::int64_t i = 0; i < row; ++i) dweight[o * row + i] = 0;
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      const std::int64_t kernel_tap = window.kernel_tap(tap);
      for (std::int64_t i = 0; i < sources; ++i)
        dweight[window.weight(o / channels, o % channels, i, kernel_tap)] =
            group[(tap * sources + i) * channels];
    }
  });
}

/// Into how many parts, by the shape alone, the sum over all bands is cut: fewer of large ones.
std::int64_t parts_of_bands(const Window& w, const Band& band) {
  constexpr std::int64_t most_floats = std::int64_t{1} << 22;
  const std::int64_t weights = w.taps() * w.group_sources() * w.channels;
  const std::int64_t fit = most_floats / (weights < 1 ? 1 : weights);
  return least(least(64, fit < 4 ? 4 : fit), w.batch * w.t.results * band.bands);
}

/// Memory of sum_bands.
std::int64_t sum_bands_floats(const Window& w, const Band& band, const Queue& queue) {
  return rounded_up(2 * w.taps(), 16) + worker_count(queue) * stretches_at_once(band) * band.floats;
}

/// parts (parts_of_bands, taps, units of a column, channels): each the sum over some bands. Units of 16 are
/// channels of their own, each with its own slopes; of 1 all channels see all of them.
template <int unit>
void sum_bands(float* parts, float* memory, const float* dy, const float* sources, const Window& w,
               const Band& band, const Queue& queue) {
  const Runs runs(w, band.column_floats / unit);
  const std::int64_t bands = w.batch * w.t.results * band.bands, count = parts_of_bands(w, band);
  const std::int64_t part_floats = w.taps() * (band.column_floats / unit) * w.channels;
  const std::int64_t worker_floats = stretches_at_once(band) * band.floats;
  auto* offsets = reinterpret_cast<std::int64_t*>(memory);
  float* const workers = memory + rounded_up(2 * w.taps(), 16);
  for (std::int64_t run = 0; run < runs.count; ++run) offsets[run] = runs.offset(run, w, band);
  for_each_task(queue, count, [&](std::int64_t part, int worker) {
    float* to = parts + part * part_floats;
    float* staged = workers + worker * worker_floats;
    for (std::int64_t i = 0; i < part_floats; ++i) to[i] = 0;
    for (std::int64_t b = bands * part / count; b < bands * (part + 1) / count; ++b) {
      const std::int64_t frame = b / band.bands, first = b % band.bands * band.rows;
      const float* slopes = dy + (frame * w.h.results + first) * w.w.results * w.channels;
      if (unit == 1) stage_band(staged, sources, w.source_channels, w, band, frame, first);
      for (std::int64_t c = 0; c < w.channels; c += 16) {
        const std::int64_t stretch = unit == 1 ? 0 : c / 16 % most_stretches;
        if (unit == 16 && stretch == 0)
          stage_band(staged, sources + c, least(16 * most_stretches, w.channels - c), w, band, frame, first);
        add_band_gradient<unit>(
            {to + c, slopes + c, staged + stretch * band.floats, least(band.rows, w.h.results - first),
             w.w.results, w.channels, w.h.multiply * band.row_floats, band.pixel_floats(w),
             static_cast<int>(least(16, w.channels - c))},
            offsets, runs);
      }
    }
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
