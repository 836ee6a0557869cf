// Matrix products: B packed for all tasks, A by each task, register tiles of kernels/cpu/gemm_tile.hpp.
#include "kernels/matmul.hpp"

#include "kernels/cpu/matmul_narrow.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t most_pass_columns = 4096;
constexpr std::int64_t pass_floats = 1 << 20;  // packed B of a pass: 4 MB of L3
constexpr std::int64_t pack_panels = 8;        // packed by one task: rows of B in runs of 1 KB

/// A pass: all rows of C, some columns, some ks, with B packed as [panel][k][tile_columns].
struct Pass {
  float* c;
  std::int64_t c_stride;
  Operand a, b;
  Range columns, ks;
  Onto onto;
  float* packed_b;

  std::int64_t panels() const { return blocks(columns.size(), tile_columns); }
  Range chunk(std::int64_t begin) const { return {begin, least(begin + product_chunk, ks.end)}; }
  float* panel(std::int64_t panel, std::int64_t k) const {
    return packed_b + (panel * ks.size() + k - ks.begin) * tile_columns;
  }
};

void pack_b(const Pass& pass, const Queue& queue) {
  const std::int64_t groups = blocks(pass.panels(), pack_panels);
  for_each_task(queue, groups * blocks(pass.ks.size(), product_chunk), [&](std::int64_t task, int) {
    const std::int64_t first = task % groups * pack_panels;
    const std::int64_t begin = pass.columns.begin + first * tile_columns;
    const Range ks = pass.chunk(pass.ks.begin + task / groups * product_chunk);
    pack<tile_columns>(pass.panel(first, ks.begin), pass.ks.size() * tile_columns, pass.b,
                       {begin, least(begin + pack_panels * tile_columns, pass.columns.end)}, ks);
  });
}

/// Rows of A that a task packs: more where a k lies far from the next one, so that runs of memory are long.
std::int64_t most_rows(const Operand& a) { return a.k_stride == 1 ? most_task_rows : 4 * most_task_rows; }

/// Rows by panels of a pass; `packed_a` has room for the rows of one chunk.
void multiply_block(const Pass& pass, Range rows, Range panels, float* packed_a) {
  for (std::int64_t k = pass.ks.begin; k < pass.ks.end; k += product_chunk) {
    const Range ks = pass.chunk(k);
    const std::int64_t panel_stride = tile_rows * ks.size() + slack;
    pack<tile_rows>(packed_a, panel_stride, pass.a, rows, ks);
    const Onto onto{pass.onto.accumulate || k > 0, nullptr, pass.onto.streamed};
    for (std::int64_t panel = panels.begin; panel < panels.end; ++panel) {
      const std::int64_t column = pass.columns.begin + panel * tile_columns;
      const std::int64_t columns = least(tile_columns, pass.columns.end - column);
      multiply_panel(pass.c + rows.begin * pass.c_stride + column, pass.c_stride, packed_a, panel_stride,
                     pass.panel(panel, k), ks.size(), rows.size(), columns, onto);
    }
  }
}

/// Every worker has nearly the same number of rows, or where there are few of them of columns.
void multiply_pass(const Pass& pass, std::int64_t m, float* packed_a, const Queue& queue) {
  const std::int64_t workers = worker_count(queue), block_rows = most_rows(pass.a);
  const std::int64_t task_rows = rounded_up(blocks(m, workers), tile_rows);
  const std::int64_t row_tasks = blocks(m, task_rows);
  const std::int64_t task_panels = blocks(pass.panels(), least(pass.panels(), blocks(workers, row_tasks)));
  const std::int64_t column_tasks = blocks(pass.panels(), task_panels);
  for_each_task(queue, row_tasks * column_tasks, [&](std::int64_t task, int worker) {
    const std::int64_t first = task / column_tasks * task_rows, end = least(first + task_rows, m);
    const std::int64_t panel = task % column_tasks * task_panels;
    for (std::int64_t row = first; row < end; row += block_rows)
      multiply_block(pass, {row, least(row + block_rows, end)},
                     {panel, least(panel + task_panels, pass.panels())},
                     packed_a + worker * packed_a_floats(product_chunk, block_rows));
    if (pass.onto.streamed) finish_streams();
  });
}

/// C with `c_stride` floats from one row to the next.
void multiply(float* c, std::int64_t c_stride, const Operand& a, const Operand& b, const MatmulShape& s,
              Write mode, const Queue& queue) {
  if (s.k == 0 && mode == Write::overwrite)
    for (std::int64_t i = 0; i < s.m * s.n; ++i) c[i] = 0;
  if (s.m == 0 || s.n == 0 || s.k == 0) return;
  const std::int64_t pass_columns = least(most_pass_columns, rounded_up(s.n, tile_columns));
  const std::int64_t pass_ks = least(rounded_up(pass_floats / pass_columns, product_chunk), s.k);
  const std::int64_t a_floats = worker_count(queue) * packed_a_floats(product_chunk, most_rows(a));
  const Scratch packed(queue, a_floats + pass_columns * pass_ks + slack);
  const bool accumulate = mode == Write::accumulate;
  const bool streamed =
      !accumulate && s.k <= product_chunk && c_stride % 16 == 0 && s.n % 16 == 0 && is_streamed(c, s.m * s.n);
  Pass pass{c, c_stride, a, b, {0, 0}, {0, 0}, {accumulate, nullptr, streamed}, packed.data + a_floats};
  for (std::int64_t column = 0; column < s.n; column += pass_columns)
    for (std::int64_t k = 0; k < s.k; k += pass_ks) {
      pass.columns = {column, least(column + pass_columns, s.n)};
      pass.ks = {k, least(k + pass_ks, s.k)};
      pack_b(pass, queue);
      multiply_pass(pass, s.m, packed.data, queue);
    }
}

// Which way is chosen by the shape alone: not all of them cut sums in the same way.

/// Whether the rows are the few factors of lines of B.
bool has_few_rows(const MatmulShape& s) { return s.k > 0 && s.m <= most_narrow && s.n >= least_lanes; }

void nn(float* c, const float* a, const float* b, const MatmulShape& s, Write mode, const Queue& queue) {
  if (s.k > 0 && s.n <= most_narrow) return multiply_narrow(c, a, b, s, mode, queue);
  std::int64_t done = 0;
  if (has_few_rows(s)) {
    const Scratch turned(queue, s.m * s.k);
    const Lines lines{b, turned.data, s.n, s.m, s.k};
    turn_all(turned.data, a, s.m, s.k, Write::overwrite, queue);
    multiply_lines(c, lines, mode, queue);
    done = lines.whole_lanes();
  }
  multiply(c + done, s.n, {a, s.k, 1}, {b + done, 1, s.n}, {s.m, s.n - done, s.k}, mode, queue);
}

void tn(float* c, const float* a, const float* b, const MatmulShape& s, Write mode, const Queue& queue) {
  std::int64_t rows = 0, columns = 0;  // done
  if (has_few_rows(s)) {
    const Lines lines{b, a, s.n, s.m, s.k};
    multiply_lines(c, lines, mode, queue);
    columns = lines.whole_lanes();
  } else if (s.k > 0 && s.n <= most_lines && s.m >= least_turned_lanes && mode == Write::overwrite) {
    const Lines lines{a, b, s.m, s.n, s.k};
    multiply_lines_turned(c, lines, queue);
    rows = lines.whole_lanes();
  }
  multiply(c + rows * s.n + columns, s.n, {a + rows, 1, s.m}, {b + columns, 1, s.n},
           {s.m - rows, s.n - columns, s.k}, mode, queue);
}

void nt(float* c, const float* a, const float* b, const MatmulShape& s, Write mode, const Queue& queue) {
  if (s.k > 0 && s.n <= most_narrow) return multiply_turned_b(c, a, b, s, mode, queue);
  if (has_few_rows(s) && s.k >= 64) return multiply_turned_c(c, a, b, s, mode, queue);
  multiply(c, s.n, {a, s.k, 1}, {b, s.k, 1}, s, mode, queue);
}

}  // namespace

void fill(MatmulKernels<float>& table) { table = {nn, tn, nt}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
