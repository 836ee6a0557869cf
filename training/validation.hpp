// Validation during training.
#pragma once
#include "data/sampler.hpp"
#include "data/static_sampler.hpp"
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

/// A validation pass over data that it holds, again and again.
class Validation {
 public:
  virtual ~Validation() = default;
  virtual ValidationScores run(const Model& model, StepMemory& memory) = 0;
};

class ClipValidation final : public Validation {
 public:
  explicit ClipValidation(ValidationClips clips) : clips_(std::move(clips)) {}
  ValidationScores run(const Model& model, StepMemory& memory) override {
    return validate(model, clips_, memory);
  }

 private:
  ValidationClips clips_;
};

/// The validation tier of static images, in its order. The loss is averaged as for clips; the metric is that
/// of all trials of a session at once (so that a correlation is one over the whole tier), and its mean over
/// sessions is weighted by their neurons.
class TierValidation final : public Validation {
 public:
  TierValidation(const StaticDataSet& data, const Placement& placement);
  ValidationScores run(const Model& model, StepMemory& memory) override;

 private:
  std::vector<PlannedBatch> plan_;
  StaticReader reader_;
  std::vector<Tensor> outputs_, responses_;  // of all trials, per session
};

}  // namespace fovea
