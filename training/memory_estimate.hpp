// Memory of a training step before it is run.
#pragma once
#include <optional>

#include "fovea/model.hpp"
#include "training/options.hpp"

namespace fovea {

/// Bytes of tensor memory (parameters, gradients, moments, activations, one batch) that training with batches
/// of `batch` samples of `frames` frames holds at its peak, for the session that needs most. A step's memory
/// is a linear function of the batch: it is measured at one and two samples on a copy of the model and
/// carried on from there. Nothing where that would take more than a gibibyte: in_shape of a file can claim
/// any number of frames.
std::optional<std::size_t> estimate_step_memory(const Model& model, const TrainingOptions& options,
                                                std::int64_t batch, std::int64_t frames);

}  // namespace fovea
