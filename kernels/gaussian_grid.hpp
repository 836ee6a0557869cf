// Positions of point readouts, drawn around their means:
//   g[b,n,i] = clamp(mu[n,i] + d[b,n,i], -1, 1) + shift[b,i]
// with d_i = sum_j sigma[n,i,j] e_j of a (2,2) sigma, sigma[n,i] e_i of a (2) one, sigma[n] e_i of a scalar.
// The clamp passes the gradient strictly inside its bounds only.
#pragma once
#include "engine/queue.hpp"

namespace fovea {

struct GaussianGridShape {
  std::int64_t batch, neurons;
  std::int64_t sigma_size;   // values per neuron: 4, 2 or 1
  std::int64_t noise_batch;  // batch, or 1: one draw serves all
};

template <class T>
struct GaussianGridKernels {
  // g (B,N,2) <- mu (N,2), sigma (N, sigma_size), noise (noise_batch,N,2), shift (B,2); a null noise or shift
  // is 0
  void (*forward)(T* g, const T* mu, const T* sigma, const T* noise, const T* shift, const GaussianGridShape&,
                  const Queue&);
  // dmu, dsigma, dshift <- dg (B,N,2); a null output is not computed
  void (*grad)(T* dmu, T* dsigma, T* dshift, const T* dg, const T* mu, const T* sigma, const T* noise,
               const GaussianGridShape&, Write mu_mode, Write sigma_mode, Write shift_mode, const Queue&);
};

}  // namespace fovea
