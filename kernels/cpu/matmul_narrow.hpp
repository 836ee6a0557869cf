// Matrix products with few columns, where packing would cost as much as the product: rows of A are read where
// they are, once for all columns. Where A is stored by its columns these are the lanes, so that a tile of C
// is transposed at the end. Same chains and chunks of k as kernels/cpu/gemm_tile.hpp.
#pragma once
#include "kernels/cpu/gemm_tile.hpp"
#include "kernels/matmul.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t most_narrow_columns = 64;  // of A by rows
constexpr std::int64_t most_line_columns = 128;   // of A by columns

// ---- A by rows

/// Vectors of C that a tile spans: all of them, or half of four.
constexpr int narrow_vectors(std::int64_t columns) {
  return accumulators16 < 24 ? 1 : columns <= 16 ? 1 : columns <= 32 || columns > 48 ? 2 : 3;
}

struct NarrowProduct {
  float* c;
  const float *a, *b;
  std::int64_t c_stride, a_stride, b_stride, ks, columns;
  Onto onto;

  NarrowProduct at(std::int64_t row, std::int64_t column) const {
    NarrowProduct p = *this;
    p.c += row * c_stride + column;
    p.a += row * a_stride;
    p.b += column;
    p.columns -= column;
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
  for (; row + tile <= rows.end; row += tile) narrow_tile<vectors, tile>(p.at(row, 0), ahead(row + tile));
  for (; row + part <= rows.end; row += part) narrow_tile<vectors, part>(p.at(row, 0), ahead(row + part));
  for (; row < rows.end; ++row) narrow_tile<vectors, 1>(p.at(row, 0), ahead(row + 1));
}

/// C (+)= A B, B (k, columns) by rows `b_stride` floats apart.
void multiply_narrow(float* c, const float* a, const float* b, std::int64_t b_stride, const MatmulShape& s,
                     Write mode, const Queue& queue) {
  const std::int64_t task_rows = rounded_up(blocks(s.m, worker_count(queue)), 4);
  for_each_task(queue, blocks(s.m, task_rows), [&](std::int64_t task, int) {
    const Range rows{task * task_rows, least((task + 1) * task_rows, s.m)};
    for (std::int64_t k = 0; k < s.k; k += product_chunk) {
      const NarrowProduct p{c,
                            a + k,
                            b + k * b_stride,
                            s.n,
                            s.k,
                            b_stride,
                            least(product_chunk, s.k - k),
                            s.n,
                            {mode == Write::accumulate || k > 0}};
      const int vectors = narrow_vectors(s.n);
      for (std::int64_t column = 0; column < s.n; column += 16 * vectors) {
        const NarrowProduct some = p.at(0, column);
        const std::int64_t left = s.n - column;
        if (vectors == 1 || left <= 16)
          narrow_rows<1>(some, rows, product_chunk);
        else if constexpr (accumulators16 >= 24) {
          if (vectors == 2)
            narrow_rows<2>(some, rows, product_chunk);
          else
            narrow_rows<3>(some, rows, product_chunk);
        }
      }
    }
  });
}

// ---- A by columns

/// Sums of some columns of C, for as many of its rows as a tile has lanes.
struct LineProduct {
  float* sums;                // (columns, tile_columns)
  const float *a, *b, *next;  // next: of A, fetched for later
  std::int64_t a_stride, b_stride, ks;
  bool accumulate;
};

template <int columns>
void line_tile(const LineProduct& p) {
  F16 sum[columns][tile_vectors];
#pragma GCC unroll 24
  for (int c = 0; c < columns; ++c)
#pragma GCC unroll 2
    for (int v = 0; v < tile_vectors; ++v) sum[c][v] = F16::zero();
  const float *a = p.a, *b = p.b, *next = p.next;
  for (std::int64_t k = 0; k < p.ks; ++k, a += p.a_stride, b += p.b_stride, next += p.a_stride) {
    __builtin_prefetch(next);
    F16 line[tile_vectors];
#pragma GCC unroll 2
    for (int v = 0; v < tile_vectors; ++v) line[v] = F16::load(a + 16 * v);
#pragma GCC unroll 24
    for (int c = 0; c < columns; ++c) {
      const F16 right = F16::broadcast(b[c]);
#pragma GCC unroll 2
      for (int v = 0; v < tile_vectors; ++v) sum[c][v] = madd(right, line[v], sum[c][v]);
    }
  }
  store_tile<columns, tile_vectors>(p.sums, tile_columns, sum, columns, tile_columns, {p.accumulate});
}

template <int columns = tile_rows>
void line_tile_of(std::int64_t count, const LineProduct& p) {
  if (count >= columns)
    line_tile<columns>(p);
  else if constexpr (columns > 1)
    line_tile_of<columns - 1>(count, p);
}

/// c (tile_columns, n) <- sums (n, tile_columns).
void write_lines(float* c, const float* sums, std::int64_t n) {
  for (std::int64_t column = 0; column + 4 <= n; column += 4)
    for (std::int64_t row = 0; row < tile_columns; row += 4)
      transpose_4x4(c + row * n + column, n, sums + column * tile_columns + row, tile_columns, 4);
  for (std::int64_t column = n / 4 * 4; column < n; ++column)
    for (std::int64_t row = 0; row < tile_columns; ++row)
      c[row * n + column] = sums[column * tile_columns + row];
}

/// Whether C = A^T B with A (k, m) goes this way; by the shape alone: sums are cut differently otherwise.
bool multiplies_lines(const MatmulShape& s, Write mode) {
  return s.n <= most_line_columns && s.m >= 256 && mode == Write::overwrite;
}

/// Whole tiles of rows of C = A^T B, A (k, m), B (k, n); returns how many rows that were.
std::int64_t multiply_lines(float* c, const float* a, const float* b, const MatmulShape& s,
                            const Queue& queue) {
  const std::int64_t sum_floats = s.n * tile_columns;
  const std::int64_t columns = blocks(s.n, blocks(s.n, tile_rows));
  const Scratch sums(queue, worker_count(queue) * sum_floats);
  for_each_task(queue, s.m / tile_columns, [&](std::int64_t task, int worker) {
    float* const to = sums.data + worker * sum_floats;
    const float* from = a + task * tile_columns;
    for (std::int64_t k = 0; k < s.k; k += product_chunk) {
      const float* const here = from + k * s.m;
      const float* const next = k + product_chunk < s.k ? here + product_chunk * s.m : from + tile_columns;
      for (std::int64_t column = 0, tile = 0; column < s.n; column += columns, ++tile)
        line_tile_of(least(columns, s.n - column), {to + column * tile_columns, here, b + k * s.n + column,
                                                    tile < tile_vectors ? next + 16 * tile : here, s.m, s.n,
                                                    least(product_chunk, s.k - k), k > 0});
    }
    write_lines(c + task * tile_columns * s.n, to, s.n);
  });
  return s.m / tile_columns * tile_columns;
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
