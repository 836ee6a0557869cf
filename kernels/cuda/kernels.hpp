// The hand-written CUDA kernels: what each .cu file puts into the table. Compiled by nvcc in namespace cuda,
// for the emulator in namespace emulated.
#pragma once
#include "kernels/tables.hpp"

namespace fovea {

namespace cuda {
void fill(ActivationKernels<float>& table);
void fill(ElementwiseKernels<float>& table);
void fill(FramesKernels<float>& table);
void fill(GatherKernels<float>& table);
void fill(SepConv3dKernels<float>& table);
void fill(LossKernels<float>& table);
void fill(NormalizeRowsKernels<float>& table);
void fill(OptimizerKernels<float>& table);
void fill(RandomKernels<float>& table);
}  // namespace cuda

namespace emulated {
void fill(ActivationKernels<float>& table);
void fill(ElementwiseKernels<float>& table);
void fill(FramesKernels<float>& table);
void fill(GatherKernels<float>& table);
void fill(SepConv3dKernels<float>& table);
void fill(LossKernels<float>& table);
void fill(NormalizeRowsKernels<float>& table);
void fill(OptimizerKernels<float>& table);
void fill(RandomKernels<float>& table);
}  // namespace emulated

}  // namespace fovea
