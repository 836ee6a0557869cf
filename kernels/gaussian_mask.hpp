// Normalised Gaussian masks of openretina's GaussianMaskReadout:
//   d2 = |grid - mask_mean * mean_scale|^2 / (exp(clamp(mask_log_var * var_scale, -20, 20)) + 1e-8)
//   pdf = exp(-0.5 min(d2, 20)),  mask[n,p] = pdf / sum_p pdf   (NaN -> 0)
// The clamps pass the gradient strictly inside their bounds only.
#pragma once
#include "engine/queue.hpp"

namespace fovea {

struct GaussianMaskShape {
  std::int64_t neurons, pixels;  // pixels = H * W
  double mean_scale, var_scale;
};

template <class T>
struct GaussianMaskKernels {
  // mask (N, pixels) <- mask_mean (N,2), mask_log_var (N), grid (N, pixels, 2); component 0 is the row axis
  void (*forward)(T* mask, const T* mask_mean, const T* mask_log_var, const T* grid, const GaussianMaskShape&,
                  const Queue&);
  // dmean (N,2), dlog_var (N) <- dmask (N, pixels); always overwritten
  void (*grad_parameters)(T* dmean, T* dlog_var, const T* dmask, const T* mask_mean, const T* mask_log_var,
                          const T* grid, const GaussianMaskShape&, const Queue&);
};

}  // namespace fovea
