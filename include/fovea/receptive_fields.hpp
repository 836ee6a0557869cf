// Receptive fields of a trained model.
#pragma once
#include "fovea/evaluation.hpp"
#include "fovea/model.hpp"

namespace fovea {

/// Gradient of every neuron's rate with respect to the last frames of the stimulus, averaged over the frames
/// of a movie whose window lies inside it: (N, L, H, W) in the model's dtype, oldest frame first, summed over
/// the channels of the stimulus. L is the number of frames that a prediction sees; ShapeError when the movie
/// is shorter. Stimuli as the model sees them (normalised), rates in the unit of its output. ConfigError for
/// a model of images.
Tensor receptive_fields(const Model& model, const std::string& session, std::int64_t frames,
                        const FrameReader& read);

/// Writes one SVG with a panel per session: the positions of its FullGaussian2d on the map, centre in the
/// middle, the map's border and the neurons outside of it marked. The same input gives the same bytes; the
/// file appears whole or not at all. ConfigError for models without positions.
void write_position_picture(const std::string& path, const Model& model);

}  // namespace fovea
