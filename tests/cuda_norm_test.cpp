// The CUDA kernels of batch norm.
#include "tests/gpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr double eps = std::numeric_limits<float>::epsilon();

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

/// x, dy, weight, bias, channel bias, running mean or mean, running variance or 1 / deviation.
enum Input { in_x, in_dy, in_weight, in_bias, in_channel_bias, in_mean, in_spread };

enum class Parameters { all, weight, biases, none };

template <class In>
auto parameters_of(const In& in, Parameters parameters) {
  using T = std::remove_const_t<std::remove_pointer_t<typename In::value_type>>;
  const bool weight = parameters == Parameters::all || parameters == Parameters::weight;
  const bool biases = parameters == Parameters::all || parameters == Parameters::biases;
  return BatchNormParameters<T>{weight ? in[in_weight] : nullptr, biases ? in[in_bias] : nullptr,
                                biases ? in[in_channel_bias] : nullptr};
}

struct Case {
  std::int64_t rows, channels;
  ActivationKind activation = ActivationKind::elu;
  Parameters parameters = Parameters::all;
  double mean = 0.5;  // of x, whose deviation is 2
};

/// A thread sums 8 of a block's deviations, which are rounded themselves; a tree of at most 10 levels the
/// rest.
constexpr double roundings_of_sum = 1 + 8 + 10;

void check_forward(const Case& c) {
  // A few rows may hardly vary, and z be as large as the deviation is small.
  const BatchNormShape s{c.rows, c.channels, c.rows < 8 ? 1 : 1e-5, 0.1, {c.activation, 0.125, 0.25}};
  const std::size_t count = size(c.rows * c.channels), channels = size(c.channels);
  const std::vector<float> running_mean = random_normal(channels, 6), running_var(channels, 1.5f);
  const Inputs inputs{random_normal(count, 1, c.mean, 2),
                      random_normal(count, 2),
                      random_normal(channels, 3, 1, 0.5),
                      random_normal(channels, 4),
                      random_normal(channels, 5),
                      running_mean,
                      running_var};
  // z of at most 32, a handful of roundings; a mean of so many deviations is rounded to so many units.
  const double shift = 1 + std::abs(c.mean), z_bound = 16 * eps * shift;
  const double mean_bound = 2 * rounding_bound<float>(1, roundings_of_sum) + eps * shift;
  check_gpu_kernel(inputs,
                   {{count, 8 * eps, {z_bound}},
                    {channels, eps, {mean_bound}},
                    {channels, roundings_of_sum * eps},
                    {channels, eps, {mean_bound}, running_mean},
                    {channels, roundings_of_sum * eps, {0}, running_var}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.batch_norm.forward_training(out[0], out[1], out[2], out[3], out[4], in[in_x],
                                                        parameters_of(in, c.parameters), s, queue);
                   });
  check_gpu_kernel(inputs, {{count, 8 * eps, {z_bound}}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.batch_norm.forward_evaluation(out[0], in[in_mean], in[in_spread], in[in_x],
                                                          parameters_of(in, c.parameters), s, queue);
                   });
}

/// grad_training or grad_evaluation.
template <class Tables>
auto grad_of(const Tables& tables, bool training) {
  return training ? tables.batch_norm.grad_training : tables.batch_norm.grad_evaluation;
}

void check_grad(const Inputs& inputs, const BatchNormShape& s, Parameters parameters,
                const std::vector<KernelOutput>& outputs, bool training, Write mode) {
  check_gpu_kernel(inputs, outputs, [&](const auto& tables, auto in, auto out, const Queue& queue) {
    grad_of(tables, training)(out[0], out[1], out[2], in[in_dy], in[in_x], in[in_mean], in[in_spread],
                              parameters_of(in, parameters), s, mode, queue);
  });
}

void check_gradients(const Case& c) {
  const BatchNormShape s{c.rows, c.channels, 1e-5, 0.1, {c.activation, 0.125, 0.25}};
  const std::size_t count = size(c.rows * c.channels), channels = size(c.channels);
  const Inputs inputs{random_normal(count, 1, c.mean, 2), random_normal(count, 2),
                      random_normal(channels, 3, 1, 0.5), random_normal(channels, 4),
                      random_normal(channels, 5),         random_normal(channels, 6, c.mean, 0.1),
                      std::vector<float>(channels, 0.6f)};
  // Slopes of at most 32, wrong by the rounding of z.
  const double slope = 32 * eps * (1 + std::abs(c.mean));
  for (const bool training : {true, false})
    for (const Write mode : {Write::overwrite, Write::accumulate}) {
      std::vector<KernelOutput> outputs{{count, 8 * eps, {4 * slope}},
                                        {channels, 8 * eps, {slope * static_cast<double>(c.rows)}},
                                        {channels, 8 * eps, {slope * static_cast<double>(c.rows)}}};
      if (mode == Write::accumulate) outputs[0].initial = random_normal(count, 8);
      check_grad(inputs, s, c.parameters, outputs, training, mode);
    }
}

void check(const Case& c) {
  CAPTURE(c.rows);
  CAPTURE(c.channels);
  CAPTURE(static_cast<int>(c.activation));
  check_forward(c);
  check_gradients(c);
}

}  // namespace

TEST_CASE("CUDA batch norm for any number of channels, one block and several, with every tail") {
  for (const std::int64_t channels : {1, 2, 3, 5, 16, 64}) {
    check({2, channels});
    check({37, channels});
  }
  check({8192 + 3, 1});
  check({2 * 8192 / 3 + 1, 3});
  check({513, 16});
  check({130, 64});
  check({90, 127});
  check({2, 256});
  check({20, 258});
  check({9, 511});
  check({17, 512});
}

TEST_CASE("CUDA batch norm where a row has several blocks") {
  check({3, 513});
  check({9, 1025});  // 1024 + 1 channels
  check({9, 2052});  // rows are aligned to vectors
}

TEST_CASE("CUDA batch norm with every activation, without parameters, far from zero") {
  for (const ActivationKind kind : {ActivationKind::identity, ActivationKind::softplus, ActivationKind::requ,
                                    ActivationKind::tanh, ActivationKind::relu, ActivationKind::absolute})
    check_forward({100, 6, kind});
  for (const ActivationKind kind : {ActivationKind::identity, ActivationKind::softplus, ActivationKind::tanh})
    check_gradients({100, 6, kind});
  for (const Parameters parameters : {Parameters::weight, Parameters::biases, Parameters::none})
    check({70, 8, ActivationKind::elu, parameters});
  check({1200, 8, ActivationKind::elu, Parameters::all, 300});
}

TEST_CASE("CUDA batch norm finds the variance of values that are far from zero") {
  // 2^20 + {0, 1}: sums of the values themselves or of their squares would lose it.
  const std::int64_t rows = 33 * 8192 / 2 + 2, channels = 2;  // more blocks than a warp merges
  std::vector<float> x(size(rows * channels));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 1048576.0f + static_cast<float>(i / 2 % 2);
  const BatchNormShape s{rows, channels, 0, 0.5, {}};
  check_gpu_kernel(
      {x}, {{x.size(), 0, {1e-6}}, {2, eps}, {2, 4 * eps}, {2, eps, {0}, {0, 0}}, {2, 4 * eps, {0}, {1, 1}}},
      [&](const auto& tables, auto in, auto out, const Queue& queue) {
        tables.batch_norm.forward_training(out[0], out[1], out[2], out[3], out[4], in[0],
                                           {nullptr, nullptr, nullptr}, s, queue);
      });
}

TEST_CASE("CUDA batch norm is exact on whole numbers, on both sides of every corner") {
  for (const ActivationKind kind :
       {ActivationKind::identity, ActivationKind::relu, ActivationKind::requ, ActivationKind::absolute})
    for (const std::int64_t channels : {1, 6, 32}) {
      CAPTURE(static_cast<int>(kind));
      const std::int64_t rows = 128;
      const BatchNormShape s{rows, channels, 0, 0.1, {kind}};
      const std::size_t count = size(rows * channels), width = size(channels);
      const Inputs inputs{random_whole(count, 1),          random_whole(count, 2),
                          random_whole(width, 3),          random_whole(width, 4),
                          std::vector<float>(width, 0.5f), random_whole(width, 6),
                          std::vector<float>(width, 1.0f)};
      check_gpu_kernel(inputs, {{count, 0}}, [&](const auto& tables, auto in, auto out, const Queue& queue) {
        tables.batch_norm.forward_evaluation(out[0], in[in_mean], in[in_spread], in[in_x],
                                             parameters_of(in, Parameters::all), s, queue);
      });
      for (const bool training : {true, false})
        for (const Write mode : {Write::overwrite, Write::accumulate}) {
          std::vector<KernelOutput> outputs{{count, 0}, {width, 0}, {width, 0}};
          if (mode == Write::accumulate) outputs[0].initial = random_whole(count, 7);
          check_grad(inputs, s, Parameters::all, outputs, training, mode);
        }
    }
}

TEST_CASE("CUDA batch norm: gradients of the parameters alone, and of no rows") {
  for (const std::int64_t rows : {0, 1, 50, 33 * 8192 / 3 + 1})
    for (const bool training : {true, false}) {
      const BatchNormShape s{rows, 3, 0, 0.1, {}};
      const Inputs inputs{random_whole(size(3 * rows), 1),
                          random_whole(size(3 * rows), 2),
                          random_whole(3, 3),
                          random_whole(3, 4),
                          random_whole(3, 5),
                          random_whole(3, 6),
                          {1, 1, 1}};
      check_gpu_kernel(inputs, {{3, 0}, {3, 0}},
                       [&](const auto& tables, auto in, auto out, const Queue& queue) {
                         grad_of(tables, training)(nullptr, out[0], out[1], in[in_dy], in[in_x], in[in_mean],
                                                   in[in_spread], parameters_of(in, Parameters::all), s,
                                                   Write::overwrite, queue);
                       });
    }
}

TEST_CASE("CUDA batch norm: a NaN stays in its channel") {
  const std::int64_t rows = 40, channels = 5;
  std::vector<float> x = random_normal(size(rows * channels), 1);
  x[size(17 * channels + 2)] = std::numeric_limits<float>::quiet_NaN();
  const BatchNormShape s{rows, channels, 1e-5, 0.1, {ActivationKind::relu}};
  const std::vector<KernelOutput> outputs{
      {x.size(), 0}, {5, 0}, {5, 0}, {5, 0, {0}, {0, 0, 0, 0, 0}}, {5, 0, {0}, {1, 1, 1, 1, 1}}};
  const auto results = device_outputs(
      emulator_device(), {x}, outputs, 0, [&](const auto& tables, auto in, auto out, const Queue& queue) {
        tables.batch_norm.forward_training(out[0], out[1], out[2], out[3], out[4], in[0],
                                           {nullptr, nullptr, nullptr}, s, queue);
      });
  for (const auto& values : results)
    for (std::size_t i = 0; i < values.size(); ++i) CHECK(std::isnan(values[i]) == (i % 5 == 2));
}
