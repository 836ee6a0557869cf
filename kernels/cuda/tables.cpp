// The tables of the hand-written CUDA kernels, for the GPU and for the emulator.
#include "kernels/backends.hpp"
#include "kernels/cuda/kernels.hpp"

namespace fovea {

#if FOVEA_EMULATOR
KernelTables<float> emulator_tables() {
  KernelTables<float> tables;
#define X(function, kernels, member) emulated::function(tables.member);
  FOVEA_CUDA_FILLS(X)
#undef X
  return tables;
}
#endif

#if FOVEA_CUDA
KernelTables<float> cuda_tables() {
  KernelTables<float> tables;
#define X(function, kernels, member) cuda::function(tables.member);
  FOVEA_CUDA_FILLS(X)
#undef X
  return tables;
}
#endif

}  // namespace fovea
