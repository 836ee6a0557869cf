#include "fovea/gradients.hpp"

#include "fovea/autograd.hpp"
#include "fovea/ops.hpp"

namespace fovea {
namespace {

/// A private leaf with the values of `tensor`.
Tensor leaf(const Tensor& tensor) {
  if (!tensor) return tensor;
  Tensor copy = tensor.clone();
  copy.set_requires_grad();
  return copy;
}

Tensor gradient_or_zeros(const Tensor& tensor) {
  const Tensor gradient = tensor.grad();
  return gradient ? gradient : zeros_like(tensor);
}

}  // namespace

Gradients gradients(const Model& model, const GradientsInput& input, const Pass& pass) {
  const std::unique_ptr<Model> copy = model.clone();
  const std::vector<NamedTensor> tensors = copy->tensors();
  for (const NamedTensor& one : tensors)
    if (one.role == Role::parameter) Tensor(one.tensor).set_requires_grad();
  copy->apply_constraints(input.session);

  Gradients result;
  const Tensor stimulus = leaf(input.stimulus), pupil = leaf(input.pupil_center);
  const Tensor output = copy->forward({input.session, to_channels_last(stimulus), pupil, input.noise}, pass);
  result.output = output.detach();
  const Tensor loss = copy->loss(output, input.responses);
  if (loss.elements() != 1)
    throw ConfigError("gradients", text("needs a loss of one number, not one per neuron: ", loss.shape()));
  const Placement& placement = copy->placement();
  const auto or_zero = [&](const Tensor& term) {
    return term ? term : Tensor::scalar(0.0, placement.dtype, placement.device);
  };
  const Tensor core = or_zero(copy->core_regularizer());
  const Tensor readout = or_zero(copy->readout_regularizer(input.session));
  const Tensor total = weighted_sum({loss, core, readout}, {1.0, 1.0, 1.0});
  result.loss = loss.detach();
  result.core_regularizer = core.detach();
  result.readout_regularizer = readout.detach();
  result.total = total.detach();
  backward(total);

  for (const NamedTensor& one : tensors) {
    if (one.role == Role::parameter) result.parameters.emplace_back(one.name, gradient_or_zeros(one.tensor));
    if (one.role == Role::statistic && pass.training) result.statistics.emplace_back(one.name, one.tensor);
  }
  result.stimulus = gradient_or_zeros(stimulus);
  if (pupil) result.pupil_center = gradient_or_zeros(pupil);
  return result;
}

}  // namespace fovea
