// Some rows a task; a row is read from memory once and from the cache once more. Sums are taken in f32 over
// blocks and in f64 over the blocks.
#include "kernels/normalize_rows.hpp"

#include "engine/simd_math.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t block_floats = 1024, task_floats = 16384;

FOVEA_INLINE float block_product(const float* a, const float* b, std::int64_t count) {
  F16 sums[4] = {F16::zero(), F16::zero(), F16::zero(), F16::zero()};
  std::int64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    FOVEA_UNROLL
    for (int k = 0; k < 4; ++k) sums[k] = madd(F16::load(a + i + 16 * k), F16::load(b + i + 16 * k), sums[k]);
  }
  for_each_vector(i, count, [&](std::int64_t at, auto part) {
    sums[0] = madd(part.load(a + at), part.load(b + at), sums[0]);
  });
  return sum(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

/// sum x^2 and, where there is a dy, sum x dy.
struct RowSums {
  double squares, product;
};

FOVEA_INLINE RowSums row_sums(const float* x, const float* dy, std::int64_t columns) {
  RowSums sums{0, 0};
  for (std::int64_t begin = 0; begin < columns; begin += block_floats) {
    const std::int64_t count = begin + block_floats < columns ? block_floats : columns - begin;
    sums.squares += static_cast<double>(block_product(x + begin, x + begin, count));
    if (dy) sums.product += static_cast<double>(block_product(x + begin, dy + begin, count));
  }
  return sums;
}

/// body(offset of the row) for every row.
template <class Body>
FOVEA_INLINE void for_each_row(std::int64_t rows, std::int64_t columns, const Queue& queue,
                               const Body& body) {
  const std::int64_t chunk = columns < task_floats ? task_floats / (columns > 0 ? columns : 1) : 1;
  for_each_chunk(queue, rows, chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
    for (std::int64_t n = begin; n < end; ++n) body(n * columns);
  });
}

void forward(float* y, const float* x, std::int64_t rows, std::int64_t columns, const Queue& queue) {
  for_each_row(rows, columns, queue, [&](std::int64_t row) {
    const double length = __builtin_sqrt(row_sums(x + row, nullptr, columns).squares) + row_norm_eps;
    const F16 factor = F16::broadcast(static_cast<float>(1 / length));
    for_each_vector(row, row + columns,
                    [&](std::int64_t i, auto part) { part.save(y + i, mul(part.load(x + i), factor)); });
  });
}

void grad(float* dx, const float* dy, const float* x, std::int64_t rows, std::int64_t columns, Write mode,
          const Queue& queue) {
  for_each_row(rows, columns, queue, [&](std::int64_t row) {
    const RowSums sums = row_sums(x + row, dy + row, columns);
    const double norm = __builtin_sqrt(sums.squares), length = norm + row_norm_eps;
    const double along = norm > 0 ? sums.product / (norm * length * length) : 0;
    const F16 factor = F16::broadcast(static_cast<float>(1 / length)),
              back = F16::broadcast(static_cast<float>(-along));
    for_each_vector(row, row + columns, [&](std::int64_t i, auto part) {
      const F16 d = madd(part.load(x + i), back, mul(part.load(dy + i), factor));
      part.save(dx + i, mode == Write::accumulate ? add(part.load(dx + i), d) : d);
    });
  });
}

}  // namespace

void fill(NormalizeRowsKernels<float>& table) { table = {forward, grad}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
