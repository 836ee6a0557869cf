// Rows and columns of a block of a matrix exchanged, four by four.
#pragma once
#include "engine/simd.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

/// to (columns, rows) = or += from (rows, columns); their lines are `to_step` and `from_step` floats apart.
inline void turn(float* to, std::int64_t to_step, const float* from, std::int64_t from_step,
                 std::int64_t rows, std::int64_t columns, Write mode) {
  const bool whole = mode == Write::overwrite;
  const std::int64_t whole_rows = whole ? rows / 4 * 4 : 0, whole_columns = columns / 4 * 4;
  for (std::int64_t column = 0; column < whole_columns; column += 4)
    for (std::int64_t row = 0; row < whole_rows; row += 4) {
      float* const target = to + column * to_step + row;
      const float* const source = from + row * from_step + column;
      float* const targets[] = {target, target + to_step, target + 2 * to_step, target + 3 * to_step};
      const float* const sources[] = {source, source + from_step, source + 2 * from_step,
                                      source + 3 * from_step};
      transpose4(targets, sources);
    }
  for (std::int64_t column = 0; column < columns; ++column)
    for (std::int64_t row = column < whole_columns ? whole_rows : 0; row < rows; ++row) {
      float& one = to[column * to_step + row];
      one = whole ? from[row * from_step + column] : one + from[row * from_step + column];
    }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
