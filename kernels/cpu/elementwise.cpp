#include "kernels/elementwise.hpp"

#include "engine/simd_math.hpp"
#include "kernels/cpu/turn.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t chunk_floats = 16384;

/// y = or += value(x), value being called with the offset and the part of a vector.
template <class Value>
FOVEA_INLINE void write_all(float* y, std::int64_t count, Write mode, const Queue& queue,
                            const Value& value) {
  for_each_chunk(queue, count, chunk_floats, [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
    for_each_vector(begin, end, [&](std::int64_t i, auto part) {
      const F16 v = value(i, part);
      part.save(y + i, mode == Write::accumulate ? add(part.load(y + i), v) : v);
    });
  });
}

void add_values(float* y, const float* x, std::int64_t count, Write mode, const Queue& queue) {
  write_all(y, count, mode, queue, [&](std::int64_t i, auto part) { return part.load(x + i); });
}

void scale(float* y, const float* x, double factor, std::int64_t count, Write mode, const Queue& queue) {
  const F16 by = F16::broadcast(static_cast<float>(factor));
  write_all(y, count, mode, queue, [&](std::int64_t i, auto part) { return mul(part.load(x + i), by); });
}

void multiply(float* y, const float* a, const float* b, std::int64_t count, Write mode, const Queue& queue) {
  write_all(y, count, mode, queue,
            [&](std::int64_t i, auto part) { return mul(part.load(a + i), part.load(b + i)); });
}

void copy_channels(float* y, const float* x, const ChannelCopy& s, Write mode, const Queue& queue) {
  const std::int64_t rows = s.count > 0 ? chunk_floats / s.count + 1 : s.rows;
  for_each_chunk(queue, s.rows, rows, [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      float* to = y + row * s.y_channels + s.y_first;
      const float* from = x + row * s.x_channels + s.x_first;
      for_each_vector(0, s.count, [&](std::int64_t i, auto part) {
        const F16 v = part.load(from + i);
        part.save(to + i, mode == Write::accumulate ? add(part.load(to + i), v) : v);
      });
    }
  });
}

/// max and min give their second operand where one is NaN.
void clamp(float* x, double least, double most, std::int64_t count, const Queue& queue) {
  const F16 low = F16::broadcast(static_cast<float>(least)), high = F16::broadcast(static_cast<float>(most));
  write_all(x, count, Write::overwrite, queue,
            [&](std::int64_t i, auto part) { return min(high, max(low, part.load(x + i))); });
}

void absolute(float* x, std::int64_t count, const Queue& queue) {
  write_all(x, count, Write::overwrite, queue,
            [&](std::int64_t i, auto part) { return max(F16::zero(), absolute_of(part.load(x + i))); });
}

/// Rows and columns of one batch item to transpose.
struct Tile {
  std::int64_t row, row_end, column, column_end;
};

/// A few rows, known at compile time: the compiler interleaves them with vector instructions.
template <int rows>
void interleave(float* y, const float* x, std::int64_t columns, const Tile& tile, Write mode) {
  for (std::int64_t column = tile.column; column < tile.column_end; ++column)
    for (int row = 0; row < rows; ++row) {
      float& to = y[column * rows + row];
      to = mode == Write::accumulate ? to + x[row * columns + column] : x[row * columns + column];
    }
}

template <int columns>
void separate(float* y, const float* x, std::int64_t rows, const Tile& tile, Write mode) {
  for (int column = 0; column < columns; ++column)
    for (std::int64_t row = tile.row; row < tile.row_end; ++row) {
      float& to = y[column * rows + row];
      to = mode == Write::accumulate ? to + x[row * columns + column] : x[row * columns + column];
    }
}

void transpose(float* y, const float* x, const PermuteShape& s, const Tile& tile, Write mode) {
  switch (s.rows) {
    case 1:
      return interleave<1>(y, x, s.columns, tile, mode);
    case 2:
      return interleave<2>(y, x, s.columns, tile, mode);
    case 3:
      return interleave<3>(y, x, s.columns, tile, mode);
    case 4:
      return interleave<4>(y, x, s.columns, tile, mode);
  }
  switch (s.columns) {
    case 1:
      return separate<1>(y, x, s.rows, tile, mode);
    case 2:
      return separate<2>(y, x, s.rows, tile, mode);
    case 3:
      return separate<3>(y, x, s.rows, tile, mode);
    case 4:
      return separate<4>(y, x, s.rows, tile, mode);
  }
  turn(y + tile.column * s.rows + tile.row, s.rows, x + tile.row * s.columns + tile.column, s.columns,
       tile.row_end - tile.row, tile.column_end - tile.column, mode);
}

void permute(float* y, const float* x, const PermuteShape& s, Write mode, const Queue& queue) {
  // A side of at most 32 is one tile wide; the other side is cut so that a tile stays in L1.
  constexpr std::int64_t side = 64, tile_floats = 4096;
  const auto extent = [&](std::int64_t own, std::int64_t other) {
    const std::int64_t across = other < side ? other : side;
    const std::int64_t room = other <= side ? tile_floats / (across > 0 ? across : 1) : side;
    return own < room ? own : room;
  };
  const std::int64_t tile_rows = extent(s.rows, s.columns), tile_columns = extent(s.columns, s.rows);
  if (s.batch * s.rows * s.columns == 0) return;
  const std::int64_t down = (s.rows + tile_rows - 1) / tile_rows,
                     across = (s.columns + tile_columns - 1) / tile_columns;
  for_each_task(queue, s.batch * down * across, [&](std::int64_t task, int) {
    const std::int64_t batch = task / (down * across);
    const std::int64_t row = task / across % down * tile_rows, column = task % across * tile_columns;
    const Tile tile{row, row + tile_rows < s.rows ? row + tile_rows : s.rows, column,
                    column + tile_columns < s.columns ? column + tile_columns : s.columns};
    const std::int64_t offset = batch * s.rows * s.columns;
    transpose(y + offset, x + offset, s, tile, mode);
  });
}

}  // namespace

/// All but unit_norm, whose weights are few.
void fill(ElementwiseKernels<float>& table) {
  table.add = add_values;
  table.scale = scale;
  table.permute = permute;
  table.multiply = multiply;
  table.copy_channels = copy_channels;
  table.clamp = clamp;
  table.absolute = absolute;
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
