#include "data/simulated_cortex.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "data/random_draws.hpp"
#include "fovea/error.hpp"

namespace fovea {
namespace {

/// The image size that pixels below are meant for; others are scaled.
constexpr double reference_height = 36, reference_width = 64;
/// Receptive field shift in pixels for each standard deviation of the pupil's position.
constexpr double down_per_pupil = 1.1, right_per_pupil = 1.8;
constexpr double farthest_pupil = 2.5;  // standard deviations
constexpr double filter_reach = 4;      // standard deviations of the Gaussian window
constexpr double running_speed = 9;     // cm/s; where running nears its full effect
constexpr double most_events = 60;
constexpr int variability = 4;  // Gamma shape of one event's size

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

/// To a grid that hides the last bits, which mathematical functions of other machines get differently.
double rounded(double value, double steps) { return std::round(value * steps) / steps; }

/// Subtracts the part of the window that gives zero mean, so that the cell does not see uniform light, and
/// scales to unit norm.
void balance(std::vector<double>& filter, const std::vector<double>& window) {
  double sum = 0, window_sum = 0, energy = 0;
  for (std::size_t p = 0; p < filter.size(); ++p) {
    sum += filter[p];
    window_sum += window[p];
  }
  for (std::size_t p = 0; p < filter.size(); ++p) {
    filter[p] -= window[p] * sum / window_sum;
    energy += filter[p] * filter[p];
  }
  for (double& value : filter) value /= std::sqrt(energy);
}

void make_filters(CorticalCell& cell, std::int64_t height, std::int64_t width) {
  const double reach = filter_reach * cell.spread;
  const auto first = [&](double center) {
    return std::max<std::int64_t>(0, static_cast<std::int64_t>(std::ceil(center - reach)));
  };
  const auto count = [&](double center, std::int64_t size) {
    return std::min(size - 1, static_cast<std::int64_t>(std::floor(center + reach))) - first(center) + 1;
  };
  cell.top = first(cell.row);
  cell.left = first(cell.column);
  cell.rows = count(cell.row, height);
  cell.columns = count(cell.column, width);
  std::vector<double> window;
  for (std::int64_t y = cell.top; y < cell.top + cell.rows; ++y)
    for (std::int64_t x = cell.left; x < cell.left + cell.columns; ++x) {
      const double dy = static_cast<double>(y) - cell.row, dx = static_cast<double>(x) - cell.column;
      const double along = dx * std::cos(cell.orientation) + dy * std::sin(cell.orientation);
      const double angle = 2 * std::numbers::pi * along / cell.wavelength + cell.phase;
      window.push_back(std::exp(-(dx * dx + dy * dy) / (2 * cell.spread * cell.spread)));
      cell.even.push_back(window.back() * std::cos(angle));
      cell.odd.push_back(window.back() * std::sin(angle));
    }
  balance(cell.even, window);
  balance(cell.odd, window);
}

CorticalCell draw_cell(RandomDraws& draws, std::int64_t height, std::int64_t width) {
  const auto h = static_cast<double>(height), w = static_cast<double>(width);
  const double unit = h / reference_height;
  constexpr double turn = 2 * std::numbers::pi;
  CorticalCell cell;
  cell.row = draws.uniform(0.18, 0.82) * h;
  cell.column = draws.uniform(0.12, 0.88) * w;
  cell.orientation = draws.uniform(0, turn / 2);
  cell.phase = draws.uniform(0, turn);
  cell.wavelength = draws.uniform(5, 10) * unit;
  cell.spread = draws.uniform(1.8, 3.2) * unit;
  const double quantile = std::sin(draws.uniform(0, turn / 4));
  cell.complexity = quantile * quantile;  // arcsine law: most cells are near one end
  cell.exponent = draws.uniform(1.0, 1.8);
  cell.size_gain = draws.uniform(-0.05, 0.25);
  cell.run_gain = draws.uniform(-0.1, 0.5);
  cell.base = draws.uniform(0.05, 0.3);
  cell.amplitude = draws.uniform(0.8, 2.5);
  cell.scale = std::exp(0.6 * draws.normal());
  make_filters(cell, height, width);
  return cell;
}

/// Mean and population deviation of column `column` of [T, columns].
struct Moments {
  double mean = 0, deviation = 0;
  Moments(const std::vector<double>& values, std::size_t column, std::size_t columns) {
    const std::size_t rows = values.size() / columns;
    const auto count = static_cast<double>(rows);
    for (std::size_t i = column; i < values.size(); i += columns) mean += values[i] / count;
    for (std::size_t i = column; i < values.size(); i += columns)
      deviation += (values[i] - mean) * (values[i] - mean) / count;
    deviation = std::sqrt(deviation);
  }
  double score(double value) const { return deviation > 0 ? (value - mean) / deviation : 0; }
};

/// The image sampled at (y + down, x + right): two neighbours of each output row and column and their
/// weights.
struct Sampling {
  std::vector<std::int64_t> near, far;
  std::vector<double> weight;  // of far
  Sampling(std::int64_t size, double shift) {
    for (std::int64_t i = 0; i < size; ++i) {
      const double place = std::clamp(static_cast<double>(i) + shift, 0.0, static_cast<double>(size - 1));
      near.push_back(static_cast<std::int64_t>(place));
      far.push_back(std::min(near.back() + 1, size - 1));
      weight.push_back(place - static_cast<double>(near.back()));
    }
  }
};

std::vector<double> shifted(const std::uint8_t* image, std::int64_t height, std::int64_t width,
                            const PixelShift& shift) {
  const Sampling down(height, shift.down), right(width, shift.right);
  std::vector<double> result;
  result.reserve(index(height * width));
  for (std::size_t y = 0; y < index(height); ++y) {
    const std::uint8_t *upper = image + down.near[y] * width, *lower = image + down.far[y] * width;
    for (std::size_t x = 0; x < index(width); ++x) {
      const auto across = [&](const std::uint8_t* row) {
        return (1 - right.weight[x]) * row[right.near[x]] + right.weight[x] * row[right.far[x]];
      };
      result.push_back((1 - down.weight[y]) * across(upper) + down.weight[y] * across(lower));
    }
  }
  return result;
}

double drive_of(const CorticalCell& cell, const std::vector<double>& image, std::int64_t width) {
  double even = 0, odd = 0;
  std::size_t p = 0;
  for (std::int64_t y = cell.top; y < cell.top + cell.rows; ++y) {
    const double* row = image.data() + y * width + cell.left;
    for (std::int64_t x = 0; x < cell.columns; ++x, ++p) {
      even += cell.even[p] * row[x];
      odd += cell.odd[p] * row[x];
    }
  }
  return (1 - cell.complexity) * std::max(even, 0.0) + cell.complexity * std::sqrt(even * even + odd * odd);
}

}  // namespace

void check(const SimulatedCortexOptions& options) {
  const auto within = [](const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
    if (value < least) throw ConfigError("simulate", text(name, " must be at least ", least, ": ", value));
    if (value > most) throw ConfigError("simulate", text(name, " must be at most ", most, ": ", value));
  };
  within("neurons", options.neurons, 1, 100'000);
  within("frames", options.frames, 10, 1'000'000);
  within("test_images", options.test_images, 2, 10'000);
  within("repeats", options.repeats, 1, 1000);
  within("height", options.height, 16, 1024);
  within("width", options.width, 16, 1024);
}

const std::vector<CortexSession>& cortex_sessions() {
  static const std::vector<CortexSession> sessions{{21067, 10, 18, false}, {22846, 10, 16, true}};
  return sessions;
}

std::string CortexSession::key() const { return text(animal, '-', session, '-', scan); }

SimulatedCortex::SimulatedCortex(const SimulatedCortexOptions& options, std::size_t session)
    : seed_(options.seed),
      session_(static_cast<std::uint32_t>(session)),
      height_(options.height),
      width_(options.width) {
  check(options);
  const std::int64_t neurons = session == 0 ? options.neurons : options.neurons - options.neurons / 12;
  RandomDraws draws({seed_, static_cast<std::uint32_t>(CortexStream::cells), session_, 0});
  for (std::int64_t n = 0; n < neurons; ++n) cells_.push_back(draw_cell(draws, height_, width_));
}

std::vector<PixelShift> SimulatedCortex::shifts(const Behavior& behavior) const {
  const std::vector<double>& pupil = behavior.pupil_center;
  const Moments horizontal(pupil, 0, 2), vertical(pupil, 1, 2);
  const auto shift = [&](double score, double pixels) {
    return rounded(std::clamp(score, -farthest_pupil, farthest_pupil) * pixels, 1e4);
  };
  const double down = down_per_pupil * static_cast<double>(height_) / reference_height;
  const double right = right_per_pupil * static_cast<double>(width_) / reference_width;
  std::vector<PixelShift> result;
  for (std::size_t i = 0; i < pupil.size(); i += 2)
    result.push_back({shift(vertical.score(pupil[i + 1]), down), shift(horizontal.score(pupil[i]), right)});
  return result;
}

std::vector<double> SimulatedCortex::drives(const std::uint8_t* image, const PixelShift& shift) const {
  const std::vector<double> seen = shifted(image, height_, width_, shift);
  std::vector<double> result;
  result.reserve(cells_.size());
  for (const CorticalCell& cell : cells_) result.push_back(drive_of(cell, seen, width_));
  return result;
}

std::vector<double> SimulatedCortex::events(const std::vector<std::uint8_t>& images,
                                            const std::vector<std::int64_t>& image_of_trial,
                                            const Behavior& behavior) const {
  const std::size_t trials = image_of_trial.size(), neurons = cells_.size();
  const std::vector<PixelShift> shift = shifts(behavior);
  std::vector<double> result;
  result.reserve(trials * neurons);
  for (std::size_t t = 0; t < trials; ++t) {
    const std::vector<double> drive = drives(images.data() + image_of_trial[t] * height_ * width_, shift[t]);
    result.insert(result.end(), drive.begin(), drive.end());
  }
  const Moments size(behavior.body, 0, 3);
  const auto over_mean = [&](std::size_t n, double exponent) {
    const double mean = std::max(Moments(result, n, neurons).mean, 1e-9);
    for (std::size_t t = 0; t < trials; ++t) {
      double& value = result[t * neurons + n];
      value = std::pow(value / mean, exponent);
    }
  };
  for (std::size_t n = 0; n < neurons; ++n) {
    const CorticalCell& cell = cells_[n];
    over_mean(n, cell.exponent);
    over_mean(n, 1);
    for (std::size_t t = 0; t < trials; ++t) {
      const double* body = behavior.body.data() + 3 * t;
      const double gain =
          std::exp(cell.size_gain * size.score(body[0]) + cell.run_gain * std::tanh(body[2] / running_speed));
      double& value = result[t * neurons + n];
      value = rounded(std::min(gain * (cell.base + cell.amplitude * value), most_events), 1e3);
    }
  }
  return result;
}

std::vector<double> SimulatedCortex::expected_responses(std::vector<double> events) const {
  for (std::size_t i = 0; i < events.size(); ++i)
    events[i] = (events[i] + floor) * cells_[i % cells_.size()].scale;
  return events;
}

std::vector<float> SimulatedCortex::respond(const std::vector<double>& events) const {
  std::vector<float> responses;
  responses.reserve(events.size());
  const std::size_t neurons = cells_.size();
  for (std::size_t t = 0; t < events.size() / neurons; ++t) {
    RandomDraws draws({seed_, static_cast<std::uint32_t>(CortexStream::responses), session_,
                       static_cast<std::uint32_t>(t)});
    for (std::size_t n = 0; n < neurons; ++n) {
      // A Gamma variable of whole shape is a sum of exponential ones.
      const std::int64_t parts = variability * draws.poisson(events[t * neurons + n]);
      double amount = floor * draws.exponential();
      for (std::int64_t part = 0; part < parts; ++part) amount += draws.exponential() / variability;
      responses.push_back(static_cast<float>(amount * cells_[n].scale));
    }
  }
  return responses;
}

}  // namespace fovea
