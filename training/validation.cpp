#include "training/validation.hpp"

#include "fovea/autograd.hpp"
#include "training/train_step.hpp"

namespace fovea {

BatchScores validate_batch(const Model& model, StepMemory& memory, const ModelInput& input,
                           const Tensor& responses) {
  const NoGrad no_grad;
  const StepMemory::Scope scope(
      memory, text("validate ", input.stimulus.shape(), responses.shape(), ' ', input.session));
  model.apply_constraints(input.session);
  const Tensor output = model.forward(input, {});
  return {mean_value(model.loss(output, responses)), mean_value(model.metric(output, responses)),
          output.shape()};
}

ValidationScores validate(const Model& model, ValidationClips& clips, StepMemory& memory) {
  ValidationScores sums;
  double samples = 0;
  clips.rewind();
  while (const Batch* batch = clips.next()) {
    const BatchScores scores =
        validate_batch(model, memory, {batch->session, batch->stimulus, {}, {}}, batch->responses);
    double extents = 0;
    for (const std::int64_t extent : scores.output) extents += static_cast<double>(extent);
    const double weight = static_cast<double>(batch->stimulus.shape()[0]);
    sums.loss += weight * scores.loss / extents;
    sums.metric += weight * scores.metric;
    samples += weight;
  }
  return {sums.loss / samples, sums.metric / samples};
}

}  // namespace fovea
