#include "training/validation.hpp"

#include "fovea/autograd.hpp"
#include "training/train_step.hpp"

namespace fovea {

std::optional<ValidationScores> validate(const Model& model, ValidationClips& clips, StepMemory& memory,
                                         const std::atomic<bool>* stop) {
  const NoGrad no_grad;
  ValidationScores sums;
  double samples = 0;
  clips.rewind();
  while (const Batch* batch = clips.next()) {
    if (stop && stop->load()) return std::nullopt;
    const std::string signature =
        text("validate ", batch->stimulus.shape(), batch->responses.shape(), ' ', batch->session);
    const StepMemory::Scope scope(memory, signature);
    model.apply_constraints(batch->session);
    const Tensor output = model.forward({batch->session, batch->stimulus, {}, {}}, {});
    double extents = 0;
    for (const std::int64_t extent : output.shape()) extents += static_cast<double>(extent);
    const double weight = static_cast<double>(batch->stimulus.shape()[0]);
    sums.loss += weight * mean_value(model.loss(output, batch->responses)) / extents;
    sums.metric += weight * mean_value(model.metric(output, batch->responses));
    samples += weight;
  }
  return ValidationScores{sums.loss / samples, sums.metric / samples};
}

}  // namespace fovea
