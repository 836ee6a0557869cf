#include <algorithm>
#include <cmath>
#include <numbers>

#include "data/random_draws.hpp"
#include "data/simulated_cortex.hpp"

namespace fovea {
namespace {

constexpr double mean_luminance = 113, luminance_deviation = 50;  // 55 with the contrasts, and clipped
constexpr double contrast_spread = 0.5;                           // standard deviation of the log contrast
constexpr double negligible_amplitude = 1e-4;  // of an envelope's wave, whose largest has about 1

/// The waves that fit a period: cos and sin of 2 pi k i / period for i = 0 .. period - 1.
class Waves {
 public:
  explicit Waves(std::int64_t period) : period_(period) {
    for (std::int64_t k = 0; k < period; ++k)
      for (std::int64_t i = 0; i < period; ++i) {
        const auto turns = static_cast<double>(k * i % period) / static_cast<double>(period);
        cosines_.push_back(std::cos(2 * std::numbers::pi * turns));
        sines_.push_back(std::sin(2 * std::numbers::pi * turns));
      }
  }
  /// k may be negative: the wave that runs the other way.
  const double* cosine(std::int64_t k) const { return cosines_.data() + row(k); }
  const double* sine(std::int64_t k) const { return sines_.data() + row(k); }

 private:
  std::int64_t row(std::int64_t k) const { return (k < 0 ? k + period_ : k) * period_; }
  std::int64_t period_;
  std::vector<double> cosines_, sines_;
};

/// Gaussian random fields on a periodic grid, as sums of all its waves with random phases: by columns first,
/// then by rows, so that no image needs more than H W (H + W) steps.
class RandomFields {
 public:
  RandomFields(std::int64_t height, std::int64_t width)
      : height_(height), width_(width), down_(height), right_(width) {}

  /// [H, W] of zero mean and unit variance; amplitude(f) is that of waves of f cycles per pixel.
  template <class Amplitude>
  std::vector<double> draw(RandomDraws& draws, const Amplitude& amplitude) const {
    std::vector<double> field(static_cast<std::size_t>(height_ * width_), 0.0);
    std::vector<double> cosine(static_cast<std::size_t>(height_)), sine(cosine.size());
    const std::int64_t highest_down = (height_ - 1) / 2, highest_right = (width_ - 1) / 2;
    for (std::int64_t v = 0; v <= highest_right; ++v) {
      std::fill(cosine.begin(), cosine.end(), 0.0);
      std::fill(sine.begin(), sine.end(), 0.0);
      // The wave (-u, -v) is the wave (u, v) once more.
      for (std::int64_t u = v == 0 ? 1 : -highest_down; u <= highest_down; ++u) {
        const double f = std::hypot(static_cast<double>(u) / static_cast<double>(height_),
                                    static_cast<double>(v) / static_cast<double>(width_));
        const double size = amplitude(f);
        if (size < negligible_amplitude) continue;
        const double a = size * draws.normal(), b = size * draws.normal();
        const double *c = down_.cosine(u), *s = down_.sine(u);
        for (std::size_t y = 0; y < cosine.size(); ++y) {
          cosine[y] += a * c[y] + b * s[y];
          sine[y] += b * c[y] - a * s[y];
        }
      }
      add_wave(field, v, cosine, sine);
    }
    standardize(field);
    return field;
  }

 private:
  /// Adds cosine(y) cos(2 pi v x / W) + sine(y) sin(2 pi v x / W).
  void add_wave(std::vector<double>& field, std::int64_t v, const std::vector<double>& cosine,
                const std::vector<double>& sine) const {
    const double *c = right_.cosine(v), *s = right_.sine(v);
    auto out = field.begin();
    for (std::size_t y = 0; y < cosine.size(); ++y)
      for (std::int64_t x = 0; x < width_; ++x) *out++ += cosine[y] * c[x] + sine[y] * s[x];
  }

  static void standardize(std::vector<double>& field) {
    double mean = 0, variance = 0;
    for (const double value : field) mean += value / static_cast<double>(field.size());
    for (const double value : field)
      variance += (value - mean) * (value - mean) / static_cast<double>(field.size());
    for (double& value : field) value = (value - mean) / std::sqrt(variance);
  }

  std::int64_t height_, width_;
  Waves down_, right_;
};

}  // namespace

std::vector<std::uint8_t> natural_textures(std::int64_t count, std::int64_t height, std::int64_t width,
                                           std::uint64_t seed, std::uint32_t set) {
  const RandomFields fields(height, width);
  const auto scale_free = [](double f) { return 1 / f; };
  const double reach = 0.5 * static_cast<double>(std::min(height, width));
  const auto smooth = [&](double f) { return std::exp(-(f * reach) * (f * reach)); };
  std::vector<std::uint8_t> images;
  images.reserve(static_cast<std::size_t>(count * height * width));
  for (std::int64_t i = 0; i < count; ++i) {
    RandomDraws draws(
        {seed, static_cast<std::uint32_t>(CortexStream::textures), set, static_cast<std::uint32_t>(i)});
    const std::vector<double> contrast = fields.draw(draws, smooth), texture = fields.draw(draws, scale_free);
    for (std::size_t p = 0; p < texture.size(); ++p) {
      const double luminance =
          mean_luminance + luminance_deviation * texture[p] * std::exp(contrast_spread * contrast[p]);
      images.push_back(static_cast<std::uint8_t>(std::clamp(std::round(luminance), 0.0, 255.0)));
    }
  }
  return images;
}

}  // namespace fovea
