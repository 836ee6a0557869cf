// The second half of a factorized readout whose maps were reduced by the masks first:
//   u[m,n] = sum_c z[m,c,n] * features[c,n],   m over batch and time
// z[m,c,n] = sum_p x[m,p,c] mask[n,p] is one matrix product (kernels/matmul.hpp).
#pragma once
#include "engine/queue.hpp"

namespace fovea {

struct FeatureSumShape {
  std::int64_t rows;  // batch * time
  std::int64_t channels;
  std::int64_t neurons;
};

template <class T>
struct FeatureSumKernels {
  // u (rows, N) <- z (rows, C, N), features (C, N)
  void (*forward)(T* u, const T* z, const T* features, const FeatureSumShape&, const Queue&);
  // dz (rows, C, N), always overwritten, and dfeatures (C, N) <- du (rows, N), z, features; a null output is
  // not computed
  void (*grad)(T* dz, T* dfeatures, const T* du, const T* z, const T* features, const FeatureSumShape&,
               Write features_mode, const Queue&);
};

}  // namespace fovea
