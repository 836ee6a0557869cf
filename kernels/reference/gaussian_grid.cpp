#include "kernels/gaussian_grid.hpp"

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

/// The noise of one point; zeros where there is none.
template <class T>
struct Noise {
  T e[2] = {0, 0};
};

template <class T>
Noise<T> noise_of(const T* noise, std::int64_t b, std::int64_t n, const GaussianGridShape& s) {
  if (!noise) return {};
  const T* e = noise + ((s.noise_batch == 1 ? 0 : b) * s.neurons + n) * 2;
  return {{e[0], e[1]}};
}

/// mu[n,i] + d[b,n,i], before the clamp.
template <class T>
T drawn(const T* mu, const T* sigma, const Noise<T>& noise, std::int64_t n, int i,
        const GaussianGridShape& s) {
  const T* own = sigma + n * s.sigma_size;
  if (s.sigma_size == 4) return mu[2 * n + i] + (own[2 * i] * noise.e[0] + own[2 * i + 1] * noise.e[1]);
  return mu[2 * n + i] + own[s.sigma_size == 2 ? i : 0] * noise.e[i];
}

template <class T>
void forward(T* g, const T* mu, const T* sigma, const T* noise, const T* shift, const GaussianGridShape& s,
             const Queue&) {
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t n = 0; n < s.neurons; ++n) {
      const Noise<T> own = noise_of(noise, b, n, s);
      for (int i = 0; i < 2; ++i) {
        const T value = drawn(mu, sigma, own, n, i, s);
        const T clamped = value < T(-1) ? T(-1) : value > T(1) ? T(1) : value;  // keeps NaN
        g[(b * s.neurons + n) * 2 + i] = clamped + (shift ? shift[2 * b + i] : T(0));
      }
    }
}

/// Gradients of one neuron over the batch.
template <class T>
struct PointGradient {
  Wide<T> mu[2] = {0, 0}, sigma[4] = {0, 0, 0, 0};
};

template <class T>
PointGradient<T> point_gradient(const T* dg, const T* mu, const T* sigma, const T* noise, std::int64_t n,
                                const GaussianGridShape& s) {
  PointGradient<T> sum;
  for (std::int64_t b = 0; b < s.batch; ++b) {
    const Noise<T> own = noise_of(noise, b, n, s);
    for (int i = 0; i < 2; ++i) {
      const T value = drawn(mu, sigma, own, n, i, s);
      if (!(value > T(-1) && value < T(1))) continue;
      const Wide<T> d = dg[(b * s.neurons + n) * 2 + i];
      sum.mu[i] += d;
      if (s.sigma_size == 4)
        for (int j = 0; j < 2; ++j) sum.sigma[2 * i + j] += d * own.e[j];
      else
        sum.sigma[s.sigma_size == 2 ? i : 0] += d * own.e[i];
    }
  }
  return sum;
}

template <class T>
void grad(T* dmu, T* dsigma, T* dshift, const T* dg, const T* mu, const T* sigma, const T* noise,
          const GaussianGridShape& s, Write mu_mode, Write sigma_mode, Write shift_mode, const Queue&) {
  for (std::int64_t n = 0; (dmu || dsigma) && n < s.neurons; ++n) {
    const PointGradient<T> sum = point_gradient(dg, mu, sigma, noise, n, s);
    for (std::int64_t i = 0; dmu && i < 2; ++i) write(dmu[2 * n + i], static_cast<T>(sum.mu[i]), mu_mode);
    for (std::int64_t i = 0; dsigma && i < s.sigma_size; ++i)
      write(dsigma[n * s.sigma_size + i], static_cast<T>(sum.sigma[i]), sigma_mode);
  }
  for (std::int64_t b = 0; dshift && b < s.batch; ++b)
    for (std::int64_t i = 0; i < 2; ++i) {
      Wide<T> sum = 0;
      for (std::int64_t n = 0; n < s.neurons; ++n) sum += dg[(b * s.neurons + n) * 2 + i];
      write(dshift[2 * b + i], static_cast<T>(sum), shift_mode);
    }
}

}  // namespace

template <class T>
void fill(GaussianGridKernels<T>& table) {
  table = {forward<T>, grad<T>};
}
template void fill(GaussianGridKernels<float>&);
template void fill(GaussianGridKernels<double>&);

}  // namespace fovea::reference
