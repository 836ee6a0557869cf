// Matrix products: packed panels, register tiles of C, one chain of multiply-adds per element and chunk of k.
// An element of C is the sum, in order, of its chunks, each one chain over k: neither the division into tiles
// and tasks nor the width of the registers changes a bit.
#include "kernels/matmul.hpp"

#include "engine/simd.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// A register tile holds all the accumulators there are; per k it loads a line of B and broadcasts A.
constexpr int tile_vectors = accumulators16 >= 24 ? 2 : 1;
constexpr int tile_rows = accumulators16 / tile_vectors;
constexpr int tile_columns = 16 * tile_vectors;
constexpr std::int64_t k_chunk = 256;        // a panel of B (32 KB) and one of A stay in L1
constexpr std::int64_t most_task_rows = 96;  // packed A of a task: 96 KB of L2
constexpr std::int64_t most_pass_columns = 4096;
constexpr std::int64_t pass_floats = 1 << 20;  // packed B of a pass: 4 MB of L3
constexpr std::int64_t pack_panels = 8;        // packed by one task: rows of B in runs of 1 KB
constexpr std::int64_t slack = 16;             // floats that packing may write after a panel

std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
std::int64_t blocks(std::int64_t count, std::int64_t block) { return (count + block - 1) / block; }
std::int64_t rounded_up(std::int64_t count, std::int64_t block) { return blocks(count, block) * block; }

constexpr std::int64_t packed_a_floats = most_task_rows / tile_rows * (tile_rows * k_chunk + slack);

/// A factor as lines (rows of A, columns of B) by k; one of the strides is 1.
struct Operand {
  const float* data;
  std::int64_t line_stride, k_stride;
};

struct Range {
  std::int64_t begin, end;
  std::int64_t size() const { return end - begin; }
};

typedef float Quad __attribute__((vector_size(16), aligned(4), may_alias));

/// out[k][line] <- in[line][k] of four ks and four lines, of which `lines` exist and the others are zeros.
inline void transpose_4x4(float* out, std::int64_t out_stride, const float* in, std::int64_t line_stride,
                          std::int64_t lines) {
  const auto load_line = [&](std::int64_t line) {
    return line < lines ? *reinterpret_cast<const Quad*>(in + line * line_stride) : Quad{};
  };
  const Quad a = load_line(0), b = load_line(1), c = load_line(2), d = load_line(3);
  const Quad ab01 = __builtin_shufflevector(a, b, 0, 4, 1, 5),
             ab23 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Quad cd01 = __builtin_shufflevector(c, d, 0, 4, 1, 5),
             cd23 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const auto store_line = [&](std::int64_t k, Quad line) {
    *reinterpret_cast<Quad*>(out + k * out_stride) = line;
  };
  store_line(0, __builtin_shufflevector(ab01, cd01, 0, 1, 4, 5));
  store_line(1, __builtin_shufflevector(ab01, cd01, 2, 3, 6, 7));
  store_line(2, __builtin_shufflevector(ab23, cd23, 0, 1, 4, 5));
  store_line(3, __builtin_shufflevector(ab23, cd23, 2, 3, 6, 7));
}

/// Packs panels of `width` lines, [k][width] each, `panel_stride` floats apart; lines past the end are zeros.
/// Vectors may write past the width: over the next k, which is written later, or into the slack after the
/// panel.
template <int width>
void pack(float* out, std::int64_t panel_stride, const Operand& from, Range lines, Range ks) {
  if (from.line_stride == 1) {  // k outermost: long runs of memory
    for (std::int64_t k = 0; k < ks.size(); ++k) {
      const float* in = from.data + (ks.begin + k) * from.k_stride;
      float* to = out + k * width;
      for (std::int64_t line = lines.begin; line < lines.end; line += width, to += panel_stride)
        for (int lane = 0; lane < width; lane += 16) {
          const std::int64_t valid = lines.end - line - lane;
          store(to + lane, valid >= 16
                               ? F16::load(in + line + lane)
                               : F16::load_first(in + line + lane, static_cast<int>(valid > 0 ? valid : 0)));
        }
    }
    return;
  }
  for (std::int64_t line = lines.begin; line < lines.end; line += width, out += panel_stride) {
    const float* in = from.data + line * from.line_stride + ks.begin;
    const std::int64_t valid = lines.end - line, quads = ks.size() / 4 * 4;
    for (std::int64_t k = 0; k < quads; k += 4)
      for (int lane = (width - 1) / 4 * 4; lane >= 0; lane -= 4)
        transpose_4x4(out + k * width + lane, width, in + lane * from.line_stride + k, from.line_stride,
                      valid - lane);
    for (std::int64_t k = quads; k < ks.size(); ++k)
      for (int lane = 0; lane < width; ++lane)
        out[k * width + lane] = lane < valid ? in[lane * from.line_stride + k] : 0;
  }
}

/// A tile of C = or += panel of A times panel of B; the first `rows` and `columns` of it exist.
template <int vectors>
void multiply_tile(float* c, std::int64_t c_stride, const float* a, const float* b, std::int64_t ks,
                   std::int64_t rows, std::int64_t columns, bool accumulate) {
  F16 sum[tile_rows][vectors];
#pragma GCC unroll 24
  for (int r = 0; r < tile_rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) sum[r][v] = F16::zero();
  for (std::int64_t k = 0; k < ks; ++k, a += tile_rows, b += tile_columns) {
    F16 line[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) line[v] = F16::load(b + 16 * v);
#pragma GCC unroll 24
    for (int r = 0; r < tile_rows; ++r) {
      const F16 left = F16::broadcast(a[r]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[r][v] = madd(left, line[v], sum[r][v]);
    }
  }
#pragma GCC unroll 24
  for (int r = 0; r < tile_rows; ++r) {
    if (r >= rows) break;
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      float* to = c + r * c_stride + 16 * v;
      const int lanes = static_cast<int>(least(16, columns - 16 * v));
      if (lanes == 16)
        store(to, accumulate ? add(F16::load(to), sum[r][v]) : sum[r][v]);
      else
        store_first(to, accumulate ? add(F16::load_first(to, lanes), sum[r][v]) : sum[r][v], lanes);
    }
  }
}

/// A pass: all rows of C, some columns, some ks, with B packed as [panel][k][tile_columns].
struct Pass {
  float* c;
  std::int64_t c_stride;
  Operand a, b;
  Range columns, ks;
  bool accumulate;
  float* packed_b;

  std::int64_t panels() const { return blocks(columns.size(), tile_columns); }
  Range chunk(std::int64_t begin) const { return {begin, least(begin + k_chunk, ks.end)}; }
  float* panel(std::int64_t panel, std::int64_t k) const {
    return packed_b + (panel * ks.size() + k - ks.begin) * tile_columns;
  }
};

void pack_b(const Pass& pass, const Queue& queue) {
  const std::int64_t groups = blocks(pass.panels(), pack_panels);
  for_each_task(queue, groups * blocks(pass.ks.size(), k_chunk), [&](std::int64_t task, int) {
    const std::int64_t first = task % groups * pack_panels;
    const std::int64_t begin = pass.columns.begin + first * tile_columns;
    const Range ks = pass.chunk(pass.ks.begin + task / groups * k_chunk);
    pack<tile_columns>(pass.panel(first, ks.begin), pass.ks.size() * tile_columns, pass.b,
                       {begin, least(begin + pack_panels * tile_columns, pass.columns.end)}, ks);
  });
}

/// Rows by panels of a pass; `packed_a` has room for the rows of one chunk.
void multiply_block(const Pass& pass, Range rows, Range panels, float* packed_a) {
  for (std::int64_t k = pass.ks.begin; k < pass.ks.end; k += k_chunk) {
    const Range ks = pass.chunk(k);
    const std::int64_t panel_stride = tile_rows * ks.size() + slack;
    pack<tile_rows>(packed_a, panel_stride, pass.a, rows, ks);
    const bool accumulate = pass.accumulate || k > 0;
    for (std::int64_t panel = panels.begin; panel < panels.end; ++panel) {
      const std::int64_t column = pass.columns.begin + panel * tile_columns;
      const std::int64_t columns = least(tile_columns, pass.columns.end - column);
      const float* b = pass.panel(panel, k);
      for (std::int64_t row = rows.begin; row < rows.end; row += tile_rows) {
        float* c = pass.c + row * pass.c_stride + column;
        const float* a = packed_a + (row - rows.begin) / tile_rows * panel_stride;
        if (tile_vectors > 1 && columns <= 16)
          multiply_tile<1>(c, pass.c_stride, a, b, ks.size(), rows.end - row, columns, accumulate);
        else
          multiply_tile<tile_vectors>(c, pass.c_stride, a, b, ks.size(), rows.end - row, columns, accumulate);
      }
    }
  }
}

/// Tasks of nearly equal size, their number a multiple of the workers where the rows allow it.
void multiply_pass(const Pass& pass, std::int64_t m, float* packed_a, const Queue& queue) {
  const std::int64_t workers = worker_count(queue);
  const std::int64_t rounds = blocks(m, workers * most_task_rows);
  const std::int64_t task_rows = rounded_up(blocks(m, workers * rounds), tile_rows);
  const std::int64_t row_tasks = blocks(m, task_rows);
  const std::int64_t task_panels = blocks(pass.panels(), least(pass.panels(), blocks(workers, row_tasks)));
  const std::int64_t column_tasks = blocks(pass.panels(), task_panels);
  for_each_task(queue, row_tasks * column_tasks, [&](std::int64_t task, int worker) {
    const std::int64_t row = task / column_tasks * task_rows, panel = task % column_tasks * task_panels;
    multiply_block(pass, {row, least(row + task_rows, m)}, {panel, least(panel + task_panels, pass.panels())},
                   packed_a + worker * packed_a_floats);
  });
}

void multiply(float* c, const Operand& a, const Operand& b, const MatmulShape& s, Write mode,
              const Queue& queue) {
  if (s.k == 0 && mode == Write::overwrite)
    for (std::int64_t i = 0; i < s.m * s.n; ++i) c[i] = 0;
  if (s.m == 0 || s.n == 0 || s.k == 0) return;
  const std::int64_t pass_columns = least(most_pass_columns, rounded_up(s.n, tile_columns));
  const std::int64_t pass_ks = least(rounded_up(pass_floats / pass_columns, k_chunk), s.k);
  const Scratch packed_a(queue, worker_count(queue) * packed_a_floats);
  const Scratch packed_b(queue, pass_columns * pass_ks + slack);
  Pass pass{c, s.n, a, b, {0, 0}, {0, 0}, mode == Write::accumulate, packed_b.data};
  for (std::int64_t column = 0; column < s.n; column += pass_columns)
    for (std::int64_t k = 0; k < s.k; k += pass_ks) {
      pass.columns = {column, least(column + pass_columns, s.n)};
      pass.ks = {k, least(k + pass_ks, s.k)};
      pack_b(pass, queue);
      multiply_pass(pass, s.m, packed_a.data, queue);
    }
}

void nn(float* c, const float* a, const float* b, const MatmulShape& s, Write mode, const Queue& queue) {
  multiply(c, {a, s.k, 1}, {b, 1, s.n}, s, mode, queue);
}

void tn(float* c, const float* a, const float* b, const MatmulShape& s, Write mode, const Queue& queue) {
  multiply(c, {a, 1, s.m}, {b, 1, s.n}, s, mode, queue);
}

void nt(float* c, const float* a, const float* b, const MatmulShape& s, Write mode, const Queue& queue) {
  multiply(c, {a, s.k, 1}, {b, s.k, 1}, s, mode, queue);
}

}  // namespace

void fill(MatmulKernels<float>& table) { table = {nn, tn, nt}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
