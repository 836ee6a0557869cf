// CPU kernels around the readout, the losses, the optimizer and the elementwise ops against the f64
// reference.
#include <array>

#include "tests/cpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr double eps = std::numeric_limits<float>::epsilon();

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

std::vector<float> uniform(std::size_t count, unsigned seed, double low, double high) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> distribution(low, high);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(distribution(generator));
  return values;
}

/// What accumulation adds to, or nothing.
std::vector<float> before(Write mode, std::size_t count) {
  return mode == Write::accumulate ? random_whole(count, 99) : std::vector<float>{};
}

constexpr Write modes[] = {Write::overwrite, Write::accumulate};

}  // namespace

TEST_CASE("add, scale, clamp and absolute of any length") {
  for (const std::int64_t count : {0, 1, 15, 16, 17, 33, 16384, 16400, 40000}) {
    CAPTURE(count);
    const std::size_t n = size(count);
    const Inputs inputs{random_normal(n + 1, 1)};
    if (count == 0) continue;
    for (const Write mode : modes) {
      check_kernel(inputs, {{n, eps, {0}, before(mode, n)}},
                   [&](const auto& tables, auto in, auto out, const Queue& q) {
                     tables.elementwise.add(out[0], in[0], count, mode, q);
                   });
      check_kernel(inputs, {{n, eps, {8 * eps}, before(mode, n)}},
                   [&](const auto& tables, auto in, auto out, const Queue& q) {
                     tables.elementwise.scale(out[0], in[0], 0.75, count, mode, q);
                   });
    }
    check_kernel({}, {{n, 0, {0}, random_normal(n, 2)}},
                 [&](const auto& tables, auto, auto out, const Queue& q) {
                   tables.elementwise.clamp(out[0], 0.25, 1.5, count, q);
                 });
    check_kernel({}, {{n, 0, {0}, random_normal(n, 2)}},
                 [&](const auto& tables, auto, auto out, const Queue& q) {
                   tables.elementwise.absolute(out[0], count, q);
                 });
  }
}

TEST_CASE("permute swaps the last two axes of any size") {
  for (const std::int64_t batch : {1, 3})
    for (const std::int64_t rows : {1, 2, 3, 4, 5, 31, 33, 70})
      for (const std::int64_t columns : {1, 2, 3, 4, 7, 32, 65, 5000}) {
        const PermuteShape s{batch, rows, columns};
        CAPTURE(rows);
        CAPTURE(columns);
        const std::size_t n = size(batch * rows * columns);
        for (const Write mode : modes)
          check_kernel({random_whole(n, 1)}, {{n, 0, {0}, before(mode, n)}},
                       [&](const auto& tables, auto in, auto out, const Queue& q) {
                         tables.elementwise.permute(out[0], in[0], s, mode, q);
                       });
      }
}

TEST_CASE("the weight of a mask readout and its gradient are exact on whole numbers") {
  for (const bool last : {false, true})
    for (const auto& sizes : {std::array<std::int64_t, 3>{1, 1, 1},
                              {7, 3, 5},
                              {8, 2, 16},
                              {9, 16, 17},
                              {48, 5, 41},
                              {131, 3, 66},
                              {33, 8, 113}}) {
      const std::int64_t pixels = sizes[0], channels = sizes[1], neurons = sizes[2];
      const MaskReadoutShape s{1, pixels, channels, neurons, last, {}};
      CAPTURE(pixels);
      CAPTURE(neurons);
      const std::size_t mask = size(pixels * neurons), features = size(channels * neurons);
      const std::size_t weights = mask * size(channels);
      const Inputs inputs{random_whole(mask, 1), random_whole(features, 2), random_whole(weights, 3)};
      check_kernel(inputs, {{weights, 0}}, [&](const auto& tables, auto in, auto out, const Queue& q) {
        tables.mask_readout.weight(out[0], in[0], in[1], s, q);
      });
      for (const Write mode : modes) {
        const KernelOutput dmask{mask, 0, {0}, before(mode, mask)},
            dfeatures{features, 0, {0}, before(mode, features)};
        check_kernel(inputs, {dmask, dfeatures}, [&](const auto& tables, auto in, auto out, const Queue& q) {
          tables.mask_readout.grad_weight(out[0], out[1], in[2], in[0], in[1], s, mode, mode, q);
        });
        check_kernel(inputs, {dmask}, [&](const auto& tables, auto in, auto out, const Queue& q) {
          tables.mask_readout.grad_weight(out[0], {}, in[2], in[0], in[1], s, mode, mode, q);
        });
        check_kernel(inputs, {dfeatures}, [&](const auto& tables, auto in, auto out, const Queue& q) {
          tables.mask_readout.grad_weight({}, out[0], in[2], in[0], in[1], s, mode, mode, q);
        });
      }
    }
}

TEST_CASE("activations of a readout and their gradients") {
  for (const ActivationKind kind : {ActivationKind::identity, ActivationKind::relu, ActivationKind::elu,
                                    ActivationKind::softplus, ActivationKind::requ})
    for (const std::int64_t rows : {1, 32, 33, 100})
      for (const std::int64_t neurons : {1, 16, 41}) {
        const MaskReadoutShape s{rows, 1, 1, neurons, false, {kind, 0.25, 0.5}};
        CAPTURE(static_cast<int>(kind));
        CAPTURE(rows);
        CAPTURE(neurons);
        const std::size_t n = size(neurons), count = size(rows * neurons);
        const Inputs inputs{random_normal(count, 1, 0, 3), random_normal(n, 2, 1, 0.5), random_normal(n, 3),
                            random_normal(count, 4)};
        // Of |z scale| up to 30, values and slopes (which are at most 2 |u|) up to a few hundred.
        const double bound = 2000 * eps, row_count = static_cast<double>(rows);
        check_kernel(inputs, {{count, 8 * eps, {64 * eps}}},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       tables.mask_readout.activate(out[0], in[0], in[1], in[2], s, q);
                     });
        check_kernel(inputs, {{count, 8 * eps, {64 * eps}}},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       tables.mask_readout.activate(out[0], in[0], {}, {}, s, q);
                     });
        for (const Write mode : modes)
          check_kernel(inputs,
                       {{count, 8 * eps, {bound}},
                        {n, 8 * eps, {bound * row_count}, before(mode, n)},
                        {n, 8 * eps, {bound * row_count}, before(mode, n)}},
                       [&](const auto& tables, auto in, auto out, const Queue& q) {
                         tables.mask_readout.grad_activate(out[0], out[1], out[2], in[3], in[0], in[1], in[2],
                                                           s, mode, mode, q);
                       });
        check_kernel(inputs, {{count, 8 * eps, {bound}}},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       tables.mask_readout.grad_activate(out[0], {}, {}, in[3], in[0], {}, {}, s,
                                                         Write::overwrite, Write::overwrite, q);
                     });
      }
}

TEST_CASE("exponentials and logarithms over their whole range, to a few units of the last place") {
  // The kernels that show them bare: ELU's two sides, softplus, and the Poisson losses of one neuron each.
  std::vector<float> x;
  for (float value = -110; value < 100; value += 0.0137f) x.push_back(value);
  const auto count = static_cast<std::int64_t>(x.size());
  for (const ActivationKind kind : {ActivationKind::elu, ActivationKind::softplus}) {
    const MaskReadoutShape s{1, 1, 1, count, false, {kind}};
    const std::vector<float> ones(x.size(), 1.0f);
    const double units = kind == ActivationKind::softplus ? 0.51 : 4;
    check_kernel({x}, {{x.size(), units * eps, {2e-38}}},
                 [&](const auto& tables, auto in, auto out, const Queue& q) {
                   tables.mask_readout.activate(out[0], in[0], {}, {}, s, q);
                 });
    check_kernel({x, ones}, {{x.size(), (units + 1) * eps, {2e-38}}},
                 [&](const auto& tables, auto in, auto out, const Queue& q) {
                   tables.mask_readout.grad_activate(out[0], {}, {}, in[1], in[0], {}, {}, s,
                                                     Write::overwrite, Write::overwrite, q);
                 });
  }
  const LossShape s{1, 1, 1, count, Reduction::per_neuron_sum};
  std::vector<float> below_overflow = x, rates;
  for (float& value : below_overflow) value = std::min(value, 88.0f);
  for (const float value : x)
    rates.push_back(std::exp(std::max(-103.0f, std::min(88.0f, value))));  // subnormal too
  check_kernel({below_overflow, std::vector<float>(x.size(), 0.0f)}, {{x.size(), 2 * eps, {2e-45}}},
               [&](const auto& tables, auto in, auto out, const Queue& q) {
                 tables.loss.poisson(out[0], {}, in[0], in[1], s, {0, true, false}, q);
               });
  check_kernel({rates, std::vector<float>(x.size(), 0x1p100f)}, {{x.size(), 2 * eps, {0x1p100 * eps / 8}}},
               [&](const auto& tables, auto in, auto out, const Queue& q) {
                 tables.loss.poisson(out[0], {}, in[0], in[1], s, {0, false, false}, q);
               });
}

TEST_CASE("Gaussian masks and their gradients") {
  for (const std::int64_t neurons : {1, 7, 9, 20})
    for (const std::int64_t pixels : {1, 15, 16, 48, 113}) {
      const GaussianMaskShape s{neurons, pixels, 1.5, 2};
      CAPTURE(neurons);
      CAPTURE(pixels);
      const std::size_t n = size(neurons);
      const Inputs inputs{uniform(2 * n, 1, -0.5, 0.5), uniform(n, 2, -1, 0.5),
                          uniform(n * size(pixels) * 2, 3, -1, 1), random_normal(n * size(pixels), 4)};
      // A density is off by its exponent, at most 10, times a few roundings.
      check_kernel(inputs, {{n * size(pixels), 100 * eps}},
                   [&](const auto& tables, auto in, auto out, const Queue& q) {
                     tables.gaussian_mask.forward(out[0], in[0], in[1], in[2], s, q);
                   });
      // |upstream| up to 4, coordinates up to 1.75, variance at least exp(-2), distance up to 20.
      const double per_mean = 4 * 1.75 * 2 * std::exp(2) * s.mean_scale, per_log_var = 4 * 20 * s.var_scale;
      check_kernel(inputs, {{2 * n, 0, {100 * eps * per_mean}}, {n, 0, {100 * eps * per_log_var}}},
                   [&](const auto& tables, auto in, auto out, const Queue& q) {
                     tables.gaussian_mask.grad_parameters(out[0], out[1], in[3], in[0], in[1], in[2], s, q);
                   });
    }
}

TEST_CASE("a Gaussian mask beyond its clamps, and one without parameters") {
  const GaussianMaskShape s{3, 20, 1, 1};
  const Inputs inputs{
      {0, 0, 100, 100, 0.25f, 0}, {25, -25, 20}, uniform(120, 3, -1, 1), random_normal(60, 4)};
  check_kernel(inputs, {{60, 100 * eps}}, [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.gaussian_mask.forward(out[0], in[0], in[1], in[2], s, q);
  });
  check_kernel(inputs, {{6, 100 * eps, {100 * eps}}, {3, 0}},
               [&](const auto& tables, auto in, auto out, const Queue& q) {
                 tables.gaussian_mask.grad_parameters(out[0], out[1], in[3], in[0], in[1], in[2], s, q);
               });
  Inputs undefined = inputs;
  undefined[0][0] = std::nanf("");
  undefined[1][1] = std::nanf("");
  check_kernel(undefined, {{60, 100 * eps}}, [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.gaussian_mask.forward(out[0], in[0], in[1], in[2], s, q);
  });
}

TEST_CASE("temporal kernels and their gradients") {
  for (const std::int64_t length : {3, 11, 16, 21, 31, 50})
    for (const std::int64_t pairs : {1, 17, 40}) {
      const TemporalKernelShape s{pairs, length / 3, length};
      CAPTURE(length);
      const std::size_t weights = size(pairs * s.harmonics), taps = size(pairs * length);
      const Inputs inputs{
          random_normal(weights, 1), random_normal(weights, 2), {0.125f}, random_normal(taps, 3)};
      // Sums of at most 2 K, and L, terms of up to 4.
      const double bound = 4 * eps * static_cast<double>(length * length);
      check_kernel(inputs, {{taps, 0, {bound}}}, [&](const auto& tables, auto in, auto out, const Queue& q) {
        tables.temporal_kernel.forward(out[0], in[0], in[1], in[2], s, q);
      });
      for (const Write mode : modes)
        check_kernel(
            inputs,
            {{weights, 0, {bound}, before(mode, weights)}, {weights, 0, {bound}, before(mode, weights)}},
            [&](const auto& tables, auto in, auto out, const Queue& q) {
              tables.temporal_kernel.grad_weights(out[0], out[1], in[3], in[2], s, mode, mode, q);
            });
    }
}

namespace {

constexpr Reduction reductions[] = {Reduction::sum, Reduction::mean, Reduction::per_neuron_sum,
                                    Reduction::per_neuron_mean};

std::size_t value_count(const LossShape& s) {
  return s.reduction == Reduction::sum || s.reduction == Reduction::mean ? 1 : size(s.neurons);
}

}  // namespace

TEST_CASE("Poisson losses with their slopes") {
  for (const Reduction reduction : reductions)
    for (const std::int64_t neurons : {1, 16, 41})
      for (const std::int64_t frames : {1, 20}) {
        const LossShape s{3, frames, frames + 5, neurons, reduction};
        CAPTURE(neurons);
        const std::size_t count = size(s.batch * s.frames * neurons);
        std::vector<float> target = random_normal(size(s.batch * s.target_frames * neurons), 2, 1, 2);
        for (float& value : target) value = std::max(0.0f, std::round(value));
        const Inputs inputs{uniform(count, 1, 0.01, 3), target};
        // Terms of at most 40, at most 40 roundings each; slopes t / (r + eps) of up to 700.
        const double terms = 40.0 * static_cast<double>(count);
        for (const PoissonOptions& options :
             {PoissonOptions{1e-8, false, false}, PoissonOptions{1e-16, false, true},
              PoissonOptions{0, true, false}, PoissonOptions{0, true, true}}) {
          check_kernel(inputs,
                       {{value_count(s), 0, {rounding_bound<float>(terms, 40)}}, {count, 4 * eps, {4 * eps}}},
                       [&](const auto& tables, auto in, auto out, const Queue& q) {
                         tables.loss.poisson(out[0], out[1], in[0], in[1], s, options, q);
                       });
          check_kernel(inputs, {{value_count(s), 0, {rounding_bound<float>(terms, 40)}}},
                       [&](const auto& tables, auto in, auto out, const Queue& q) {
                         tables.loss.poisson(out[0], {}, in[0], in[1], s, options, q);
                       });
        }
      }
}

TEST_CASE("correlation losses with their slopes, constants included") {
  for (const Reduction reduction : reductions)
    for (const std::int64_t neurons : {1, 16, 41})
      for (const std::int64_t frames : {5, 33, 120}) {
        const LossShape s{3, frames, frames + 4, neurons, reduction};
        CAPTURE(neurons);
        CAPTURE(frames);
        const std::size_t count = size(s.batch * frames * neurons);
        Inputs inputs{random_normal(count, 1, 2),
                      random_normal(size(s.batch * s.target_frames * neurons), 2, 1)};
        for (std::int64_t t = 0; t < s.target_frames; ++t)
          inputs[1][size(t * neurons)] = 0.3f;  // a silent cell
        const double items = static_cast<double>(s.batch * neurons);
        // Computed in double: a slope has its own rounding and what its neighbour's left, none is above 1.
        check_kernel(inputs, {{value_count(s), 0, {64 * eps * items}}, {count, eps, {eps}}},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       tables.loss.correlation(out[0], out[1], in[0], in[1], s, {1e-16, -1}, q);
                     });
        check_kernel(inputs, {{value_count(s), 0, {64 * eps * items}}},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       tables.loss.correlation(out[0], {}, in[0], in[1], s, {1e-16, 1}, q);
                     });
      }
}

TEST_CASE("a slope times what comes from above") {
  for (const std::int64_t groups : {1, 7, 41})
    for (const std::int64_t rows : {1, 32, 70})
      for (const Write mode : modes) {
        const std::int64_t count = rows * groups;
        check_kernel({random_whole(size(count), 1), random_whole(size(groups), 2)},
                     {{size(count), 0, {0}, before(mode, size(count))}},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       tables.loss.scale_slope(out[0], in[0], in[1], count, groups, mode, q);
                     });
      }
}

TEST_CASE("AdamW over any length") {
  for (const std::int64_t count : {1, 15, 17, 8192, 20000})
    for (const std::int64_t step : {1, 100}) {
      const AdamWStep options{0.01, 0.9, 0.999, 1e-8, 0.01, step, 0.5};
      const std::size_t n = size(count);
      std::vector<float> squares = random_normal(n, 3);
      for (float& value : squares) value *= value;
      // The step is at most lr / correction1 * m / (sqrt(v) + eps) with v at least 1e-3 g^2.
      check_kernel({random_normal(n, 4)},
                   {{n, 4 * eps, {100 * eps * 0.01 * 32}, random_normal(n, 1)},
                    {n, 4 * eps, {4 * eps}, random_normal(n, 2)},
                    {n, 4 * eps, {0}, squares}},
                   [&](const auto& tables, auto in, auto out, const Queue& q) {
                     tables.optimizer.adamw(out[0], out[1], out[2], in[0], count, options, q);
                   });
    }
}

TEST_CASE("the sum of squares in double, beyond the range of f32, the same for any number of threads") {
  std::vector<float> x = random_normal(30001, 1);
  x[7] = 1e30f;
  x[8] = 1e-30f;
  double expected = 0;
  const Device host = cpu_device(1, Isa::reference);
  reference_tables<float>().optimizer.sum_of_squares(&expected, x.data(), 30001, host.backend().queue());
  std::vector<double> sums;
  for (const Isa isa : available_isas())
    for (const int threads : {1, 2, 3, 7}) {
      if (isa == Isa::reference) continue;
      const Device device = cpu_device(threads, isa);
      double sum = 0;
      tables<float>(device).optimizer.sum_of_squares(&sum, x.data(), 30001, device.backend().queue());
      CHECK(sum == doctest::Approx(expected).epsilon(1e-14));
      sums.push_back(sum);
    }
  for (const double sum : sums) CHECK(sum == sums.front());
}
