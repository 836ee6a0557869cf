// Memory of training before it is run.
#pragma once
#include <optional>

#include "fovea/training.hpp"

namespace fovea {

/// Bytes of tensor memory on the model's device.
struct TrainingMemory {
  std::size_t model = 0;       ///< parameters, gradients, moments, statistics
  std::size_t loading = 0;     ///< most that is held while the model moves into the optimizer's arena
  std::size_t batch = 0;       ///< one training batch
  std::size_t step = 0;        ///< activations and workspace of a training step
  std::size_t clips = 0;       ///< one validation batch
  std::size_t validation = 0;  ///< activations and workspace of a validation batch

  /// Of a training step: what is held while one runs.
  std::size_t training_step() const { return model + batch + step; }
  /// Of a whole training: steps and validation share their workspace.
  std::size_t peak() const;
};

/// What training with these options holds for the session that needs most, to be called before the model is
/// in an arena. Workspace is a linear function of the number of samples: it is measured at up to four and
/// eight samples on a copy of the model, and carried on from there. Nothing where those would take more than
/// `most` bytes.
std::optional<TrainingMemory> estimate_training_memory(const Model& model, const TrainingOptions& training,
                                                       const DataOptions& data, std::size_t most);

/// DeviceError with the figures where training needs more memory than there is.
void check_training_memory(const Model& model, const TrainingOptions& training, const DataOptions& data);

}  // namespace fovea
