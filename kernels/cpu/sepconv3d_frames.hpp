// Separable convolution the other way round: R = temporal (*) x for one frame of results at all its pixels,
// then spatial (*) R. Where padding does not make up for the frames that a kernel takes, there are fewer of
// R's frames than of S's. R stays in the caches; both passes are the inner loops of the usual way with pixels
// in the place of frames.
#pragma once
#include "kernels/cpu/sepconv3d_runs.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

/// Taps inside the image, summed over the outputs of an axis.
double taps_inside(const Correlation& c, int axis) {
  double taps = 0;
  for (int o = 0; o < c.out[axis]; ++o) {
    const int first = larger(0, c.pad[axis] - o);
    const int end = smaller(c.kernel[axis], c.in[axis] + c.pad[axis] - o);
    taps += end > first ? end - first : 0;
  }
  return taps;
}

/// Products of vectors, and what staging takes in their place, of an input channel and an item of the batch.
double frames_first_cost(const Correlation& c, const Tiling& t) {
  const double rows = static_cast<double>(t.tiles[1]) * window(c, t, 1);
  const double staged = rows * t.tiles[0] * window(c, t, 0);
  return window(c, t, 2) * (rows * taps_inside(c, 0) + staged) +
         taps_inside(c, 1) * taps_inside(c, 2) * c.out[0];
}
double pixels_first_cost(const Correlation& c) {
  return taps_inside(c, 1) * taps_inside(c, 2) * c.in[0] + taps_inside(c, 0) * c.out[1] * c.out[2];
}

/// Tiles of whole rows. No groups where the usual way takes less time, or a vector holds channels of several
/// tiles.
Tiling choose_frame_tiling(const Correlation& c) {
  constexpr std::int64_t most_staged = 1 << 18, most_r = 1 << 14;  // floats: 1 MB, 64 KB
  constexpr int enough_tasks = 16;
  constexpr double worth_it = 0.9;
  Tiling t{};
  t.group = 1;
  if (empty(c) || group_of(c.outputs) > 1) return t;
  t.blocks = pieces_of(c.outputs, 16);
  t.inputs = c.inputs;
  const auto cut = [&](Tiling& tiling, int axis, int parts) {
    tiling.tile[axis] = pieces_of(c.out[axis], parts);
    tiling.tiles[axis] = pieces_of(c.out[axis], tiling.tile[axis]);
  };
  const auto halved = [&](int axis) {
    Tiling half = t;
    cut(half, axis, 2 * t.tiles[axis]);
    return half;
  };
  const auto groups = [&] { return c.batch * t.tiles[0] * t.tiles[1] * t.tiles[2]; };
  for (int axis = 0; axis < 3; ++axis) cut(t, axis, 1);
  while (std::int64_t{16} * window(c, t, 1) * window(c, t, 2) > most_r && t.tile[1] > 1) t = halved(1);
  while (staged_floats(c, t) > most_staged && t.tile[0] > 1) t = halved(0);
  if (staged_floats(c, t) > most_staged) return t;
  // Short tiles stage frames several times, low ones take R several times.
  while (groups() * t.blocks < enough_tasks && (t.tile[0] > 1 || t.tile[1] > 1)) {
    const Tiling shorter = halved(0), lower = halved(1);
    const bool low = t.tile[0] == 1 || frames_first_cost(c, lower) < frames_first_cost(c, shorter);
    t = low && t.tile[1] > 1 ? lower : shorter;
  }
  if (frames_first_cost(c, t) < worth_it * pixels_first_cost(c)) t.groups = groups();
  return t;
}

/// The window of a tile as planes: [input channel][time][row][column].
struct Planes {
  float* data;
  int times, rows, columns;

  Planes(float* to, const TileGroup<1>& g)
      : data(to), times(g.times()), rows(g.end[1] - g.begin[1]), columns(g.end[2] - g.begin[2]) {}
  int plane() const { return rows * columns; }
  std::int64_t channel() const { return static_cast<std::int64_t>(times) * plane(); }
};

/// A transposition of pixels by channels.
void stage_planes(const Planes& to, const float* x, const Correlation& c, const TileGroup<1>& g) {
  const Tile& tile = g.tile[0];
  const std::int64_t pixel = c.inputs, line = pixel * c.in[2], frame = line * c.in[1];
  const auto place = [&](int axis) { return static_cast<std::int64_t>(tile.origin[axis] + g.begin[axis]); };
  const float* const first =
      x + (tile.batch * c.in[0] + place(0)) * frame + place(1) * line + place(2) * pixel;
  for (int time = 0; time < to.times; ++time)
    for (int row = 0; row < to.rows; ++row) {
      const float* const from = first + time * frame + row * line;
      float* const target = to.data + static_cast<std::int64_t>(time) * to.plane() + row * to.columns;
      for (int i0 = 0; i0 < c.inputs; i0 += 4) {
        const int inputs = smaller(4, c.inputs - i0);
        int column = 0;
        for (; inputs == 4 && column + 4 <= to.columns; column += 4) {
          const float* a[4];
          float* b[4];
          for (int n = 0; n < 4; ++n) {
            a[n] = from + (column + n) * pixel + i0;
            b[n] = target + (i0 + n) * to.channel() + column;
          }
          transpose4(b, a);
        }
        for (; column < to.columns; ++column)
          for (int i = i0; i < i0 + inputs; ++i) target[i * to.channel() + column] = from[column * pixel + i];
      }
    }
}

/// R of an input channel at output time `time`.
void frame_pass(float* r, const Planes& x, const float* temporal, const Correlation& c, const TileGroup<1>& g,
                int input, int time) {
  const int begin = larger(0, g.begin[0] - time), end = smaller(c.kernel[0], g.end[0] - time);
  const TapRange taps{0, 1, begin, larger(begin, end)};
  const TapStrides strides{0, x.plane()};
  const float* const from = x.data + input * x.channel() + (time - g.begin[0]) * strides.column;
  spatial_pass<1>(r, from, temporal, taps, strides, c.kernel[0], x.plane());
}

/// Kernel rows that see the window from output row h.
struct RowRange {
  int begin, end;

  RowRange(const Correlation& c, const TileGroup<1>& g, int h)
      : begin(larger(0, g.begin[1] - h)), end(larger(begin, smaller(c.kernel[1], g.end[1] - h))) {}
};

/// Row h of a tile's outputs at a time, its channels of a block.
template <class T>
T* output_row(T* y, const Correlation& c, const Tile& tile, int block, int time, int h) {
  const std::int64_t frame = tile.batch * c.out[0] + tile.first[0] + time,
                     row = frame * c.out[1] + tile.first[1] + h;
  return y + row * c.out[2] * c.outputs + block * 16;
}

std::int64_t r_floats(const Correlation& c, const Tiling& t) {
  return std::int64_t{16} * window(c, t, 1) * window(c, t, 2);
}
std::int64_t result_floats(const Tiling& t) { return std::int64_t{16} * t.tile[1] * t.tile[2]; }

std::int64_t frame_worker_floats(const Correlation& c, const Tiling& t) {
  return rounded16(staged_floats(c, t)) + r_floats(c, t) + result_floats(t);
}

struct FrameConvolve {
  const Correlation& c;
  const Tiling& t;
  PackedWeights weights;
  float* y;
  const float* x;
};

void convolve_frames_of_tile(const FrameConvolve& job, std::int64_t index, int block, Cutter memory) {
  const Correlation& c = job.c;
  const TileGroup<1> g = tile_group<1>(c, job.t, index);
  const Planes x(memory.take(staged_floats(c, job.t)), g);
  float* const r = memory.take(r_floats(c, job.t));
  float* const results = memory.take(result_floats(job.t));
  const int taps = spatial_taps_of(c), channels = smaller(16, c.outputs - block * 16);
  stage_planes(x, job.x, c, g);
  for (int time = 0; time < g.count[0]; ++time) {
    for (int i = 0; i < c.inputs; ++i) {
      const std::int64_t pair = static_cast<std::int64_t>(block) * c.inputs + i;
      frame_pass(r, x, job.weights.temporal + pair * c.kernel[0] * 16, c, g, i, time);
      for (int h = 0; h < g.count[1]; ++h) {
        const RowRange rows(c, g, h);
        temporal_pass(results + std::int64_t{16} * h * g.count[2],
                      r + std::int64_t{16} * (h + rows.begin - g.begin[1]) * x.columns,
                      job.weights.spatial + (pair * taps + rows.begin * c.kernel[2]) * 16,
                      {rows.end - rows.begin, std::int64_t{16} * x.columns, std::int64_t{16} * c.kernel[2]},
                      c.kernel[2], -g.begin[2], x.columns, g.count[2], i > 0);
      }
    }
    for (int h = 0; h < g.count[1]; ++h) {
      const float* from = results + std::int64_t{16} * h * g.count[2];
      float* to[1] = {output_row(job.y, c, g.tile[0], block, time, h)};
      for (int w = 0; w < g.count[2]; ++w, from += 16, to[0] += c.outputs)
        scatter_lanes<1>(to, F16::load(from), channels, false);
    }
  }
}

void convolve_frames(float* y, const float* x, const float* spatial, const float* temporal,
                     const Correlation& c, const Tiling& t, const Queue& queue) {
  const std::int64_t spatial_floats = packed_floats(c, t, spatial_taps_of(c)),
                     temporal_floats = packed_floats(c, t, c.kernel[0]),
                     worker_floats = frame_worker_floats(c, t);
  const Scratch scratch(queue, spatial_floats + temporal_floats + worker_floats * worker_count(queue));
  Cutter memory{scratch.data};
  PackedWeights weights{};
  weights.spatial = memory.take(spatial_floats);
  weights.temporal = memory.take(temporal_floats);
  pack_weights(weights, spatial, temporal, c, t, c.flipped, queue);
  const FrameConvolve job{c, t, weights, y, x};
  for_each_task(queue, t.blocks * t.groups, [&](std::int64_t task, int worker) {
    convolve_frames_of_tile(job, task % t.groups, static_cast<int>(task / t.groups),
                            {memory.next + worker * worker_floats});
  });
}

// ---- dspatial = <dy, R>

struct FrameGradient {
  const Correlation& c;
  const Tiling& t;
  const float* temporal;  // packed
  const float* dy;
  const float* x;
};

void frame_gradient_of_tile(const FrameGradient& job, float* sums, std::int64_t index, int block,
                            Cutter memory) {
  const Correlation& c = job.c;
  const TileGroup<1> g = tile_group<1>(c, job.t, index);
  const Planes x(memory.take(staged_floats(c, job.t)), g);
  float* const r = memory.take(r_floats(c, job.t));
  float* const d = memory.take(result_floats(job.t));
  const int taps = spatial_taps_of(c), channels = smaller(16, c.outputs - block * 16);
  stage_planes(x, job.x, c, g);
  for (int time = 0; time < g.count[0]; ++time) {
    for (int h = 0; h < g.count[1]; ++h) {
      float* to = d + std::int64_t{16} * h * g.count[2];
      const float* from[1] = {output_row(job.dy, c, g.tile[0], block, time, h)};
      for (int w = 0; w < g.count[2]; ++w, to += 16, from[0] += c.outputs)
        store(to, gather_lanes<1>(from, channels));
    }
    for (int i = 0; i < c.inputs; ++i) {
      const std::int64_t pair = static_cast<std::int64_t>(block) * c.inputs + i;
      frame_pass(r, x, job.temporal + pair * c.kernel[0] * 16, c, g, i, time);
      for (int h = 0; h < g.count[1]; ++h) {
        const RowRange rows(c, g, h);
        for (int kh = rows.begin; kh < rows.end; ++kh)
          temporal_gradient_pass(sums + (static_cast<std::int64_t>(i) * taps + kh * c.kernel[2]) * 16,
                                 r + std::int64_t{16} * (h + kh - g.begin[1]) * x.columns,
                                 d + std::int64_t{16} * h * g.count[2], c.kernel[2], -g.begin[2], x.columns,
                                 g.count[2]);
      }
    }
  }
}

void spatial_gradient_of_frames(float* dspatial, const float* dy, const float* x, const float* temporal,
                                const Correlation& c, const Tiling& t, const Queue& queue) {
  const int taps = spatial_taps_of(c);
  const Chunks chunks = choose_chunks(t, static_cast<std::int64_t>(c.inputs) * taps * 16);
  const std::int64_t temporal_floats = packed_floats(c, t, c.kernel[0]),
                     worker_floats = frame_worker_floats(c, t);
  const Scratch scratch(queue,
                        temporal_floats + sums_floats(t, chunks) + worker_floats * worker_count(queue));
  Cutter memory{scratch.data};
  PackedWeights weights{};
  weights.temporal = memory.take(temporal_floats);
  float* const all_sums = memory.take(sums_floats(t, chunks));
  pack_weights(weights, nullptr, temporal, c, t, c.flipped, queue);
  const FrameGradient job{c, t, weights.temporal, dy, x};
  for_each_group(queue, t, chunks, all_sums, [&](float* sums, std::int64_t group, int block, int worker) {
    frame_gradient_of_tile(job, sums, group, block, {memory.next + worker * worker_floats});
  });
  for_each_task(queue, static_cast<std::int64_t>(c.outputs) * c.inputs, [&](std::int64_t pair, int) {
    reduce_taps(dspatial, all_sums, c, t, chunks, pair, taps, c.flipped);
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
