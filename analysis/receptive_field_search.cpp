// Where neurons respond, before anything is trained. Local luminance, its gradient and the products of the
// gradient (a structure tensor) see simple and complex cells of any orientation; the squared correlations of
// the six with the responses add up to a map whose peak is the receptive field.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "engine/backend.hpp"
#include "fovea/autograd.hpp"
#include "fovea/firing_rate_encoder.hpp"
#include "fovea/ops.hpp"
#include "fovea/receptive_fields.hpp"
#include "training/trainability.hpp"

namespace fovea {
namespace {

constexpr std::size_t plane_count = 6;
/// Larger images are averaged over squares until their longer side is at most this: widths below are of it.
constexpr std::int64_t longest_side = 64;
constexpr double image_width = 1.0, product_width = 2.0, score_width = 1.5;  // standard deviations in pixels
/// Of trials times the summed squared correlations. With the responses of other images none of 1800 neurons
/// passed it (half peaked at 18, one in a hundred at 27; images of 36 x 64).
constexpr double least_score = 40;
constexpr std::int64_t trials_at_once = 256;

using Plane = std::vector<float>;

struct Grid {
  std::int64_t height, width;
  std::size_t size() const { return static_cast<std::size_t>(height * width); }
};

/// Convolves with a Gaussian; the border is repeated outside.
void smooth(Plane& plane, const Grid& grid, double deviation) {
  const std::int64_t reach = std::lround(3 * deviation);
  std::vector<float> taps;
  double sum = 0;
  for (std::int64_t i = -reach; i <= reach; ++i) {
    const double scaled = static_cast<double>(i) / deviation;
    taps.push_back(static_cast<float>(std::exp(-0.5 * scaled * scaled)));
    sum += taps.back();
  }
  for (float& tap : taps) tap = static_cast<float>(tap / sum);
  const auto pass = [&](std::int64_t lines, std::int64_t line_step, std::int64_t length, std::int64_t step) {
    std::vector<float> padded(static_cast<std::size_t>(length + 2 * reach));
    for (std::int64_t line = 0; line < lines; ++line) {
      float* values = plane.data() + line * line_step;
      for (std::int64_t i = -reach; i < length + reach; ++i)
        padded[static_cast<std::size_t>(i + reach)] =
            values[std::clamp<std::int64_t>(i, 0, length - 1) * step];
      for (std::int64_t i = 0; i < length; ++i) {
        float blurred = 0;
        for (std::size_t k = 0; k < taps.size(); ++k)
          blurred += taps[k] * padded[static_cast<std::size_t>(i) + k];
        values[i * step] = blurred;
      }
    }
  };
  pass(grid.height, grid.width, grid.width, 1);
  pass(grid.width, 1, grid.height, grid.width);
}

/// The planes of channel 0 of an image (H,W,C), averaged over squares of `factor` pixels.
std::array<Plane, plane_count> planes_of(const float* image, const Shape& shape, std::int64_t factor,
                                         const Grid& grid) {
  Plane luminance(grid.size(), 0.0f);
  const std::int64_t width = shape[1], channels = shape[2];
  for (std::int64_t y = 0; y < grid.height * factor; ++y)
    for (std::int64_t x = 0; x < grid.width * factor; ++x)
      luminance[static_cast<std::size_t>(y / factor * grid.width + x / factor)] +=
          image[(y * width + x) * channels] / static_cast<float>(factor * factor);
  smooth(luminance, grid, image_width);
  std::array<Plane, plane_count> planes;
  for (Plane& plane : planes) plane.resize(grid.size());
  auto& [light, across, down, across2, down2, both] = planes;
  light = luminance;
  for (std::int64_t y = 0; y < grid.height; ++y)
    for (std::int64_t x = 0; x < grid.width; ++x) {
      const auto at = [&](std::int64_t row, std::int64_t column) {
        return luminance[static_cast<std::size_t>(std::clamp<std::int64_t>(row, 0, grid.height - 1) *
                                                      grid.width +
                                                  std::clamp<std::int64_t>(column, 0, grid.width - 1))];
      };
      const auto i = static_cast<std::size_t>(y * grid.width + x);
      across[i] = at(y, x + 1) - at(y, x - 1);
      down[i] = at(y + 1, x) - at(y - 1, x);
      across2[i] = across[i] * across[i];
      down2[i] = down[i] * down[i];
      both[i] = across[i] * down[i];
    }
  for (Plane* product : {&across2, &down2, &both}) smooth(*product, grid, product_width);
  return planes;
}

/// Sums of deviations from a fixed value near the mean, which do not cancel.
struct Moments {
  std::vector<double> origin, sum, square;

  void add(const std::vector<float>& values, std::size_t columns) {
    if (origin.empty()) {
      origin.assign(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(columns));
      sum.assign(columns, 0.0);
      square.assign(columns, 0.0);
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double deviation = values[i] - origin[i % columns];
      sum[i % columns] += deviation;
      square[i % columns] += deviation * deviation;
    }
  }
  /// values less the origin, in place
  void center(std::vector<float>& values) const {
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(values[i] - origin[i % origin.size()]);
  }
  double spread(std::size_t column, double count) const {
    return square[column] - sum[column] * sum[column] / count;
  }
};

/// Correlations of responses with planes, trial by trial: sums over the trials seen so far.
class CrossCorrelation {
 public:
  CrossCorrelation(std::int64_t neurons, const Grid& grid, const Device& device)
      : neurons_(static_cast<std::size_t>(neurons)), grid_(grid), device_(device) {}

  /// images (B,H,W,C), responses (B,N)
  void add(const Tensor& images, const Tensor& responses, std::int64_t factor) {
    const Shape& shape = images.shape();
    const auto trials = static_cast<std::size_t>(shape[0]), pixels = grid_.size();
    const std::vector<float> values = images.to_vector<float>();
    std::array<std::vector<float>, plane_count> planes;
    for (std::size_t trial = 0; trial < trials; ++trial) {
      const auto of_trial = planes_of(values.data() + trial * (values.size() / trials),
                                      {shape[1], shape[2], shape[3]}, factor, grid_);
      for (std::size_t k = 0; k < plane_count; ++k)
        planes[k].insert(planes[k].end(), of_trial[k].begin(), of_trial[k].end());
    }
    std::vector<float> rates = responses.to_vector<float>(), by_neuron(rates.size());
    rates_.add(rates, neurons_);
    rates_.center(rates);
    for (std::size_t trial = 0; trial < trials; ++trial)
      for (std::size_t n = 0; n < neurons_; ++n) by_neuron[n * trials + trial] = rates[trial * neurons_ + n];
    const Tensor left = Tensor::from(by_neuron, {responses.shape()[1], shape[0]}, device_);
    for (std::size_t k = 0; k < plane_count; ++k) {
      planes_[k].add(planes[k], pixels);
      planes_[k].center(planes[k]);
      const Tensor right = Tensor::from(planes[k], {shape[0], static_cast<std::int64_t>(pixels)}, device_);
      const std::vector<float> products = matmul(left, right).to_vector<float>();
      products_[k].resize(products.size(), 0.0f);
      for (std::size_t i = 0; i < products.size(); ++i) products_[k][i] += products[i];
    }
    trials_ += static_cast<double>(trials);
  }

  /// The sum of squared correlations of a neuron at every pixel; NaN where it never changed.
  Plane score(std::size_t neuron) const {
    Plane score(grid_.size(), 0.0f);
    const double spread = rates_.spread(neuron, trials_);
    for (std::size_t k = 0; k < plane_count; ++k)
      for (std::size_t p = 0; p < score.size(); ++p) {
        const double of_pixel = planes_[k].spread(p, trials_);
        const double covariance =
            products_[k][neuron * score.size() + p] - rates_.sum[neuron] * planes_[k].sum[p] / trials_;
        if (of_pixel > 0) score[p] += static_cast<float>(covariance * covariance / (of_pixel * spread));
      }
    return score;
  }
  double trials() const { return trials_; }

 private:
  std::size_t neurons_;
  Grid grid_;
  Device device_;
  double trials_ = 0;
  Moments rates_;
  std::array<Moments, plane_count> planes_;
  std::array<std::vector<float>, plane_count> products_;  // (N, pixels)
};

}  // namespace

Tensor locate_receptive_fields(const StaticSession& session, const Device& device) {
  const NoGrad no_grad;
  const std::vector<std::int64_t>& trials = session.trials(Tier::train);
  if (trials.empty())
    throw ConfigError("locate_receptive_fields",
                      text("session ", session.key(), " has no trial of the tier train: ", session.path()));
  const Shape image = session.image_shape();
  const std::int64_t longer = std::max(image[1], image[2]), shorter = std::min(image[1], image[2]);
  const std::int64_t factor = std::min((longer + longest_side - 1) / longest_side, shorter);
  const Grid grid{image[1] / factor, image[2] / factor};
  CrossCorrelation correlation(session.n_neurons(), grid, device);
  for (std::size_t begin = 0; begin < trials.size(); begin += trials_at_once) {
    const std::size_t end = std::min<std::size_t>(begin + trials_at_once, trials.size());
    const StaticBatch batch = session.read({trials.begin() + static_cast<std::ptrdiff_t>(begin),
                                            trials.begin() + static_cast<std::ptrdiff_t>(end)},
                                           {cpu_device(1), DType::f32});
    correlation.add(batch.images, batch.responses, factor);
  }
  std::vector<double> pixels;
  for (std::int64_t n = 0; n < session.n_neurons(); ++n) {
    Plane score = correlation.score(static_cast<std::size_t>(n));
    smooth(score, grid, score_width);
    const auto peak = std::max_element(score.begin(), score.end());
    const bool found = correlation.trials() * *peak > least_score;  // false for NaN
    const std::int64_t at = peak - score.begin();
    const auto center = [&](std::int64_t index) {
      return (static_cast<double>(index) + 0.5) * static_cast<double>(factor) - 0.5;
    };
    pixels.push_back(found ? center(at % grid.width) : std::numeric_limits<double>::quiet_NaN());
    pixels.push_back(found ? center(at / grid.width) : std::numeric_limits<double>::quiet_NaN());
  }
  return Tensor::from(pixels, {session.n_neurons(), 2}, cpu_device(1));
}

std::int64_t start_at_receptive_fields(Model& model, const StaticDataSet& data,
                                       const std::optional<std::vector<std::string>>& sessions) {
  const std::vector<std::string> known = sessions.value_or(model.sessions());
  std::vector<const StaticSession*> chosen;
  for (const StaticSession& session : data.sessions)
    if (std::find(known.begin(), known.end(), session.key()) != known.end()) chosen.push_back(&session);
  check_fits(model, data);
  for (const StaticSession* session : chosen) {
    check_startable(model, session->key());
    check_neurons(model, session->key(), session->n_neurons());
  }
  std::vector<Tensor> pixels;
  pixels.reserve(chosen.size());
  for (const StaticSession* session : chosen)
    pixels.push_back(locate_receptive_fields(*session, model.placement().device));
  std::int64_t placed = 0;
  for (std::size_t i = 0; i < chosen.size(); ++i)
    placed += start_readout_at(model, chosen[i]->key(), pixels[i]);
  return placed;
}

}  // namespace fovea
