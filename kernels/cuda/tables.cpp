// The tables of the hand-written CUDA kernels, for the GPU and for the emulator.
#include "kernels/backends.hpp"
#include "kernels/cuda/kernels.hpp"

namespace fovea {

#if FOVEA_EMULATOR
KernelTables<float> emulator_tables() {
  using namespace emulated;
  KernelTables<float> tables;
  fill(tables.activation);
  fill(tables.batch_norm);
  fill(tables.conv3d);
  fill_correlation(tables.loss);
  fill(tables.elementwise);
  fill(tables.feature_sum);
  fill(tables.frames);
  fill(tables.gather);
  fill(tables.gaussian_grid);
  fill(tables.gaussian_mask);
  fill_laplace(tables.regularizer);
  fill(tables.mask_readout);
  fill(tables.matmul);
  fill(tables.normalize_rows);
  fill(tables.optimizer);
  fill(tables.point_readout);
  fill_poisson(tables.loss);
  fill(tables.random);
  fill_regularizers(tables.regularizer);
  fill(tables.sepconv3d);
  fill(tables.temporal_kernel);
  return tables;
}
#endif

#if FOVEA_CUDA
KernelTables<float> cuda_tables() {
  using namespace cuda;
  KernelTables<float> tables;
  fill(tables.activation);
  fill(tables.batch_norm);
  fill(tables.conv3d);
  fill_correlation(tables.loss);
  fill(tables.elementwise);
  fill(tables.feature_sum);
  fill(tables.frames);
  fill(tables.gather);
  fill(tables.gaussian_grid);
  fill(tables.gaussian_mask);
  fill_laplace(tables.regularizer);
  fill(tables.mask_readout);
  fill(tables.matmul);
  fill(tables.normalize_rows);
  fill(tables.optimizer);
  fill(tables.point_readout);
  fill_poisson(tables.loss);
  fill(tables.random);
  fill_regularizers(tables.regularizer);
  fill(tables.sepconv3d);
  fill(tables.temporal_kernel);
  return tables;
}
#endif

}  // namespace fovea
