// One training step: what `train` runs for every batch and what the bench measures.
#pragma once
#include <string>

#include "engine/step_memory.hpp"
#include "training/parameter_arena.hpp"

namespace fovea {

/// A loss, regularizer or gradient stopped being finite.
class NonFiniteError : public Error {
 public:
  NonFiniteError(const std::string& what, const std::string& tensor);
  const std::string& tensor() const { return tensor_; }  ///< name of the first tensor that went bad

 private:
  std::string tensor_;
};

/// Training steps of one model. After the first step of a signature (session, shapes, first or later batch of
/// an accumulation) no tensor memory is allocated.
class TrainingStep {
 public:
  /// The model must outlive it; its parameters move into the arena.
  TrainingStep(const Model& model, const TrainingOptions& options);

  struct Settings {
    double learning_rate = 0;
    Random* random = nullptr;  ///< draws of dropout and sampling; null switches them off
    bool last = false;  ///< last batch of an epoch: the optimizer steps even if fewer batches are accumulated
    bool only_memory = false;  ///< the step is made for the memory it takes: no value is wrong
  };

  /// Constraints in place, forward, loss, regularizers, backward and, every accumulate_grad_batches, clipping
  /// and AdamW on the mean gradient. Stimulus channels-last, responses (B,T,N) or (B,N). NonFiniteError
  /// leaves parameters and moments as they were before the step.
  StepLosses run(const ModelInput& input, const Tensor& responses, const Settings& settings);

  /// The first parameter, then statistic, then moment that is not finite; empty when all are.
  std::string first_bad_tensor() const;
  /// Whether gradients of earlier batches wait for an optimizer step.
  bool accumulating() const { return accumulated_ > 0; }
  ParameterArena& arena() { return arena_; }
  const ParameterArena& arena() const { return arena_; }
  StepMemory& memory() { return memory_; }

 private:
  void forward_backward(const ModelInput& input, const Tensor& responses, const Settings& settings,
                        StepLosses& losses);
  [[noreturn]] void report_bad_loss(const ModelInput& input, const Tensor& responses, const Tensor& output,
                                    const StepLosses& losses) const;
  void update(const Settings& settings, const std::string& session, StepLosses& losses);
  void check_gradient(double norm, const std::string& session) const;
  std::string signature(const ModelInput& input, const Tensor& responses) const;

  const Model& model_;
  TrainingOptions options_;
  ParameterArena arena_;
  StepMemory memory_;
  std::int64_t accumulated_ = 0;
};

/// The mean of a loss or metric that may be one value per neuron.
double mean_value(const Tensor& values);

}  // namespace fovea
