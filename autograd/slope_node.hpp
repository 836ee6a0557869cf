// Ops whose kernel writes the value and, in the same pass, the slopes d value / d input: losses and
// regularizers. The value is a scalar, or (N) where value n depends on the input elements i with i % N == n.
#pragma once
#include <string_view>
#include <vector>

#include "autograd/op.hpp"

namespace fovea {

struct SlopeBackward final : Node {
  std::vector<Tensor> slopes;  // of each input, undefined where no gradient is needed

  void backward(const Tensor& d_output) override;
};

/// Runs compute.template operator()<T>(value, slopes) and records the node. A slope is undefined where its
/// input needs no gradient: kernels take data_or_null of it.
template <class Compute>
Tensor value_with_slopes(std::string_view op, const std::vector<Tensor>& inputs, const Shape& value_shape,
                         Compute compute) {
  const Tensor& first = inputs.front();
  const Tensor value(value_shape, first.dtype(), first.device());
  SlopeBackward node;
  for (const Tensor& input : inputs)
    node.slopes.push_back(needs_record({input}) ? empty_like(input) : Tensor());
  dispatch(op, first.dtype(),
           [&]<class T>() { compute.template operator()<T>(value.data<T>(), std::as_const(node.slopes)); });
  if (needs_record(inputs)) record(value, inputs, std::move(node));
  return value;
}

}  // namespace fovea
