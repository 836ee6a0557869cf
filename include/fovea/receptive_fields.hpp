// Receptive fields of a trained model.
#pragma once
#include "fovea/evaluation.hpp"
#include "fovea/model.hpp"
#include "fovea/static_data.hpp"

namespace fovea {

/// Gradient of every neuron's rate with respect to the last frames of the stimulus, averaged over the frames
/// of a movie whose window lies inside it: (N, L, H, W) in the model's dtype, oldest frame first, summed over
/// the channels of the stimulus. L is the number of frames that a prediction sees; ShapeError when the movie
/// is shorter. Stimuli as the model sees them (normalised), rates in the unit of its output. ConfigError for
/// a model of images.
Tensor receptive_fields(const Model& model, const std::string& session, std::int64_t frames,
                        const FrameReader& read);

/// Where every neuron of a session responds, found in its training tier without a model: (N,2) f64 on the
/// host, pixels of the image, x (along the width) first; NaN where nothing exceeds chance. The peak of the
/// summed squared correlations of the responses with luminance, its gradient and the gradient's products
/// around a pixel (channel 0, images wider than 64 pixels averaged down to that). ConfigError without
/// training trials.
Tensor locate_receptive_fields(const StaticSession& session, const Device& device = cpu_device());

/// Sets the positions of FullGaussian2d to where neurons respond, for the sessions that both know; neurons
/// that respond nowhere keep theirs. Returns how many moved. Free positions, drawn at random and learnt by
/// gradients of a few pixels' reach, often stay at a wrong place; started here they do not. ConfigError for
/// readouts whose positions are not free.
std::int64_t start_at_receptive_fields(Model& model, const StaticDataSet& data);

/// Writes one SVG with a panel per session: the positions of its FullGaussian2d on the map, centre in the
/// middle, the map's border and the neurons outside of it marked. The same input gives the same bytes; the
/// file appears whole or not at all. ConfigError for models without positions.
void write_position_picture(const std::string& path, const Model& model);

}  // namespace fovea
