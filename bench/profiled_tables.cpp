#include "bench/profiled_tables.hpp"

#include "kernels/cuda/kernels.hpp"

namespace fovea::bench {

KernelTables<float> profiled_tables() {
  KernelTables<float> tables;
#define X(function, kernels, member) profiled::function(tables.member);
  FOVEA_CUDA_FILLS(X)
#undef X
  return tables;
}

}  // namespace fovea::bench
