// The two ways to compute a factorized readout; the public op chooses by the shape.
#pragma once
#include "autograd/op.hpp"

namespace fovea {

enum class ReadoutWay {
  weights,  // masks times features first: a weight (P*C, N), one product with x
  maps      // x times masks first: maps z (rows, C, N), then the sum over features
};

ReadoutWay readout_way(const MaskReadoutShape& shape);

Tensor factorized_readout(const Tensor& x, const Tensor& masks, const Tensor& features, const Tensor& bias,
                          const FactorizedReadoutOptions& options, ReadoutWay way);

}  // namespace fovea
