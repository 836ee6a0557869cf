// Sines and cosines do not depend on the pair: they are tabulated once, in f64, and the rest is sums over
// them.
#include "kernels/temporal_kernel.hpp"

#include "engine/simd_math.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t chunk_pairs = 16;

/// sine[k][t] = mask_t sin(k phase_t) at the start of `table`, cosine[k][t] after it.
void tabulate(float* table, double log_speed, const TemporalKernelShape& s) {
  constexpr double pi = 3.14159265358979323846;
  const double speed = __builtin_exp(log_speed), length = static_cast<double>(s.length);
  const double onset = static_cast<double>(static_cast<std::int64_t>(0.95 * length)) / speed;
  for (std::int64_t t = 0; t < s.length; ++t) {
    const double time = static_cast<double>(t - s.length), mask = 1 / (1 + __builtin_exp(-(time + onset)));
    for (std::int64_t k = 0; k < s.harmonics; ++k) {
      const double angle = static_cast<double>(k) * (2 * pi * speed * time / length);
      table[k * s.length + t] = static_cast<float>(mask * __builtin_sin(angle));
      table[(s.harmonics + k) * s.length + t] = static_cast<float>(mask * __builtin_cos(angle));
    }
  }
}

void forward(float* temporal, const float* sin_weights, const float* cos_weights, const float* log_speed,
             const TemporalKernelShape& s, const Queue& queue) {
  const Scratch memory(queue, 2 * s.harmonics * s.length);
  const float *sine = memory.data, *cosine = sine + s.harmonics * s.length;
  tabulate(memory.data, *log_speed, s);
  for_each_chunk(queue, s.pairs, chunk_pairs, [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
    for (std::int64_t pair = begin; pair < end; ++pair)
      for_each_vector(0, s.length, [&](std::int64_t t, auto part) {
        F16 sum = F16::zero();
        for (std::int64_t k = 0; k < s.harmonics; ++k) {
          const std::int64_t weight = pair * s.harmonics + k;
          sum = madd(F16::broadcast(sin_weights[weight]), part.load(sine + k * s.length + t), sum);
          sum = madd(F16::broadcast(cos_weights[weight]), part.load(cosine + k * s.length + t), sum);
        }
        part.save(temporal + pair * s.length + t, sum);
      });
  });
}

/// sum_t a_t b_t
float dot(const float* a, const float* b, std::int64_t count) {
  F16 total = F16::zero();
  for_each_vector(
      0, count, [&](std::int64_t i, auto part) { total = madd(part.load(a + i), part.load(b + i), total); });
  return sum(total);
}

void write(float* to, float value, Write mode) { *to = mode == Write::accumulate ? *to + value : value; }

void grad_weights(float* dsin, float* dcos, const float* dtemporal, const float* log_speed,
                  const TemporalKernelShape& s, Write sin_mode, Write cos_mode, const Queue& queue) {
  const Scratch memory(queue, 2 * s.harmonics * s.length);
  const float *sine = memory.data, *cosine = sine + s.harmonics * s.length;
  tabulate(memory.data, *log_speed, s);
  for_each_chunk(queue, s.pairs, chunk_pairs, [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
    for (std::int64_t pair = begin; pair < end; ++pair)
      for (std::int64_t k = 0; k < s.harmonics; ++k) {
        const float* upstream = dtemporal + pair * s.length;
        if (dsin)
          write(&dsin[pair * s.harmonics + k], dot(upstream, sine + k * s.length, s.length), sin_mode);
        if (dcos)
          write(&dcos[pair * s.harmonics + k], dot(upstream, cosine + k * s.length, s.length), cos_mode);
      }
  });
}

}  // namespace

void fill(TemporalKernelKernels<float>& table) { table = {forward, grad_weights}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
