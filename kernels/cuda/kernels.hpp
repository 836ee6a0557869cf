// The hand-written CUDA kernels: what each .cu file puts into the table. Compiled by nvcc in namespace cuda,
// for the emulator in namespace emulated.
#pragma once
#include "kernels/tables.hpp"

namespace fovea {

namespace cuda {
void fill(BatchNormKernels<float>& table);
void fill(SepConv3dKernels<float>& table);
void fill_correlation(LossKernels<float>& table);
void fill_poisson(LossKernels<float>& table);
void fill_laplace(RegularizerKernels<float>& table);
void fill_regularizers(RegularizerKernels<float>& table);
}  // namespace cuda

namespace emulated {
void fill(BatchNormKernels<float>& table);
void fill(SepConv3dKernels<float>& table);
void fill_correlation(LossKernels<float>& table);
void fill_poisson(LossKernels<float>& table);
void fill_laplace(RegularizerKernels<float>& table);
void fill_regularizers(RegularizerKernels<float>& table);
}  // namespace emulated

}  // namespace fovea
