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

/// The pupil centres of so many samples, [B,2] or [B,3] as the model's shifter takes them; a single sample
/// needs no batch axis. Undefined where the model has no shifter. ConfigError where it has one and `path` is
/// empty, or has none and it is not.
StoredArray open_pupil(const Model& model, const std::string& path, std::int64_t samples);

/// The standard normal draws of a training pass over so many samples, in the model's noise_shape. Undefined
/// where `path` is empty; ConfigError where it is not and the pass is none of training or the model does not
/// sample.
StoredArray open_noise(const Model& model, const std::string& session, const std::string& path,
                       std::int64_t samples, bool training);

/// All values, in the shape of the file. FormatError where one is not finite.
Tensor read_values(const StoredArray& array, const Placement& placement,
                   const Normalization& normalization = {});

/// Entries [begin, end) of the first axis: images [B,C,H,W] as (B,H,W,C), pupil centres [B,P] as they are.
/// FormatError where a value is not finite.
Tensor read_entries(const StoredArray& array, std::int64_t begin, std::int64_t end,
                    const Placement& placement, const Normalization& normalization = {});

}  // namespace fovea::cli
