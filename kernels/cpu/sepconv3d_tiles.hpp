// How a separable convolution is cut: output channels into blocks of up to 16, the output (batch, time, row,
// column) into tiles small enough that the input of `group` of them, staged, fits the L2 cache. Everything
// here depends on the shape only, so that results do not depend on threads or instruction set.
#pragma once
#include "kernels/cpu/sepconv3d_microkernels.hpp"
#include "kernels/sepconv3d.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

/// A separable cross-correlation in either direction: the forward pass, or the input gradient, which is the
/// correlation of dy with the flipped kernels. Axes: time, row, column.
struct Correlation {
  std::int64_t batch;
  int inputs, outputs;
  int in[3], out[3], kernel[3], pad[3];
  // Element (output, input, tap) of the weights lies at (output * output_stride + input * input_stride)
  // pairs.
  std::int64_t output_stride, input_stride;
  bool flipped;
};

struct Tiling {
  int group;            // tiles per vector
  int blocks;           // of output channels
  int inputs;           // input channels staged at once
  int tile[3];          // outputs of a tile: times, rows, columns
  int tiles[3];         // tiles along each axis
  bool flat;            // few times: a run of the inner loops spans a row of pixels instead of one pixel
  std::int64_t groups;  // of tiles
};

FOVEA_INLINE int smaller(int a, int b) { return a < b ? a : b; }
FOVEA_INLINE int larger(int a, int b) { return a > b ? a : b; }
FOVEA_INLINE int pieces_of(int count, int size) { return (count + size - 1) / size; }
FOVEA_INLINE std::int64_t rounded16(std::int64_t floats) { return (floats + 15) / 16 * 16; }

/// Most input positions that a group of tiles sees along an axis. Positions in the padding are left out where
/// all its tiles have the same place in their images.
FOVEA_INLINE int window(const Correlation& c, const Tiling& t, int axis) {
  const int all = t.tile[axis] + c.kernel[axis] - 1;
  return c.batch % t.group == 0 && !(t.flat && axis == 2) ? smaller(c.in[axis], all) : all;
}
FOVEA_INLINE std::int64_t staged_floats(const Correlation& c, const Tiling& t) {
  return static_cast<std::int64_t>(t.inputs) * window(c, t, 0) * t.group * window(c, t, 1) * window(c, t, 2);
}
/// Outputs wait for the next input channels: one column of them, or a whole tile if the inputs come in turns.
FOVEA_INLINE std::int64_t waiting_vectors(const Correlation& c, const Tiling& t) {
  const std::int64_t row = static_cast<std::int64_t>(t.tile[0]) * (t.flat ? t.tile[2] : 1);
  return t.inputs == c.inputs ? row : static_cast<std::int64_t>(t.tile[0]) * t.tile[1] * t.tile[2];
}

/// Tiles per vector: 8, 4, 2, 1 for up to 2, 4, 8, 16 output channels. 16 for one channel are no faster than
/// half empty vectors of 8: their inputs come from the L2 cache.
int group_of(int outputs) { return outputs > 8 ? 1 : outputs > 4 ? 2 : outputs > 2 ? 4 : 8; }

bool empty(const Correlation& c) {
  return c.batch == 0 || c.outputs == 0 || c.out[0] <= 0 || c.out[1] <= 0 || c.out[2] <= 0;
}

/// No groups and no blocks where there are no outputs.
Tiling choose_tiling(const Correlation& c) {
  constexpr int most_times = 256, few_times = 8;
  constexpr std::int64_t most_floats = 1 << 18;  // 1 MB staged
  Tiling t{};
  t.group = 1;
  if (empty(c)) return t;
  // Large kernels leave room for few tiles: of half a kernel in rows and columns, one input at a time.
  t.tile[0] = smaller(c.out[0], most_times);
  for (int axis = 1; axis < 3; ++axis) t.tile[axis] = smaller(c.out[axis], (c.kernel[axis] + 1) / 2);
  t.inputs = 1;
  t.group = group_of(c.outputs);
  while (t.group > 1 && staged_floats(c, t) > most_floats) t.group /= 2;
  t.blocks = pieces_of(c.outputs, 16);
  t.inputs = c.inputs;
  const auto cut = [&](int axis, int parts) {
    t.tile[axis] = pieces_of(c.out[axis], parts);
    t.tiles[axis] = pieces_of(c.out[axis], t.tile[axis]);
  };
  const auto halve = [&](int axis) { cut(axis, 2 * t.tiles[axis]); };
  cut(0, pieces_of(c.out[0], most_times));
  cut(1, 1);
  cut(2, 1);
  t.flat = window(c, t, 0) < few_times;
  const auto floats = [&] {
    return staged_floats(c, t) + (t.inputs == c.inputs ? 0 : 16 * waiting_vectors(c, t));
  };
  // Fewer rows and columns mean more input staged twice, fewer channels more cache lines read in part.
  constexpr int few_inputs = 4;
  const auto wide = [&](int axis) { return t.tile[axis] > (c.kernel[axis] + 1) / 2; };
  while (floats() > most_floats) {
    if (t.tile[1] > 2 * c.kernel[1])
      halve(1);
    else if (t.inputs > few_inputs)
      t.inputs = pieces_of(t.inputs, 2);
    else if (wide(1))
      halve(1);
    else if (wide(2))
      halve(2);
    else if (t.inputs > 1)
      t.inputs = pieces_of(t.inputs, 2);
    else if (t.tile[1] > 1)
      halve(1);
    else if (t.tile[2] > 1)
      halve(2);
    else
      break;
  }
  const auto groups = [&] {
    const std::int64_t all = c.batch * t.tiles[0] * t.tiles[1] * t.tiles[2];
    return (all + t.group - 1) / t.group;
  };
  // Small tiles of many stage several times as much as they need: then fewer tasks take less time.
  const int enough_tasks = larger(4, 16 / t.group);
  while (groups() * t.blocks < enough_tasks && (t.tile[1] > 1 || (!t.flat && t.tile[2] > 1)))
    halve(t.tile[1] > 1 ? 1 : 2);
  t.groups = groups();
  return t;
}

/// One tile, and the part of its input window that lies inside the image. Window position p of an axis is
/// input position origin + p; it serves output o by tap p - o.
struct Tile {
  std::int64_t batch;
  int first[3];   // output
  int count[3];   // outputs, 0 for a tile past the last
  int origin[3];  // input
  int begin[3], end[3];
};

/// The tiles of one vector, and the union of their windows.
template <int group>
struct TileGroup {
  Tile tile[group];
  int count[3], begin[3], end[3];

  int times() const { return larger(0, end[0] - begin[0]); }
};

template <int group>
TileGroup<group> tile_group(const Correlation& c, const Tiling& t, std::int64_t index) {
  TileGroup<group> g{};
  bool first = true;
  for (int u = 0; u < group; ++u) {
    Tile& tile = g.tile[u];
    // The batch runs fastest: tiles of a vector mostly have the same place, hence the same window.
    std::int64_t position = index * group + u;
    tile.batch = position % c.batch;
    position /= c.batch;
    int place[3];
    for (int axis = 2; axis >= 0; --axis) {
      place[axis] = static_cast<int>(position % t.tiles[axis]);
      position /= t.tiles[axis];
    }
    if (position > 0) continue;  // past the last: writes nothing, sees nothing
    for (int axis = 0; axis < 3; ++axis) {
      tile.first[axis] = place[axis] * t.tile[axis];
      tile.count[axis] = smaller(t.tile[axis], c.out[axis] - tile.first[axis]);
      tile.origin[axis] = tile.first[axis] - c.pad[axis];
      // A tile that lies wholly in the padding sees an empty part of its own window.
      const int all = tile.count[axis] + c.kernel[axis] - 1;
      tile.begin[axis] = smaller(larger(0, -tile.origin[axis]), all);
      tile.end[axis] = larger(tile.begin[axis], smaller(all, c.in[axis] - tile.origin[axis]));
      g.count[axis] = first ? tile.count[axis] : larger(g.count[axis], tile.count[axis]);
      g.begin[axis] = first ? tile.begin[axis] : smaller(g.begin[axis], tile.begin[axis]);
      g.end[axis] = first ? tile.end[axis] : larger(g.end[axis], tile.end[axis]);
    }
    first = false;
  }
  if (t.flat) {
    g.begin[2] = 0;
    g.end[2] = g.count[2] + c.kernel[2] - 1;
  }
  return g;
}

/// The staged input of a group: [input channel][row][column][time][tile of the group], the union window only.
struct Staged {
  float* data;
  std::int64_t channel, row, column;  // strides
};

/// Copies the window of `inputs` channels from `first_input`; what a tile does not see is zero.
template <int group>
void stage(const Staged& to, const float* x, const Correlation& c, const TileGroup<group>& g, int first_input,
           int inputs) {
  constexpr int strip = 16;  // a cache line of the source
  static constexpr float zeros[strip] = {};
  const int times = g.times() * group;
  const std::int64_t pixel = c.inputs, line = pixel * c.in[2], frame = line * c.in[1],
                     movie = frame * c.in[0];
  // Columns that all tiles see are copied in one go where their elements are contiguous, others one by one.
  int together_begin = g.begin[2], together_end = g.end[2];
  bool same_times = true;
  for (const Tile& tile : g.tile) {
    if (tile.count[0] == 0) continue;
    together_begin = larger(together_begin, tile.begin[2]);
    together_end = smaller(together_end, tile.end[2]);
    same_times = same_times && tile.begin[0] == g.begin[0] && tile.end[0] == g.end[0];
  }
  if (inputs < c.inputs) together_end = together_begin;
  const auto sees = [](const Tile& tile, int axis, int at) {
    return at >= tile.begin[axis] && at < tile.end[axis];
  };
  // A transposition of (time, tile) by (column, channel).
  for (int row = g.begin[1]; row < g.end[1]; ++row)
    for (int column = g.begin[2], next; column < g.end[2]; column = next) {
      next = column == together_begin && together_end > column ? together_end : column + 1;
      const int length = (next - column) * inputs;
      float* target = to.data + (row - g.begin[1]) * to.row + (column - g.begin[2]) * to.column;
      for (int e0 = 0, input = 0; e0 < length; e0 += strip) {
        const int elements = smaller(strip, length - e0);
        float* to_element[strip];
        for (int e = 0; e < elements; ++e) {
          to_element[e] = target + input * to.channel;
          if (++input == inputs) {
            input = 0;
            target += to.column;
          }
        }
        const float* first[group];
        std::int64_t step[group];
        for (int u = 0; u < group; ++u) {
          const Tile& tile = g.tile[u];
          const bool seen = sees(tile, 1, row) && sees(tile, 2, column);
          first[u] = seen ? x + tile.batch * movie + (tile.origin[0] + g.begin[0]) * frame +
                                (tile.origin[1] + row) * line + (tile.origin[2] + column) * pixel +
                                first_input + e0
                          : zeros;
          step[u] = seen ? frame : 0;
        }
        const auto from = [&](int r) {
          const int u = r % group, time = r / group;
          return same_times || sees(g.tile[u], 0, g.begin[0] + time) ? first[u] + time * step[u] : zeros;
        };
        int r = 0;
        for (; r + 4 <= times; r += 4) {
          const float* rows4[4] = {from(r), from(r + 1), from(r + 2), from(r + 3)};
          for (int k = 0; k < 4; ++k) __builtin_prefetch(rows4[k] + strip);  // frames lie far apart
          int e = 0;
          for (; e + 4 <= elements; e += 4) {
            const float* a[4] = {rows4[0] + e, rows4[1] + e, rows4[2] + e, rows4[3] + e};
            float* b[4] = {to_element[e] + r, to_element[e + 1] + r, to_element[e + 2] + r,
                           to_element[e + 3] + r};
            transpose4(b, a);
          }
          for (; e < elements; ++e)
            for (int k = 0; k < 4; ++k) to_element[e][r + k] = rows4[k][e];
        }
        for (; r < times; ++r) {
          const float* rows1 = from(r);
          for (int e = 0; e < elements; ++e) to_element[e][r] = rows1[e];
        }
      }
    }
}

/// Lanes (channel, tile) from `channels` channels at the tiles' places; null places give zeros.
template <int group>
FOVEA_INLINE F16 gather_lanes(const float* const from[group], int channels) {
  if constexpr (group == 1) {
    return channels == 16 ? F16::load(from[0]) : F16::load_first(from[0], channels);
  } else if constexpr (group == 2) {
    return interleave(from[0] ? F8::load_first(from[0], channels) : F8::zero(),
                      from[1] ? F8::load_first(from[1], channels) : F8::zero());
  } else {
    float lanes[16] = {};
    for (int u = 0; u < group; ++u)
      if (from[u])
        for (int o = 0; o < channels; ++o) lanes[o * group + u] = from[u][o];
    return F16::load(lanes);
  }
}

/// The reverse; with `accumulate` adds to what is there.
template <int group>
FOVEA_INLINE void scatter_lanes(float* const to[group], F16 value, int channels, bool accumulate) {
  if constexpr (group == 1) {
    if (accumulate) value = add(F16::load_first(to[0], channels), value);
    if (channels == 16) return store(to[0], value);
    store_first(to[0], value, channels);
  } else if constexpr (group == 2) {
    F8 part[2];
    deinterleave(value, part[0], part[1]);
    for (int u = 0; u < 2; ++u)
      if (to[u]) {
        if (accumulate) part[u] = add(F8::load_first(to[u], channels), part[u]);
        store_first(to[u], part[u], channels);
      }
  } else {
    float lanes[16];
    store(lanes, value);
    for (int u = 0; u < group; ++u)
      if (to[u])
        for (int o = 0; o < channels; ++o)
          to[u][o] = accumulate ? to[u][o] + lanes[o * group + u] : lanes[o * group + u];
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
