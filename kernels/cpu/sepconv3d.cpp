// Separable convolution, never composed: S = spatial (*) x for one pixel at all times, then temporal (*) S,
// both with output channels as lanes and one broadcast input per product. S stays in the L1 cache.
#include "kernels/sepconv3d.hpp"

#include "kernels/cpu/sepconv3d_tiles.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

Correlation forward_correlation(const SepConv3dShape& s) {
  const auto n = [](std::int64_t size) { return static_cast<int>(size); };
  return {s.batch,
          n(s.in_channels),
          n(s.out_channels),
          {n(s.in_t), n(s.in_h), n(s.in_w)},
          {n(s.out_t), n(s.out_h), n(s.out_w)},
          {n(s.kernel_t), n(s.kernel_h), n(s.kernel_w)},
          {n(s.pad_t), n(s.pad_h), n(s.pad_w)},
          s.in_channels,
          1,
          false};
}

Correlation gradient_correlation(const SepConv3dShape& s) {
  Correlation c = forward_correlation(s);
  c.inputs = static_cast<int>(s.out_channels);
  c.outputs = static_cast<int>(s.in_channels);
  c.output_stride = 1;
  c.input_stride = s.in_channels;
  c.flipped = true;
  for (int axis = 0; axis < 3; ++axis) {
    const int in = c.in[axis];
    c.in[axis] = c.out[axis];
    c.out[axis] = in;
    c.pad[axis] = c.kernel[axis] - 1 - c.pad[axis];
  }
  return c;
}

bool empty(const Correlation& c) {
  return c.batch == 0 || c.outputs == 0 || c.out[0] <= 0 || c.out[1] <= 0 || c.out[2] <= 0;
}

int spatial_taps_of(const Correlation& c) { return c.kernel[1] * c.kernel[2]; }

/// Weights as vectors: [block][input][tap], lane = channel * group + tile, channels that do not exist zero.
struct PackedWeights {
  float *spatial, *temporal, *flipped_temporal;
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
                  const Tiling& t, const Queue& queue) {
  const int taps = spatial_taps_of(c), times = c.kernel[0];
  for_each_task(queue, static_cast<std::int64_t>(t.blocks) * c.inputs, [&](std::int64_t pair, int) {
    const int block = static_cast<int>(pair / c.inputs), input = static_cast<int>(pair % c.inputs);
    pack_taps(to.spatial + pair * taps * 16, spatial, c, t.group, block, input, taps, c.flipped);
    pack_taps(to.temporal + pair * times * 16, temporal, c, t.group, block, input, times, c.flipped);
    if (to.flipped_temporal)
      pack_taps(to.flipped_temporal + pair * times * 16, temporal, c, t.group, block, input, times,
                !c.flipped);
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

/// Vectors of a run (one pixel, or a row of pixels when flat) over time, with zeros on both sides for pieces
/// of the temporal passes that reach over the ends.
std::int64_t run_floats(const Tiling& t, int times) {
  return 16 * (t.flat ? static_cast<std::int64_t>(times) * t.tile[2]
                      : static_cast<std::int64_t>(times) + 2 * most_piece);
}
float* run_start(float* run, const Tiling& t) { return t.flat ? run : run + most_piece * 16; }
void clear_ends(float* run, const Tiling& t, int times) {
  if (t.flat) return;
  float* start = run_start(run, t);
  for (int n = 0; n < most_piece * 16; ++n) {
    run[n] = 0;
    start[times * 16 + n] = 0;
  }
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

// ---- forward, and the input gradient as the forward pass of another correlation

struct Convolve {
  const Correlation& c;
  const Tiling& t;
  PackedWeights weights;
  float* y;
  const float* x;
  Write mode;
};

/// Input channels whose S stay in the L1 cache together, so that outputs are loaded and stored once for all.
int inputs_together(const Correlation& c, const Tiling& t) {
  constexpr int vectors = 320;  // 20 KB
  return larger(1, smaller(t.inputs, vectors / larger(1, window(c, t, 0) * (t.flat ? t.tile[2] : 1))));
}

std::int64_t convolve_floats(const Correlation& c, const Tiling& t) {
  return rounded16(staged_floats(c, t)) + inputs_together(c, t) * run_floats(t, window(c, t, 0)) +
         16 * waiting_vectors(c, t);
}

template <int group>
void convolve_group(const Convolve& job, std::int64_t index, int block, Cutter memory) {
  const Correlation& c = job.c;
  const Tiling& t = job.t;
  const TileGroup<group> g = tile_group<group>(c, t, index);
  const Staged x = staged_at(memory.take(staged_floats(c, t)), g);
  const int together = inputs_together(c, t);
  const std::int64_t run_stride = run_floats(t, window(c, t, 0));
  float* const runs = memory.take(together * run_stride);
  float* const waiting = memory.take(16 * waiting_vectors(c, t));
  float* const s = run_start(runs, t);
  const int times = g.times(), taps = spatial_taps_of(c);
  const int channels = smaller(16 / group, c.outputs - block * 16);
  const int columns = t.flat ? g.count[2] : 1;  // of a run
  for (int n = 0; n < together; ++n) clear_ends(runs + n * run_stride, t, times);
  for (int first = 0; first < c.inputs; first += t.inputs) {
    const int inputs = smaller(t.inputs, c.inputs - first);
    stage(x, job.x, c, g, first, inputs);
    const bool last = first + inputs == c.inputs;
    for (int h = 0; h < g.count[1]; ++h)
      for (int w = 0; w < g.count[2]; w += columns) {
        const Place<group> p = place(c, t, g, x, h, w);
        float* const out = t.inputs == c.inputs
                               ? waiting
                               : waiting + (static_cast<std::int64_t>(h) * t.tile[2] + w) * t.tile[0] * 16;
        for (int i = 0, part; i < inputs; i += part) {
          part = smaller(together, inputs - i);
          const std::int64_t pair = static_cast<std::int64_t>(block) * c.inputs + first + i;
          for (int n = 0; n < part; ++n)
            spatial_pass<group>(s + n * run_stride, x.data + (i + n) * x.channel + p.offset,
                                job.weights.spatial + (pair + n) * taps * 16, p.taps, {x.row, x.column},
                                c.kernel[2], times * columns);
          for (int column = 0; column < columns; ++column)
            temporal_pass(out + static_cast<std::int64_t>(column) * t.tile[0] * 16,
                          s + static_cast<std::int64_t>(column) * times * 16,
                          job.weights.temporal + pair * c.kernel[0] * 16,
                          {part, run_stride, c.kernel[0] * 16}, c.kernel[0], -g.begin[0], times, g.count[0],
                          first + i > 0, !t.flat);
        }
        if (!last) continue;
        for (int column = 0; column < columns; ++column) {
          const OutputPlaces<group, float> places(job.y, c, g, block, h, w + column);
          for (int time = 0; time < g.count[0]; ++time) {
            float* to[group];
            places.at(time, to);
            scatter_lanes<group>(to,
                                 F16::load(out + (static_cast<std::int64_t>(column) * t.tile[0] + time) * 16),
                                 channels, job.mode == Write::accumulate);
          }
        }
      }
  }
}

using GroupKernel = void (*)(const Convolve&, std::int64_t, int, Cutter);
GroupKernel convolve_kernel(int group) {
  switch (group) {
    case 1:
      return convolve_group<1>;
    case 2:
      return convolve_group<2>;
    case 4:
      return convolve_group<4>;
    case 8:
      return convolve_group<8>;
    default:
      return convolve_group<16>;
  }
}

void convolve(float* y, const float* x, const float* spatial, const float* temporal, const Correlation& c,
              Write mode, const Queue& queue) {
  if (empty(c)) return;
  const Tiling t = choose_tiling(c);
  const std::int64_t spatial_floats = packed_floats(c, t, spatial_taps_of(c));
  const std::int64_t temporal_floats = packed_floats(c, t, c.kernel[0]);
  const std::int64_t worker_floats = convolve_floats(c, t);
  const Scratch scratch(queue, spatial_floats + temporal_floats + worker_floats * worker_count(queue));
  Cutter memory{scratch.data};
  PackedWeights weights{};
  weights.spatial = memory.take(spatial_floats);
  weights.temporal = memory.take(temporal_floats);
  pack_weights(weights, spatial, temporal, c, t, queue);
  const Convolve job{c, t, weights, y, x, mode};
  const GroupKernel kernel = convolve_kernel(t.group);
  for_each_task(queue, t.groups * t.blocks, [&](std::int64_t task, int worker) {
    const int block = static_cast<int>(task / t.groups);
    kernel(job, task % t.groups, block, {memory.next + worker * worker_floats});
  });
}

void forward(float* y, const float* x, const float* spatial, const float* temporal, const SepConv3dShape& s,
             const Queue& queue) {
  convolve(y, x, spatial, temporal, forward_correlation(s), Write::overwrite, queue);
}

void grad_input(float* dx, const float* dy, const float* spatial, const float* temporal,
                const SepConv3dShape& s, Write mode, const Queue& queue) {
  convolve(dx, dy, spatial, temporal, gradient_correlation(s), mode, queue);
}

// ---- weight gradients: S again, dtemporal = <S, dy>, dS = temporal^T (*) dy, dspatial = <dS, x>

/// Tasks are chunks of consecutive groups, each with its own sums, added in order at the end.
struct WeightGradient {
  const Correlation& c;
  const Tiling& t;
  PackedWeights weights;
  const float* dy;
  const float* x;
};

/// Sums of one chunk and channel block: [input][spatial tap] then [input][temporal tap] vectors.
struct Sums {
  float *spatial, *temporal;
};

std::int64_t sums_floats(const Correlation& c) {
  return static_cast<std::int64_t>(c.inputs) * (spatial_taps_of(c) + c.kernel[0]) * 16;
}

std::int64_t gradient_floats(const Correlation& c, const Tiling& t) {
  return rounded16(staged_floats(c, t)) + 2 * rounded16(run_floats(t, window(c, t, 0))) +
         rounded16(run_floats(t, t.tile[0]));
}

/// Outputs' gradients at a run, as vectors [column][time].
template <int group>
void load_run(float* d, const float* dy, const Correlation& c, const TileGroup<group>& g, int block, int h,
              int w, int columns) {
  const int channels = smaller(16 / group, c.outputs - block * 16);
  for (int column = 0; column < columns; ++column) {
    const OutputPlaces<group, const float> places(dy, c, g, block, h, w + column);
    for (int time = 0; time < g.count[0]; ++time) {
      const float* from[group];
      places.at(time, from);
      store(d + (static_cast<std::int64_t>(column) * g.count[0] + time) * 16,
            gather_lanes<group>(from, channels));
    }
  }
}

template <int group>
void gradient_group(const WeightGradient& job, const Sums& sums, std::int64_t index, int block,
                    Cutter memory) {
  const Correlation& c = job.c;
  const Tiling& t = job.t;
  const TileGroup<group> g = tile_group<group>(c, t, index);
  const Staged x = staged_at(memory.take(staged_floats(c, t)), g);
  float* const s_run = memory.take(run_floats(t, window(c, t, 0)));
  float* const ds = memory.take(run_floats(t, window(c, t, 0)));
  float* const d_run = memory.take(run_floats(t, t.tile[0]));
  float *const s = run_start(s_run, t), *const d = run_start(d_run, t);
  const int times = g.times(), taps = spatial_taps_of(c), kernel = c.kernel[0];
  const int columns = t.flat ? g.count[2] : 1;
  clear_ends(s_run, t, times);
  clear_ends(d_run, t, g.count[0]);
  for (int first = 0; first < c.inputs; first += t.inputs) {
    const int inputs = smaller(t.inputs, c.inputs - first);
    stage(x, job.x, c, g, first, inputs);
    for (int h = 0; h < g.count[1]; ++h)
      for (int w = 0; w < g.count[2]; w += columns) {
        const Place<group> p = place(c, t, g, x, h, w);
        load_run(d, job.dy, c, g, block, h, w, columns);
        for (int i = first; i < first + inputs; ++i) {
          const std::int64_t pair = static_cast<std::int64_t>(block) * c.inputs + i;
          const float* const from = x.data + (i - first) * x.channel + p.offset;
          spatial_pass<group>(s, from, job.weights.spatial + pair * taps * 16, p.taps, {x.row, x.column},
                              c.kernel[2], times * columns);
          for (int column = 0; column < columns; ++column) {
            const float* const d_column = d + static_cast<std::int64_t>(column) * g.count[0] * 16;
            const std::int64_t at = static_cast<std::int64_t>(column) * times * 16;
            temporal_gradient_pass(sums.temporal + static_cast<std::int64_t>(i) * kernel * 16, s + at,
                                   d_column, kernel, -g.begin[0], times, g.count[0], !t.flat);
            temporal_pass(ds + at, d_column, job.weights.flipped_temporal + pair * kernel * 16, {1, 0, 0},
                          kernel, g.begin[0] - (kernel - 1), g.count[0], times, false, !t.flat);
          }
          spatial_gradient_pass<group>(sums.spatial + static_cast<std::int64_t>(i) * taps * 16, from, ds,
                                       p.taps, {x.row, x.column}, c.kernel[2], times * columns);
        }
      }
  }
}

using GradientKernel = void (*)(const WeightGradient&, const Sums&, std::int64_t, int, Cutter);
GradientKernel gradient_kernel(int group) {
  switch (group) {
    case 1:
      return gradient_group<1>;
    case 2:
      return gradient_group<2>;
    case 4:
      return gradient_group<4>;
    case 8:
      return gradient_group<8>;
    default:
      return gradient_group<16>;
  }
}

/// One pair's gradient: chunks are added in order, then the tiles of a vector.
void reduce_taps(float* grad, const float* sums, std::int64_t chunk_stride, std::int64_t chunks, int lane,
                 int group, int taps) {
  for (int tap = 0; tap < taps; ++tap) {
    float total = 0;
    for (int u = 0; u < group; ++u) {
      float sum = 0;
      for (std::int64_t chunk = 0; chunk < chunks; ++chunk)
        sum += sums[chunk * chunk_stride + tap * 16 + lane + u];
      total += sum;
    }
    grad[tap] = total;
  }
}

void grad_weight(float* dspatial, float* dtemporal, const float* dy, const float* x, const float* spatial,
                 const float* temporal, const SepConv3dShape& shape, const Queue& queue) {
  constexpr std::int64_t most_chunks = 32, most_sums = std::int64_t{1} << 21;
  const Correlation c = forward_correlation(shape);
  const int taps = spatial_taps_of(c), kernel = c.kernel[0];
  Tiling t = empty(c) ? Tiling{} : choose_tiling(c);
  if (empty(c)) t.group = 1;
  const std::int64_t sum = sums_floats(c);
  std::int64_t chunks = t.groups < most_chunks ? t.groups : most_chunks;
  while (chunks > 1 && chunks * t.blocks * sum > most_sums) chunks = (chunks + 1) / 2;
  const std::int64_t spatial_floats = packed_floats(c, t, taps),
                     temporal_floats = packed_floats(c, t, kernel);
  const std::int64_t worker_floats = empty(c) ? 0 : gradient_floats(c, t);
  const std::int64_t tasks = t.blocks * chunks;
  const Scratch scratch(
      queue, spatial_floats + 2 * temporal_floats + tasks * sum + worker_floats * worker_count(queue));
  Cutter memory{scratch.data};
  PackedWeights weights{};
  weights.spatial = memory.take(spatial_floats);
  weights.temporal = memory.take(temporal_floats);
  weights.flipped_temporal = memory.take(temporal_floats);
  float* const all_sums = memory.take(tasks * sum);
  if (tasks > 0) pack_weights(weights, spatial, temporal, c, t, queue);
  const WeightGradient job{c, t, weights, dy, x};
  const GradientKernel run_group = gradient_kernel(t.group);
  for_each_task(queue, tasks, [&](std::int64_t task, int worker) {
    const std::int64_t chunk = task % chunks;
    float* const sums = all_sums + task * sum;
    for (std::int64_t n = 0; n < sum; ++n) sums[n] = 0;
    const Sums to{sums, sums + static_cast<std::int64_t>(c.inputs) * taps * 16};
    for (std::int64_t g = t.groups * chunk / chunks; g < t.groups * (chunk + 1) / chunks; ++g)
      run_group(job, to, g, static_cast<int>(task / chunks), {memory.next + worker * worker_floats});
  });
  for_each_task(queue, static_cast<std::int64_t>(c.outputs) * c.inputs, [&](std::int64_t pair, int) {
    const std::int64_t output = pair / c.inputs, input = pair % c.inputs;
    const std::int64_t block = output / 16;
    const int lane = static_cast<int>(output % 16) * t.group;
    const float* const sums = all_sums + block * chunks * sum;
    reduce_taps(dspatial + pair * taps, sums + input * taps * 16, sum, chunks, lane, t.group, taps);
    reduce_taps(dtemporal + pair * kernel,
                sums + (c.inputs * static_cast<std::int64_t>(taps) + input * kernel) * 16, sum, chunks, lane,
                t.group, kernel);
  });
}

}  // namespace

void fill(SepConv3dKernels<float>& table) { table = {forward, grad_input, grad_weight}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
