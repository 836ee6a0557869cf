// What the passes of the separable convolution share: packed weights, runs over time, places of a tile's
// pixels, and sums over tiles.
#pragma once
#include "kernels/cpu/sepconv3d_tiles.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

int spatial_taps_of(const Correlation& c) { return c.kernel[1] * c.kernel[2]; }

/// Weights as vectors: [block][input][tap], lane = channel * group + tile, channels that do not exist zero.
struct PackedWeights {
  float *spatial, *temporal;  // spatial null: not wanted
};

std::int64_t packed_floats(const Correlation& c, const Tiling& t, int taps) {
  return static_cast<std::int64_t>(t.blocks) * c.inputs * taps * 16;
}

void pack_taps(float* to, const float* weights, const Correlation& c, int group, int block, int input,
               int taps, bool flip) {
  for (int lane = 0; lane < 16; ++lane) {
    const int output = block * 16 + lane / group;
    const float* pair = weights + (output * c.output_stride + input * c.input_stride) * taps;
    for (int tap = 0; tap < taps; ++tap)
      to[tap * 16 + lane] = output < c.outputs ? pair[flip ? taps - 1 - tap : tap] : 0;
  }
}

void pack_weights(const PackedWeights& to, const float* spatial, const float* temporal, const Correlation& c,
                  const Tiling& t, bool flip_temporal, const Queue& queue) {
  const int taps = spatial_taps_of(c), times = c.kernel[0];
  for_each_task(queue, static_cast<std::int64_t>(t.blocks) * c.inputs, [&](std::int64_t pair, int) {
    const int block = static_cast<int>(pair / c.inputs), input = static_cast<int>(pair % c.inputs);
    if (to.spatial)
      pack_taps(to.spatial + pair * taps * 16, spatial, c, t.group, block, input, taps, c.flipped);
    pack_taps(to.temporal + pair * times * 16, temporal, c, t.group, block, input, times, flip_temporal);
  });
}

/// Hands out consecutive parts of one piece of scratch memory.
struct Cutter {
  float* next;
  FOVEA_INLINE float* take(std::int64_t floats) {
    float* part = next;
    next += rounded16(floats);
    return part;
  }
};

/// A run: the vectors of one pixel over time, or of a row of pixels when flat.
std::int64_t run_floats(const Tiling& t, int times) {
  return 16 * static_cast<std::int64_t>(times) * (t.flat ? t.tile[2] : 1);
}

/// Where the inner sums lie that the forward pass keeps: run after run in the order in which they are taken,
/// in which the gradients of the weights want them.
template <class T>
struct Kept {
  T* first;               // null: none are kept
  std::int64_t run_size;  // floats
  bool aligned;

  Kept(T* data, const Correlation& c, const Tiling& t)
      : first(data),
        run_size(run_floats(t, window(c, t, 0))),
        aligned(reinterpret_cast<std::uintptr_t>(data) % 64 == 0) {}
  static int columns(const Tiling& t) { return t.flat ? t.tile[2] : 1; }
  /// That of the first input channel at a place of a group, the others follow; null where none are kept.
  T* run(const Correlation& c, const Tiling& t, std::int64_t group, int block, int h, int w) const {
    if (!first) return nullptr;
    const std::int64_t row = (group * t.blocks + block) * t.tile[1] + h, runs = t.tile[2] / columns(t);
    return first + (row * runs + w / columns(t)) * c.inputs * run_size;
  }
  /// Past the caches: much else happens before they are read.
  FOVEA_INLINE void keep(float* to, const float* from, int vectors) const {
    for (int n = 0; n < vectors * 16; n += 16)
      if (aligned)
        stream(to + n, F16::load(from + n));
      else
        store(to + n, F16::load(from + n));
  }
  /// The next run comes from memory meanwhile.
  FOVEA_INLINE void load(float* to, const float* from, int vectors) const {
    for (int n = 0; n < vectors * 16; n += 16) {
      __builtin_prefetch(from + run_size + n);
      store(to + n, F16::load(from + n));
    }
  }
};

std::int64_t kept_floats(const Correlation& c, const Tiling& t) {
  return t.groups * t.blocks * t.tile[1] * t.tile[2] * c.inputs * window(c, t, 0) * 16;
}

/// Output row h and column w of a group: where its taps begin in the staged input and which of them exist.
template <int group>
struct Place {
  TapRange taps;
  std::int64_t offset;  // of tap (0, 0); negative where that one lies in the padding
};
template <int group>
Place<group> place(const Correlation& c, const Tiling& t, const TileGroup<group>& g, const Staged& x, int h,
                   int w) {
  const auto range = [&](int axis, int at, int& begin, int& end) {
    begin = larger(0, g.begin[axis] - at);
    end = larger(begin, smaller(c.kernel[axis], g.end[axis] - at));
  };
  Place<group> p{};
  range(1, h, p.taps.row_begin, p.taps.row_end);
  range(2, w, p.taps.column_begin, p.taps.column_end);
  if (t.flat) p.taps.column_begin = 0, p.taps.column_end = c.kernel[2];
  p.offset = (h - g.begin[1]) * x.row + (w - g.begin[2]) * x.column;
  return p;
}

template <int group>
Staged staged_at(float* data, const TileGroup<group>& g) {
  Staged x{data, 0, 0, 0};
  x.column = static_cast<std::int64_t>(g.times()) * group;
  x.row = x.column * (g.end[2] - g.begin[2]);
  x.channel = x.row * (g.end[1] - g.begin[1]);
  return x;
}

/// Where output (time, h, w, channel block) of each tile of a group lies, null where it has none.
template <int group, class T>
struct OutputPlaces {
  T* first[group];
  int times[group];
  std::int64_t frame;
  int next;

  FOVEA_INLINE OutputPlaces(T* y, const Correlation& c, const TileGroup<group>& g, int block, int h, int w)
      : frame(static_cast<std::int64_t>(c.out[1]) * c.out[2] * c.outputs), next(c.outputs) {
    for (int u = 0; u < group; ++u) {
      const Tile& tile = g.tile[u];
      times[u] = h < tile.count[1] && w < tile.count[2] ? tile.count[0] : 0;
      const std::int64_t pixel = static_cast<std::int64_t>(tile.first[1] + h) * c.out[2] + tile.first[2] + w;
      first[u] = y + (tile.batch * c.out[0] + tile.first[0]) * frame + pixel * c.outputs + block * 16;
    }
  }
  /// The next pixel's line is fetched ahead: frames lie too far apart for the hardware to foresee it.
  FOVEA_INLINE void at(int time, T* places[group]) const {
    for (int u = 0; u < group; ++u) {
      places[u] = time < times[u] ? first[u] + time * frame : nullptr;
      if (time < times[u]) __builtin_prefetch(first[u] + time * frame + next);
    }
  }
};

/// A tensor of the outputs' shape at a run, as vectors [column][time].
template <int group>
void load_run(float* run, const float* y, const Correlation& c, const TileGroup<group>& g, int block, int h,
              int w, int columns) {
  const int channels = smaller(16 / group, c.outputs - block * 16);
  for (int column = 0; column < columns; ++column) {
    const OutputPlaces<group, const float> places(y, c, g, block, h, w + column);
    for (int time = 0; time < g.count[0]; ++time) {
      const float* from[group];
      places.at(time, from);
      store(run + (static_cast<std::int64_t>(column) * g.count[0] + time) * 16,
            gather_lanes<group>(from, channels));
    }
  }
}

/// Sums over tiles are cut by the shape alone: a chunk is consecutive groups of tiles, and each chunk of a
/// channel block has its own sums, vectors [input][tap], which are added in order at the end.
struct Chunks {
  std::int64_t count;   // of a channel block
  std::int64_t floats;  // of sums of one chunk
};
Chunks choose_chunks(const Tiling& t, std::int64_t floats) {
  constexpr std::int64_t most_chunks = 32, most_sums = std::int64_t{1} << 21;
  std::int64_t count = t.groups < most_chunks ? t.groups : most_chunks;
  while (count > 1 && count * t.blocks * floats > most_sums) count = (count + 1) / 2;
  return {count, floats};
}
std::int64_t sums_floats(const Tiling& t, const Chunks& chunks) {
  return t.blocks * chunks.count * chunks.floats;
}

/// Calls body(sums, group, block, worker) for every group of tiles; the sums begin as zeros.
template <class Body>
void for_each_group(const Queue& queue, const Tiling& t, const Chunks& chunks, float* all_sums,
                    const Body& body) {
  for_each_task(queue, t.blocks * chunks.count, [&](std::int64_t task, int worker) {
    const std::int64_t chunk = task % chunks.count;
    const int block = static_cast<int>(task / chunks.count);
    float* const sums = all_sums + task * chunks.floats;
    for (std::int64_t n = 0; n < chunks.floats; ++n) sums[n] = 0;
    for (std::int64_t g = t.groups * chunk / chunks.count; g < t.groups * (chunk + 1) / chunks.count; ++g)
      body(sums, g, block, worker);
  });
}

/// One pair's gradient from the sums of the first chunk's first tap on: chunks are added in order, then the
/// tiles of a vector.
void reduce_taps(float* grad, const float* sums, const Correlation& c, const Tiling& t, const Chunks& chunks,
                 std::int64_t pair, int taps, bool backwards) {
  const std::int64_t output = pair / c.inputs, input = pair % c.inputs;
  const float* const from =
      sums + output / 16 * chunks.count * chunks.floats + input * taps * 16 + output % 16 * t.group;
  float* const to = grad + (output * c.output_stride + input * c.input_stride) * taps;
  for (int tap = 0; tap < taps; ++tap) {
    float total = 0;
    for (int u = 0; u < t.group; ++u) {
      float sum = 0;
      for (std::int64_t chunk = 0; chunk < chunks.count; ++chunk)
        sum += from[chunk * chunks.floats + tap * 16 + u];
      total += sum;
    }
    to[backwards ? taps - 1 - tap : tap] = total;
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
