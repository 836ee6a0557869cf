// The CUDA kernels of the losses.
#include "tests/gpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

}  // namespace

// ---- Poisson loss
// ----------------------------------------------------------------------------------------------

namespace {

/// Rates and counts that are as often below 1 as above, without a function of libm.
std::vector<float> positive(std::size_t count, unsigned seed) {
  std::vector<float> values = random_normal(count, seed);
  for (float& value : values) {
    const float size = 1 + std::abs(value) + value * value / 2;
    value = value < 0 ? 1 / size : size;
  }
  return values;
}

/// Upper bounds of the rounding errors of value and slope: a few operations for every term, then its thread's
/// sum.
void bound_poisson(std::vector<KernelOutput>& outputs, const Inputs& inputs, const LossShape& s,
                   const PoissonOptions& options) {
  const bool per_neuron = outputs[0].count > 1 || s.neurons == 1;
  std::vector<double> value(outputs[0].count, 0), slope(outputs[1].count, 0);
  const bool mean = s.reduction == Reduction::mean || s.reduction == Reduction::per_neuron_mean;
  const std::int64_t items = s.batch * s.frames * (per_neuron ? 1 : s.neurons);
  const double factor = mean ? 1.0 / static_cast<double>(items) : 1.0;
  for (std::int64_t row = 0; row < s.batch * s.frames; ++row)
    for (std::int64_t n = 0; n < s.neurons; ++n) {
      const std::int64_t target_row =
          row / s.frames * s.target_frames + row % s.frames + s.target_frames - s.frames;
      const double output = inputs[0][size(row * s.neurons + n)],
                   count = inputs[1][size(target_row * s.neurons + n)];
      double term, at;
      if (options.log_input) {
        term = std::exp(output) + std::abs(count * output);
        at = std::exp(output) + count;
      } else {
        term = output + count * (std::abs(std::log(output + options.eps)) + 1);
        at = 1 + count / (output + options.eps);
      }
      if (options.stirling && count > 1) term += count * std::log(count) + count + std::log(6.3 * count);
      value[value.size() == 1 ? 0 : size(n)] += factor * rounding_bound<float>(term, 12 + 16);
      slope[size(row * s.neurons + n)] = factor * rounding_bound<float>(at, 12);
    }
  outputs[0].bounds = value;
  outputs[1].bounds = slope;
}

void check_poisson(const LossShape& s, const PoissonOptions& options) {
  CAPTURE(s.batch);
  CAPTURE(s.frames);
  CAPTURE(s.neurons);
  CAPTURE(static_cast<int>(s.reduction));
  const std::size_t rows = size(s.batch * s.frames * s.neurons);
  const bool per_neuron =
      s.reduction == Reduction::per_neuron_sum || s.reduction == Reduction::per_neuron_mean;
  const Inputs inputs{options.log_input ? random_normal(rows, 1) : positive(rows, 1),
                      positive(size(s.batch * s.target_frames * s.neurons), 2)};
  std::vector<KernelOutput> outputs{{per_neuron ? size(s.neurons) : 1, 0}, {rows, 0}};
  bound_poisson(outputs, inputs, s, options);
  check_gpu_kernel(inputs, outputs, [&](const auto& tables, auto in, auto out, const Queue& queue) {
    tables.loss.poisson(out[0], out[1], in[0], in[1], s, options, queue);
  });
  outputs.resize(1);  // the value alone
  check_gpu_kernel(inputs, outputs, [&](const auto& tables, auto in, auto out, const Queue& queue) {
    tables.loss.poisson(out[0], nullptr, in[0], in[1], s, options, queue);
  });
}

}  // namespace

TEST_CASE("the Poisson loss stays within its rounding for every reduction, option and odd size") {
  for (const Reduction reduction :
       {Reduction::sum, Reduction::mean, Reduction::per_neuron_sum, Reduction::per_neuron_mean}) {
    check_poisson({1, 1, 1, 1, reduction}, {1e-16, false, false});
    check_poisson({3, 5, 9, 33, reduction}, {1e-8, false, true});
    check_poisson({2, 130, 131, 41, reduction}, {0.1, false, false});
    check_poisson({5, 1, 1, 300, reduction}, {0, true, true});
  }
}

TEST_CASE("scaling a slope by the upstream gradient rounds once, or twice when it adds") {
  // One value; some warps of a block; a block of 2048 and the beginning of a second.
  const std::vector<std::array<std::int64_t, 2>> cases{
      {1, 1}, {7 * 43, 1}, {7 * 43, 7}, {7 * 293, 1}, {7 * 293, 7}};
  for (const auto& sizes : cases)
    for (const Write mode : {Write::overwrite, Write::accumulate}) {
      const std::int64_t count = sizes[0], groups = sizes[1];
      const Inputs inputs{random_normal(size(count), 1), random_normal(size(groups), 2)};
      const auto run = [&](const auto& tables, auto in, auto out, const Queue& queue) {
        tables.loss.scale_slope(out[0], in[0], in[1], count, groups, mode, queue);
      };
      std::vector<KernelOutput> outputs{{size(count), 0}};
      if (mode == Write::accumulate) outputs[0].initial = random_normal(size(count), 3);
      bound_outputs(outputs, inputs, 2, run);
      check_gpu_kernel(inputs, outputs, run);
    }
}

// ---- correlation
// ----------------------------------------------------------------------------------------------

namespace {

constexpr double eps = std::numeric_limits<float>::epsilon();
constexpr Reduction reductions[] = {Reduction::sum, Reduction::mean, Reduction::per_neuron_sum,
                                    Reduction::per_neuron_mean};

std::size_t values_of(const LossShape& s) {
  return s.reduction == Reduction::sum || s.reduction == Reduction::mean ? 1 : size(s.neurons);
}

/// The largest slope of every series, as bounds of the slopes of all its frames.
std::vector<double> largest_slopes(const Inputs& inputs, const LossShape& s,
                                   const CorrelationOptions& options) {
  const std::size_t count = inputs[0].size();
  const auto slopes = kernel_outputs(
      reference_tables<double>(), cpu_device(1, Isa::reference), inputs, {{values_of(s), 0}, {count, 0}},
      [&](const auto& tables, auto in, auto out, const Queue& queue) {
        tables.loss.correlation(out[0], out[1], in[0], in[1], s, options, queue);
      })[1];
  std::vector<double> largest(count, 0);
  const auto series = [&](std::size_t i) {
    return i / size(s.frames * s.neurons) * size(s.frames * s.neurons) + i % size(s.neurons);
  };
  for (std::size_t i = 0; i < count; ++i)
    largest[series(i)] = std::max(largest[series(i)], std::abs(slopes[i]));
  for (std::size_t i = 0; i < count; ++i) largest[i] = largest[series(i)];
  return largest;
}

/// Everything is in double precision but the slopes as they are stored: one has its own rounding, half a
/// unit of its last place, and what 16 others left.
void check_correlation(const Inputs& inputs, const LossShape& s, const CorrelationOptions& options) {
  CAPTURE(s.batch);
  CAPTURE(s.frames);
  CAPTURE(s.neurons);
  CAPTURE(static_cast<int>(s.reduction));
  std::vector<double> bounds = largest_slopes(inputs, s, options);
  for (double& bound : bounds) bound = rounding_bound<float>(bound, 1 + 16) + 1e-44;
  std::vector<KernelOutput> outputs{{values_of(s), eps, {1e-12}}, {inputs[0].size(), 0, bounds}};
  check_gpu_kernel(inputs, outputs, [&](const auto& tables, auto in, auto out, const Queue& queue) {
    tables.loss.correlation(out[0], out[1], in[0], in[1], s, options, queue);
  });
  outputs.resize(1);  // the value alone
  check_gpu_kernel(inputs, outputs, [&](const auto& tables, auto in, auto out, const Queue& queue) {
    tables.loss.correlation(out[0], nullptr, in[0], in[1], s, options, queue);
  });
}

Inputs responses(const LossShape& s) {
  return {random_normal(size(s.batch * s.frames * s.neurons), 1, 2),
          random_normal(size(s.batch * s.target_frames * s.neurons), 2, 1)};
}

/// Frames of one block of the kernel.
constexpr std::int64_t chunk = 192;

}  // namespace

TEST_CASE("CUDA correlation for every reduction, of one block's frames and of several") {
  for (const Reduction reduction : reductions) {
    for (const LossShape& s :
         {LossShape{1, 2, 2, 1, reduction}, LossShape{3, 5, 9, 33, reduction},
          LossShape{2, chunk, chunk + 4, 32, reduction}, LossShape{1, chunk + 1, chunk + 1, 41, reduction},
          LossShape{2, 3 * chunk, 3 * chunk + 7, 3, reduction}})
      check_correlation(responses(s), s, {1e-16, -1});
    const LossShape s{1, 17 * chunk + 5, 17 * chunk + 5, 2, reduction};  // a warp merges two chunks
    check_correlation(responses(s), s, {1e-8, 1});
  }
}

TEST_CASE("CUDA correlation of constants is 0, with and without eps") {
  for (const std::int64_t frames : {std::int64_t{20}, 2 * chunk + 3})
    for (const double added : {0.0, 1e-16}) {
      const LossShape s{2, frames, frames + 4, 5, Reduction::per_neuron_sum};
      Inputs inputs = responses(s);
      for (std::int64_t row = 0; row < s.batch * frames; ++row) inputs[0][size(row * 5 + 1)] = 0.1f;
      for (std::int64_t row = 0; row < s.batch * s.target_frames; ++row)
        inputs[1][size(row * 5)] = inputs[1][size(row * 5 + 1)] = 0.3f;
      check_correlation(inputs, s, {added, -1});
    }
}

TEST_CASE("CUDA correlation of a prediction that hardly varies: right slopes, with a sum of zero") {
  for (const std::int64_t frames : {std::int64_t{120}, 3 * chunk + 11}) {
    const LossShape s{1, frames, frames, 3, Reduction::sum};
    Inputs inputs{random_normal(size(frames * 3), 1, 5, 1e-6), random_normal(size(frames * 3), 2, 1)};
    check_correlation(inputs, s, {0, -1});
    const std::vector<double> largest = largest_slopes(inputs, s, {0, -1});
    const auto slopes =
        device_outputs(emulator_device(), inputs, {{1, 0}, {inputs[0].size(), 0}}, 0,
                       [&](const auto& tables, auto in, auto out, const Queue& queue) {
                         tables.loss.correlation(out[0], out[1], in[0], in[1], s, {0, -1}, queue);
                       })[1];
    for (std::size_t n = 0; n < 3; ++n) {
      double sum = 0;
      for (std::size_t i = n; i < slopes.size(); i += 3) sum += static_cast<double>(slopes[i]);
      // One rounding a block remains.
      const auto blocks = static_cast<double>((frames + chunk - 1) / chunk);
      CHECK(std::abs(sum) <= rounding_bound<float>(largest[n], blocks));
    }
  }
}

TEST_CASE("CUDA correlation: a NaN stays in its series") {
  for (const std::int64_t frames : {std::int64_t{30}, chunk + 9}) {
    const LossShape s{2, frames, frames, 5, Reduction::per_neuron_sum};
    Inputs inputs = responses(s);
    inputs[0][size((frames + 7) * 5 + 3)] = std::numeric_limits<float>::quiet_NaN();
    const auto results =
        device_outputs(emulator_device(), inputs, {{5, 0}, {inputs[0].size(), 0}}, 0,
                       [&](const auto& tables, auto in, auto out, const Queue& queue) {
                         tables.loss.correlation(out[0], out[1], in[0], in[1], s, {1e-8, -1}, queue);
                       });
    for (std::size_t n = 0; n < 5; ++n) CHECK(std::isnan(results[0][n]) == (n == 3));
    for (std::size_t i = 0; i < results[1].size(); ++i)
      CHECK(std::isnan(results[1][i]) == (i % 5 == 3 && i >= size(frames * 5)));
  }
}

TEST_CASE("CUDA losses of nothing are 0") {
  const LossShape s{0, 4, 4, 3, Reduction::per_neuron_sum};
  check_gpu_kernel({}, {{3, 0}, {3, 0}}, [&](const auto& tables, auto, auto out, const Queue& queue) {
    using T = std::remove_pointer_t<typename decltype(out)::value_type>;
    constexpr const T* nothing = nullptr;
    tables.loss.correlation(out[0], nullptr, nothing, nothing, s, {}, queue);
    tables.loss.poisson(out[1], nullptr, nothing, nothing, s, {}, queue);
  });
}
