// The hand-written CUDA kernels: what each .cu file puts into the table. Compiled by nvcc in namespace cuda,
// for the emulator in namespace emulated.
#pragma once
#include "kernels/tables.hpp"

// clang-format off
#define FOVEA_CUDA_FILLS                                                                            \
  void fill(ActivationKernels<float>& table);                                                   \
  void fill(BatchNormKernels<float>& table);                                                    \
  void fill(Conv3dKernels<float>& table);                                                       \
  void fill_correlation(LossKernels<float>& table);                                             \
  void fill(ElementwiseKernels<float>& table);                                                  \
  void fill(FeatureSumKernels<float>& table);                                                   \
  void fill(FramesKernels<float>& table);                                                       \
  void fill(GatherKernels<float>& table);                                                       \
  void fill(GaussianGridKernels<float>& table);                                                 \
  void fill(GaussianMaskKernels<float>& table);                                                 \
  void fill_laplace(RegularizerKernels<float>& table);                                          \
  void fill(MaskReadoutKernels<float>& table);                                                  \
  void fill(MatmulKernels<float>& table);                                                       \
  void fill(NormalizeRowsKernels<float>& table);                                                \
  void fill(OptimizerKernels<float>& table);                                                    \
  void fill(PointReadoutKernels<float>& table);                                                 \
  void fill_poisson(LossKernels<float>& table);                                                 \
  void fill(RandomKernels<float>& table);                                                       \
  void fill_regularizers(RegularizerKernels<float>& table);                                     \
  void fill(SepConv3dKernels<float>& table);                                                    \
  void fill(TemporalKernelKernels<float>& table);
// clang-format on

namespace fovea {

namespace cuda {
FOVEA_CUDA_FILLS
}  // namespace cuda

namespace emulated {
FOVEA_CUDA_FILLS
}  // namespace emulated

}  // namespace fovea
