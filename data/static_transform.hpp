// From the arrays of a trial to what a model sees: the transforms of neuralpredictors (normalise, behaviour
// planes, pupil planes, channel selection, rescale, neuron subset), in that order and in f64.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "fovea/static_data.hpp"

namespace fovea {

/// (x - mean) / deviation of every value of one field; one entry, or one per value.
struct FieldNormalization {
  std::vector<double> mean{0}, deviation{1};

  double apply(double value, std::size_t at) const {
    return (value - mean[mean.size() == 1 ? 0 : at]) / deviation[deviation.size() == 1 ? 0 : at];
  }
};

struct TrialNormalization {
  FieldNormalization image, responses, behavior, pupil_center;
};

/// Deviations of responses of all neurons as the reference divides by them: those of at most a hundredth of
/// their mean (NaN left out) count as that hundredth. Empty where that is 0 or nothing is left.
std::vector<double> response_divisors(const std::vector<double>& deviations);

/// Shape (C,H,W) of images of a stored shape after planes, channel selection and rescaling. ConfigError where
/// the selected channel is not there.
Shape transformed_shape(const Shape& stored, const StaticDataOptions& options);

/// Planes (C,H,W) as stored, with those of behaviour and pupil behind them, rescaled to `shape`, as (H,W,C).
std::vector<double> transform_image(std::vector<double> image, const Shape& stored, const StaticTrial& trial,
                                    const StaticDataOptions& options, const Shape& shape);

/// One axis of skimage.transform.rescale without anti-aliasing: output i is (1 - weight) low + weight high.
struct RescaledAxis {
  struct Sample {
    std::int64_t low, high;
    double weight;
  };
  std::vector<Sample> samples;

  RescaledAxis(std::int64_t size, std::int64_t target);
};
/// max(1, round_half_even(size * scale))
std::int64_t rescaled_size(std::int64_t size, double scale);

}  // namespace fovea
