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

namespace {

double sum_of_extents(const Shape& shape) {
  double sum = 0;
  for (const std::int64_t extent : shape) sum += static_cast<double>(extent);
  return sum;
}

}  // namespace

ValidationScores validate(const Model& model, ValidationClips& clips, StepMemory& memory) {
  ValidationScores sums;
  double samples = 0;
  clips.rewind();
  while (const Batch* batch = clips.next()) {
    const BatchScores scores =
        validate_batch(model, memory, {batch->session, batch->stimulus, {}, {}}, batch->responses);
    const double weight = static_cast<double>(batch->stimulus.shape()[0]);
    sums.loss += weight * scores.loss / sum_of_extents(scores.output);
    sums.metric += weight * scores.metric;
    samples += weight;
  }
  return {sums.loss / samples, sums.metric / samples};
}

TierValidation::TierValidation(const StaticDataSet& data, const Placement& placement)
    : reader_(data, placement.dtype, placement.device) {
  for (std::size_t i = 0; i < data.sessions.size(); ++i) {
    const std::vector<std::int64_t>& trials = data.sessions[i].trials(Tier::validation);
    for (PlannedBatch& batch : batches_of(data, i, trials)) plan_.push_back(std::move(batch));
    const Shape shape{static_cast<std::int64_t>(trials.size()), data.sessions[i].n_neurons()};
    outputs_.emplace_back(shape, placement.dtype, placement.device);
    responses_.emplace_back(shape, placement.dtype, placement.device);
  }
}

ValidationScores TierValidation::run(const Model& model, StepMemory& memory) {
  const NoGrad no_grad;
  ValidationScores sums;
  double samples = 0, neurons = 0;
  std::vector<std::int64_t> done(outputs_.size(), 0);
  reader_.start(plan_);
  while (const Batch* batch = reader_.next()) {
    const ModelInput input{batch->session, batch->stimulus, batch->pupil_center, {}};
    const std::int64_t count = batch->stimulus.shape()[0];
    const StepMemory::Scope scope(memory, text("validate ", batch->stimulus.shape(), ' ', batch->session));
    model.apply_constraints(batch->session);
    const Tensor output = model.forward(input, {});
    sums.loss += static_cast<double>(count) * mean_value(model.loss(output, batch->responses)) /
                 sum_of_extents(output.shape());
    std::int64_t& begin = done[batch->session_index];
    outputs_[batch->session_index].rows(begin, begin + count).copy_from(output);
    responses_[batch->session_index].rows(begin, begin + count).copy_from(batch->responses);
    begin += count;
    samples += static_cast<double>(count);
  }
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    const StepMemory::Scope scope(memory, text("validation metric ", outputs_[i].shape()));
    const auto weight = static_cast<double>(outputs_[i].shape()[1]);
    sums.metric += weight * mean_value(model.metric(outputs_[i], responses_[i]));
    neurons += weight;
  }
  return {sums.loss / samples, sums.metric / neurons};
}

}  // namespace fovea
