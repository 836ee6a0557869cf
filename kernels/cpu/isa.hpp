// What the units built once per instruction set offer: for each op a function that fills its table. To add an
// op: one line here, and its source in the list of meson.build.
#pragma once
#include "kernels/cpu/compiled_isas.hpp"  // FOVEA_COMPILED_ISAS, written by meson.build
#include "kernels/tables.hpp"

// X(name in KernelTables, type of the op's table)
#define FOVEA_CPU_OPS(X)                  \
  X(activation, ActivationKernels)        \
  X(batch_norm, BatchNormKernels)         \
  X(conv3d, Conv3dKernels)                \
  X(elementwise, ElementwiseKernels)      \
  X(feature_sum, FeatureSumKernels)       \
  X(frames, FramesKernels)                \
  X(gaussian_grid, GaussianGridKernels)   \
  X(gaussian_mask, GaussianMaskKernels)   \
  X(loss, LossKernels)                    \
  X(mask_readout, MaskReadoutKernels)     \
  X(matmul, MatmulKernels)                \
  X(normalize_rows, NormalizeRowsKernels) \
  X(optimizer, OptimizerKernels)          \
  X(point_readout, PointReadoutKernels)   \
  X(random, RandomKernels)                \
  X(regularizer, RegularizerKernels)      \
  X(sepconv3d, SepConv3dKernels)          \
  X(temporal_kernel, TemporalKernelKernels)

namespace fovea {

#define DECLARE_OP(name, type) void fill(type<float>& table);
#define DECLARE_ISA(isa)    \
  namespace isa {           \
  FOVEA_CPU_OPS(DECLARE_OP) \
  }
FOVEA_COMPILED_ISAS(DECLARE_ISA)
#undef DECLARE_ISA
#undef DECLARE_OP

}  // namespace fovea
