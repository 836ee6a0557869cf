// The tables of the hand-written CUDA kernels, for the GPU and for the emulator.
#include "kernels/backends.hpp"
#include "kernels/cuda/kernels.hpp"

namespace fovea {

#if FOVEA_EMULATOR
KernelTables<float> emulator_tables() {
  KernelTables<float> tables;
  emulated::fill(tables.batch_norm);
  emulated::fill(tables.sepconv3d);
  emulated::fill_correlation(tables.loss);
  emulated::fill_poisson(tables.loss);
  emulated::fill_laplace(tables.regularizer);
  emulated::fill_regularizers(tables.regularizer);
  return tables;
}
#endif

#if FOVEA_CUDA
KernelTables<float> cuda_tables() {
  KernelTables<float> tables;
  cuda::fill(tables.batch_norm);
  cuda::fill(tables.sepconv3d);
  cuda::fill_correlation(tables.loss);
  cuda::fill_poisson(tables.loss);
  cuda::fill_laplace(tables.regularizer);
  cuda::fill_regularizers(tables.regularizer);
  return tables;
}
#endif

}  // namespace fovea
