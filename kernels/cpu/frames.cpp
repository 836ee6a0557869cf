// Pools, channel dropout and slices of frames. Lanes are floats that lie side by side: channels, whole rows
// where windows do not overlap along them, and factors laid out with the period of the channels.
#include "kernels/frames.hpp"

#include "engine/simd_math.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t chunk_floats = 16384;

FOVEA_INLINE std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

template <class Part>
FOVEA_INLINE void write(Part part, float* to, F16 value, Write mode) {
  part.save(to, mode == Write::accumulate ? add(part.load(to), value) : value);
}

/// body(offset, part) over [0, count); streamed ones are whole vectors.
template <class Body>
FOVEA_INLINE void for_each_result(std::int64_t count, bool streamed, const Body& body) {
  if (!streamed) return for_each_vector(0, count, body);
  for (std::int64_t i = 0; i < count; i += 16) body(i, Streamed{});
}

/// body(run, begin, end, worker) for pieces of `chunk` floats of each run, several short runs being one task.
template <class Body>
FOVEA_INLINE void for_each_piece(const Queue& queue, std::int64_t runs, std::int64_t floats,
                                 std::int64_t chunk, const Body& body) {
  if (floats == 0) return;
  const std::int64_t pieces = (floats + chunk - 1) / chunk, group = floats < chunk ? chunk / floats : 1;
  for_each_chunk(queue, runs * pieces, group,
                 [&](std::int64_t begin, std::int64_t end, std::int64_t, int worker) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     const std::int64_t from = i % pieces * chunk;
                     body(i / pieces, from, least(from + chunk, floats), worker);
                   }
                 });
}

// ---- channel dropout and slices

void scale_channels(float* y, const float* x, const float* factor, std::int64_t batch, std::int64_t inner,
                    std::int64_t channels, Write mode, const Queue& queue) {
  const std::int64_t floats = inner * channels;
  if (floats == 0) return;
  const std::int64_t period = lane_period(channels), chunk = period * ((chunk_floats + period - 1) / period);
  const bool streamed = mode == Write::overwrite && floats % 16 == 0 && is_streamed(y, batch * floats);
  const Scratch tables(queue, period * worker_count(queue));
  for_each_piece(
      queue, batch, floats, chunk, [&](std::int64_t b, std::int64_t begin, std::int64_t end, int worker) {
        float* const lanes = tables.data + worker * period;
        const std::int64_t used = least(period, end - begin);
        for (std::int64_t i = 0; i < used; ++i)
          lanes[i] = i < channels ? factor[b * channels + i] : lanes[i - channels];
        float* to = y + b * floats + begin;
        const float* from = x + b * floats + begin;
        for (std::int64_t left = end - begin; left > 0; left -= period, to += period, from += period)
          for_each_result(least(period, left), streamed, [=](std::int64_t i, auto part) {
            write(part, to + i, mul(part.load(from + i), part.load(lanes + i)), mode);
          });
        if (streamed) finish_streams();
      });
}

void slice_frames(float* y, const float* x, std::int64_t batch, std::int64_t frames, std::int64_t inner,
                  std::int64_t first, std::int64_t count, const Queue& queue) {
  const std::int64_t floats = count * inner;
  const bool streamed = floats % 16 == 0 && is_streamed(y, batch * floats);
  for_each_piece(
      queue, batch, floats, chunk_floats, [&](std::int64_t b, std::int64_t begin, std::int64_t end, int) {
        float* const to = y + b * floats + begin;
        const float* const from = x + (b * frames + first) * inner + begin;
        for_each_result(end - begin, streamed,
                        [=](std::int64_t i, auto part) { part.save(to + i, part.load(from + i)); });
        if (streamed) finish_streams();
      });
}

void slice_frames_grad(float* dx, const float* dy, std::int64_t batch, std::int64_t frames,
                       std::int64_t inner, std::int64_t first, std::int64_t count, Write mode,
                       const Queue& queue) {
  const std::int64_t floats = frames * inner, slice = first * inner, slice_end = (first + count) * inner;
  const bool streamed = mode == Write::overwrite && inner % 16 == 0 && is_streamed(dx, batch * floats);
  for_each_piece(
      queue, batch, floats, chunk_floats, [&](std::int64_t b, std::int64_t begin, std::int64_t end, int) {
        float* const to = dx + b * floats;
        const std::int64_t inside = least(end, slice < begin ? begin : slice);
        const std::int64_t after = least(end, slice_end < begin ? begin : slice_end);
        const auto clear = [&](std::int64_t at, std::int64_t size) {
          for_each_result(size, streamed,
                          [=](std::int64_t i, auto part) { part.save(to + at + i, F16::zero()); });
        };
        if (mode == Write::overwrite) clear(begin, inside - begin);
        for_each_result(after - inside, streamed, [=](std::int64_t i, auto part) {
          write(part, to + inside + i, part.load(dy + (b * (slice_end - slice) + inside - slice + i)), mode);
        });
        if (mode == Write::overwrite) clear(after, end - after);
        if (streamed) finish_streams();
      });
}

// ---- pools

/// A row of outputs in runs of floats whose inputs lie side by side, `step` apart from run to run, and
/// `offset[tap]` from tap to tap of a window. Rows of few channels are packed first: a line for each tap.
struct Rows {
  PoolShape s;
  std::int64_t run, runs, step, taps;
  bool packed;
  std::int64_t *offset, *input_offset;
  float* lines;
};

std::int64_t taps_of(const PoolShape& s) { return s.kernel_t * s.kernel_h * s.kernel_w; }
bool is_packed(const PoolShape& s) { return s.kernel_w > 1 && s.channels < 8; }
std::int64_t line_floats(const PoolShape& s) { return is_packed(s) ? taps_of(s) * s.out_w * s.channels : 0; }
std::int64_t scratch_floats(const PoolShape& s, const Queue& queue) {
  return 4 * taps_of(s) + line_floats(s) * worker_count(queue);
}

Rows rows_of(const PoolShape& s, const Scratch& scratch) {
  const std::int64_t row = s.out_w * s.channels, taps = taps_of(s);
  const bool packed = is_packed(s), whole = packed || s.kernel_w == 1;
  auto* const offset = reinterpret_cast<std::int64_t*>(scratch.data);
  const Rows rows{s,
                  whole ? row : s.channels,
                  whole ? 1 : s.out_w,
                  s.kernel_w * s.channels,
                  taps,
                  packed,
                  offset,
                  offset + taps,
                  scratch.data + 4 * taps};
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    const std::int64_t w = tap % s.kernel_w, h = tap / s.kernel_w % s.kernel_h,
                       t = tap / (s.kernel_w * s.kernel_h);
    rows.input_offset[tap] = ((t * s.in_h + h) * s.in_w + w) * s.channels;
    rows.offset[tap] = packed ? tap * row : rows.input_offset[tap];
  }
  return rows;
}

/// body(row of outputs, its first input, worker).
template <class Body>
FOVEA_INLINE void for_each_row(const Queue& queue, const PoolShape& s, const Body& body) {
  const std::int64_t floats = s.kernel_t * s.kernel_h * s.in_w * s.channels + 1;
  for_each_chunk(queue, s.batch * s.out_t * s.out_h, chunk_floats / floats + 1,
                 [&](std::int64_t begin, std::int64_t end, std::int64_t, int worker) {
                   for (std::int64_t row = begin; row < end; ++row) {
                     const std::int64_t h = row % s.out_h, t = row / s.out_h % s.out_t,
                                        b = row / (s.out_h * s.out_t);
                     const std::int64_t line = (b * s.in_t + t * s.kernel_t) * s.in_h + h * s.kernel_h;
                     body(row, line * s.in_w * s.channels, worker);
                   }
                 });
}

/// move(float of a packed line, float of the input) for the floats of one row's windows.
template <class Input, class Move>
FOVEA_INLINE void for_each_packed(float* lines, Input* in, const Rows& rows, const Move& move) {
  const std::int64_t channels = rows.s.channels, step = rows.step, pixels = rows.s.out_w;
  for (std::int64_t tap = 0; tap < rows.taps; ++tap) {
    float* const line = lines + rows.offset[tap];
    Input* const from = in + rows.input_offset[tap];
    if (channels == 1)
      for (std::int64_t w = 0; w < pixels; ++w) move(line[w], from[w * step]);
    else
      for (std::int64_t w = 0; w < pixels; ++w)
        for (std::int64_t c = 0; c < channels; ++c) move(line[w * channels + c], from[w * step + c]);
  }
}

void pack(float* lines, const float* in, const Rows& rows) {
  for_each_packed(lines, in, rows, [](float& to, const float& value) { to = value; });
}

void unpack(float* in, float* lines, const Rows& rows, Write mode) {
  for_each_packed(lines, in, rows, [=](const float& value, float& to) {
    to = mode == Write::accumulate ? to + value : value;
  });
}

/// reduce(output element, its first input, part): the taps follow at rows.offset.
template <class Reduce>
FOVEA_INLINE void for_each_window(const Queue& queue, const float* x, const Rows& given,
                                  const Reduce& reduction) {
  const std::int64_t line = line_floats(given.s);
  for_each_row(queue, given.s, [&](std::int64_t row, std::int64_t in, int worker) {
    const Rows rows = given;  // copies: stores of vectors may alias whatever lies in memory
    const Reduce reduce = reduction;
    const float* from = x + in;
    if (rows.packed) {
      float* const lines = rows.lines + worker * line;
      pack(lines, from, given);
      from = lines;
    }
    for (std::int64_t run = 0; run < rows.runs; ++run)
      for_each_vector(0, rows.run, [&](std::int64_t i, auto part) {
        reduce((row * rows.runs + run) * rows.run + i, from + run * rows.step + i, part);
      });
  });
}

bool has_rest(const PoolShape& s) {
  return s.out_t * s.kernel_t != s.in_t || s.out_h * s.kernel_h != s.in_h || s.out_w * s.kernel_w != s.in_w;
}

void clear(float* x, std::int64_t count, const Queue& queue) {
  for_each_chunk(queue, count, chunk_floats, [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
    for_each_vector(begin, end, [&](std::int64_t i, auto part) { part.save(x + i, F16::zero()); });
  });
}

/// dx = or += share(output element, part)(tap).
template <class Share>
FOVEA_INLINE void spread_windows(float* dx, const PoolShape& s, Write mode, const Queue& queue,
                                 const Share& given_share) {
  const std::int64_t floats = s.batch * s.in_t * s.in_h * s.in_w * s.channels, line = line_floats(s);
  if (mode == Write::overwrite && has_rest(s)) clear(dx, floats, queue);
  const Scratch scratch(queue, scratch_floats(s, queue));
  const Rows given = rows_of(s, scratch);
  const bool streamed = mode == Write::overwrite && s.channels % 16 == 0 && is_streamed(dx, floats);
  for_each_row(queue, s, [&](std::int64_t row, std::int64_t in, int worker) {
    const Rows rows = given;
    const Share share = given_share;
    const Write run_mode = rows.packed ? Write::overwrite : mode;
    float* const lines = rows.lines + worker * line;
    float* const first = rows.packed ? lines : dx + in;
    for (std::int64_t run = 0; run < rows.runs; ++run)
      for_each_result(rows.run, streamed, [&](std::int64_t i, auto part) {
        const auto of_tap = share((row * rows.runs + run) * rows.run + i, part);
        float* const to = first + run * rows.step + i;
        // Two loops: g++ 12 made a choice inside one a mask of the first lane alone.
        if (run_mode == Write::accumulate)
          for (std::int64_t tap = 0; tap < rows.taps; ++tap)
            part.save(to + rows.offset[tap], add(part.load(to + rows.offset[tap]), of_tap(tap)));
        else
          for (std::int64_t tap = 0; tap < rows.taps; ++tap) part.save(to + rows.offset[tap], of_tap(tap));
      });
    if (rows.packed) unpack(dx + in, lines, given, mode);
    if (streamed) finish_streams();
  });
}

/// The bits of a whole number in every lane.
FOVEA_INLINE F16 bits_of(std::int64_t number) {
  const auto word = static_cast<std::int32_t>(number);
  float bits = 0;
  __builtin_memcpy(&bits, &word, sizeof bits);
  return F16::broadcast(bits);
}

void max_pool(float* y, std::int32_t* index, const float* x, const PoolShape& s, const Queue& queue) {
  auto* const index_bits = reinterpret_cast<float*>(index);  // vectors may alias anything
  const Scratch scratch(queue, scratch_floats(s, queue));
  const Rows rows = rows_of(s, scratch);
  for_each_window(queue, x, rows, [=](std::int64_t out, const float* in, auto part) {
    F16 most = part.load(in), position = F16::zero();
    for (std::int64_t tap = 1; tap < rows.taps; ++tap) {
      const F16 value = part.load(in + rows.offset[tap]), here = bits_of(tap);
      const M16 above = less(most, value), number = equal(value, value);
      most = select(number, select(above, value, most), value);  // NaN wins, the last one
      position = select(number, select(above, here, position), here);
    }
    part.save(y + out, most);
    part.save(index_bits + out, position);
  });
}

void max_pool_grad(float* dx, const float* dy, const std::int32_t* index, const PoolShape& s, Write mode,
                   const Queue& queue) {
  spread_windows(dx, s, mode, queue, [=](std::int64_t out, auto part) {
    const F16 d = part.load(dy + out), at = part.load(reinterpret_cast<const float*>(index) + out);
    return [=](std::int64_t tap) { return select(same_bits(at, bits_of(tap)), d, F16::zero()); };
  });
}

void average_pool(float* y, const float* x, const PoolShape& s, const Queue& queue) {
  const Scratch scratch(queue, scratch_floats(s, queue));
  const Rows rows = rows_of(s, scratch);
  const F16 taps = F16::broadcast(static_cast<float>(rows.taps));
  for_each_window(queue, x, rows, [=](std::int64_t out, const float* in, auto part) {
    F16 sum = part.load(in);
    for (std::int64_t tap = 1; tap < rows.taps; ++tap) sum = add(sum, part.load(in + rows.offset[tap]));
    part.save(y + out, div(sum, taps));
  });
}

void average_pool_grad(float* dx, const float* dy, const PoolShape& s, Write mode, const Queue& queue) {
  const F16 taps = F16::broadcast(static_cast<float>(taps_of(s)));
  spread_windows(dx, s, mode, queue, [=](std::int64_t out, auto part) {
    return [d = div(part.load(dy + out), taps)](std::int64_t) { return d; };
  });
}

}  // namespace

void fill(FramesKernels<float>& table) {
  table = {max_pool,       max_pool_grad, average_pool,     average_pool_grad,
           scale_channels, slice_frames,  slice_frames_grad};
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
