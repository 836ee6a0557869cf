// The tables of the hand-written CUDA kernels, for the GPU and for the emulator.
#include "kernels/backends.hpp"
#include "kernels/cuda/kernels.hpp"

namespace fovea {

#if FOVEA_EMULATOR
KernelTables<float> emulator_tables() {
  KernelTables<float> tables;
  emulated::fill(tables.activation);
  emulated::fill(tables.elementwise);
  emulated::fill(tables.frames);
  emulated::fill(tables.gather);
  emulated::fill(tables.sepconv3d);
  emulated::fill(tables.loss);
  emulated::fill(tables.normalize_rows);
  emulated::fill(tables.optimizer);
  emulated::fill(tables.random);
  return tables;
}
#endif

#if FOVEA_CUDA
KernelTables<float> cuda_tables() {
  KernelTables<float> tables;
  cuda::fill(tables.activation);
  cuda::fill(tables.elementwise);
  cuda::fill(tables.frames);
  cuda::fill(tables.gather);
  cuda::fill(tables.sepconv3d);
  cuda::fill(tables.loss);
  cuda::fill(tables.normalize_rows);
  cuda::fill(tables.optimizer);
  cuda::fill(tables.random);
  return tables;
}
#endif

}  // namespace fovea
