// Convolutions of few source channels: nothing is gathered. A task stages the sources of a band of rows with
// their padding; the forward pass broadcasts them from there, the weight gradient as well. Sums are chains
// over the taps in order (forward) and over the pixels of a task (weights), whatever the registers: the same
// bits everywhere.
#pragma once
#include "kernels/cpu/conv3d_window.hpp"
#include "kernels/cpu/gemm_tile.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t most_direct_floats = 4;  // between the sources of neighbouring pixels

FOVEA_INLINE std::int64_t pixel_floats(const Window& w) { return w.w.multiply * w.source_channels; }

/// Whether there are so few source channels that gathering them would take as long as multiplying.
bool is_direct(const Window& w) {
  const bool plain = w.t.divide == 1 && w.h.divide == 1 && w.w.divide == 1;
  return w.groups == 1 && plain && w.taps() > 1 && pixel_floats(w) <= most_direct_floats;
}

/// Rows of one frame of results, and their sources with padding: (time tap, row, column, channel).
struct Band {
  std::int64_t rows, bands;           // of a frame
  std::int64_t source_rows, columns;  // staged
  std::int64_t row_floats, plane_floats, floats;

  explicit Band(const Window& w) {
    const std::int64_t most = w.h.taps < 8 ? 16 : 2 * w.h.taps;
    bands = blocks(w.h.results, most);
    rows = blocks(w.h.results, bands);
    source_rows = (rows - 1) * w.h.multiply + (w.h.taps - 1) * w.h.step + 1;
    columns = (w.w.results - 1) * w.w.multiply + (w.w.taps - 1) * w.w.step + 1;
    row_floats = columns * w.source_channels;
    plane_floats = source_rows * row_floats;
    // Tiles at the end of a row read on, and vectors write on.
    floats = rounded_up(w.t.taps * plane_floats + accumulators16 * most_direct_floats + 16, 16);
  }
};

/// The part of a row of sources that exists, zeros around it.
void stage_row(float* to, const float* row, const Window& w, const Band& band) {
  const std::int64_t channels = w.source_channels, first = w.w.offset;
  const std::int64_t low = row && first < 0 ? least(-first, band.columns) : 0;
  const std::int64_t end = row ? least(w.w.sources - first, band.columns) : 0, high = end < low ? low : end;
  for (std::int64_t i = 0; i < low * channels; ++i) to[i] = 0;
  if (high > low)
    __builtin_memcpy(to + low * channels, row + (first + low) * channels,
                     static_cast<std::size_t>((high - low) * channels) * sizeof(float));
  for (std::int64_t i = high * channels; i < band.row_floats; ++i) to[i] = 0;
}

void stage_band(float* to, const float* sources, const Window& w, const Band& band, std::int64_t frame,
                std::int64_t first_row) {
  for (std::int64_t kt = 0; kt < w.t.taps; ++kt) {
    const std::int64_t at_t = w.t.source(frame % w.t.results, kt);
    const float* plane = at_t < 0 ? nullptr
                                  : sources + (frame / w.t.results * w.t.sources + at_t) * w.h.sources *
                                                  w.w.sources * w.source_channels;
    for (std::int64_t r = 0; r < band.source_rows; ++r) {
      const std::int64_t at_h = first_row * w.h.multiply + w.h.offset + r;
      const bool inside = plane && at_h >= 0 && at_h < w.h.sources;
      stage_row(to + kt * band.plane_floats + r * band.row_floats,
                inside ? plane + at_h * w.w.sources * w.source_channels : nullptr, w, band);
    }
  }
  for (std::int64_t i = w.t.taps * band.plane_floats; i < band.floats; ++i) to[i] = 0;
}

// ---- forward
// ----------------------------------------------------------------------------------------------------

/// Where the source of every product lies from that of the first: (time, row, column of the tap, channel).
void fill_offsets(std::int32_t* offsets, const Window& w, const Band& band) {
  for (std::int64_t kt = 0; kt < w.t.taps; ++kt)
    for (std::int64_t kh = 0; kh < w.h.taps; ++kh)
      for (std::int64_t kw = 0; kw < w.w.taps; ++kw)
        for (std::int64_t c = 0; c < w.source_channels; ++c)
          *offsets++ = static_cast<std::int32_t>(kt * band.plane_floats + kh * w.h.step * band.row_floats +
                                                 kw * w.w.step * w.source_channels + c);
}

struct DirectTile {
  float* results;
  const float *sources, *weights;  // weights: lines of tile_columns
  const std::int32_t* offsets;
  std::int64_t ks, channels;  // channels: from one pixel of the results to the next
  Onto onto;
};

/// `rows` pixels, as many as exist of them, by 16 * vectors channels.
template <int rows, int vectors, int pixel_stride>
void direct_tile(const DirectTile& t, std::int64_t pixel, std::int64_t pixels, std::int64_t columns) {
  F16 sum[rows][vectors];
#pragma GCC unroll 24
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) sum[r][v] = F16::zero();
  const float* weights = t.weights;
  const float* sources = t.sources + pixel * pixel_stride;
  for (std::int64_t k = 0; k < t.ks; ++k, weights += tile_columns) {
    F16 line[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) line[v] = F16::load(weights + 16 * v);
    const float* from = sources + t.offsets[k];
#pragma GCC unroll 24
    for (int r = 0; r < rows; ++r) {
      const F16 left = F16::broadcast(from[r * pixel_stride]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[r][v] = madd(left, line[v], sum[r][v]);
    }
  }
  store_tile<rows, vectors>(t.results + pixel * t.channels, t.channels, sum, pixels - pixel, columns, t.onto);
}

/// A row of results, a panel of channels: whole tiles, then thirds of them.
template <int vectors, int pixel_stride>
void direct_row(const DirectTile& t, std::int64_t pixels, std::int64_t columns) {
  constexpr int whole = accumulators16 / vectors, third = whole >= 3 ? whole / 3 : 1;
  std::int64_t pixel = 0;
  for (; pixel + whole <= pixels; pixel += whole)
    direct_tile<whole, vectors, pixel_stride>(t, pixel, pixels, columns);
  for (; pixel < pixels; pixel += third) direct_tile<third, vectors, pixel_stride>(t, pixel, pixels, columns);
}

template <int pixel_stride>
void direct_rows(const DirectTile& t, std::int64_t pixels, std::int64_t columns) {
  if (tile_vectors > 1 && columns <= 16)
    direct_row<1, pixel_stride>(t, pixels, columns);
  else
    direct_row<tile_vectors, pixel_stride>(t, pixels, columns);
}

using DirectRow = void (*)(const DirectTile&, std::int64_t, std::int64_t);
DirectRow direct_row_of(std::int64_t stride) {
  return stride == 1   ? direct_rows<1>
         : stride == 2 ? direct_rows<2>
         : stride == 3 ? direct_rows<3>
                       : direct_rows<4>;
}

/// results (+)= windows of sources times `packed` weights, panels [tap, source channel][tile_columns].
void convolve_direct(float* results, const float* sources, const float* packed, const Window& w,
                     const Onto& onto, const Queue& queue) {
  const Band band(w);
  const std::int64_t ks = w.taps() * w.source_channels, offset_floats = rounded_up(ks, 16);
  const Scratch scratch(queue, offset_floats + worker_count(queue) * band.floats);
  auto* offsets = reinterpret_cast<std::int32_t*>(scratch.data);
  fill_offsets(offsets, w, band);
  const DirectRow direct = direct_row_of(pixel_floats(w));
  for_each_task(queue, w.batch * w.t.results * band.bands, [&](std::int64_t task, int worker) {
    const std::int64_t frame = task / band.bands, first = task % band.bands * band.rows;
    const std::int64_t rows = least(band.rows, w.h.results - first);
    float* staged = scratch.data + offset_floats + worker * band.floats;
    stage_band(staged, sources, w, band, frame, first);
    for (std::int64_t channel = 0; channel < w.channels; channel += tile_columns)
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t pixel = (frame * w.h.results + first + r) * w.w.results;
        direct({results + pixel * w.channels + channel, staged + r * w.h.multiply * band.row_floats,
                packed + channel * ks, offsets, ks, w.channels, onto.from(channel)},
               w.w.results, least(tile_columns, w.channels - channel));
      }
  });
}

// ---- gradient of the weights
// --------------------------------------------------------------------------------

constexpr int most_run = accumulators16 < 8 ? accumulators16 : 8;

/// Sources that lie side by side, seen through one tap after another or through one alone: `count` runs of
/// `floats`, at offsets of a staged band.
struct Runs {
  std::int64_t count, floats;

  explicit Runs(const Window& w)
      : count(w.t.taps * w.h.taps * (w.w.step == 1 ? 1 : w.w.taps)),
        floats((w.w.step == 1 ? w.w.taps : 1) * w.source_channels) {}
  FOVEA_INLINE std::int64_t offset(std::int64_t run, const Window& w, const Band& band) const {
    const std::int64_t columns = w.w.step == 1 ? 1 : w.w.taps, row = run / columns;
    return row / w.h.taps * band.plane_floats + row % w.h.taps * w.h.step * band.row_floats +
           run % columns * w.w.step * w.source_channels;
  }
};

/// A band of dy, 16 channels or the first of them, beside the staged sources; adds to a part (runs, floats,
/// channels).
struct BandGradient {
  float* part;
  const float *dy, *staged;
  std::int64_t rows, pixels, channels;    // pixels: of a row; channels: from one of dy to the next
  std::int64_t row_stride, pixel_stride;  // of the staged sources
  int lanes;
};

/// Of `runs` runs, `floats` of each.
template <int floats, int runs>
void add_runs(const BandGradient& g, const std::int64_t* offsets, std::int64_t run_floats) {
  F16 sum[runs][floats];
  FOVEA_UNROLL
  for (int r = 0; r < runs; ++r) {
    FOVEA_UNROLL
    for (int j = 0; j < floats; ++j) sum[r][j] = F16::zero();
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
        for (int j = 0; j < floats; ++j) sum[r][j] = madd(F16::broadcast(from[r][at + j]), d, sum[r][j]);
      }
    }
  }
  FOVEA_UNROLL
  for (int r = 0; r < runs; ++r) {
    FOVEA_UNROLL
    for (int j = 0; j < floats; ++j) {
      float* to = g.part + (r * run_floats + j) * g.channels;
      store_first(to, add(F16::load_first(to, g.lanes), sum[r][j]), g.lanes);
    }
  }
}

template <int floats, int runs = (accumulators16 / floats < 8 ? accumulators16 / floats : 8)>
void add_some_runs(const BandGradient& g, const std::int64_t* offsets, std::int64_t run_floats,
                   std::int64_t count) {
  if (count >= runs)
    add_runs<floats, runs>(g, offsets, run_floats);
  else if constexpr (runs > 1)
    add_some_runs<floats, runs - 1>(g, offsets, run_floats, count);
}

/// All runs, `floats` of each from the band's first on.
template <int floats = most_run>
void add_all_runs(const BandGradient& band, const std::int64_t* offsets, const Runs& runs,
                  std::int64_t wanted) {
  if constexpr (floats > 1)
    if (wanted < floats) return add_all_runs<floats - 1>(band, offsets, runs, wanted);
  // As few passes as the registers allow, of nearly equal size.
  const std::int64_t most = least(accumulators16 / floats, 8), passes = blocks(runs.count, most);
  const std::int64_t together = blocks(runs.count, passes);
  BandGradient g = band;
  for (std::int64_t run = 0; run < runs.count; run += together) {
    g.part = band.part + run * runs.floats * band.channels;
    add_some_runs<floats>(g, offsets + run, runs.floats, least(together, runs.count - run));
  }
}

void add_band_gradient(const BandGradient& band, const std::int64_t* offsets, const Runs& runs) {
  const std::int64_t pieces = blocks(runs.floats, most_run), piece = blocks(runs.floats, pieces);
  for (std::int64_t first = 0; first < runs.floats; first += piece) {
    BandGradient g = band;
    g.part += first * band.channels;
    g.staged += first;
    add_all_runs(g, offsets, runs, least(piece, runs.floats - first));
  }
}

/// How many parts (taps, source channels, channels) of the sum over bands there are.
std::int64_t direct_parts(const Window& w) { return least(64, w.batch * w.t.results * Band(w).bands); }

/// Each of the parts has the sum over some bands.
void grad_weight_direct_parts(float* parts, const float* dy, const float* sources, const Window& w,
                              const Queue& queue) {
  const Band band(w);
  const Runs runs(w);
  const std::int64_t bands = w.batch * w.t.results * band.bands, count = direct_parts(w);
  const std::int64_t part_floats = w.taps() * w.source_channels * w.channels;
  const std::int64_t offset_floats = rounded_up(2 * runs.count, 16);
  const Scratch scratch(queue, offset_floats + worker_count(queue) * band.floats);
  auto* offsets = reinterpret_cast<std::int64_t*>(scratch.data);
  for (std::int64_t run = 0; run < runs.count; ++run) offsets[run] = runs.offset(run, w, band);
  for_each_task(queue, count, [&](std::int64_t part, int worker) {
    float* to = parts + part * part_floats;
    float* staged = scratch.data + offset_floats + worker * band.floats;
    for (std::int64_t i = 0; i < part_floats; ++i) to[i] = 0;
    for (std::int64_t b = bands * part / count; b < bands * (part + 1) / count; ++b) {
      const std::int64_t frame = b / band.bands, first = b % band.bands * band.rows;
      stage_band(staged, sources, w, band, frame, first);
      for (std::int64_t channel = 0; channel < w.channels; channel += 16)
        add_band_gradient(
            {to + channel, dy + (frame * w.h.results + first) * w.w.results * w.channels + channel, staged,
             least(band.rows, w.h.results - first), w.w.results, w.channels, w.h.multiply * band.row_floats,
             pixel_floats(w), static_cast<int>(least(16, w.channels - channel))},
            offsets, runs);
    }
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
