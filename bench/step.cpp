#include "bench/step.hpp"

#include "engine/backend.hpp"
#include "fovea/autograd.hpp"
#include "fovea/ops.hpp"
#include "kernels/tables.hpp"

namespace fovea::bench {

ModelInput moved(const ModelInput& input, const Device& device) {
  const auto move = [&](const Tensor& tensor) { return tensor ? tensor.to(device) : tensor; };
  return {input.session, move(input.stimulus), move(input.pupil_center), move(input.noise)};
}

std::unique_ptr<Model> model_on(const Device& device, const Workload& workload, const Model& initial) {
  auto model = make_model(workload.config, {device, DType::f32}, 7);
  const std::vector<NamedTensor> from = initial.tensors(), to = model->tensors();
  for (std::size_t i = 0; i < from.size(); ++i) to[i].tensor.copy_from(from[i].tensor);
  return model;
}

void run_inference(const Model& model, const ModelInput& input) {
  const NoGrad guard;
  (void)model.forward(input, {});
}

void run_step(const Model& model, const ModelInput& input, const Tensor& responses) {
  std::int64_t count = 0;
  for (const NamedTensor& one : model.tensors())
    if (one.role == Role::parameter) {
      Tensor(one.tensor).set_requires_grad();
      count += one.tensor.elements();
    }
  Random random(3);
  model.apply_constraints(input.session);
  {
    const Tensor output = model.forward(input, {true, &random});
    {
      const NoGrad guard;
      (void)model.metric(output.detach(), responses);
    }
    std::vector<Tensor> terms{model.loss(output, responses)};
    for (const Tensor& term : {model.core_regularizer(), model.readout_regularizer(input.session)})
      if (term) terms.push_back(term);
    backward(weighted_sum(terms, std::vector<double>(terms.size(), 1.0)));
  }
  const Device& device = model.placement().device;
  const auto zeros = [&] { return Tensor::zeros({count}, DType::f32, device); };
  const Tensor values = zeros(), average = zeros(), squares = zeros(), gradient = zeros();
  const Queue queue = device.backend().queue();
  double sum = 0;
  tables<float>(device).optimizer.sum_of_squares(&sum, gradient.data<float>(), count, queue);
  tables<float>(device).optimizer.adamw(values.data<float>(), average.data<float>(), squares.data<float>(),
                                        gradient.data<float>(), count, {1e-3, 0.9, 0.999, 1e-8, 0.01, 1, 1},
                                        queue);
}

}  // namespace fovea::bench
