// Memory of training before it is run.
#pragma once
#include <optional>

#include "data/sample_form.hpp"
#include "fovea/static_data.hpp"
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

/// Clips of a training batch and of a validation batch.
struct BatchShapes {
  SampleForm form{};
  std::int64_t batch_size = 0, chunk_frames = 0;  ///< of training
  std::int64_t validated = 0, clip_frames = 0;    ///< of validation
  std::int64_t held = 1;                          ///< batches that are read ahead, the one in use included
};

BatchShapes batch_shapes(const Model& model, const DataOptions& options);
BatchShapes batch_shapes(const Model& model, const StaticDataOptions& options);

/// What training with these options holds for the session that needs most, to be called before the model is
/// in an arena. Workspace is a linear function of the number of samples: it is measured at up to four and
/// eight samples on a copy of the model, and carried on from there. Nothing where those would take more than
/// `most` bytes.
std::optional<TrainingMemory> estimate_training_memory(const Model& model, const TrainingOptions& training,
                                                       const BatchShapes& batches, std::size_t most);
inline std::optional<TrainingMemory> estimate_training_memory(const Model& model,
                                                              const TrainingOptions& training,
                                                              const DataOptions& data, std::size_t most) {
  return estimate_training_memory(model, training, batch_shapes(model, data), most);
}

/// DeviceError with the figures where training needs more memory than there is.
void check_training_memory(const Model& model, const TrainingOptions& training, const BatchShapes& batches);
inline void check_training_memory(const Model& model, const TrainingOptions& training,
                                  const DataOptions& data) {
  check_training_memory(model, training, batch_shapes(model, data));
}

}  // namespace fovea
