#include "kernels/optimizer.hpp"

#include "engine/simd_math.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t chunk_floats = 8192;

void adamw(float* parameter, float* exp_avg, float* exp_avg_sq, const float* gradient, std::int64_t count,
           const AdamWStep& step, const Queue& queue) {
  const double steps = static_cast<double>(step.step);
  const double correction1 = 1 - __builtin_pow(step.beta1, steps),
               correction2 = 1 - __builtin_pow(step.beta2, steps);
  const auto constant = [](double value) { return F16::broadcast(static_cast<float>(value)); };
  const F16 decay = constant(1 - step.learning_rate * step.weight_decay);
  const F16 size = constant(-step.learning_rate / correction1), root = constant(__builtin_sqrt(correction2));
  const F16 keep1 = constant(1 - step.beta1), beta2 = constant(step.beta2), keep2 = constant(1 - step.beta2);
  const F16 eps = constant(step.eps), scale = constant(step.gradient_scale);
  for_each_chunk(queue, count, chunk_floats, [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
    for_each_vector(begin, end, [&](std::int64_t i, auto part) {
      const F16 g = mul(scale, part.load(gradient + i)), old = part.load(exp_avg + i);
      const F16 m = madd(keep1, sub(g, old), old);
      const F16 v = madd(beta2, part.load(exp_avg_sq + i), mul(mul(keep2, g), g));
      const F16 change = div(mul(size, m), add(div(sqrt(v), root), eps));
      part.save(exp_avg + i, m);
      part.save(exp_avg_sq + i, v);
      part.save(parameter + i, madd(part.load(parameter + i), decay, change));
    });
  });
}

/// In f64 lanes: squares of gradients may leave the range of f32.
double chunk_sum_of_squares(const float* x, std::int64_t count) {
  double lanes[16] = {};
  for (std::int64_t i = 0; i + 16 <= count; i += 16)
    for (int lane = 0; lane < 16; ++lane) {
      const double value = x[i + lane];
      lanes[lane] += value * value;
    }
  double sum = 0;
  for (std::int64_t i = count / 16 * 16; i < count; ++i) sum += static_cast<double>(x[i]) * x[i];
  for (const double lane : lanes) sum += lane;
  return sum;
}

void sum_of_squares(double* sum, const float* x, std::int64_t count, const Queue& queue) {
  const std::int64_t chunks = (count + chunk_floats - 1) / chunk_floats;
  const Scratch memory(queue, 2 * chunks);
  double* partial = reinterpret_cast<double*>(memory.data);
  for_each_chunk(queue, count, chunk_floats,
                 [&](std::int64_t begin, std::int64_t end, std::int64_t chunk, int) {
                   partial[chunk] = chunk_sum_of_squares(x + begin, end - begin);
                 });
  *sum = 0;
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) *sum += partial[chunk];
}

}  // namespace

void fill(OptimizerKernels<float>& table) { table = {adamw, sum_of_squares}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
