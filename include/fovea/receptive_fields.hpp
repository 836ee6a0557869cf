// Receptive fields, of a trained model and in the responses alone.
#pragma once
#include <optional>

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
/// host, pixels of the images as the session yields them, x (along the width) first, (0,0) the centre of the
/// first one; NaN where nothing exceeds chance. The peak of the summed squared correlations of the responses
/// with luminance, its gradient and the gradient's products around a pixel (channel 0; images whose longer
/// side passes 64 pixels are averaged over squares first). Takes 24 bytes for each neuron and (averaged)
/// pixel. `device` multiplies. ConfigError without training trials; errors of reading.
Tensor locate_receptive_fields(const StaticSession& session, const Device& device = cpu_device());

/// Starts readouts where neurons respond (start_readout_at): positions of FullGaussian2d, masks of
/// FullFactorized2d, for the sessions that both know, or for some of those; neurons that respond nowhere keep
/// what they have. Returns how many have been started. Free positions, drawn at random and learnt by
/// gradients of a few pixels' reach, often stay at a wrong place; started here they do not, and masks need
/// fewer epochs. For a model that has not been trained. Before anything is read: ConfigError for readouts
/// whose positions are not free (check_startable) and images of another shape, ShapeError for another number
/// of neurons. On an error the model is as it was.
std::int64_t start_at_receptive_fields(Model& model, const StaticDataSet& data,
                                       const std::optional<std::vector<std::string>>& sessions = {});

/// Writes one SVG with a panel per session: the positions of its FullGaussian2d on the map, centre in the
/// middle, the map's border and the neurons outside of it marked. The same input gives the same bytes; the
/// file appears whole or not at all. ConfigError for models without positions.
void write_position_picture(const std::string& path, const Model& model);

}  // namespace fovea
