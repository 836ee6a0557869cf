// What convolutions without a matrix product share: a task stages the sources of a band of rows of results
// with their padding, so that products need no checks, and the gradient of the weights over such bands. Sums
// are chains over the taps in order (results) and over the pixels of a part (weights), whatever the
// registers: the same bits everywhere.
#pragma once
#include "kernels/cpu/conv3d_window.hpp"
#include "kernels/cpu/gemm_tile.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t least_tasks = 16;  // of a convolution, where its shape has as many: for the threads
constexpr std::int64_t cached_floats = std::int64_t{1} << 17;  // half of an L2 cache of 1 MB

/// Rows of one frame of results, and what they see of the sources: (time tap, row, column, column_floats). Of
/// strided windows seen backwards also what lies between the sources, as zeros.
struct Band {
  std::int64_t column_floats;
  std::int64_t rows, bands;           // of a frame
  std::int64_t source_rows, columns;  // staged
  std::int64_t row_floats, plane_floats, floats;

  /// At least `least_bands` in all frames together, where these have enough rows.
  Band(const Window& w, std::int64_t floats_of_column, std::int64_t least_bands)
      : column_floats(floats_of_column) {
    columns = (w.w.results - 1) * w.w.multiply + (w.w.taps - 1) * w.w.step + 1;
    row_floats = columns * column_floats;
    const std::int64_t window_rows = (w.h.taps - 1) * w.h.step + 1;
    const std::int64_t all_rows = w.t.taps * row_floats;  // none of an empty map
    const std::int64_t cached =
        (cached_floats / (all_rows < 1 ? 1 : all_rows) - window_rows) / w.h.multiply + 1;
    const std::int64_t most = least(w.h.taps < 8 ? 16 : 2 * w.h.taps, cached < 4 ? 4 : cached);
    const std::int64_t frames = w.batch * w.t.results;
    const std::int64_t wanted = least(blocks(least_bands, frames < 1 ? 1 : frames), w.h.results);
    const std::int64_t fewest = blocks(w.h.results, most);
    rows = w.h.results ? blocks(w.h.results, fewest < wanted ? wanted : fewest) : 0;
    bands = rows ? blocks(w.h.results, rows) : 0;
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

/// First source of the row that a frame of results sees through time tap kt, `row` rows below what its first
/// row of results sees first; null where it does not exist.
FOVEA_INLINE const float* band_row(const float* sources, const Window& w, std::int64_t frame, std::int64_t kt,
                                   std::int64_t row) {
  const std::int64_t t = w.t.source(frame % w.t.results, kt), h = source_at(w.h, row + w.h.offset);
  if (t < 0 || h < 0) return nullptr;
  return sources +
         ((frame / w.t.results * w.t.sources + t) * w.h.sources + h) * w.w.sources * w.source_channels;
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
constexpr std::int64_t most_stretches = 4;
/// As many as leave enough tasks, where each of `tasks` has all channels.
FOVEA_INLINE std::int64_t stretches_at_once(const Window& w, std::int64_t tasks) {
  return tasks * blocks(w.channels, 16 * most_stretches) < least_tasks ? 1 : most_stretches;
}

/// `channels` of the sources, from their first on, a stretch of band.column_floats after the other.
void stage_band(float* to, const float* sources, std::int64_t channels, const Window& w, const Band& band,
                std::int64_t frame, std::int64_t first_row) {
  for (std::int64_t kt = 0; kt < w.t.taps; ++kt)
    for (std::int64_t r = 0; r < band.source_rows; ++r) {
      const float* from = band_row(sources, w, frame, kt, first_row * w.h.multiply + r);
      float* row = to + kt * band.plane_floats + r * band.row_floats;
      for (std::int64_t c = 0; c < channels; c += band.column_floats, row += band.floats)
        stage_row(row, from ? from + c : nullptr, least(band.column_floats, channels - c), w, band);
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

/// A band of dy, 16 channels or the first of them, beside the staged sources; the first of a part (runs,
/// length, channels) or added to it.
struct BandGradient {
  float* part;
  const float *dy, *staged;
  std::int64_t rows, pixels, channels;    // pixels: of a row; channels: from one of dy to the next
  std::int64_t row_stride, pixel_stride;  // of the staged sources
  int lanes, kept;                        // kept: how many lanes of the part are added to, 0 of a new one
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
      store_first(to, add(F16::load_first(to, g.kept), sum[r][j]), g.lanes);
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

/// Into how many parts, by the shape alone, the sum over all bands is cut: fewer of large ones, none of so
/// few pixels that its memory would take longer than its sum.
std::int64_t parts_of_bands(const Window& w, const Band& band) {
  constexpr std::int64_t most_floats = std::int64_t{1} << 22, least_pixels = 256;
  const std::int64_t weights = w.taps() * w.group_sources() * w.channels;
  const std::int64_t fit = most_floats / (weights < 1 ? 1 : weights);
  return least(least(64, fit < 4 ? 4 : fit),
               least(w.batch * w.t.results * band.bands, blocks(w.pixels(), least_pixels)));
}

/// How tasks divide the sum over some bands. Units of 16 are channels of their own, each with its own slopes,
/// and a task has some of the channels; of 1 all channels see all of them, and a task has some of the runs.
template <int unit>
struct BandSum {
  const Window& w;
  const Band band;
  const Runs runs;
  const std::int64_t parts;
  const std::int64_t some_runs, some_channels;  // of a task

  explicit BandSum(const Window& window)
      : w(window),
        band(w, unit == 1 ? w.source_channels : 16, unit == 1 ? least_tasks : 1),
        runs(w, band.column_floats / unit),
        parts(parts_of_bands(w, band)),
        some_runs(unit == 1 ? blocks(runs.count, blocks(least_tasks, parts)) : runs.count),
        some_channels(unit == 1 ? w.channels : 16 * stretches_at_once(w, parts)) {}

  std::int64_t run_tasks() const { return blocks(runs.count, some_runs); }
  std::int64_t channel_tasks() const { return blocks(w.channels, some_channels); }
  std::int64_t part_floats() const { return w.taps() * (band.column_floats / unit) * w.channels; }
  std::int64_t parts_floats() const { return rounded_up(parts * part_floats(), 16); }
  std::int64_t offsets_floats() const { return rounded_up(2 * runs.count, 16); }
  std::int64_t worker_floats() const { return (unit == 1 ? 1 : some_channels / 16) * band.floats; }
  std::int64_t floats(const Queue& queue) const {
    return parts_floats() + offsets_floats() + worker_count(queue) * worker_floats();
  }
};

/// Adds a band to a part: the task's runs of the task's channels.
template <int unit>
void sum_band(float* part, float* staged, const float* dy, const float* sources, const BandSum<unit>& sum,
              const std::int64_t* offsets, Range some_runs, Range channels, std::int64_t index, bool first) {
  const Window& w = sum.w;
  const Band& band = sum.band;
  const std::int64_t frame = index / band.bands, row = index % band.bands * band.rows;
  Runs runs = sum.runs;
  runs.count = some_runs.size();
  stage_band(staged, sources + (unit == 1 ? 0 : channels.begin),
             unit == 1 ? w.source_channels : channels.size(), w, band, frame, row);
  part += some_runs.begin * runs.length * w.channels;
  dy += (frame * w.h.results + row) * w.w.results * w.channels;
  for (std::int64_t c = channels.begin; c < channels.end; c += 16) {
    const std::int64_t stretch = unit == 1 ? 0 : (c - channels.begin) / 16;
    const int lanes = static_cast<int>(least(16, channels.end - c));
    add_band_gradient<unit>(
        {part + c, dy + c, staged + stretch * band.floats, least(band.rows, w.h.results - row), w.w.results,
         w.channels, w.h.multiply * band.row_floats, band.pixel_floats(w), lanes, first ? 0 : lanes},
        offsets + some_runs.begin, runs);
  }
}

/// memory: parts (parts, taps, units of a column, channels), each the sum over some bands, then what the sum
/// needs besides.
template <int unit>
void sum_bands(float* memory, const float* dy, const float* sources, const BandSum<unit>& sum,
               const Queue& queue) {
  const std::int64_t bands = sum.w.batch * sum.w.t.results * sum.band.bands;
  const std::int64_t run_tasks = sum.run_tasks(), tasks = run_tasks * sum.channel_tasks();
  auto* offsets = reinterpret_cast<std::int64_t*>(memory + sum.parts_floats());
  float* const workers = memory + sum.parts_floats() + sum.offsets_floats();
  for (std::int64_t run = 0; run < sum.runs.count; ++run)
    offsets[run] = sum.runs.offset(run, sum.w, sum.band);
  for_each_task(queue, sum.parts * tasks, [&](std::int64_t task, int worker) {
    const std::int64_t part = task / tasks, run = task % run_tasks * sum.some_runs;
    const std::int64_t channel = task % tasks / run_tasks * sum.some_channels;
    const Range runs{run, least(run + sum.some_runs, sum.runs.count)},
        channels{channel, least(channel + sum.some_channels, sum.w.channels)};
    const std::int64_t begin = bands * part / sum.parts, end = bands * (part + 1) / sum.parts;
    for (std::int64_t b = begin; b < end; ++b)
      sum_band(memory + part * sum.part_floats(), workers + worker * sum.worker_floats(), dy, sources, sum,
               offsets, runs, channels, b, b == begin);
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
