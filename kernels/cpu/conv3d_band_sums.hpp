// The gradient of the weights over bands of rows: sums are chains over the pixels of a band, whatever the
// registers, and the sums of the bands of a part are added in order: the same bits everywhere.
#pragma once
#include "kernels/cpu/conv3d_parts.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr int most_run = accumulators16 < 8 ? accumulators16 : 8, most_runs = 4;

/// What the lanes of a sum are: channels of the results, all of which see the same staged float; channels of
/// both sides, each with its own (depthwise); or staged floats that lie side by side, for one channel of the
/// results at a time (few channels).
enum class Lanes { results, both, sources };
template <Lanes lanes>
constexpr int unit_of = lanes == Lanes::results ? 1 : 16;  // staged floats that a vector of a sum sees

template <Lanes lanes>
FOVEA_INLINE F16 staged_source(const float* at) {
  if constexpr (lanes == Lanes::results)
    return F16::broadcast(*at);
  else
    return F16::load(at);
}

template <Lanes lanes>
FOVEA_INLINE F16 slope(const float* dy, int count) {
  if constexpr (lanes == Lanes::sources)
    return F16::broadcast(*dy);
  else
    return count == 16 ? F16::load(dy) : F16::load_first(dy, count);
}

/// Sources that lie side by side, seen through one tap after another or through one alone: `count` runs of
/// `length` units, at offsets of a staged band.
struct Runs {
  std::int64_t columns, count, length;

  Runs(const Window& w, std::int64_t floats_of_column, std::int64_t unit)
      : columns(w.w.step == 1 ? 1 : w.w.taps),
        count(w.t.taps * w.h.taps * columns),
        length(blocks(w.w.taps / columns * floats_of_column, unit)) {}
  std::int64_t offset(std::int64_t run, const Window& w, const Band& band) const {
    const std::int64_t row = run / columns;
    return band.tap_offset(w, row / w.h.taps, row % w.h.taps, run % columns);
  }
};

/// A band of dy, one vector of lanes, beside the staged sources; the first of a part (runs, length, unit of
/// the part) or added to it.
struct BandGradient {
  float* part;
  const float *dy, *staged;
  std::int64_t rows, pixels, channels;    // pixels: of a row; channels: from one of dy to the next
  std::int64_t row_stride, pixel_stride;  // of the staged sources
  std::int64_t part_unit;                 // from one unit of the part to the next
  int lanes, kept;                        // kept: how many lanes of the part are added to, 0 of a new one
};

/// `runs` runs, `length` units of each.
template <Lanes lanes, int length, int runs>
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
      const F16 d = slope<lanes>(dy, g.lanes);
      FOVEA_UNROLL
      for (int r = 0; r < runs; ++r) {
        FOVEA_UNROLL
        for (int j = 0; j < length; ++j)
          sum[r][j] = madd(staged_source<lanes>(from[r] + at + j * unit_of<lanes>), d, sum[r][j]);
      }
    }
  }
  FOVEA_UNROLL
  for (int r = 0; r < runs; ++r) {
    FOVEA_UNROLL
    for (int j = 0; j < length; ++j) {
      float* to = g.part + (r * run_length + j) * g.part_unit;
      store_first(to, add(F16::load_first(to, g.kept), sum[r][j]), g.lanes);
    }
  }
}

template <int length>
constexpr int runs_at_once = accumulators16 / length < most_runs ? accumulators16 / length : most_runs;

template <Lanes lanes, int length, int runs = runs_at_once<length>>
void add_some_runs(const BandGradient& g, const std::int64_t* offsets, std::int64_t run_length,
                   std::int64_t count) {
  if (count >= runs)
    add_runs<lanes, length, runs>(g, offsets, run_length);
  else if constexpr (runs > 1)
    add_some_runs<lanes, length, runs - 1>(g, offsets, run_length, count);
}

/// All runs, `wanted` units of each, in as few passes of nearly equal size as the registers allow.
template <Lanes lanes, int length = most_run>
void add_all_runs(const BandGradient& band, const std::int64_t* offsets, const Runs& runs,
                  std::int64_t wanted) {
  if constexpr (length > 1)
    if (wanted < length) return add_all_runs<lanes, length - 1>(band, offsets, runs, wanted);
  const std::int64_t together = blocks(runs.count, blocks(runs.count, runs_at_once<length>));
  BandGradient g = band;
  for (std::int64_t run = 0; run < runs.count; run += together) {
    g.part = band.part + run * runs.length * band.part_unit;
    add_some_runs<lanes, length>(g, offsets + run, runs.length, least(together, runs.count - run));
  }
}

template <Lanes lanes>
void add_band_gradient(const BandGradient& band, const std::int64_t* offsets, const Runs& runs) {
  const std::int64_t piece = blocks(runs.length, blocks(runs.length, most_run));
  for (std::int64_t first = 0; first < runs.length; first += piece) {
    BandGradient g = band;
    g.part += first * band.part_unit;
    g.staged += first * unit_of<lanes>;
    add_all_runs<lanes>(g, offsets, runs, least(piece, runs.length - first));
  }
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

/// How tasks divide the sum over some bands: by channels where each has sources of its own, else by runs.
template <Lanes lanes>
struct BandSum {
  const Window& w;
  const Band band;
  const Runs runs;
  const std::int64_t parts;
  const std::int64_t some_runs, some_channels;  // of a task

  explicit BandSum(const Window& window)
      : w(window),
        band(w, own_sources ? 16 : w.source_channels, own_sources ? 1 : least_tasks),
        runs(w, band.column_floats, unit_of<lanes>),
        parts(parts_of_bands(w, band)),
        some_runs(own_sources ? runs.count : blocks(runs.count, blocks(least_tasks, parts))),
        some_channels(own_sources ? 16 * stretches_at_once(w, parts) : w.channels) {}

  static constexpr bool own_sources = lanes == Lanes::both;
  std::int64_t run_tasks() const { return blocks(runs.count, some_runs); }
  std::int64_t channel_tasks() const { return blocks(w.channels, some_channels); }
  /// From one unit of a part to the next: a part is (runs, length, channels), or (channels, runs, length,
  /// 16).
  std::int64_t part_unit() const { return lanes == Lanes::sources ? 16 : w.channels; }
  std::int64_t channel_floats() const { return lanes == Lanes::sources ? runs.count * runs.length * 16 : 1; }
  std::int64_t part_floats() const {
    return runs.count * runs.length * (lanes == Lanes::sources ? 16 * w.channels : w.channels);
  }
  std::int64_t parts_floats() const { return rounded_up(parts * part_floats(), 16); }
  std::int64_t offsets_floats() const { return rounded_up(2 * runs.count, 16); }
  std::int64_t worker_floats() const { return (own_sources ? some_channels / 16 : 1) * band.floats; }
  std::int64_t bias_floats() const { return rounded_up(parts * w.channels, 16); }
  std::int64_t floats(const Queue& queue) const {
    return parts_floats() + bias_floats() + offsets_floats() + worker_count(queue) * worker_floats();
  }
};

/// Adds a band to a part: the task's runs of the task's channels; and its slopes to a part of the bias if
/// there is one.
template <Lanes lanes>
void sum_band(float* part, float* bias, float* staged, const float* dy, const float* sources,
              const BandSum<lanes>& sum, const std::int64_t* offsets, Range some_runs, Range channels,
              std::int64_t index, bool first) {
  const Window& w = sum.w;
  const Band& band = sum.band;
  const std::int64_t frame = index / band.bands, row = index % band.bands * band.rows;
  Runs runs = sum.runs;
  runs.count = some_runs.size();
  stage_band(staged, sources + (sum.own_sources ? channels.begin : 0),
             sum.own_sources ? channels.size() : w.source_channels, w, band, frame, row);
  part += some_runs.begin * runs.length * sum.part_unit();
  dy += (frame * w.h.results + row) * w.w.results * w.channels;
  for (std::int64_t c = channels.begin; c < channels.end; c += lanes == Lanes::sources ? 1 : 16) {
    const std::int64_t stretch = sum.own_sources ? (c - channels.begin) / 16 : 0;
    const int count = static_cast<int>(lanes == Lanes::sources ? 16 : least(16, channels.end - c));
    if (bias)
      add_slopes(bias + c, dy + c, least(band.rows, w.h.results - row) * w.w.results, w.channels, count,
                 first);
    add_band_gradient<lanes>(
        {part + c * sum.channel_floats(), dy + c, staged + stretch * band.floats,
         least(band.rows, w.h.results - row), w.w.results, w.channels, w.h.multiply * band.row_floats,
         band.pixel_floats(w), sum.part_unit(), count, first ? 0 : count},
        offsets + some_runs.begin, runs);
  }
}

/// memory: parts, each the sum over some bands, then what the sum needs besides. dbias may be null, and must
/// be with lanes of sources.
template <Lanes lanes>
void sum_bands(float* memory, float* dbias, const float* dy, const float* sources, const BandSum<lanes>& sum,
               const Queue& queue) {
  const std::int64_t bands = sum.w.batch * sum.w.t.results * sum.band.bands;
  const std::int64_t run_tasks = sum.run_tasks(), tasks = run_tasks * sum.channel_tasks();
  float* const bias = memory + sum.parts_floats();
  auto* offsets = reinterpret_cast<std::int64_t*>(bias + sum.bias_floats());
  float* const workers = bias + sum.bias_floats() + sum.offsets_floats();
  for (std::int64_t run = 0; run < sum.runs.count; ++run)
    offsets[run] = sum.runs.offset(run, sum.w, sum.band);
  for_each_task(queue, sum.parts * tasks, [&](std::int64_t task, int worker) {
    const std::int64_t part = task / tasks, run = task % run_tasks * sum.some_runs;
    const std::int64_t channel = task % tasks / run_tasks * sum.some_channels;
    const Range runs{run, least(run + sum.some_runs, sum.runs.count)},
        channels{channel, least(channel + sum.some_channels, sum.w.channels)};
    const std::int64_t begin = bands * part / sum.parts, end = bands * (part + 1) / sum.parts;
    for (std::int64_t b = begin; b < end; ++b)
      sum_band(memory + part * sum.part_floats(),
               dbias && runs.begin == 0 ? bias + part * sum.w.channels : nullptr,
               workers + worker * sum.worker_floats(), dy, sources, sum, offsets, runs, channels, b,
               b == begin);
  });
  if (dbias) add_bias_parts(dbias, bias, sum.parts, sum.w.channels);
}

/// Whether more lanes are of use with sources side by side, though half of the loads cross cache lines.
inline bool has_source_lanes(const Window& w) {
  const std::int64_t length = (w.w.step == 1 ? w.w.taps : 1) * w.source_channels;
  return 2 * w.channels * rounded_up(length, 16) < 16 * length;
}

/// dweight (O,I,kernel taps) of sums whose lanes are sources.
inline void add_source_parts(float* dweight, float* parts, const BandSum<Lanes::sources>& sum,
                             const Queue& queue) {
  const Window& w = sum.w;
  const Runs& runs = sum.runs;
  sum_parts(parts, sum.parts, sum.part_floats(), queue);
  for_each_task(queue, w.channels, [&](std::int64_t o, int) {
    clear_left_out(dweight + o * w.source_channels * w.kernel_taps(), w);
    for (std::int64_t run = 0; run < runs.count; ++run) {
      const float* from = parts + o * sum.channel_floats() + run * runs.length * 16;
      const std::int64_t first = run / runs.columns * w.w.taps + run % runs.columns;
      for (std::int64_t tap = first; tap < first + w.w.taps / runs.columns; ++tap) {
        const std::int64_t kernel_tap = w.kernel_tap(tap);
        for (std::int64_t c = 0; c < w.source_channels; ++c) dweight[w.weight(0, o, c, kernel_tap)] = *from++;
      }
    }
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
