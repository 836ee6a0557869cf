// Convolutions as matrix products: the sources of some pixels and taps are gathered in cache-sized pieces and
// go through the register tiles of kernels/cpu/gemm_tile.hpp, channels as lanes. Depthwise convolutions,
// those whose windows move over the sources and the gradients of few channels have headers of their own.
// Pieces depend on the shape only: the same bits for any number of threads.
#include "kernels/conv3d.hpp"

#include "kernels/cpu/conv3d_depthwise.hpp"
#include "kernels/cpu/conv3d_direct.hpp"
#include "kernels/cpu/conv3d_maps.hpp"
#include "kernels/cpu/conv3d_planar.hpp"
#include "kernels/cpu/conv3d_scatter.hpp"
#include "kernels/cpu/conv3d_window.hpp"
#include "kernels/cpu/gemm_tile.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

/// How the sum over (tap, source channel) is cut. Taps are gathered in runs along a row, whole rows unless
/// there are many channels, and a chunk of the sum has as many runs as fit.
struct Cut {
  std::int64_t run;         // taps of a run, a divisor of the taps of a row
  std::int64_t run_floats;  // taps of a run by channels
  std::int64_t runs, chunk_runs;

  std::int64_t chunks() const { return blocks(runs, chunk_runs); }
  std::int64_t chunk_floats() const { return chunk_runs * run_floats; }
  Range chunk(std::int64_t index) const {
    return {index * chunk_runs, least((index + 1) * chunk_runs, runs)};
  }
};

Cut cut_of(const Window& window) {
  const std::int64_t channels = window.group_sources();
  const std::int64_t run = window.w.taps * channels <= 2 * k_chunk ? window.w.taps : 1;
  const std::int64_t runs = window.taps() / run, most = k_chunk / (run * channels);
  return {run, run * channels, runs, most < 1 ? 1 : least(most, runs)};
}

/// May write up to 15 floats past the end.
FOVEA_INLINE void copy_loosely(float* to, const float* from, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + 16 <= count; i += 16) store(to + i, F16::load(from + i));
  if (i < count) store(to + i, F16::load_first(from + i, static_cast<int>(count - i)));
}
FOVEA_INLINE void clear_loosely(float* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += 16) store(to + i, F16::zero());
}

/// Gathers a run of taps of `count` pixels of a row from `w` on, each to its own line.
void gather_run(float* to, std::int64_t line, const float* row, const Window& window, std::int64_t w,
                std::int64_t count, std::int64_t tap, const Cut& cut) {
  const std::int64_t channels = window.group_sources();
  const WindowAxis& axis = window.w;
  if (!row) {
    for (std::int64_t p = 0; p < count; ++p) clear_loosely(to + p * line, cut.run_floats);
  } else if (axis.step == 1 && axis.divide == 1 && window.groups == 1) {  // the taps lie side by side
    std::int64_t first = w * axis.multiply + axis.offset + tap;
    for (std::int64_t p = 0; p < count; ++p, to += line, first += axis.multiply) {
      const std::int64_t low = first < 0 ? least(-first, cut.run) : 0;
      const std::int64_t inside = least(axis.sources - first, cut.run), high = inside < low ? low : inside;
      clear_loosely(to, low * channels);
      copy_loosely(to + low * channels, row + (first + low) * channels, (high - low) * channels);
      clear_loosely(to + high * channels, (cut.run - high) * channels);
    }
  } else {
    for (std::int64_t p = 0; p < count; ++p)
      for (std::int64_t k = 0; k < cut.run; ++k) {
        float* at = to + p * line + k * channels;
        const std::int64_t source = axis.source(w + p, tap + k);
        if (source < 0)
          clear_loosely(at, channels);
        else
          copy_loosely(at, row + source * window.source_channels, channels);
      }
  }
}

/// Lines of sources, one per pixel, `line` floats apart: the taps of some runs by the channels of a group.
/// `sources` begins at the group. Loose ends of a run fall on the next one, those of a line between lines.
void gather(float* to, std::int64_t line, const float* sources, const Window& window, Range pixels,
            Range runs, const Cut& cut) {
  const std::int64_t runs_of_row = window.w.taps / cut.run;
  for (std::int64_t p = pixels.begin; p < pixels.end;) {
    const Pixel pixel = window.pixel(p);
    const std::int64_t count = least(window.w.results - pixel.w, pixels.end - p);
    for (std::int64_t r = runs.begin; r < runs.end; ++r) {
      const std::int64_t row = r / runs_of_row;
      gather_run(to + (r - runs.begin) * cut.run_floats, line,
                 window.source_row(sources, pixel, row / window.h.taps, row % window.h.taps), window, pixel.w,
                 count, r % runs_of_row * cut.run, cut);
    }
    p += count;
    to += count * line;
  }
}

/// Weights as panels [group][panel][tap, source channel][tile_columns].
void pack_weights(float* packed, const float* weights, const Window& window, const Queue& queue) {
  const std::int64_t panels = blocks(window.group_channels(), tile_columns), taps = window.taps();
  for_each_task(queue, window.groups * panels, [&](std::int64_t task, int) {
    const std::int64_t group = task / panels, first = task % panels * tile_columns;
    float* to = packed + task * taps * window.group_sources() * tile_columns;
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      const std::int64_t kernel_tap = window.kernel_tap(tap);
      for (std::int64_t source = 0; source < window.group_sources(); ++source, to += tile_columns)
        for (std::int64_t lane = 0; lane < tile_columns; ++lane)
          to[lane] = first + lane < window.group_channels()
                         ? weights[window.weight(group, first + lane, source, kernel_tap)]
                         : 0;
    }
  });
}

/// A task of most_task_rows pixels and one group.
struct Piece {
  float* results;        // of the group
  const float* sources;  // of the group
  const float* weights;  // packed, of the group
  Range pixels;
  Onto onto;
  float *lines, *packed;  // memory of the worker
};

void convolve_piece(const Piece& piece, const Window& window, const Cut& cut) {
  const std::int64_t all_ks = cut.runs * cut.run_floats, channels = window.group_channels();
  for (std::int64_t chunk = 0; chunk < cut.chunks(); ++chunk) {
    const Range runs = cut.chunk(chunk);
    const std::int64_t ks = runs.size() * cut.run_floats, line = ks + slack;
    const std::int64_t panel_stride = tile_rows * ks + slack;
    gather(piece.lines, line, piece.sources, window, piece.pixels, runs, cut);
    pack<tile_rows>(piece.packed, panel_stride, {piece.lines, line, 1}, {0, piece.pixels.size()}, {0, ks});
    for (std::int64_t channel = 0; channel < channels; channel += tile_columns)
      multiply_panel(piece.results + piece.pixels.begin * window.channels + channel, window.channels,
                     piece.packed, panel_stride,
                     piece.weights + channel * all_ks + runs.begin * cut.run_floats * tile_columns, ks,
                     piece.pixels.size(), least(tile_columns, channels - channel),
                     chunk > 0 ? Onto{true} : piece.onto.from(channel));
  }
}

/// results (+)= windows of sources times weights.
void convolve(float* results, const float* sources, const float* weights, const Window& window,
              const Onto& onto, const Queue& queue) {
  const Cut cut = cut_of(window);
  const std::int64_t pixels = window.pixels(), pieces = blocks(pixels, most_task_rows);
  const std::int64_t ks = cut.runs * cut.run_floats;
  const std::int64_t group_weights = rounded_up(window.group_channels(), tile_columns) * ks;
  const std::int64_t lines_floats = most_task_rows * (cut.chunk_floats() + slack);
  const std::int64_t worker_floats = lines_floats + packed_a_floats(cut.chunk_floats());
  const Maps maps(window);
  const bool direct = is_direct(window);
  const std::int64_t more = maps.small() ? SeenLists::floats(maps)
                            : direct     ? direct_floats(window, queue)
                                         : worker_count(queue) * worker_floats;
  const Scratch scratch(queue, window.groups * group_weights + more);
  float* workers = scratch.data + window.groups * group_weights;
  pack_weights(scratch.data, weights, window, queue);
  if (maps.small()) return convolve_maps(results, workers, sources, scratch.data, window, maps, onto, queue);
  if (direct) return convolve_direct(results, workers, sources, scratch.data, window, onto, queue);
  for_each_task(queue, window.groups * pieces, [&](std::int64_t task, int worker) {
    const std::int64_t group = task / pieces, first = task % pieces * most_task_rows;
    float* memory = workers + worker * worker_floats;
    convolve_piece({results + group * window.group_channels(),
                    sources + group * window.group_sources(),
                    scratch.data + group * group_weights,
                    {first, least(first + most_task_rows, pixels)},
                    onto.from(group * window.group_channels()),
                    memory,
                    memory + lines_floats},
                   window, cut);
  });
}

void convolve_windows(float* results, const float* sources, const float* weights, const Window& window,
                      const Onto& onto, const Queue& queue) {
  if (is_depthwise(window))
    convolve_depthwise(results, sources, weights, window, onto, queue);
  else if (is_planar(window))
    convolve_planar(results, sources, weights, window, onto, queue);
  else
    convolve(results, sources, weights, window, onto, queue);
}

void forward(float* y, const float* x, const float* weight, const float* bias, const Conv3dShape& s,
             const Queue& queue) {
  convolve_windows(y, x, weight, forward_window(s), {false, bias}, queue);
}

void grad_input(float* dx, const float* dy, const float* weight, const Conv3dShape& s, Write mode,
                const Queue& queue) {
  const Window window = backward_window(s);
  const Scatter scatter(s);
  if (scatter.pays() && !is_depthwise(window) && !is_planar(window))
    scatter_input_gradient(dx, dy, weight, scatter, mode, queue);
  else
    convolve_windows(dx, dy, weight, window, {mode == Write::accumulate}, queue);
}

/// Adds the gathered lines of some pixels and of one chunk of taps, transposed, times dy to a part
/// (taps, I/G, O/G) of a group.
struct WeightPiece {
  float* part;
  const float *dy, *sources;  // of the group
  Range pixels;
  float *lines, *packed_lines, *packed_dy;  // memory of the worker
};

void add_weight_piece(const WeightPiece& piece, const Window& window, const Cut& cut, Range runs) {
  const std::int64_t rows = runs.size() * cut.run_floats, line = rows + slack;
  const std::int64_t columns = window.group_channels();
  float* part = piece.part + runs.begin * cut.run_floats * columns;
  for (std::int64_t first = piece.pixels.begin; first < piece.pixels.end; first += k_chunk) {
    const Range pixels{first, least(first + k_chunk, piece.pixels.end)};
    const std::int64_t ks = pixels.size(), panel_stride = tile_rows * ks + slack;
    gather(piece.lines, line, piece.sources, window, pixels, runs, cut);
    pack<tile_columns>(piece.packed_dy, tile_columns * ks, {piece.dy, 1, window.channels}, {0, columns},
                       pixels);
    for (std::int64_t row = 0; row < rows; row += most_task_rows) {
      const Range some{row, least(row + most_task_rows, rows)};
      pack<tile_rows>(piece.packed_lines, panel_stride, {piece.lines, 1, line}, some, {0, ks});
      for (std::int64_t column = 0; column < columns; column += tile_columns)
        multiply_panel(part + row * columns + column, columns, piece.packed_lines, panel_stride,
                       piece.packed_dy + column * ks, ks, some.size(), least(tile_columns, columns - column),
                       {first > piece.pixels.begin});
    }
  }
}

/// Whether the sum over pixels for the weights has every dy at hand for the bias as well.
bool sums_slopes(const Window& w) {
  const Maps maps(w);
  if (is_depthwise(w)) return !sums_depthwise_maps(maps);
  return maps.small() ? maps.places == 1 : is_direct(w) && !has_source_lanes(w);
}

void grad_weight(float* dweight, float* dbias, const float* dy, const float* x, const Conv3dShape& s,
                 const Queue& queue) {
  const Window window = forward_window(s);
  const std::int64_t pixels = window.pixels(),
                     weights = s.out_channels * window.group_sources() * window.taps();
  if (pixels == 0) {
    const std::int64_t all = s.out_channels * window.group_sources() * window.kernel_taps();
    for (std::int64_t i = 0; i < all; ++i) dweight[i] = 0;
    for (std::int64_t c = 0; dbias && c < s.out_channels; ++c) dbias[c] = 0;
    return;
  }
  if (dbias && !sums_slopes(window)) {
    sum_slopes(dbias, dy, window, queue);
    dbias = nullptr;
  }
  if (is_depthwise(window)) return grad_weight_depthwise(dweight, dbias, dy, x, window, queue);
  if (const Maps maps(window); maps.small())
    return grad_weight_maps(dweight, dbias, dy, x, window, maps, queue);
  if (is_direct(window)) {
    if (has_source_lanes(window)) {
      const BandSum<Lanes::sources> sum(window);
      const Scratch scratch(queue, sum.floats(queue));
      sum_bands(scratch.data, nullptr, dy, x, sum, queue);
      return add_source_parts(dweight, scratch.data, sum, queue);
    }
    const BandSum<Lanes::results> sum(window);
    const Scratch scratch(queue, sum.floats(queue));
    sum_bands(scratch.data, dbias, dy, x, sum, queue);
    return add_parts(dweight, scratch.data, sum.parts, window, queue);
  }
  const Cut cut = cut_of(window);
  const std::int64_t tasks = s.groups * cut.chunks(), parts = parts_of(tasks, pixels);
  const std::int64_t part_pixels = rounded_up(blocks(pixels, parts), k_chunk);
  const std::int64_t used = blocks(pixels, part_pixels);
  const std::int64_t lines_floats = k_chunk * (cut.chunk_floats() + slack);
  const std::int64_t packed_floats = packed_a_floats(k_chunk);
  const std::int64_t dy_floats = k_chunk * rounded_up(window.group_channels(), tile_columns);
  const std::int64_t worker_floats = lines_floats + packed_floats + dy_floats;
  const Scratch scratch(queue, used * weights + worker_count(queue) * worker_floats);
  for_each_task(queue, tasks * used, [&](std::int64_t task, int worker) {
    const std::int64_t part = task / tasks, group = task % tasks / cut.chunks();
    float* memory = scratch.data + used * weights + worker * worker_floats;
    add_weight_piece({scratch.data + part * weights + group * (weights / s.groups),
                      dy + group * window.group_channels(),
                      x + group * window.group_sources(),
                      {part * part_pixels, least((part + 1) * part_pixels, pixels)},
                      memory,
                      memory + lines_floats,
                      memory + lines_floats + packed_floats},
                     window, cut, cut.chunk(task % cut.chunks()));
  });
  add_parts(dweight, scratch.data, used, window, queue);
}

}  // namespace

void fill(Conv3dKernels<float>& table) { table = {forward, grad_input, grad_weight}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
