// Validation during training.
#pragma once
#include <atomic>
#include <optional>

#include "data/sampler.hpp"
#include "engine/step_memory.hpp"
#include "fovea/model.hpp"

namespace fovea {

struct ValidationScores {
  double loss =
      0;  ///< val_loss: loss / (B + T_out + N), averaged over batches weighted by B, as openretina logs it
  double metric = 0;  ///< val_evaluation_loss: the model's metric, averaged in the same way
};

struct BatchScores {
  double loss = 0;    ///< mean over neurons where it is one per neuron
  double metric = 0;  ///< likewise
  Shape output;
};

/// Constraints, prediction, loss and metric of one batch, in memory planned by its shapes.
BatchScores validate_batch(const Model& model, StepMemory& memory, const ModelInput& input,
                           const Tensor& responses);

/// One pass through the validation clips; constraints act in place, as in training. Empty when `stop` was
/// raised on the way.
std::optional<ValidationScores> validate(const Model& model, ValidationClips& clips, StepMemory& memory,
                                         const std::atomic<bool>* stop = nullptr);

}  // namespace fovea
