// The tables of the hand-written CUDA kernels, for the GPU and for the emulator.
#include "kernels/backends.hpp"
#include "kernels/cuda/kernels.hpp"

namespace fovea {

#if FOVEA_EMULATOR
KernelTables<float> emulator_tables() {
  KernelTables<float> tables;
  emulated::fill(tables.conv3d);
  emulated::fill(tables.sepconv3d);
  emulated::fill(tables.loss);
  emulated::fill(tables.matmul);
  return tables;
}
#endif

#if FOVEA_CUDA
KernelTables<float> cuda_tables() {
  KernelTables<float> tables;
  cuda::fill(tables.conv3d);
  cuda::fill(tables.sepconv3d);
  cuda::fill(tables.loss);
  cuda::fill(tables.matmul);
  return tables;
}
#endif

}  // namespace fovea
