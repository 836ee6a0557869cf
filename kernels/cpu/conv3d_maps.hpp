// Convolutions of small maps and pointwise ones: the pixels at one place of many maps are the rows of a
// matrix product, read where they are, and only taps that see a source from there take part. Sums are chains
// over those taps (results) and over the maps of a fixed chunk (weights), whatever the registers.
#pragma once
#include "kernels/cpu/conv3d_parts.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

/// Where sources are as the product needs them: one tap, which every pixel sees at its own place.
inline bool is_pointwise(const Window& w) {
  const auto plain = [](const WindowAxis& axis) {
    return axis.taps == 1 && axis.multiply == 1 && axis.offset == 0 && axis.divide == 1 &&
           axis.results == axis.sources;
  };
  return plain(w.t) && plain(w.h) && plain(w.w);
}

/// The maps of a batch; of pointwise convolutions every pixel is a map.
struct Maps {
  std::int64_t count, places, source_places;
  std::int64_t floats, source_floats;  // from one map to the next
  std::int64_t taps;

  explicit Maps(const Window& w)
      : count(w.batch),
        places(w.t.results * w.h.results * w.w.results),
        source_places(w.t.sources * w.h.sources * w.w.sources),
        taps(w.taps()) {
    if (is_pointwise(w)) {
      count = w.pixels();
      places = source_places = 1;
    }
    floats = places * w.channels;
    source_floats = source_places * w.source_channels;
  }
  /// Whether rows of results would be too short, or most taps on padding, for other ways. By the shape alone:
  /// sums are cut differently otherwise.
  bool small() const {
    constexpr std::int64_t fewest = 16, most_places = 36, most_sources = 64;
    return places == 1 || (count >= fewest && places <= most_places && source_places <= most_sources);
  }
};

/// A tap through which a place sees a source.
struct Seen {
  std::int32_t place, source, tap;
};

/// What all places see: those of place (or tap) i are list[begin[i]] to list[begin[i + 1]].
struct SeenLists {
  Seen* list;
  std::int32_t* begin;

  static std::int64_t floats(const Maps& maps) {
    return rounded_up(maps.places * maps.taps * 3 + maps.places + maps.taps + 1, 16);
  }
  SeenLists(float* memory, const Window& w, const Maps& maps, bool by_tap)
      : list(reinterpret_cast<Seen*>(memory)),
        begin(reinterpret_cast<std::int32_t*>(list + maps.places * maps.taps)) {
    std::int32_t count = 0;
    const std::int64_t outer = by_tap ? maps.taps : maps.places, inner = by_tap ? maps.places : maps.taps;
    for (std::int64_t i = 0; i < outer; ++i) {
      begin[i] = count;
      for (std::int64_t j = 0; j < inner; ++j) {
        const std::int64_t place = by_tap ? j : i, tap = by_tap ? i : j, source = source_of(w, place, tap);
        if (source < 0) continue;
        list[count++] = {static_cast<std::int32_t>(place), static_cast<std::int32_t>(source),
                         static_cast<std::int32_t>(tap)};
      }
    }
    begin[outer] = count;
  }
  static std::int64_t source_of(const Window& w, std::int64_t place, std::int64_t tap) {
    const Pixel pixel = w.pixel(place);
    const std::int64_t t = w.t.source(pixel.frame, tap / (w.h.taps * w.w.taps));
    const std::int64_t h = w.h.source(pixel.h, tap / w.w.taps % w.h.taps);
    const std::int64_t at = w.w.source(pixel.w, tap % w.w.taps);
    return t < 0 || h < 0 || at < 0 ? -1 : (t * w.h.sources + h) * w.w.sources + at;
  }
};

// ---- results

/// A place of some maps and a panel of channels.
struct MapTile {
  float* results;
  const float *sources, *weights;  // of a group; weights: panels [tap, source channel][tile_columns]
  const Seen *seen, *seen_end;
  std::int64_t floats, source_floats;  // from one map to the next
  std::int64_t source_channels;        // from one pixel to the next
  std::int64_t ks, columns;            // source channels of the group, channels of the panel
  Onto onto;
};

template <int rows, int vectors>
void multiply_maps(const MapTile& t, std::int64_t map) {
  constexpr int together = rows % 3 == 0 ? 3 : 1;  // maps addressed from one register
  F16 sum[rows][vectors];
#pragma GCC unroll 24
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) sum[r][v] = F16::zero();
  for (const Seen* seen = t.seen; seen < t.seen_end; ++seen) {
    const float* weights = t.weights + seen->tap * t.ks * tile_columns;
    const float* from[rows / together];
    for (int r = 0; r < rows; r += together)
      from[r / together] = t.sources + (map + r) * t.source_floats + seen->source * t.source_channels;
    for (std::int64_t k = 0; k < t.ks; ++k, weights += tile_columns) {
      if (k % 16 == 0)  // the next maps
        for (int r = 0; r < rows; ++r) __builtin_prefetch(from[0] + (rows + r) * t.source_floats + k);
      F16 line[vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) line[v] = F16::load(weights + 16 * v);
#pragma GCC unroll 24
      for (int r = 0; r < rows; ++r) {
        const F16 left = F16::broadcast(from[r / together][k + r % together * t.source_floats]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sum[r][v] = madd(left, line[v], sum[r][v]);
      }
    }
  }
  store_tile<rows, vectors>(t.results + map * t.floats, t.floats, sum, rows, t.columns, t.onto);
}

/// Whole tiles of maps, then thirds, then one by one.
template <int vectors, int rows = tile_rows>
void multiply_all_maps(const MapTile& t, std::int64_t map, std::int64_t end) {
  for (; map + rows <= end; map += rows) multiply_maps<rows, vectors>(t, map);
  if constexpr (rows > 1) multiply_all_maps<vectors, (rows > 4 ? rows / 3 : 1)>(t, map, end);
}

/// results (+)= windows of sources times `packed` weights, panels [group][panel][tap, source
/// channel][tile_columns]. `memory` holds SeenLists.
inline void convolve_maps(float* results, float* memory, const float* sources, const float* packed,
                          const Window& w, const Maps& maps, const Onto& onto, const Queue& queue) {
  const SeenLists seen(memory, w, maps, false);
  const std::int64_t some = least(most_task_rows, rounded_up(blocks(maps.count, least_tasks), 12));
  const std::int64_t tasks = blocks(maps.count, some), ks = w.group_sources(), channels = w.group_channels();
  const std::int64_t group_weights = rounded_up(channels, tile_columns) * w.taps() * ks;
  const std::int64_t at_once = maps.places > 1 ? 12 : some;  // their sources stay in the L1 cache
  for_each_task(queue, w.groups * tasks, [&](std::int64_t task, int) {
    const std::int64_t group = task / tasks, first = task % tasks * some;
    const std::int64_t end = least(first + some, maps.count);
    for (std::int64_t channel = 0; channel < channels; channel += tile_columns)
      for (std::int64_t map = first; map < end; map += at_once)
        for (std::int64_t place = 0; place < maps.places; ++place) {
          const std::int64_t column = group * channels + channel;
          const MapTile tile{results + place * w.channels + column,
                             sources + group * ks,
                             packed + group * group_weights + channel * w.taps() * ks,
                             seen.list + seen.begin[place],
                             seen.list + seen.begin[place + 1],
                             maps.floats,
                             maps.source_floats,
                             w.source_channels,
                             ks,
                             least(tile_columns, channels - channel),
                             onto.from(column)};
          const auto multiply =
              tile_vectors > 1 && tile.columns <= 16 ? multiply_all_maps<1> : multiply_all_maps<tile_vectors>;
          multiply(tile, map, least(map + at_once, end));
        }
  });
}

// ---- gradient of the weights

/// Adds the products of source channels and slopes at a place of some maps to a part (rows, columns), or
/// begins it.
struct PixelSum {
  float* part;
  const float *sources, *dy;
  std::int64_t pixels;
  std::int64_t source_step, step;  // from one pixel to the next
  std::int64_t rows, columns;
  Onto onto;
};

/// `columns`: of the tile; those of the last vector that do not exist are not read.
template <int rows, int vectors, bool partial>
void add_pixel_tile(const PixelSum& g, std::int64_t row, std::int64_t column, std::int64_t columns) {
  const int lanes = static_cast<int>(columns - 16 * (vectors - 1));
  F16 sum[rows][vectors];
#pragma GCC unroll 24
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) sum[r][v] = F16::zero();
  const float *from = g.sources + row, *dy = g.dy + column;
  for (std::int64_t p = 0; p < g.pixels; ++p, from += g.source_step, dy += g.step) {
    F16 line[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v)
      line[v] = partial && v == vectors - 1 ? F16::load_first(dy + 16 * v, lanes) : F16::load(dy + 16 * v);
#pragma GCC unroll 24
    for (int r = 0; r < rows; ++r) {
      const F16 left = F16::broadcast(from[r]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[r][v] = madd(left, line[v], sum[r][v]);
    }
  }
  store_tile<rows, vectors>(g.part + row * g.columns + column, g.columns, sum, rows, columns, g.onto);
}

template <int rows>
void add_pixel_rows(const PixelSum& g, std::int64_t row) {
  for (std::int64_t column = 0; column < g.columns; column += tile_columns) {
    const std::int64_t columns = least(tile_columns, g.columns - column);
    const auto add_tile = columns == tile_columns ? add_pixel_tile<rows, tile_vectors, false>
                          : columns > 16          ? add_pixel_tile<rows, tile_vectors, true>
                          : columns == 16         ? add_pixel_tile<rows, 1, false>
                                                  : add_pixel_tile<rows, 1, true>;
    add_tile(g, row, column, columns);
  }
}

/// Asks for floats that are needed soon, while others are multiplied.
FOVEA_INLINE void prefetch(const float* from, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; i += 16) __builtin_prefetch(from + i);
}

/// Whole tiles of rows, thirds of them, then one by one. Where pixels lie side by side, every whole tile
/// fetches its share of the next ones.
template <int rows = tile_rows>
void add_pixels(const PixelSum& g, std::int64_t row = 0) {
  for (; row + rows <= g.rows; row += rows) {
    if (rows == tile_rows && g.step == g.columns && g.source_step == g.rows) {
      prefetch(g.sources + g.pixels * g.source_step, row * g.pixels, (row + rows) * g.pixels);
      prefetch(g.dy + g.pixels * g.step, row * g.pixels, (row + rows) * g.pixels);
    }
    add_pixel_rows<rows>(g, row);
  }
  if constexpr (rows > 1) add_pixels<(rows > 4 ? rows / 3 : 1)>(g, row);
}

/// How tasks divide the sum over the maps: parts of whole chunks, taps, and source channels where there are
/// many.
struct MapSum {
  std::int64_t chunk;  // maps whose pixels of a place stay in the L1 cache
  std::int64_t maps, parts;
  std::int64_t rows, row_tasks;  // source channels

  MapSum(const Window& w, const Maps& all) : chunk(64) {
    constexpr std::int64_t most_floats = std::int64_t{1} << 22, least_pixels = 1024, most_rows = 192;
    const std::int64_t weights = w.taps() * w.group_sources() * w.channels;
    const std::int64_t fit = most_floats / (weights < 1 ? 1 : weights);
    const std::int64_t wanted =
        least(blocks(all.count * all.places, least_pixels), least(64, fit < 4 ? 4 : fit));
    maps = rounded_up(blocks(all.count, wanted), chunk);
    parts = blocks(all.count, maps);
    rows = least(most_rows, w.group_sources());
    row_tasks = blocks(w.group_sources(), rows);
  }
};

/// dbias null but for pointwise convolutions.
inline void grad_weight_maps(float* dweight, float* dbias, const float* dy, const float* x, const Window& w,
                             const Maps& maps, const Queue& queue) {
  const MapSum sum(w, maps);
  const std::int64_t sources = w.group_sources(), channels = w.group_channels();
  const std::int64_t part_floats = w.taps() * sources * w.channels;
  const std::int64_t parts_floats = rounded_up(sum.parts * part_floats, 16);
  const Scratch scratch(queue, parts_floats + SeenLists::floats(maps) + sum.parts * w.channels);
  const SeenLists seen(scratch.data + parts_floats, w, maps, true);
  float* const bias = scratch.data + parts_floats + SeenLists::floats(maps);
  const std::int64_t pairs = w.groups * w.taps(), tasks = pairs * sum.row_tasks;
  for_each_task(queue, sum.parts * tasks, [&](std::int64_t task, int) {
    const std::int64_t part = task / tasks, pair = task % tasks / sum.row_tasks;
    const std::int64_t group = pair / w.taps(), tap = pair % w.taps();
    const std::int64_t row = task % sum.row_tasks * sum.rows, rows = least(sum.rows, sources - row);
    float* to = scratch.data + part * part_floats + (pair * sources + row) * channels;
    const Seen *begin = seen.list + seen.begin[tap], *end = seen.list + seen.begin[tap + 1];
    const std::int64_t first = part * sum.maps, last = least(first + sum.maps, maps.count);
    if (begin == end)
      for (std::int64_t i = 0; i < rows * channels; ++i) to[i] = 0;
    for (std::int64_t map = first; map < last; map += sum.chunk) {
      for (const Seen* s = begin; s < end; ++s)
        add_pixels({to,
                    x + map * maps.source_floats + s->source * w.source_channels + group * sources + row,
                    dy + map * maps.floats + s->place * w.channels + group * channels,
                    least(sum.chunk, last - map),
                    maps.source_floats,
                    maps.floats,
                    rows,
                    channels,
                    {map > first || s > begin}});
      if (dbias && tap == 0 && row == 0)
        for (std::int64_t c = group * channels; c < (group + 1) * channels; c += 16)
          add_slopes(bias + part * w.channels + c, dy + map * maps.floats + c, least(sum.chunk, last - map),
                     w.channels, static_cast<int>(least(16, (group + 1) * channels - c)), map == first);
    }
  });
  if (dbias) add_bias_parts(dbias, bias, sum.parts, w.channels);
  add_parts(dweight, scratch.data, sum.parts, w, queue);
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
