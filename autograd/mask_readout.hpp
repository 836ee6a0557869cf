// The readout whose masks and features become the weight of one matrix product: the whole of mask_readout and
// one of the ways of factorized_readout.
#pragma once
#include "autograd/op.hpp"

namespace fovea {

/// y (`result`, with shape.rows * N elements) = activation(scale * x weight + bias). All shapes have been
/// checked; scale and bias may be undefined.
Tensor weighted_readout(const char* op, const MaskReadoutShape& shape, const Shape& result, const Tensor& x,
                        const Tensor& mask, const Tensor& features, const Tensor& scale, const Tensor& bias);

}  // namespace fovea
