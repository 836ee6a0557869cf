// Matrix products with few columns or few rows, where packing would cost as much as the product: the large
// factor is read where it is, the small one too or it is turned first. Same chains and chunks of k as in
// kernels/cpu/matmul.cpp. Lanes keep them from the limit: 41 neurons fill 48 of them, 113 fill 128.
#pragma once
#include "kernels/cpu/gemm_tile.hpp"
#include "kernels/cpu/turn.hpp"
#include "kernels/matmul.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t most_narrow = 64;  // columns beside the rows of a large factor
constexpr std::int64_t most_lines = 128;  // columns or rows beside the columns of a large factor
constexpr std::int64_t least_lanes = 64, least_turned_lanes = 256;

// ---- A by rows

struct NarrowProduct {
  float* c;
  const float *a, *b;
  std::int64_t c_stride, a_stride, b_stride, ks, columns;
  Onto onto;

  NarrowProduct at(std::int64_t row) const {
    NarrowProduct p = *this;
    p.c += row * c_stride;
    p.a += row * a_stride;
    return p;
  }
};

/// `tile` rows; those `ahead` floats from them are fetched for later.
template <int vectors, int tile>
void narrow_tile(const NarrowProduct& p, std::int64_t ahead) {
  constexpr int together = tile % 3 == 0 ? 3 : tile % 2 == 0 ? 2 : 1;  // rows addressed from one register
  F16 sum[tile][vectors];
  const float* first[tile / together];
  for (int r = 0; r < tile; r += together) first[r / together] = p.a + r * p.a_stride;
#pragma GCC unroll 24
  for (int r = 0; r < tile; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < vectors; ++v) sum[r][v] = F16::zero();
  const int lanes = static_cast<int>(least(16, p.columns - 16 * (vectors - 1)));
  const float* b = p.b;
  for (std::int64_t k = 0; k < p.ks; ++k, b += p.b_stride) {
    if (k % 16 == 0)
      for (int r = 0; r < tile; ++r) __builtin_prefetch(p.a + r * p.a_stride + ahead + k);
    F16 line[vectors];
#pragma GCC unroll 3
    for (int v = 0; v < vectors - 1; ++v) line[v] = F16::load(b + 16 * v);
    line[vectors - 1] = F16::load_first(b + 16 * (vectors - 1), lanes);
#pragma GCC unroll 24
    for (int r = 0; r < tile; ++r) {
      const F16 left = F16::broadcast(first[r / together][k + r % together * p.a_stride]);
#pragma GCC unroll 3
      for (int v = 0; v < vectors; ++v) sum[r][v] = madd(left, line[v], sum[r][v]);
    }
  }
  store_tile<tile, vectors>(p.c, p.c_stride, sum, tile, p.columns, p.onto);
}

template <int vectors>
void narrow_rows(const NarrowProduct& p, Range rows, std::int64_t next_chunk) {
  constexpr int tile = accumulators16 / (vectors < tile_vectors ? tile_vectors : vectors), part = 4;
  std::int64_t row = rows.begin;
  const auto ahead = [&](std::int64_t after) {
    return (after < rows.end ? after : rows.begin) * p.a_stride - row * p.a_stride +
           (after < rows.end ? 0 : next_chunk);
  };
  for (; row + tile <= rows.end; row += tile) narrow_tile<vectors, tile>(p.at(row), ahead(row + tile));
  for (; row + part <= rows.end; row += part) narrow_tile<vectors, part>(p.at(row), ahead(row + part));
  for (; row < rows.end; ++row) narrow_tile<vectors, 1>(p.at(row), ahead(row + 1));
}

/// C (+)= A B, A (m, k), B (k, n).
template <int vectors>
void multiply_narrow(float* c, const float* a, const float* b, const MatmulShape& s, Write mode,
                     const Queue& queue) {
  const std::int64_t task_rows = rounded_up(blocks(s.m, worker_count(queue)), 4);
  for_each_task(queue, blocks(s.m, task_rows), [&](std::int64_t task, int) {
    const Range rows{task * task_rows, least((task + 1) * task_rows, s.m)};
    for (std::int64_t k = 0; k < s.k; k += product_chunk)
      for (std::int64_t column = 0; column < s.n; column += 16 * vectors) {
        const NarrowProduct p{c + column,
                              a + k,
                              b + k * s.n + column,
                              s.n,
                              s.k,
                              s.n,
                              least(product_chunk, s.k - k),
                              s.n - column,
                              {mode == Write::accumulate || k > 0}};
        if (p.columns <= 16)
          narrow_rows<1>(p, rows, product_chunk);
        else
          narrow_rows<vectors>(p, rows, product_chunk);
      }
  });
}

void multiply_narrow(float* c, const float* a, const float* b, const MatmulShape& s, Write mode,
                     const Queue& queue) {
  if constexpr (accumulators16 >= 24) {
    // All columns at once, or half of four vectors.
    if (s.n > 32 && s.n <= 48) return multiply_narrow<3>(c, a, b, s, mode, queue);
    if (s.n > 16) return multiply_narrow<2>(c, a, b, s, mode, queue);
  }
  multiply_narrow<1>(c, a, b, s, mode, queue);
}

// ---- turned factors

/// to (columns, rows) = or += from (rows, columns).
void turn_all(float* to, const float* from, std::int64_t rows, std::int64_t columns, Write mode,
              const Queue& queue) {
  constexpr std::int64_t block = 64;
  const std::int64_t across = blocks(columns, block);
  for_each_task(queue, blocks(rows, block) * across, [&](std::int64_t task, int) {
    const std::int64_t row = task / across * block, column = task % across * block;
    turn(to + column * rows + row, rows, from + row * columns + column, columns, least(block, rows - row),
         least(block, columns - column), mode);
  });
}

/// C (+)= A B^T of few columns, A (m, k), B (n, k).
void multiply_turned_b(float* c, const float* a, const float* b, const MatmulShape& s, Write mode,
                       const Queue& queue) {
  const Scratch turned(queue, s.n * s.k);
  turn_all(turned.data, b, s.n, s.k, Write::overwrite, queue);
  multiply_narrow(c, a, turned.data, s, mode, queue);
}

/// C (+)= A B^T of few rows, as C^T = B A^T.
void multiply_turned_c(float* c, const float* a, const float* b, const MatmulShape& s, Write mode,
                       const Queue& queue) {
  const std::int64_t a_floats = rounded_up(s.m * s.k, 16);
  const Scratch turned(queue, a_floats + s.m * s.n);
  turn_all(turned.data, a, s.m, s.k, Write::overwrite, queue);
  multiply_narrow(turned.data + a_floats, b, turned.data, {s.n, s.m, s.k}, Write::overwrite, queue);
  turn_all(c, turned.data + a_floats, s.n, s.m, mode, queue);
}

// ---- a large factor by columns: these are the lanes

/// Sums of `count` columns or rows of C, for as many lanes as a tile has.
struct LineProduct {
  float* sums;
  std::int64_t stride;                  // from one of them to the next
  const float *lines, *factors, *next;  // next: lines, fetched for later
  std::int64_t line_stride, factor_stride, ks;
  Onto onto;
};

template <int count>
void line_tile(const LineProduct& p) {
  F16 sum[count][tile_vectors];
#pragma GCC unroll 24
  for (int c = 0; c < count; ++c)
#pragma GCC unroll 2
    for (int v = 0; v < tile_vectors; ++v) sum[c][v] = F16::zero();
  const float *lines = p.lines, *factors = p.factors, *next = p.next;
  for (std::int64_t k = 0; k < p.ks; ++k) {
    __builtin_prefetch(next);
    F16 line[tile_vectors];
#pragma GCC unroll 2
    for (int v = 0; v < tile_vectors; ++v) line[v] = F16::load(lines + 16 * v);
#pragma GCC unroll 24
    for (int c = 0; c < count; ++c) {
      const F16 factor = F16::broadcast(factors[c]);
#pragma GCC unroll 2
      for (int v = 0; v < tile_vectors; ++v) sum[c][v] = madd(factor, line[v], sum[c][v]);
    }
    lines += p.line_stride;
    next += p.line_stride;
    factors += p.factor_stride;
  }
  store_tile<count, tile_vectors>(p.sums, p.stride, sum, count, tile_columns, p.onto);
}

template <int count = tile_rows>
void line_tile_of(std::int64_t wanted, const LineProduct& p) {
  if (wanted >= count)
    line_tile<count>(p);
  else if constexpr (count > 1)
    line_tile_of<count - 1>(wanted, p);
}

/// The factor (k, lanes), and the small one (k, count).
struct Lines {
  const float *lines, *factors;
  std::int64_t lanes, count, ks;

  std::int64_t whole_lanes() const { return lanes / tile_columns * tile_columns; }
  /// All sums of the lanes of a tile.
  void add(float* sums, std::int64_t stride, std::int64_t tile, Write mode) const {
    const std::int64_t together = blocks(count, blocks(count, tile_rows));
    const float* const first = lines + tile * tile_columns;
    for (std::int64_t k = 0; k < ks; k += product_chunk) {
      const float* const here = first + k * lanes;
      const float* const next = k + product_chunk < ks ? here + product_chunk * lanes : first + tile_columns;
      for (std::int64_t c = 0, i = 0; c < count; c += together, ++i)
        line_tile_of(least(together, count - c), {sums + c * stride,
                                                  stride,
                                                  here,
                                                  factors + k * count + c,
                                                  i < tile_vectors ? next + 16 * i : here,
                                                  lanes,
                                                  count,
                                                  least(product_chunk, ks - k),
                                                  {mode == Write::accumulate || k > 0}});
    }
  }
};

/// C (lanes, count) of whole tiles.
void multiply_lines_turned(float* c, const Lines& p, const Queue& queue) {
  const std::int64_t sum_floats = p.count * tile_columns;
  const Scratch sums(queue, worker_count(queue) * sum_floats);
  for_each_task(queue, p.lanes / tile_columns, [&](std::int64_t tile, int worker) {
    float* const to = sums.data + worker * sum_floats;
    p.add(to, tile_columns, tile, Write::overwrite);
    turn(c + tile * tile_columns * p.count, p.count, to, tile_columns, p.count, tile_columns,
         Write::overwrite);
  });
}

/// C (count, lanes) of whole tiles.
void multiply_lines(float* c, const Lines& p, Write mode, const Queue& queue) {
  for_each_task(queue, p.lanes / tile_columns,
                [&](std::int64_t tile, int) { p.add(c + tile * tile_columns, p.lanes, tile, mode); });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
