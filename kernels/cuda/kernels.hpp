// The hand-written CUDA kernels: what each .cu file puts into which member of the table. Compiled by nvcc in
// namespace cuda, for the emulator in namespace emulated, for the profiler in namespace profiled.
#pragma once
#include "kernels/tables.hpp"

// clang-format off
#define FOVEA_CUDA_FILLS(X)                                                                       \
  X(fill, ActivationKernels, activation)                                                          \
  X(fill, BatchNormKernels, batch_norm)                                                           \
  X(fill, Conv3dKernels, conv3d)                                                                  \
  X(fill_correlation, LossKernels, loss)                                                          \
  X(fill, ElementwiseKernels, elementwise)                                                        \
  X(fill, FeatureSumKernels, feature_sum)                                                         \
  X(fill, FramesKernels, frames)                                                                  \
  X(fill, GatherKernels, gather)                                                                  \
  X(fill, GaussianGridKernels, gaussian_grid)                                                     \
  X(fill, GaussianMaskKernels, gaussian_mask)                                                     \
  X(fill_laplace, RegularizerKernels, regularizer)                                                \
  X(fill, MaskReadoutKernels, mask_readout)                                                       \
  X(fill, MatmulKernels, matmul)                                                                  \
  X(fill, NormalizeRowsKernels, normalize_rows)                                                   \
  X(fill, OptimizerKernels, optimizer)                                                            \
  X(fill, PointReadoutKernels, point_readout)                                                     \
  X(fill_poisson, LossKernels, loss)                                                              \
  X(fill, RandomKernels, random)                                                                  \
  X(fill_regularizers, RegularizerKernels, regularizer)                                           \
  X(fill, SepConv3dKernels, sepconv3d)                                                            \
  X(fill, TemporalKernelKernels, temporal_kernel)
// clang-format on

namespace fovea {

#define X(function, kernels, member) void function(kernels<float>& table);
namespace cuda {
FOVEA_CUDA_FILLS(X)
}  // namespace cuda

namespace emulated {
FOVEA_CUDA_FILLS(X)
}  // namespace emulated

namespace profiled {
FOVEA_CUDA_FILLS(X)
}  // namespace profiled
#undef X

}  // namespace fovea
