// One task per block of neurons, which goes through the batch; the sums over neurons are one task per image.
// Scalar arithmetic: there is little of it per value moved.
#include "kernels/gaussian_grid.hpp"

#include "engine/simd_math.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t block_neurons = 128;

/// The noise of one point; zeros where there is none.
struct Noise {
  float e[2];
};

FOVEA_INLINE Noise noise_of(const float* noise, std::int64_t b, std::int64_t n, const GaussianGridShape& s) {
  if (!noise) return {{0, 0}};
  const float* own = noise + ((s.noise_batch == 1 ? 0 : b) * s.neurons + n) * 2;
  return {{own[0], own[1]}};
}

/// mu[n,i] + d[n,i], before the clamp.
template <int sigma_size>
FOVEA_INLINE float drawn(const float* mu, const float* sigma, const Noise& noise, std::int64_t n, int i) {
  const float* own = sigma + n * sigma_size;
  if constexpr (sigma_size == 4)
    return mu[2 * n + i] + (own[2 * i] * noise.e[0] + own[2 * i + 1] * noise.e[1]);
  return mu[2 * n + i] + own[sigma_size == 2 ? i : 0] * noise.e[i];
}

/// body(SigmaSize<size>): the loops inside know the size.
template <int size>
struct SigmaSize {
  static constexpr int value = size;
};
template <class Body>
FOVEA_INLINE void with_sigma_size(std::int64_t size, const Body& body) {
  if (size == 4) return body(SigmaSize<4>{});
  if (size == 2) return body(SigmaSize<2>{});
  body(SigmaSize<1>{});
}

void forward(float* g, const float* mu, const float* sigma, const float* noise, const float* shift,
             const GaussianGridShape& s, const Queue& queue) {
  for_each_chunk(queue, s.neurons, block_neurons,
                 [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
                   with_sigma_size(s.sigma_size, [&](auto size) {
                     for (std::int64_t b = 0; b < s.batch; ++b)
                       for (std::int64_t n = begin; n < end; ++n) {
                         const Noise own = noise_of(noise, b, n, s);
                         for (int i = 0; i < 2; ++i) {
                           const float value = drawn<size.value>(mu, sigma, own, n, i);
                           const float clamped = value < -1 ? -1 : value > 1 ? 1 : value;  // keeps NaN
                           g[(b * s.neurons + n) * 2 + i] = clamped + (shift ? shift[2 * b + i] : 0);
                         }
                       }
                   });
                 });
}

/// Sums of one neuron over the batch.
template <int sigma_size>
struct PointGradient {
  double mu[2], sigma[sigma_size];
};

template <int sigma_size>
FOVEA_INLINE void add_gradient(PointGradient<sigma_size>& sum, const float* dg, const float* mu,
                               const float* sigma, const Noise& noise, std::int64_t n) {
  for (int i = 0; i < 2; ++i) {
    const float value = drawn<sigma_size>(mu, sigma, noise, n, i);
    const double d = value > -1 && value < 1 ? static_cast<double>(dg[i]) : 0;
    sum.mu[i] += d;
    if constexpr (sigma_size == 4) {
      sum.sigma[2 * i] += d * static_cast<double>(noise.e[0]);
      sum.sigma[2 * i + 1] += d * static_cast<double>(noise.e[1]);
    } else {
      sum.sigma[sigma_size == 2 ? i : 0] += d * static_cast<double>(noise.e[i]);
    }
  }
}

FOVEA_INLINE void write_sum(float& to, double sum, Write mode) {
  to = static_cast<float>(mode == Write::accumulate ? static_cast<double>(to) + sum : sum);
}

void grad_shift(float* dshift, const float* dg, const GaussianGridShape& s, Write mode, const Queue& queue) {
  for_each_task(queue, s.batch, [&](std::int64_t b, int) {
    double sums[2] = {0, 0};
    for (std::int64_t n = 0; n < s.neurons; ++n)
      for (int i = 0; i < 2; ++i) sums[i] += static_cast<double>(dg[(b * s.neurons + n) * 2 + i]);
    for (int i = 0; i < 2; ++i) write_sum(dshift[2 * b + i], sums[i], mode);
  });
}

void grad(float* dmu, float* dsigma, float* dshift, const float* dg, const float* mu, const float* sigma,
          const float* noise, const GaussianGridShape& s, Write mu_mode, Write sigma_mode, Write shift_mode,
          const Queue& queue) {
  if (dshift) grad_shift(dshift, dg, s, shift_mode, queue);
  if (!dmu && !dsigma) return;
  for_each_chunk(queue, s.neurons, block_neurons,
                 [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
                   with_sigma_size(s.sigma_size, [&](auto size) {
                     PointGradient<size.value> sums[block_neurons] = {};
                     for (std::int64_t b = 0; b < s.batch; ++b)
                       for (std::int64_t n = begin; n < end; ++n)
                         add_gradient(sums[n - begin], dg + (b * s.neurons + n) * 2, mu, sigma,
                                      noise_of(noise, b, n, s), n);
                     for (std::int64_t n = begin; n < end; ++n) {
                       for (int i = 0; dmu && i < 2; ++i)
                         write_sum(dmu[2 * n + i], sums[n - begin].mu[i], mu_mode);
                       for (int i = 0; dsigma && i < size.value; ++i)
                         write_sum(dsigma[n * size.value + i], sums[n - begin].sigma[i], sigma_mode);
                     }
                   });
                 });
}

}  // namespace

void fill(GaussianGridKernels<float>& table) { table = {forward, grad}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
