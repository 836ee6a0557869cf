#include "data/static_transform.hpp"

#include <algorithm>
#include <cmath>

namespace fovea {

std::vector<double> response_divisors(const std::vector<double>& deviations) {
  double sum = 0, count = 0;
  for (const double deviation : deviations) {
    if (std::isnan(deviation)) continue;
    sum += deviation;
    ++count;
  }
  const double threshold = 0.01 * sum / count;
  if (!(threshold > 0) || !std::isfinite(threshold)) return {};
  std::vector<double> divisors = deviations;
  for (double& divisor : divisors)
    if (!(divisor > threshold)) divisor = threshold;
  return divisors;
}

std::int64_t rescaled_size(std::int64_t size, double scale) {
  const double exact = static_cast<double>(size) * scale;
  // The default rounding mode: half to even.
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::nearbyint(exact)));
}

RescaledAxis::RescaledAxis(std::int64_t size, std::int64_t target) {
  // Mirrored without repeating the edge.
  const auto mirrored = [&](std::int64_t i) {
    if (size == 1) return std::int64_t{0};
    const std::int64_t period = 2 * (size - 1);
    const std::int64_t inside = ((i % period) + period) % period;
    return std::min(inside, period - inside);
  };
  const double step = static_cast<double>(size) / static_cast<double>(target);
  for (std::int64_t o = 0; o < target; ++o) {
    const double place = (static_cast<double>(o) + 0.5) * step - 0.5;
    const auto low = static_cast<std::int64_t>(std::floor(place));
    samples.push_back({mirrored(low), mirrored(low + 1), place - static_cast<double>(low)});
  }
}

namespace {

std::int64_t plane_count(const StaticDataOptions& options) {
  return (options.include_behavior && options.add_behavior_as_channels ? 3 : 0) +
         (options.add_eye_pos_as_channels ? 2 : 0);
}

void append_planes(std::vector<double>& image, const std::vector<double>& values, std::int64_t pixels) {
  for (const double value : values) image.insert(image.end(), static_cast<std::size_t>(pixels), value);
}

}  // namespace

Shape transformed_shape(const Shape& stored, const StaticDataOptions& options) {
  std::int64_t channels = stored[0] + plane_count(options);
  if (const auto& chosen = options.select_input_channel) {
    if (*chosen >= channels)
      throw ConfigError("data", text("select_input_channel: images have ", channels, " channels: ", *chosen));
    channels = 1;
  }
  return {channels, rescaled_size(stored[1], options.scale), rescaled_size(stored[2], options.scale)};
}

std::vector<double> transform_image(std::vector<double> image, const Shape& stored, const StaticTrial& trial,
                                    const StaticDataOptions& options, const Shape& shape) {
  const std::int64_t height = stored[1], width = stored[2], pixels = height * width;
  if (options.include_behavior && options.add_behavior_as_channels)
    append_planes(image, trial.behavior, pixels);
  if (options.add_eye_pos_as_channels) append_planes(image, trial.pupil_center, pixels);
  const std::int64_t first = options.select_input_channel.value_or(0);
  const RescaledAxis rows(height, shape[1]), columns(width, shape[2]);
  const bool same_size = shape[1] == height && shape[2] == width;
  std::vector<double> result(static_cast<std::size_t>(shape.elements()));
  for (std::int64_t c = 0; c < shape[0]; ++c) {
    const double* plane = image.data() + (first + c) * pixels;
    double* out = result.data() + c;
    for (std::int64_t y = 0; y < shape[1]; ++y) {
      const RescaledAxis::Sample& row = rows.samples[static_cast<std::size_t>(y)];
      for (std::int64_t x = 0; x < shape[2]; ++x, out += shape[0]) {
        if (same_size) {
          *out = plane[y * width + x];
          continue;
        }
        const RescaledAxis::Sample& column = columns.samples[static_cast<std::size_t>(x)];
        const auto along_row = [&](std::int64_t at) {
          const double* line = plane + at * width;
          return line[column.low] * (1 - column.weight) + line[column.high] * column.weight;
        };
        *out = along_row(row.low) * (1 - row.weight) + along_row(row.high) * row.weight;
      }
    }
  }
  return result;
}

}  // namespace fovea
