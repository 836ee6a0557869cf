// The .npy files that commands take for a model. What does not fit is a FormatError naming the file.
#pragma once
#include "fovea/model.hpp"
#include "fovea/stored_array.hpp"

namespace fovea::cli {

/// A stimulus must be one sample in PyTorch's order or a batch of them, long enough for a prediction. Returns
/// the shape of one sample's prediction.
Shape check_stimulus(const Model& model, const std::string& session, const StoredArray& stimulus);

/// Responses to so many samples with predictions of this shape: at least as many frames; a single sample
/// needs no batch axis.
void check_responses(const StoredArray& responses, std::int64_t samples, const Shape& prediction);

}  // namespace fovea::cli
