// The tables of the hand-written CUDA kernels, for the GPU and for the emulator.
#include "kernels/backends.hpp"
#include "kernels/cuda/kernels.hpp"

namespace fovea {

#if FOVEA_EMULATOR
KernelTables<float> emulator_tables() {
  KernelTables<float> tables;
  emulated::fill(tables.feature_sum);
  emulated::fill(tables.gaussian_grid);
  emulated::fill(tables.gaussian_mask);
  emulated::fill(tables.loss);
  emulated::fill(tables.mask_readout);
  emulated::fill(tables.point_readout);
  emulated::fill(tables.sepconv3d);
  emulated::fill(tables.temporal_kernel);
  return tables;
}
#endif

#if FOVEA_CUDA
KernelTables<float> cuda_tables() {
  KernelTables<float> tables;
  cuda::fill(tables.feature_sum);
  cuda::fill(tables.gaussian_grid);
  cuda::fill(tables.gaussian_mask);
  cuda::fill(tables.loss);
  cuda::fill(tables.mask_readout);
  cuda::fill(tables.point_readout);
  cuda::fill(tables.sepconv3d);
  cuda::fill(tables.temporal_kernel);
  return tables;
}
#endif

}  // namespace fovea
