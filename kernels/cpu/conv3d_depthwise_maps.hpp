// Depthwise convolution of small maps: a place of several maps at once, channels as lanes, and only the taps
// that see a source from there. Weight gradients of 4 x 4 maps with 64 channels reach a sixth of the best
// speed, where maps lie 4 KB apart and few of them stay in the L1 cache; staging them gives a quarter, but
// takes two thirds from maps of 1 x 1 to 3 x 3.
#pragma once
#include "kernels/cpu/conv3d_maps.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr int depthwise_maps = accumulators16 >= 16 ? 8 : 4;  // at once

template <bool partial>
FOVEA_INLINE F16 load_lanes(const float* from, int lanes) {
  return partial ? F16::load_first(from, lanes) : F16::load(from);
}

/// The same place of some maps and some channels, up to 16.
struct DepthwiseMaps {
  float* results;
  const float *sources, *weights;  // weights: (taps, 16)
  const Seen *seen, *seen_end;
  std::int64_t floats, source_floats;  // from one map to the next
  std::int64_t channels;               // from one pixel to the next
  Onto onto;
  int lanes;
};

template <int count, bool partial>
FOVEA_INLINE void depthwise_map_tile(const DepthwiseMaps& d, std::int64_t map) {
  float* const to = d.results + map * d.floats;
  const float* const sources = d.sources + map * d.source_floats;
  F16 sum[count];
  FOVEA_UNROLL
  for (int m = 0; m < count; ++m) sum[m] = d.onto.first(to + m * d.floats, 0, d.lanes);
  for (const Seen* seen = d.seen; seen < d.seen_end; ++seen) {
    const F16 weight = F16::load(d.weights + 16 * seen->tap);
    const float* from = sources + seen->source * d.channels;
    FOVEA_UNROLL
    for (int m = 0; m < count; ++m)
      sum[m] = madd(weight, load_lanes<partial>(from + m * d.source_floats, d.lanes), sum[m]);
  }
  FOVEA_UNROLL
  for (int m = 0; m < count; ++m) store_first(to + m * d.floats, sum[m], d.lanes);
}

template <bool partial>
void depthwise_all_maps(const DepthwiseMaps& d, std::int64_t count) {
  std::int64_t map = 0;
  for (; map + depthwise_maps <= count; map += depthwise_maps)
    depthwise_map_tile<depthwise_maps, partial>(d, map);
  for (; map < count; ++map) depthwise_map_tile<1, partial>(d, map);
}

/// results (+)= windows of sources times packed weights (runs of 16 channels, taps, 16). `memory` holds
/// SeenLists.
inline void convolve_depthwise_maps(float* results, float* memory, const float* sources, const float* packed,
                                    const Window& w, const Maps& maps, const Onto& onto, const Queue& queue) {
  const SeenLists seen(memory, w, maps, false);
  const std::int64_t some = maps.places > 1 ? 8 : 64;
  for_each_task(queue, blocks(maps.count, some), [&](std::int64_t task, int) {
    const std::int64_t first = task * some, count = least(some, maps.count - first);
    for (std::int64_t c = 0; c < w.channels; c += 16)
      for (std::int64_t place = 0; place < maps.places; ++place) {
        const DepthwiseMaps tile{results + first * maps.floats + place * w.channels + c,
                                 sources + first * maps.source_floats + c,
                                 packed + c * maps.taps,
                                 seen.list + seen.begin[place],
                                 seen.list + seen.begin[place + 1],
                                 maps.floats,
                                 maps.source_floats,
                                 w.channels,
                                 onto.from(c),
                                 static_cast<int>(least(16, w.channels - c))};
        (tile.lanes == 16 ? depthwise_all_maps<false> : depthwise_all_maps<true>)(tile, count);
      }
  });
}

/// What a tap's weights of some channels, up to 16, get from some maps: the sum of four chains.
template <bool partial>
F16 depthwise_slope(const float* dy, const float* sources, const Seen* begin, const Seen* end,
                    const Window& w, const Maps& maps, std::int64_t count, int lanes) {
  F16 sum[4] = {F16::zero(), F16::zero(), F16::zero(), F16::zero()};
  for (const Seen* seen = begin; seen < end; ++seen) {
    const float *slopes = dy + seen->place * w.channels, *from = sources + seen->source * w.channels;
    std::int64_t map = 0;
    for (; map + 4 <= count; map += 4, slopes += 4 * maps.floats, from += 4 * maps.source_floats) {
      FOVEA_UNROLL
      for (int m = 0; m < 4; ++m)
        sum[m] = madd(load_lanes<partial>(slopes + m * maps.floats, lanes),
                      load_lanes<partial>(from + m * maps.source_floats, lanes), sum[m]);
    }
    for (; map < count; ++map, slopes += maps.floats, from += maps.source_floats)
      sum[0] = madd(load_lanes<partial>(slopes, lanes), load_lanes<partial>(from, lanes), sum[0]);
  }
  return add(add(sum[0], sum[1]), add(sum[2], sum[3]));
}

/// Parts (taps, C) of the gradient of the weights, each of as many maps.
struct DepthwiseMapSum {
  std::int64_t chunk;  // maps whose 16 channels stay in the L1 cache
  std::int64_t maps, parts;

  explicit DepthwiseMapSum(const Maps& all) : chunk(all.places > 1 ? 16 : 128) {
    constexpr std::int64_t least_pixels = 256;
    const std::int64_t wanted = least(64, blocks(all.count * all.places, least_pixels));
    maps = rounded_up(blocks(all.count, wanted), chunk);
    parts = blocks(all.count, maps);
  }
};

/// Every sum fetches its share of the next chunk, which is read in strides of a map.
FOVEA_INLINE void prefetch_share(const float* from, std::int64_t floats, std::int64_t share,
                                 std::int64_t shares) {
  prefetch(from, floats * share / shares, floats * (share + 1) / shares);
}

/// `memory`: the parts, then SeenLists.
inline void sum_depthwise_maps(float* memory, const float* dy, const float* x, const Window& w,
                               const Maps& maps, const DepthwiseMapSum& sum, const Queue& queue) {
  const std::int64_t part_floats = maps.taps * w.channels, shares = blocks(w.channels, 16) * maps.taps;
  const SeenLists seen(memory + rounded_up(sum.parts * part_floats, 16), w, maps, true);
  for_each_task(queue, sum.parts, [&](std::int64_t part, int) {
    const std::int64_t first = part * sum.maps, end = least(first + sum.maps, maps.count);
    for (std::int64_t map = first; map < end; map += sum.chunk)
      for (std::int64_t c = 0; c < w.channels; c += 16)
        for (std::int64_t tap = 0; tap < maps.taps; ++tap) {
          const int lanes = static_cast<int>(least(16, w.channels - c));
          const F16 slope =
              (lanes == 16
                   ? depthwise_slope<false>
                   : depthwise_slope<true>)(dy + map * maps.floats + c, x + map * maps.source_floats + c,
                                            seen.list + seen.begin[tap], seen.list + seen.begin[tap + 1], w,
                                            maps, least(sum.chunk, end - map), lanes);
          const std::int64_t share = c / 16 * maps.taps + tap;
          prefetch_share(dy + (map + sum.chunk) * maps.floats, sum.chunk * maps.floats, share, shares);
          prefetch_share(x + (map + sum.chunk) * maps.source_floats, sum.chunk * maps.source_floats, share,
                         shares);
          float* to = memory + part * part_floats + tap * w.channels + c;
          store_first(to, add(F16::load_first(to, map > first ? lanes : 0), slope), lanes);
        }
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
