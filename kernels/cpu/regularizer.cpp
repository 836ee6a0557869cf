// Sums of magnitudes and of squares of large readouts; the other regularizers, of small kernels, stay with
// the reference. In f64 lanes, a division by the shape alone: the same bits for any number of threads.
#include "kernels/regularizer.hpp"

#include "engine/simd_math.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t chunk_floats = 8192;

/// The sum of term(x[i]) over a chunk.
template <class Term>
FOVEA_INLINE double chunk_sum(const float* x, std::int64_t count, const Term& term) {
  double lanes[16] = {};
  for (std::int64_t i = 0; i + 16 <= count; i += 16)
    for (int lane = 0; lane < 16; ++lane) lanes[lane] += term(static_cast<double>(x[i + lane]));
  double sum = 0;
  for (std::int64_t i = count / 16 * 16; i < count; ++i) sum += term(static_cast<double>(x[i]));
  for (const double lane : lanes) sum += lane;
  return sum;
}

/// value <- factor * sum of term(w); slope_of(w) of 16 values at once, where slopes are wanted.
template <class Term, class SlopeOf>
FOVEA_INLINE void sum_terms(float* value, float* slope, const float* w, std::int64_t count, double factor,
                            const Queue& queue, const Term& term, const SlopeOf& slope_of) {
  const std::int64_t chunks = (count + chunk_floats - 1) / chunk_floats;
  const Scratch memory(queue, 2 * chunks + 1);
  double* partial = reinterpret_cast<double*>(memory.data);
  for_each_chunk(
      queue, count, chunk_floats, [&](std::int64_t begin, std::int64_t end, std::int64_t chunk, int) {
        partial[chunk] = chunk_sum(w + begin, end - begin, term);
        if (!slope) return;
        for_each_vector(begin, end,
                        [&](std::int64_t i, auto part) { part.save(slope + i, slope_of(part.load(w + i))); });
      });
  double sum = 0;
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) sum += partial[chunk];
  *value = static_cast<float>(factor * sum);
}

void square_sum(float* value, float* slope, const float* w, std::int64_t count, double factor,
                const Queue& queue) {
  const F16 twice = F16::broadcast(static_cast<float>(2 * factor));
  sum_terms(
      value, slope, w, count, factor, queue, [](double x) __attribute__((always_inline)) { return x * x; },
      [=](F16 x) __attribute__((always_inline)) { return mul(twice, x); });
}

void absolute_sum(float* value, float* slope, const float* w, std::int64_t count, double factor,
                  const Queue& queue) {
  const F16 zero = F16::zero(), scale = F16::broadcast(static_cast<float>(factor)), minus = sub(zero, scale);
  sum_terms(
      value, slope, w, count, factor, queue,
      [](double x) __attribute__((always_inline)) { return __builtin_fabs(x); },
      [=](F16 x) __attribute__((always_inline)) {
        return select(less(zero, x), scale, select(less(x, zero), minus, zero));
      });
}

}  // namespace

void fill(RegularizerKernels<float>& table) {
  table.square_sum = square_sum;
  table.absolute_sum = absolute_sum;
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
