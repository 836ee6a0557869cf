#include "data/simulated_retina.hpp"

#include <algorithm>
#include <cmath>

#include "data/random_draws.hpp"
#include "data/simulated_cells.hpp"
#include "engine/philox.hpp"

namespace fovea {
namespace {

constexpr std::int64_t calibration_frames = 3000;
constexpr double largest_mean = 500;  // exp(-mean) must not vanish

using Series = std::vector<double>;  // one value a frame

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

double elu(double x) { return x > 0 ? x : std::expm1(x); }
double softplus(double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }

double output(const SimulatedCell& cell, double x) { return softplus(cell.gain * elu(x) + cell.offset); }

double output_slope(const SimulatedCell& cell, double x) {
  const double z = cell.gain * elu(x) + cell.offset;
  return cell.gain * (x > 0 ? 1 : std::exp(x)) / (1 + std::exp(-z));
}

void check_movie(const char* where, const Tensor& movie, std::int64_t height, std::int64_t width) {
  const Shape& shape = movie.shape();
  if (shape.rank() != 3 || shape[1] != height || shape[2] != width || movie.dtype() != DType::f32)
    throw ShapeError(where, text("a movie of this retina is (T, ", height, ", ", width, ") in f32: ", shape,
                                 " in ", movie.dtype()));
}

void check_options(const SimulatedRetinaOptions& options) {
  const auto at_least = [](const char* name, std::int64_t value, std::int64_t least) {
    if (value < least) throw ConfigError("simulate", text(name, " must be at least ", least, ": ", value));
    if (value > 100'000'000) throw ConfigError("simulate", text(name, " must be at most 100000000: ", value));
  };
  at_least("neurons", options.neurons, 1);
  at_least("frames", options.frames, 1000);
  at_least("test_frames", options.test_frames, 100);
  at_least("repeats", options.repeats, 2);
  at_least("height", options.height, 16);
  at_least("width", options.width, 16);
}

/// The contrast measure of a gain-control cell at each frame: what came before it, with exponential memory.
Series contrast(const SimulatedCell& cell, const Series& drive) {
  Series measure(drive.size());
  double c = 1;
  for (std::size_t t = 0; t < drive.size(); ++t) {
    measure[t] = c;
    c = cell.contrast_memory * c + (1 - cell.contrast_memory) * drive[t] * drive[t];
  }
  return measure;
}

Series summed_subunits(const SimulatedCell& cell, const std::vector<Series>& drives) {
  Series sum(drives.front().size(), 0.0);
  for (std::size_t j = 0; j < drives.size(); ++j)
    for (std::size_t t = 0; t < sum.size(); ++t)
      sum[t] += cell.subunits[j].weight * std::max(drives[j][t], 0.0);
  return sum;
}

/// x of CellKind: what goes into the output nonlinearity.
Series output_drive(const SimulatedCell& cell, const std::vector<Series>& drives) {
  Series x = drives.front();
  if (cell.kind == CellKind::gain_control) {
    const Series c = contrast(cell, drives.front());
    const double k = cell.contrast_strength;
    for (std::size_t t = 0; t < x.size(); ++t) x[t] *= (1 + k) / (1 + k * c[t]);
  } else if (cell.kind == CellKind::subunits) {
    x = summed_subunits(cell, drives);
    for (double& value : x) value = (value - cell.drive_mean) / cell.drive_deviation;
  }
  return x;
}

/// Mean gradient of x's output with respect to each subunit's filter weights, as a filter over the window:
/// entry j is the temporal filter [L] that goes with subunit j's spatial one.
std::vector<Series> mean_temporal_gradients(const SimulatedCell& cell, const std::vector<Series>& drives) {
  constexpr std::int64_t length = SimulatedRetina::kernel_frames;
  const Series x = output_drive(cell, drives);
  const auto frames = static_cast<std::int64_t>(x.size());
  const auto windows = static_cast<double>(frames - length + 1);
  std::vector<Series> gradients(drives.size(), Series(index(length), 0.0));

  if (cell.kind == CellKind::gain_control) {
    // x(t) = g(t) / D(t), D = (1 + k c(t)) / (1 + k), c(t) = (1 - m) sum_{lag >= 1} m^(lag-1) g(t - lag)^2,
    // and g(t - lag) sees the window's pixels through the filter moved by lag frames towards the past.
    const Series c = contrast(cell, drives.front());
    const double k = cell.contrast_strength, memory = cell.contrast_memory;
    const Series& g = drives.front();
    Series by_lag(index(length), 0.0);  // mean d rate / d g(t - lag)
    for (std::int64_t t = length - 1; t < frames; ++t) {
      const double slope = output_slope(cell, x[index(t)]) / windows;
      const double divisor = (1 + k * c[index(t)]) / (1 + k);
      by_lag[0] += slope / divisor;
      double kernel = 1 - memory;
      for (std::int64_t lag = 1; lag < length; ++lag, kernel *= memory)
        by_lag[index(lag)] -=
            slope * g[index(t)] / (divisor * divisor) * k / (1 + k) * kernel * 2 * g[index(t - lag)];
    }
    for (std::int64_t lag = 0; lag < length; ++lag)
      for (std::int64_t i = lag; i < length; ++i)
        gradients[0][index(i - lag)] += by_lag[index(lag)] * cell.temporal[index(i)];
    return gradients;
  }

  for (std::size_t j = 0; j < drives.size(); ++j) {
    double factor = 0;
    for (std::int64_t t = length - 1; t < frames; ++t) {
      double slope = output_slope(cell, x[index(t)]);
      if (cell.kind == CellKind::subunits)
        slope *= drives[j][index(t)] > 0 ? cell.subunits[j].weight / cell.drive_deviation : 0;
      factor += slope / windows;
    }
    for (std::int64_t i = 0; i < length; ++i) gradients[j][index(i)] = factor * cell.temporal[index(i)];
  }
  return gradients;
}

}  // namespace

SimulatedRetina::SimulatedRetina(const SimulatedRetinaOptions& options)
    : height_(options.height), width_(options.width) {
  check_options(options);
  std::vector<double> mean_rates;
  cells_ = draw_cells(options, mean_rates);
  const Tensor movie = binary_white_noise(calibration_frames, height_, width_, options.seed,
                                          static_cast<std::uint32_t>(RetinaStream::calibration));
  for (std::size_t n = 0; n < cells_.size(); ++n) calibrate(cells_[n], mean_rates[n], movie);
}

std::vector<Series> SimulatedRetina::subunit_drives(const SimulatedCell& cell, const Tensor& movie) const {
  const std::int64_t frames = movie.shape()[0], pixels = height_ * width_;
  const float* values = movie.data<float>();
  std::vector<Series> drives;
  for (const Subunit& subunit : cell.subunits) {
    std::vector<std::int64_t> support;
    for (std::int64_t p = 0; p < pixels; ++p)
      if (subunit.spatial[index(p)] != 0) support.push_back(p);
    Series projection(index(frames)), drive(index(frames), 0.0);
    for (std::int64_t t = 0; t < frames; ++t) {
      double sum = 0;
      for (const std::int64_t p : support)
        sum += subunit.spatial[index(p)] * static_cast<double>(values[t * pixels + p]);
      projection[index(t)] = sum;
    }
    for (std::int64_t t = 0; t < frames; ++t)
      for (std::int64_t lag = 0; lag <= std::min(t, kernel_frames - 1); ++lag)
        drive[index(t)] += cell.temporal[index(kernel_frames - 1 - lag)] * projection[index(t - lag)];
    drives.push_back(std::move(drive));
  }
  return drives;
}

void SimulatedRetina::calibrate(SimulatedCell& cell, double mean_rate, const Tensor& movie) const {
  const std::vector<Series> drives = subunit_drives(cell, movie);
  if (cell.kind == CellKind::subunits) {
    const Series sum = summed_subunits(cell, drives);
    const auto count = static_cast<double>(sum.size());
    double mean = 0, variance = 0;
    for (const double value : sum) mean += value / count;
    for (const double value : sum) variance += (value - mean) * (value - mean) / count;
    cell.drive_mean = mean;
    cell.drive_deviation = std::sqrt(variance);
  }
  const Series x = output_drive(cell, drives);
  double low = -20, high = 20;  // the mean rate rises with the offset
  for (int halving = 0; halving < 40; ++halving) {
    cell.offset = 0.5 * (low + high);
    double rate = 0;
    for (const double value : x) rate += output(cell, value) / static_cast<double>(x.size());
    (rate < mean_rate ? low : high) = cell.offset;
  }
}

Tensor SimulatedRetina::rates(const Tensor& movie) const {
  check_movie("SimulatedRetina.rates", movie, height_, width_);
  const std::int64_t frames = movie.shape()[0];
  Tensor rates({static_cast<std::int64_t>(cells_.size()), frames}, DType::f64, movie.device());
  double* out = rates.data<double>();
  for (const SimulatedCell& cell : cells_) {
    const Series x = output_drive(cell, subunit_drives(cell, movie));
    out = std::transform(x.begin(), x.end(), out, [&](double value) { return output(cell, value); });
  }
  return rates;
}

Tensor SimulatedRetina::receptive_fields(const Tensor& movie) const {
  check_movie("SimulatedRetina.receptive_fields", movie, height_, width_);
  if (movie.shape()[0] < kernel_frames)
    throw ShapeError("SimulatedRetina.receptive_fields",
                     text("the movie must have at least ", kernel_frames, " frames: ", movie.shape()[0]));
  const std::int64_t pixels = height_ * width_;
  Tensor fields = Tensor::zeros({static_cast<std::int64_t>(cells_.size()), kernel_frames, height_, width_},
                                DType::f64, movie.device());
  double* out = fields.data<double>();
  for (const SimulatedCell& cell : cells_) {
    const std::vector<Series> temporal = mean_temporal_gradients(cell, subunit_drives(cell, movie));
    for (std::size_t j = 0; j < temporal.size(); ++j)
      for (std::int64_t i = 0; i < kernel_frames; ++i)
        for (std::int64_t p = 0; p < pixels; ++p)
          out[i * pixels + p] += temporal[j][index(i)] * cell.subunits[j].spatial[index(p)];
    out += kernel_frames * pixels;
  }
  return fields;
}

Tensor binary_white_noise(std::int64_t frames, std::int64_t height, std::int64_t width, std::uint64_t seed,
                          std::uint32_t stream) {
  Tensor movie({frames, height, width}, DType::f32, cpu_device(1));
  float* values = movie.data<float>();
  const std::int64_t pixels = height * width;
  // A frame is a draw of its own, 128 pixels a block of Philox: it does not depend on the length of the
  // movie.
  for (std::int64_t t = 0; t < frames; ++t)
    for (std::int64_t first = 0; first < pixels; first += 128) {
      const RandomKey key{seed, stream, static_cast<std::uint32_t>(t), 0};
      const Philox4 block = philox_block(key, static_cast<std::uint32_t>(first / 128));
      const std::uint32_t words[4] = {block.x, block.y, block.z, block.w};
      for (std::int64_t bit = 0; bit < std::min<std::int64_t>(128, pixels - first); ++bit)
        values[t * pixels + first + bit] = (words[bit / 32] >> (bit % 32) & 1) ? 1.0f : -1.0f;
    }
  return movie;
}

Tensor poisson_counts(const Tensor& means, std::uint64_t seed, std::uint32_t trial) {
  Tensor counts(means.shape(), DType::i64, means.device());
  const double* mean = means.data<double>();
  std::int64_t* count = counts.data<std::int64_t>();
  for (std::int64_t i = 0; i < means.elements(); ++i) {
    if (!(mean[i] >= 0 && mean[i] <= largest_mean))
      throw Error("poisson_counts", text("a mean must lie in 0 .. ", largest_mean, ": ", mean[i], " at ", i));
    const RandomKey key{seed, static_cast<std::uint32_t>(RetinaStream::spikes), trial,
                        static_cast<std::uint32_t>(i >> 32)};
    const Philox4 words = philox_block(key, static_cast<std::uint32_t>(i));
    count[i] = poisson_of_uniform(mean[i], uniform53(words.x, words.y));
  }
  return counts;
}

}  // namespace fovea
