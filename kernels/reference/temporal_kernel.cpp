#include "kernels/temporal_kernel.hpp"

#include <cmath>

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

/// Calls visit(t, k, mask_t sin(k phase_t), mask_t cos(k phase_t)) for every tap and harmonic.
template <class T, class Visit>
void for_each_harmonic(T log_speed, const TemporalKernelShape& s, Visit visit) {
  constexpr T pi = T(3.141592653589793238462643383279502884L);
  const T speed = std::exp(log_speed);
  const T onset = static_cast<T>(std::floor(0.95 * static_cast<double>(s.length)));
  for (std::int64_t t = 0; t < s.length; ++t) {
    const T time = static_cast<T>(t - s.length);
    const T mask = T(1) / (T(1) + std::exp(-(time + onset / speed)));
    const T phase = T(2) * pi * speed * time / static_cast<T>(s.length);
    for (std::int64_t k = 0; k < s.harmonics; ++k) {
      const T angle = static_cast<T>(k) * phase;
      visit(t, k, mask * std::sin(angle), mask * std::cos(angle));
    }
  }
}

template <class T>
void forward(T* temporal, const T* sin_weights, const T* cos_weights, const T* log_speed,
             const TemporalKernelShape& s, const Queue&) {
  fill(temporal, s.pairs * s.length, T(0));
  for_each_harmonic(*log_speed, s, [&](auto t, auto k, T sine, T cosine) {
    for (std::int64_t pair = 0; pair < s.pairs; ++pair) {
      const std::int64_t weight = pair * s.harmonics + k;
      temporal[pair * s.length + t] += sin_weights[weight] * sine + cos_weights[weight] * cosine;
    }
  });
}

template <class T>
void grad_weights(T* dsin, T* dcos, const T* dtemporal, const T* log_speed, const TemporalKernelShape& s,
                  Write sin_mode, Write cos_mode, const Queue&) {
  if (dsin && sin_mode == Write::overwrite) fill(dsin, s.pairs * s.harmonics, T(0));
  if (dcos && cos_mode == Write::overwrite) fill(dcos, s.pairs * s.harmonics, T(0));
  for_each_harmonic(*log_speed, s, [&](auto t, auto k, T sine, T cosine) {
    for (std::int64_t pair = 0; pair < s.pairs; ++pair) {
      const T upstream = dtemporal[pair * s.length + t];
      if (dsin) dsin[pair * s.harmonics + k] += upstream * sine;
      if (dcos) dcos[pair * s.harmonics + k] += upstream * cosine;
    }
  });
}

}  // namespace

template <class T>
void fill(TemporalKernelKernels<T>& table) {
  table = {forward<T>, grad_weights<T>};
}
template void fill(TemporalKernelKernels<float>&);
template void fill(TemporalKernelKernels<double>&);

}  // namespace fovea::reference
