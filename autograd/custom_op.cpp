#include "autograd/op.hpp"

namespace fovea {
namespace {

struct CustomBackwardNode final : Node {
  std::string name;
  std::vector<Tensor> inputs;
  Tensor output;
  CustomBackward function;

  void backward(const Tensor& d_output) override {
    const std::vector<Tensor> gradients = function(d_output, inputs, output);
    if (gradients.size() != inputs.size())
      throw ShapeError(
          name, text("backward must return one gradient per input, ", inputs.size(), ": ", gradients.size()));
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Tensor& gradient = gradients[i];
      if (!gradient) continue;
      check_same(name, {inputs[i], gradient});
      check_shape(name, text("gradient of input ", i), gradient, inputs[i].shape());
    }
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (gradients[i]) add_copy(i, gradients[i]);
  }

  /// The function may have returned d_output, a saved tensor or one tensor for two inputs, so that memory
  /// must not become a gradient that others add to.
  void add_copy(std::size_t index, const Tensor& gradient) {
    const GradientBuffer into = input_gradient(index);
    if (!into) return;
    dispatch(name, gradient.dtype(), [&]<class T>() {
      tables<T>(gradient.device())
          .elementwise.add(into.data<T>(), gradient.data<T>(), gradient.elements(), into.mode,
                           queue_of(gradient));
    });
  }
};

}  // namespace

Tensor custom_op(const std::string& name, const std::vector<Tensor>& inputs, CustomForward forward,
                 CustomBackward backward) {
  CustomBackwardNode node;
  for (const Tensor& input : inputs) {
    if (!input) throw ShapeError(name, text("input ", node.inputs.size(), " is undefined"));
    node.inputs.push_back(input.detach());
  }
  {
    const NoGrad guard;
    node.output = forward(node.inputs);
  }
  if (!node.output) throw ShapeError(name, "forward returned an undefined tensor");
  node.output = node.output.detach();
  const Tensor output = node.output.detach();
  if (needs_record(inputs)) {
    node.name = name;
    node.function = std::move(backward);
    record(output, inputs, std::move(node));
  }
  return output;
}

}  // namespace fovea
