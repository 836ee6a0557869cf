// What convolutions without a matrix product share: a task stages the sources of a band of rows of results
// with their padding, so that products need no checks.
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
/// them. Memory is read once from end to end, whatever the number of stretches.
void stage_columns(float* to, const float* from, std::int64_t low, std::int64_t high, std::int64_t channels,
                   const Window& w, const Band& band) {
  to += low * band.column_floats;
  if (channels == w.source_channels && channels == band.column_floats) {
    __builtin_memcpy(to, from, static_cast<std::size_t>((high - low) * channels) * sizeof(float));
    return;
  }
  const std::int64_t stretch = band.column_floats == 16 ? band.floats : 16;
  for (std::int64_t column = low; column < high;
       ++column, from += w.source_channels, to += band.column_floats)
    for (std::int64_t c = 0, at = 0; c < channels; c += 16, at += stretch)
      store(to + at, channels - c >= 16 ? F16::load(from + c)
                                        : F16::load_first(from + c, static_cast<int>(channels - c)));
}

void clear_columns(float* to, std::int64_t low, std::int64_t high, std::int64_t channels, const Band& band) {
  for (std::int64_t c = 0; c < channels; c += band.column_floats, to += band.floats)
    for (std::int64_t i = low * band.column_floats; i < high * band.column_floats; ++i) to[i] = 0;
}

/// A row of sources, null where it does not exist, `channels` floats of every pixel: all channels, or some of
/// columns of 16, a stretch of band.floats after the other.
void stage_row(float* to, const float* row, std::int64_t channels, const Window& w, const Band& band) {
  if (!row) return clear_columns(to, 0, band.columns, channels, band);
  if (w.w.divide == 1) {
    const std::int64_t first = w.w.offset, low = first < 0 ? least(-first, band.columns) : 0;
    const std::int64_t end = least(w.w.sources - first, band.columns), high = end < low ? low : end;
    clear_columns(to, 0, low, channels, band);
    stage_columns(to, row + (first + low) * w.source_channels, low, high, channels, w, band);
    return clear_columns(to, high, band.columns, channels, band);
  }
  clear_columns(to, 0, band.columns, channels, band);
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
      stage_row(to + kt * band.plane_floats + r * band.row_floats, from, channels, w, band);
    }
  for (std::int64_t c = 0; c < channels; c += band.column_floats, to += band.floats)
    for (std::int64_t i = w.t.taps * band.plane_floats; i < band.floats; ++i) to[i] = 0;
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
