// Readout of one point per neuron, interpolated between pixels:
//   y[b,n] = sum_c features[c,n] * bilinear(x[b,:,:,c], grid[b,n]) + bias_n
// bilinear is PyTorch's grid_sample with zeros padding. The position along an axis of L pixels is
//   (g + 1) / 2 * (L - 1) when align_corners, else ((g + 1) * L - 1) / 2;
// it lies between the pixels floor(position) and floor(position) + 1, and one that does not exist counts 0 in
// values and gradients. A position further outside than the first missing pixel, or NaN, gives zeros.
#pragma once
#include "engine/queue.hpp"

namespace fovea {

struct PointReadoutShape {
  std::int64_t batch, height, width, channels, neurons;
  bool shared_grid;  // grid is (1,N,2) instead of (B,N,2)
  bool align_corners;
};

template <class T>
struct PointReadoutKernels {
  // y (B,N) <- x (B,H,W,C), grid (..,N,2) with component 0 along the width, features (C,N), bias (N) or null
  void (*forward)(T* y, const T* x, const T* grid, const T* features, const T* bias, const PointReadoutShape&,
                  const Queue&);
  // dx (B,H,W,C) <- dy (B,N)
  void (*grad_input)(T* dx, const T* dy, const T* grid, const T* features, const PointReadoutShape&, Write,
                     const Queue&);
  // dgrid, dfeatures, dbias <- dy (B,N); a null output is not computed
  void (*grad_points)(T* dgrid, T* dfeatures, T* dbias, const T* dy, const T* x, const T* grid,
                      const T* features, const PointReadoutShape&, Write grid_mode, Write features_mode,
                      Write bias_mode, const Queue&);
};

}  // namespace fovea
