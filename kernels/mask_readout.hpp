// Readout through one spatial mask and one feature vector per neuron:
//   y[m,n] = activation( scale_n * sum_{p,c} x[m,p,c] * mask[n,p] * features[c,n] + bias_n ),   m over batch
//   and time
// The product of mask and features becomes the weight of one matrix product (kernels/matmul.hpp); these are
// the parts around it.
#pragma once
#include "engine/queue.hpp"
#include "fovea/activation.hpp"

namespace fovea {

struct MaskReadoutShape {
  std::int64_t rows;    // batch * time
  std::int64_t pixels;  // H * W
  std::int64_t channels;
  std::int64_t neurons;
  bool mask_neurons_last;  // mask is (pixels, N) instead of (N, pixels)
  Activation activation;
};

template <class T>
struct MaskReadoutKernels {
  // weight (pixels * C, N) <- mask, features (C, N)
  void (*weight)(T* weight, const T* mask, const T* features, const MaskReadoutShape&, const Queue&);
  // dmask, dfeatures <- dweight (pixels * C, N); a null output is not computed
  void (*grad_weight)(T* dmask, T* dfeatures, const T* dweight, const T* mask, const T* features,
                      const MaskReadoutShape&, Write mask_mode, Write features_mode, const Queue&);
  // y (rows, N) <- z (rows, N); a null scale is 1, a null bias 0
  void (*activate)(T* y, const T* z, const T* scale, const T* bias, const MaskReadoutShape&, const Queue&);
  // dz (rows, N), dscale, dbias (N); null dscale, dbias are not computed
  void (*grad_activate)(T* dz, T* dscale, T* dbias, const T* dy, const T* z, const T* scale, const T* bias,
                        const MaskReadoutShape&, Write scale_mode, Write bias_mode, const Queue&);
};

}  // namespace fovea
