// Separable convolution, never composed: S = spatial (*) x for one pixel at all times, then temporal (*) S,
// both with output channels as lanes and one broadcast input per product. S stays in the L1 cache. Or the
// other way round, frame by frame (kernels/cpu/sepconv3d_frames.hpp).
#include "kernels/sepconv3d.hpp"

#include "kernels/cpu/sepconv3d_frames.hpp"

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

// ---- forward, and the input gradient as the forward pass of another correlation

struct Convolve {
  const Correlation& c;
  const Tiling& t;
  PackedWeights weights;
  float* y;
  Kept<float> kept;
  const float* x;
  Write mode;
  const float* factor;  // of y's shape: dtemporal = <S, factor>
};

/// Input channels whose S stay in the L1 cache together, so that outputs are loaded and stored once for all.
int inputs_together(const Correlation& c, const Tiling& t) {
  constexpr int vectors = 320;  // 20 KB
  return larger(1, smaller(t.inputs, vectors / larger(1, window(c, t, 0) * (t.flat ? t.tile[2] : 1))));
}

std::int64_t convolve_floats(const Correlation& c, const Tiling& t) {
  return rounded16(staged_floats(c, t)) + inputs_together(c, t) * run_floats(t, window(c, t, 0)) +
         16 * waiting_vectors(c, t) + rounded16(run_floats(t, t.tile[0]));
}

/// Without `dtemporal` its sums are not taken.
template <int group>
void convolve_group(const Convolve& job, float* dtemporal, std::int64_t index, int block, Cutter memory) {
  const Correlation& c = job.c;
  const Tiling& t = job.t;
  const TileGroup<group> g = tile_group<group>(c, t, index);
  const Staged x = staged_at(memory.take(staged_floats(c, t)), g);
  const int together = inputs_together(c, t);
  const std::int64_t run_stride = run_floats(t, window(c, t, 0));
  float* const runs = memory.take(together * run_stride);
  float* const waiting = memory.take(16 * waiting_vectors(c, t));
  float* const factor = memory.take(run_floats(t, t.tile[0]));
  const int times = g.times(), taps = spatial_taps_of(c);
  const int channels = smaller(16 / group, c.outputs - block * 16);
  const int columns = t.flat ? g.count[2] : 1;  // of a run
  for (int first = 0; first < c.inputs; first += t.inputs) {
    const int inputs = smaller(t.inputs, c.inputs - first);
    stage(x, job.x, c, g, first, inputs);
    const bool last = first + inputs == c.inputs;
    for (int h = 0; h < g.count[1]; ++h)
      for (int w = 0; w < g.count[2]; w += columns) {
        const Place<group> p = place(c, t, g, x, h, w);
        if (dtemporal) load_run(factor, job.factor, c, g, block, h, w, columns);
        float* const kept = job.kept.run(c, t, index, block, h, w);
        float* const out = t.inputs == c.inputs
                               ? waiting
                               : waiting + (static_cast<std::int64_t>(h) * t.tile[2] + w) * t.tile[0] * 16;
        for (int i = 0, part; i < inputs; i += part) {
          part = smaller(together, inputs - i);
          const std::int64_t pair = static_cast<std::int64_t>(block) * c.inputs + first + i;
          for (int n = 0; n < part; ++n) {
            float* const run = runs + n * run_stride;
            spatial_pass<group>(run, x.data + (i + n) * x.channel + p.offset,
                                job.weights.spatial + (pair + n) * taps * 16, p.taps, {x.row, x.column},
                                c.kernel[2], times * columns);
            if (kept) job.kept.keep(kept + (first + i + n) * job.kept.run_size, run, times * columns);
            // Of the two the run of S has fewer vectors: those are gone through, backwards in the taps.
            for (int column = 0; dtemporal && column < columns; ++column)
              temporal_gradient_pass(dtemporal + static_cast<std::int64_t>(first + i + n) * c.kernel[0] * 16,
                                     factor + static_cast<std::int64_t>(column) * g.count[0] * 16,
                                     run + static_cast<std::int64_t>(column) * times * 16, c.kernel[0],
                                     g.begin[0] - (c.kernel[0] - 1), g.count[0], times);
          }
          for (int column = 0; column < columns; ++column)
            temporal_pass(out + static_cast<std::int64_t>(column) * t.tile[0] * 16,
                          runs + static_cast<std::int64_t>(column) * times * 16,
                          job.weights.temporal + pair * c.kernel[0] * 16,
                          {part, run_stride, c.kernel[0] * 16}, c.kernel[0], -g.begin[0], times, g.count[0],
                          first + i > 0);
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

using GroupKernel = void (*)(const Convolve&, float*, std::int64_t, int, Cutter);
GroupKernel convolve_kernel(int group) {
  switch (group) {
    case 1:
      return convolve_group<1>;
    case 2:
      return convolve_group<2>;
    case 4:
      return convolve_group<4>;
    default:
      return convolve_group<8>;
  }
}

/// The gradient of the temporal weights, taken in passing: <S, factor>, factor of the outputs' shape. Not
/// taken without `dtemporal`.
struct TemporalGradient {
  float* dtemporal;
  const float* factor;
};

void convolve(float* y, float* kept, const float* x, const float* spatial, const float* temporal,
              const Correlation& c, Write mode, const TemporalGradient& gradient, const Queue& queue) {
  const int kernel = c.kernel[0];
  const Tiling t = choose_tiling(c);
  const Chunks chunks = gradient.dtemporal
                            ? choose_chunks(t, static_cast<std::int64_t>(c.inputs) * kernel * 16)
                            : Chunks{t.groups, 0};
  const std::int64_t spatial_floats = packed_floats(c, t, spatial_taps_of(c));
  const std::int64_t temporal_floats = packed_floats(c, t, kernel);
  const std::int64_t worker_floats = convolve_floats(c, t);
  const Scratch scratch(
      queue, spatial_floats + temporal_floats + sums_floats(t, chunks) + worker_floats * worker_count(queue));
  Cutter memory{scratch.data};
  PackedWeights weights{};
  weights.spatial = memory.take(spatial_floats);
  weights.temporal = memory.take(temporal_floats);
  float* const all_sums = memory.take(sums_floats(t, chunks));
  pack_weights(weights, spatial, temporal, c, t, c.flipped, queue);
  const Convolve job{c, t, weights, y, Kept<float>(kept, c, t), x, mode, gradient.factor};
  const GroupKernel kernel_of_group = convolve_kernel(t.group);
  for_each_group(queue, t, chunks, all_sums, [&](float* sums, std::int64_t group, int block, int worker) {
    kernel_of_group(job, gradient.dtemporal ? sums : nullptr, group, block,
                    {memory.next + worker * worker_floats});
    if (kept) finish_streams();
  });
  if (!gradient.dtemporal) return;
  for_each_task(queue, static_cast<std::int64_t>(c.outputs) * c.inputs, [&](std::int64_t pair, int) {
    reduce_taps(gradient.dtemporal, all_sums, c, t, chunks, pair, kernel, !c.flipped);
  });
}

/// Whether S is kept: where taking it again costs more than its way through memory, and where it is at most a
/// few times as large as the outputs.
std::int64_t kept(const SepConv3dShape& s) {
  constexpr std::int64_t many_taps = 64, few_inputs = 2;
  if (s.kernel_h * s.kernel_w < many_taps || s.in_channels > few_inputs) return 0;
  const Correlation c = forward_correlation(s);
  return kept_floats(c, choose_tiling(c));
}

/// No groups where S is wanted or takes less time than R.
Tiling frames_first(const SepConv3dShape& s) {
  return kept(s) ? Tiling{} : choose_frame_tiling(forward_correlation(s));
}

void forward(float* y, float* kept, const float* x, const float* spatial, const float* temporal,
             const SepConv3dShape& s, const Queue& queue) {
  if (const Tiling t = frames_first(s); t.groups)
    return convolve_frames(y, x, spatial, temporal, forward_correlation(s), t, queue);
  convolve(y, kept, x, spatial, temporal, forward_correlation(s), Write::overwrite, {}, queue);
}

void grad_input(float* dx, const float* dy, const float* spatial, const float* temporal,
                const SepConv3dShape& s, Write mode, const Queue& queue) {
  convolve(dx, nullptr, dy, spatial, temporal, gradient_correlation(s), mode, {}, queue);
}

// ---- weight gradients: S again, dtemporal = <S, dy>, dS = temporal^T (*) dy, dspatial = <dS, x>

struct WeightGradient {
  const Correlation& c;
  const Tiling& t;
  PackedWeights weights;  // temporal ones flipped
  const float* dy;
  const float* x;
  Kept<const float> kept;
};

/// Sums of one chunk and channel block; temporal null: neither they nor S are taken.
struct Sums {
  float *spatial, *temporal;
};

std::int64_t tap_list_floats(const Correlation& c) {
  return static_cast<std::int64_t>(spatial_taps_of(c)) *
         static_cast<std::int64_t>(sizeof(Tap) / sizeof(float));
}

std::int64_t gradient_floats(const Correlation& c, const Tiling& t) {
  return rounded16(staged_floats(c, t)) + 2 * rounded16(run_floats(t, window(c, t, 0))) +
         rounded16(run_floats(t, t.tile[0])) + rounded16(tap_list_floats(c));
}

template <int group>
void gradient_group(const WeightGradient& job, const Sums& sums, std::int64_t index, int block,
                    Cutter memory) {
  const Correlation& c = job.c;
  const Tiling& t = job.t;
  const TileGroup<group> g = tile_group<group>(c, t, index);
  const Staged x = staged_at(memory.take(staged_floats(c, t)), g);
  float* const s = memory.take(run_floats(t, window(c, t, 0)));
  float* const ds = memory.take(run_floats(t, window(c, t, 0)));
  float* const d = memory.take(run_floats(t, t.tile[0]));
  Tap* const list = reinterpret_cast<Tap*>(memory.take(tap_list_floats(c)));
  const int times = g.times(), taps = spatial_taps_of(c), kernel = c.kernel[0];
  const int columns = t.flat ? g.count[2] : 1;
  for (int first = 0; first < c.inputs; first += t.inputs) {
    const int inputs = smaller(t.inputs, c.inputs - first);
    stage(x, job.x, c, g, first, inputs);
    for (int h = 0; h < g.count[1]; ++h)
      for (int w = 0; w < g.count[2]; w += columns) {
        const Place<group> p = place(c, t, g, x, h, w);
        // Once for all channels: what was stored just now cannot be loaded in larger pieces without a wait.
        const int listed = list_taps(list, p.taps, {x.row, x.column}, c.kernel[2]);
        load_run(d, job.dy, c, g, block, h, w, columns);
        const float* const kept = job.kept.run(c, t, index, block, h, w);
        for (int i = first; i < first + inputs; ++i) {
          const std::int64_t pair = static_cast<std::int64_t>(block) * c.inputs + i;
          const float* const from = x.data + (i - first) * x.channel + p.offset;
          if (sums.temporal && kept)
            job.kept.load(s, kept + i * job.kept.run_size, times * columns);
          else if (sums.temporal)
            spatial_pass<group>(s, from, job.weights.spatial + pair * taps * 16, p.taps, {x.row, x.column},
                                c.kernel[2], times * columns);
          for (int column = 0; column < columns; ++column) {
            const float* const d_column = d + static_cast<std::int64_t>(column) * g.count[0] * 16;
            const std::int64_t at = static_cast<std::int64_t>(column) * times * 16;
            if (sums.temporal)
              temporal_gradient_pass(sums.temporal + static_cast<std::int64_t>(i) * kernel * 16, s + at,
                                     d_column, kernel, -g.begin[0], times, g.count[0]);
            temporal_pass(ds + at, d_column, job.weights.temporal + pair * kernel * 16, {1, 0, 0}, kernel,
                          g.begin[0] - (kernel - 1), g.count[0], times, false);
          }
          spatial_gradient_pass<group>(sums.spatial + static_cast<std::int64_t>(i) * taps * 16, from, ds,
                                       list, listed, times * columns);
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
    default:
      return gradient_group<8>;
  }
}

/// Without `dtemporal` only the gradient of the spatial weights.
void weight_gradients(float* dspatial, float* dtemporal, const float* dy, const float* x, const float* kept,
                      const float* spatial, const float* temporal, const SepConv3dShape& shape,
                      const Queue& queue) {
  const Correlation c = forward_correlation(shape);
  const int taps = spatial_taps_of(c), kernel = c.kernel[0];
  const Tiling t = choose_tiling(c);
  const std::int64_t spatial_sums = static_cast<std::int64_t>(c.inputs) * taps * 16,
                     temporal_sums = dtemporal ? static_cast<std::int64_t>(c.inputs) * kernel * 16 : 0;
  const Chunks chunks = choose_chunks(t, spatial_sums + temporal_sums);
  const bool takes_s = dtemporal && !kept;
  const std::int64_t spatial_floats = takes_s ? packed_floats(c, t, taps) : 0,
                     temporal_floats = packed_floats(c, t, kernel);
  const std::int64_t worker_floats = gradient_floats(c, t);
  const Scratch scratch(
      queue, spatial_floats + temporal_floats + sums_floats(t, chunks) + worker_floats * worker_count(queue));
  Cutter memory{scratch.data};
  PackedWeights weights{};
  if (takes_s) weights.spatial = memory.take(spatial_floats);
  weights.temporal = memory.take(temporal_floats);
  float* const all_sums = memory.take(sums_floats(t, chunks));
  pack_weights(weights, spatial, temporal, c, t, !c.flipped, queue);
  const WeightGradient job{c, t, weights, dy, x, Kept<const float>(kept, c, t)};
  const GradientKernel kernel_of_group = gradient_kernel(t.group);
  for_each_group(queue, t, chunks, all_sums, [&](float* sums, std::int64_t group, int block, int worker) {
    kernel_of_group(job, {sums, dtemporal ? sums + spatial_sums : nullptr}, group, block,
                    {memory.next + worker * worker_floats});
  });
  for_each_task(queue, static_cast<std::int64_t>(c.outputs) * c.inputs, [&](std::int64_t pair, int) {
    reduce_taps(dspatial, all_sums, c, t, chunks, pair, taps, c.flipped);
    if (dtemporal) reduce_taps(dtemporal, all_sums + spatial_sums, c, t, chunks, pair, kernel, c.flipped);
  });
}

void grad_weight(float* dspatial, float* dtemporal, const float* dy, const float* x, const float* kept,
                 const float* spatial, const float* temporal, const SepConv3dShape& s, const Queue& queue) {
  weight_gradients(dspatial, dtemporal, dy, x, kept, spatial, temporal, s, queue);
}

// The S of the input gradient, U = spatial^T (*) dy, can serve the temporal weights: dtemporal = <U, x>.

/// Whether <U, x> takes less time than S again and <S, dy>, by their multiply-adds; those of temporal passes
/// take longer. With few input channels the vectors of x are gathered from many tiles, which is slow.
bool input_pass_is_cheaper(const SepConv3dShape& s) {
  constexpr double temporal_cost = 1.5;
  constexpr std::int64_t few_channels = 3;
  if (s.in_channels <= few_channels) return false;
  const auto lanes = [](std::int64_t channels) {
    return static_cast<double>((channels + 15) / 16 * 16 / group_of(static_cast<int>(channels)));
  };
  const double space = static_cast<double>(s.in_t * s.kernel_h * s.kernel_w),
               time = temporal_cost * static_cast<double>(s.out_t * s.kernel_t);
  const double from_u = static_cast<double>(s.out_channels * s.in_h * s.in_w) * lanes(s.in_channels) * time;
  const double from_s =
      static_cast<double>(s.in_channels * s.out_h * s.out_w) * lanes(s.out_channels) * (space + time);
  return from_u < from_s;
}

void grad(float* dx, float* dspatial, float* dtemporal, const float* dy, const float* x, const float* kept,
          const float* spatial, const float* temporal, const SepConv3dShape& s, Write dx_mode,
          const Queue& queue) {
  const bool from_u = input_pass_is_cheaper(s);
  convolve(dx, nullptr, dy, spatial, temporal, gradient_correlation(s), dx_mode,
           {from_u ? dtemporal : nullptr, x}, queue);
  if (const Tiling t = frames_first(s); from_u && t.groups)
    return spatial_gradient_of_frames(dspatial, dy, x, temporal, forward_correlation(s), t, queue);
  weight_gradients(dspatial, from_u ? nullptr : dtemporal, dy, x, kept, spatial, temporal, s, queue);
}

}  // namespace

void fill(SepConv3dKernels<float>& table) { table = {forward, grad_input, grad_weight, grad, kept}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
