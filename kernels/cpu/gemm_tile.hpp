// The inside of matrix products: factors packed in panels, register tiles of C, one chain of multiply-adds
// per element and chunk of k. An element of C is the sum, in order, of its chunks, each one chain over k:
// neither the division into tiles and tasks nor the width of the registers changes a bit.
#pragma once
#include "engine/simd.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// A register tile holds all the accumulators there are; per k it loads a line of B and broadcasts A.
constexpr int tile_vectors = accumulators16 >= 24 ? 2 : 1;
constexpr int tile_rows = accumulators16 / tile_vectors;
constexpr int tile_columns = 16 * tile_vectors;
constexpr std::int64_t k_chunk = 256;        // a panel of B (32 KB) and one of A stay in L1
constexpr std::int64_t product_chunk = 512;  // of plain products: C is read and written half as often
constexpr std::int64_t most_task_rows = 96;  // packed A of a task: 96 KB of L2
constexpr std::int64_t slack = 16;           // floats that packing may write after a panel

FOVEA_INLINE std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
FOVEA_INLINE std::int64_t blocks(std::int64_t count, std::int64_t block) {
  return (count + block - 1) / block;
}
FOVEA_INLINE std::int64_t rounded_up(std::int64_t count, std::int64_t block) {
  return blocks(count, block) * block;
}

/// Memory of the panels of `rows` rows of A, a multiple of tile_rows, and `ks` ks.
FOVEA_INLINE std::int64_t packed_a_floats(std::int64_t ks, std::int64_t rows = most_task_rows) {
  return rows / tile_rows * (tile_rows * ks + slack);
}

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
FOVEA_INLINE void transpose_4x4(float* out, std::int64_t out_stride, const float* in,
                                std::int64_t line_stride, std::int64_t lines) {
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
    // Cache lines of a line at once: lines may lie a power of two apart, where few of them stay in the cache.
    for (std::int64_t first = 0; first < quads; first += 16)
      for (int lane = (width - 1) / 4 * 4; lane >= 0; lane -= 4)
        for (std::int64_t k = first; k < least(first + 16, quads); k += 4)
          transpose_4x4(out + k * width + lane, width, in + lane * from.line_stride + k, from.line_stride,
                        valid - lane);
    for (std::int64_t k = quads; k < ks.size(); ++k)
      for (int lane = 0; lane < width; ++lane)
        out[k * width + lane] = lane < valid ? in[lane * from.line_stride + k] : 0;
  }
}

/// What sums are added to: what is there, or a row for all rows, or nothing. Whole vectors may go past the
/// caches if all of them are aligned and none is read again.
struct Onto {
  bool accumulate;
  const float* row = nullptr;
  bool streamed = false;

  FOVEA_INLINE Onto from(std::int64_t column) const {
    return {accumulate, row ? row + column : nullptr, streamed};
  }
  FOVEA_INLINE F16 added(const float* to, std::int64_t column, int lanes, F16 sum) const {
    if (accumulate) return add(lanes == 16 ? F16::load(to) : F16::load_first(to, lanes), sum);
    if (row) return add(F16::load_first(row + column, lanes), sum);
    return sum;
  }
  /// What a chain of sums begins with.
  FOVEA_INLINE F16 first(const float* to, std::int64_t column, int lanes) const {
    return accumulate ? F16::load_first(to, lanes) : row ? F16::load_first(row + column, lanes) : F16::zero();
  }
};

/// A tile of C from sums; the first `rows` and `columns` of it exist.
template <int most_rows, int vectors>
FOVEA_INLINE void store_tile(float* c, std::int64_t c_stride, const F16 (&sum)[most_rows][vectors],
                             std::int64_t rows, std::int64_t columns, const Onto& onto) {
#pragma GCC unroll 24
  for (int r = 0; r < most_rows; ++r) {
    if (r >= rows) break;
#pragma GCC unroll 3
    for (int v = 0; v < vectors; ++v) {
      float* to = c + r * c_stride + 16 * v;
      const int lanes = static_cast<int>(least(16, columns - 16 * v));
      const F16 value = onto.added(to, 16 * v, lanes, sum[r][v]);
      if (lanes < 16)
        store_first(to, value, lanes);
      else if (onto.streamed)
        stream(to, value);
      else
        store(to, value);
    }
  }
}

/// A tile of C from lines of a panel of A and one of B; the first `rows` and `columns` of it exist.
template <int vectors>
void multiply_tile(float* c, std::int64_t c_stride, const float* a, const float* b, std::int64_t ks,
                   std::int64_t rows, std::int64_t columns, const Onto& onto) {
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
  store_tile<tile_rows, vectors>(c, c_stride, sum, rows, columns, onto);
}

/// Rows of C = or += packed rows of A (panels `a_stride` apart) times one panel of B.
inline void multiply_panel(float* c, std::int64_t c_stride, const float* a, std::int64_t a_stride,
                           const float* b, std::int64_t ks, std::int64_t rows, std::int64_t columns,
                           const Onto& onto) {
  for (std::int64_t row = 0; row < rows; row += tile_rows, a += a_stride, c += tile_rows * c_stride)
    if (tile_vectors > 1 && columns <= 16)
      multiply_tile<1>(c, c_stride, a, b, ks, rows - row, columns, onto);
    else
      multiply_tile<tile_vectors>(c, c_stride, a, b, ks, rows - row, columns, onto);
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
