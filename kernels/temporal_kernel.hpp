// Temporal kernels of the custom separable convolution from their harmonics (openretina,
// compute_temporal_kernel):
//   time_t = t - L, s = exp(log_speed), mask_t = sigmoid(time_t + floor(0.95 L) / s), phase_t = 2 pi s time_t
//   / L temporal[p,t] = sum_k mask_t * ( sin_weights[p,k] * sin(k phase_t) + cos_weights[p,k] * cos(k
//   phase_t) )
#pragma once
#include "engine/queue.hpp"

namespace fovea {

struct TemporalKernelShape {
  std::int64_t pairs;      // O * I
  std::int64_t harmonics;  // K
  std::int64_t length;     // L
};

template <class T>
struct TemporalKernelKernels {
  // temporal (pairs, L) <- sin_weights, cos_weights (pairs, K), log_speed (1)
  void (*forward)(T* temporal, const T* sin_weights, const T* cos_weights, const T* log_speed,
                  const TemporalKernelShape&, const Queue&);
  // dsin, dcos (pairs, K) <- dtemporal (pairs, L)
  void (*grad_weights)(T* dsin, T* dcos, const T* dtemporal, const T* log_speed, const TemporalKernelShape&,
                       Write sin_mode, Write cos_mode, const Queue&);
};

}  // namespace fovea
