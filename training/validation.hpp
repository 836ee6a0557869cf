// Validation during training.
#pragma once
#include "data/sampler.hpp"
#include "engine/step_memory.hpp"
#include "fovea/model.hpp"

namespace fovea {

struct ValidationScores {
  /// val_loss: loss / (B + T_out + N), or (B + N) for images, averaged over batches weighted by B, as
  /// openretina logs it
  double loss = 0;
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

/// One pass through the validation clips; constraints act in place, as in training. It cannot be stopped on
/// the way: what a constraint has changed must not be changed again by a second pass.
ValidationScores validate(const Model& model, ValidationClips& clips, StepMemory& memory);

}  // namespace fovea
