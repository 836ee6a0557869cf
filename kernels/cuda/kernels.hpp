// The hand-written CUDA kernels: what each .cu file puts into the table. Compiled by nvcc in namespace cuda,
// for the emulator in namespace emulated.
#pragma once
#include "kernels/tables.hpp"

namespace fovea {

namespace cuda {
void fill(Conv3dKernels<float>& table);
void fill(SepConv3dKernels<float>& table);
void fill(LossKernels<float>& table);
void fill(MatmulKernels<float>& table);
}  // namespace cuda

namespace emulated {
void fill(Conv3dKernels<float>& table);
void fill(SepConv3dKernels<float>& table);
void fill(LossKernels<float>& table);
void fill(MatmulKernels<float>& table);
}  // namespace emulated

}  // namespace fovea
