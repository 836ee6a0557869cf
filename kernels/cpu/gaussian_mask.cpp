// One task per few neurons; pixels are the lanes. The grid's pairs are split once per neuron.
#include "kernels/gaussian_mask.hpp"

#include "engine/simd_math.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t chunk_neurons = 8;
constexpr float log_var_bound = 20, distance_bound = 20;

/// The Gaussian of one neuron over its pixels; the arrays are scratch.
struct Gaussian {
  float *row, *column, *density;  // distances from the mean along each axis
  F16 inverse_variance;
  float exponential, variance, sum;
  bool clamped;

  /// Squared distance in variances.
  template <class Part>
  FOVEA_INLINE F16 distance(std::int64_t p, Part part) const {
    const F16 r = part.load(row + p), c = part.load(column + p);
    return mul(madd(r, r, mul(c, c)), inverse_variance);
  }
};

float exp_of(float x) {
  float lanes[16];
  store(lanes, exp(F16::broadcast(x)));
  return lanes[0];
}

Gaussian gaussian(float* scratch, std::int64_t n, const float* mask_mean, const float* mask_log_var,
                  const float* grid, const GaussianMaskShape& s) {
  Gaussian g{scratch, scratch + s.pixels, scratch + 2 * s.pixels, F16::zero(), 0, 0, 0, false};
  const float row = mask_mean[2 * n] * static_cast<float>(s.mean_scale);
  const float column = mask_mean[2 * n + 1] * static_cast<float>(s.mean_scale);
  const float* pairs = grid + n * s.pixels * 2;
  for (std::int64_t p = 0; p < s.pixels; ++p) {
    g.row[p] = pairs[2 * p] - row;
    g.column[p] = pairs[2 * p + 1] - column;
  }
  float log_var = mask_log_var[n] * static_cast<float>(s.var_scale);
  g.clamped = log_var <= -log_var_bound || log_var >= log_var_bound;
  if (g.clamped) log_var = log_var < 0 ? -log_var_bound : log_var_bound;
  g.exponential = exp_of(log_var);
  g.variance = g.exponential + 1e-8f;
  g.inverse_variance = F16::broadcast(1 / g.variance);
  F16 total = F16::zero();
  for_each_vector(0, s.pixels, [&](std::int64_t p, auto part) {
    const F16 d2 = min(F16::broadcast(distance_bound), g.distance(p, part));  // keeps NaN
    part.save(g.density + p, exp_of_negative(mul(d2, F16::broadcast(-0.5f))));
    total = add(total, part.load(g.density + p));
  });
  g.sum = sum(total);
  return g;
}

void forward(float* mask, const float* mask_mean, const float* mask_log_var, const float* grid,
             const GaussianMaskShape& s, const Queue& queue) {
  const Scratch memory(queue, 3 * s.pixels * worker_count(queue));
  for_each_chunk(queue, s.neurons, chunk_neurons,
                 [&](std::int64_t begin, std::int64_t end, std::int64_t, int worker) {
                   for (std::int64_t n = begin; n < end; ++n) {
                     const Gaussian g =
                         gaussian(memory.data + 3 * s.pixels * worker, n, mask_mean, mask_log_var, grid, s);
                     const bool undefined = g.sum != g.sum;
                     for_each_vector(0, s.pixels, [&](std::int64_t p, auto part) {
                       const F16 share = div(part.load(g.density + p), F16::broadcast(g.sum));
                       part.save(mask + n * s.pixels + p, undefined ? F16::zero() : share);
                     });
                   }
                 });
}

/// Sums over the pixels of d(mask . upstream) / d(squared distance) times a coordinate or the distance
/// itself.
struct Pulls {
  float row, column, distance;
};

Pulls pulls_of(const Gaussian& g, const float* upstream, std::int64_t pixels) {
  F16 mean = F16::zero(), row = F16::zero(), column = F16::zero(), distance = F16::zero();
  for_each_vector(0, pixels, [&](std::int64_t p, auto part) {
    mean = madd(part.load(upstream + p), part.load(g.density + p), mean);
  });
  const F16 mean_upstream = F16::broadcast(sum(mean) / g.sum), factor = F16::broadcast(-0.5f / g.sum);
  for_each_vector(0, pixels, [&](std::int64_t p, auto part) {
    const F16 d2 = g.distance(p, part), centred = sub(part.load(upstream + p), mean_upstream);
    const F16 pull = mul(mul(factor, part.load(g.density + p)), centred);
    const F16 passed = select(less(d2, F16::broadcast(distance_bound)), pull, F16::zero());
    row = madd(passed, part.load(g.row + p), row);
    column = madd(passed, part.load(g.column + p), column);
    distance = madd(passed, d2, distance);
  });
  return {sum(row), sum(column), sum(distance)};
}

void grad_parameters(float* dmean, float* dlog_var, const float* dmask, const float* mask_mean,
                     const float* mask_log_var, const float* grid, const GaussianMaskShape& s,
                     const Queue& queue) {
  const Scratch memory(queue, 3 * s.pixels * worker_count(queue));
  for_each_chunk(queue, s.neurons, chunk_neurons,
                 [&](std::int64_t begin, std::int64_t end, std::int64_t, int worker) {
                   for (std::int64_t n = begin; n < end; ++n) {
                     const Gaussian g =
                         gaussian(memory.data + 3 * s.pixels * worker, n, mask_mean, mask_log_var, grid, s);
                     Pulls pulls{0, 0, 0};  // where the sum is NaN the mask is the constant 0
                     if (g.sum == g.sum) pulls = pulls_of(g, dmask + n * s.pixels, s.pixels);
                     const float per_mean = -2 / g.variance * static_cast<float>(s.mean_scale);
                     dmean[2 * n] = pulls.row * per_mean;
                     dmean[2 * n + 1] = pulls.column * per_mean;
                     const float per_log_var = -g.exponential / g.variance * static_cast<float>(s.var_scale);
                     dlog_var[n] = g.clamped ? 0 : pulls.distance * per_log_var;
                   }
                 });
}

}  // namespace

void fill(GaussianMaskKernels<float>& table) { table = {forward, grad_parameters}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
