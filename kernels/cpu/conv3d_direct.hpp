// Convolutions whose windows move over the sources: nothing is gathered. Sources are broadcast from a staged
// band of rows, channels of the results are the lanes.
#pragma once
#include "kernels/cpu/conv3d_band.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t most_staged_floats = std::int64_t{1} << 22;  // of a band: 16 MB

/// Not where windows see sources between which there are others, nor where a band would be too much memory.
/// By the shape alone: sums are cut differently otherwise.
bool is_direct(const Window& w) {
  const bool plain = w.t.divide == 1 && w.h.divide == 1 && w.w.divide == 1;
  return w.groups == 1 && w.taps() > 1 && plain &&
         w.t.taps * Band(w, w.source_channels, 1).plane_floats <= most_staged_floats;
}

/// Where the source of every product lies from that of the first: (time, row, column of the tap, channel).
void fill_offsets(std::int32_t* offsets, const Window& w, const Band& band) {
  for (std::int64_t kt = 0; kt < w.t.taps; ++kt)
    for (std::int64_t kh = 0; kh < w.h.taps; ++kh)
      for (std::int64_t kw = 0; kw < w.w.taps; ++kw)
        for (std::int64_t c = 0; c < w.source_channels; ++c)
          *offsets++ = static_cast<std::int32_t>(band.tap_offset(w, kt, kh, kw) + c);
}

struct DirectTile {
  float* results;
  const float *sources, *weights;  // weights: lines of tile_columns
  const std::int32_t* offsets;
  std::int64_t ks, channels;  // channels: from one pixel of the results to the next
  std::int64_t stride;        // from the sources of one pixel to those of the next
  Onto onto;
};

/// `rows` pixels, as many as exist of them, by 16 * vectors channels. `known_stride`: the tile's, or 0 where
/// the compiler does not know it.
template <int rows, int vectors, int known_stride>
void direct_tile(const DirectTile& t, std::int64_t pixel, std::int64_t pixels, std::int64_t columns) {
  F16 sum[rows][vectors];
#pragma GCC unroll 24
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) sum[r][v] = F16::zero();
  const float* weights = t.weights;
  constexpr int together = known_stride ? rows : rows % 3 == 0 ? 3 : 1;  // pixels addressed from one register
  const std::int64_t stride = known_stride ? known_stride : t.stride;
  const float* sources = t.sources + pixel * stride;
  for (std::int64_t k = 0; k < t.ks; ++k, weights += tile_columns) {
    F16 line[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) line[v] = F16::load(weights + 16 * v);
    const float* from = sources + t.offsets[k];
#pragma GCC unroll 24
    for (int r = 0; r < rows; ++r) {
      if (r > 0 && r % together == 0) from += together * stride;
      const F16 left = F16::broadcast(from[r % together * stride]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[r][v] = madd(left, line[v], sum[r][v]);
    }
  }
  store_tile<rows, vectors>(t.results + pixel * t.channels, t.channels, sum, pixels - pixel, columns, t.onto);
}

/// A row of results, a panel of channels: whole tiles, then thirds of them.
template <int vectors, int known_stride>
void direct_row(const DirectTile& t, std::int64_t pixels, std::int64_t columns) {
  constexpr int whole = accumulators16 / vectors, third = whole >= 3 ? whole / 3 : 1;
  std::int64_t pixel = 0;
  for (; pixel + whole <= pixels; pixel += whole)
    direct_tile<whole, vectors, known_stride>(t, pixel, pixels, columns);
  for (; pixel < pixels; pixel += third) direct_tile<third, vectors, known_stride>(t, pixel, pixels, columns);
}

template <int known_stride>
void direct_rows(const DirectTile& t, std::int64_t pixels, std::int64_t columns) {
  if (tile_vectors > 1 && columns <= 16)
    direct_row<1, known_stride>(t, pixels, columns);
  else
    direct_row<tile_vectors, known_stride>(t, pixels, columns);
}

using DirectRow = void (*)(const DirectTile&, std::int64_t, std::int64_t);
DirectRow direct_row_of(std::int64_t stride) {
  return stride == 1 ? direct_rows<1> : stride == 2 ? direct_rows<2> : direct_rows<0>;
}

/// Memory of convolve_direct.
std::int64_t direct_floats(const Window& w, const Queue& queue) {
  return rounded_up(w.taps() * w.source_channels, 16) +
         worker_count(queue) * Band(w, w.source_channels, least_tasks).floats;
}

/// results (+)= windows of sources times `packed` weights, panels [tap, source channel][tile_columns].
void convolve_direct(float* results, float* memory, const float* sources, const float* packed,
                     const Window& w, const Onto& onto, const Queue& queue) {
  const Band band(w, w.source_channels, least_tasks);
  const std::int64_t ks = w.taps() * w.source_channels, offset_floats = rounded_up(ks, 16);
  auto* offsets = reinterpret_cast<std::int32_t*>(memory);
  fill_offsets(offsets, w, band);
  const DirectRow direct = direct_row_of(band.pixel_floats(w));
  for_each_task(queue, w.batch * w.t.results * band.bands, [&](std::int64_t task, int worker) {
    const std::int64_t frame = task / band.bands, first = task % band.bands * band.rows;
    const std::int64_t rows = least(band.rows, w.h.results - first);
    float* staged = memory + offset_floats + worker * band.floats;
    stage_band(staged, sources, w.source_channels, w, band, frame, first);
    for (std::int64_t channel = 0; channel < w.channels; channel += tile_columns)
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t pixel = (frame * w.h.results + first + r) * w.w.results;
        direct({results + pixel * w.channels + channel, staged + r * w.h.multiply * band.row_floats,
                packed + channel * ks, offsets, ks, w.channels, band.pixel_floats(w), onto.from(channel)},
               w.w.results, least(tile_columns, w.channels - channel));
      }
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
