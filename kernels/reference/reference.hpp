// Filling of the reference tables. Reference kernels are naive loops, templates on the scalar,
// single-threaded: slow, obvious, and the oracle of every other implementation.
#pragma once
#include "kernels/tables.hpp"

namespace fovea::reference {

/// The precision of sums that must not add roundings of their own: double for float.
template <class T>
struct WideOf {
  using type = T;
};
template <>
struct WideOf<float> {
  using type = double;
};
template <class T>
using Wide = typename WideOf<T>::type;

template <class T>
void fill(T* values, std::int64_t count, T value) {
  for (std::int64_t i = 0; i < count; ++i) values[i] = value;
}

/// Writes or adds a gradient.
template <class T>
void write(T& to, T value, Write mode) {
  to = mode == Write::accumulate ? to + value : value;
}

// clang-format off
template <class T> void fill(SepConv3dKernels<T>& table);       // sepconv3d.cpp
template <class T> void fill(Conv3dKernels<T>& table);          // conv3d.cpp
template <class T> void fill(TemporalKernelKernels<T>& table);  // temporal_kernel.cpp
template <class T> void fill(BatchNormKernels<T>& table);       // batch_norm.cpp
template <class T> void fill(MatmulKernels<T>& table);          // matmul.cpp
template <class T> void fill(GaussianMaskKernels<T>& table);    // gaussian_mask.cpp
template <class T> void fill(MaskReadoutKernels<T>& table);     // mask_readout.cpp
template <class T> void fill(FeatureSumKernels<T>& table);      // feature_sum.cpp
template <class T> void fill(PointReadoutKernels<T>& table);    // point_readout.cpp
template <class T> void fill(GaussianGridKernels<T>& table);    // gaussian_grid.cpp
template <class T> void fill(GatherKernels<T>& table);          // gather.cpp
template <class T> void fill(NormalizeRowsKernels<T>& table);   // normalize_rows.cpp
template <class T> void fill(LossKernels<T>& table);            // loss.cpp
template <class T> void fill(RegularizerKernels<T>& table);     // regularizer.cpp
template <class T> void fill(ElementwiseKernels<T>& table);     // elementwise.cpp
template <class T> void fill(ActivationKernels<T>& table);      // activation.cpp
template <class T> void fill(FramesKernels<T>& table);          // frames.cpp
template <class T> void fill(OptimizerKernels<T>& table);       // optimizer.cpp
template <class T> void fill(RandomKernels<T>& table);          // random.cpp
// clang-format on

}  // namespace fovea::reference
