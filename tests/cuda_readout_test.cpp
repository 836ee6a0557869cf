// The CUDA kernels of the readouts through masks and of the temporal kernels.
#include <array>

#include "tests/gpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr double eps = std::numeric_limits<float>::epsilon();
constexpr Write modes[] = {Write::overwrite, Write::accumulate};

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

std::vector<float> uniform(std::size_t count, unsigned seed, double low, double high) {
  std::mt19937 generator(seed);
  std::vector<float> values(count);
  for (float& value : values)
    value = static_cast<float>(low + (high - low) * 0x1p-32 * static_cast<double>(generator()));
  return values;
}

/// What accumulation adds to, or nothing.
std::vector<float> before(Write mode, std::size_t count) {
  return mode == Write::accumulate ? random_whole(count, 99) : std::vector<float>{};
}

// ---- mask readout: the weight
// -----------------------------------------------------------------------------------

struct WeightCase {
  MaskReadoutShape s;
  std::size_t mask = size(s.pixels * s.neurons), features = size(s.channels * s.neurons),
              weights = mask * size(s.channels);
};

/// Inputs mask, features, dweight.
template <class Random>
Inputs weight_inputs(const WeightCase& one, const Random& random) {
  return {random(one.mask, 1), random(one.features, 2), random(one.weights, 3)};
}

}  // namespace

TEST_CASE("GPU: the weight of a mask readout and its gradient are exact on whole numbers") {
  // One tile and several, with tails in pixels (8, 16 a block), channels (16 at once) and neurons (32).
  for (const auto& sizes : {std::array<std::int64_t, 3>{1, 1, 1},
                            {7, 3, 5},
                            {16, 16, 32},
                            {9, 17, 33},
                            {48, 16, 41},
                            {150, 2, 7}})
    for (const bool last : {false, true}) {
      const WeightCase one{{1, sizes[0], sizes[1], sizes[2], last, {}}};
      const MaskReadoutShape& s = one.s;
      CAPTURE(s.pixels);
      CAPTURE(s.channels);
      CAPTURE(last);
      const Inputs inputs =
          weight_inputs(one, [](auto count, auto seed) { return random_whole(count, seed); });
      check_gpu_kernel(inputs, {{one.weights, 0}},
                       [&](const auto& tables, auto in, auto out, const Queue& q) {
                         tables.mask_readout.weight(out[0], in[0], in[1], s, q);
                       });
      for (const Write mode : modes)
        check_gpu_kernel(
            inputs,
            {{one.mask, 0, {0}, before(mode, one.mask)}, {one.features, 0, {0}, before(mode, one.features)}},
            [&](const auto& tables, auto in, auto out, const Queue& q) {
              tables.mask_readout.grad_weight(out[0], out[1], in[2], in[0], in[1], s, mode, mode, q);
            });
      check_gpu_kernel(inputs, {{one.mask, 0}}, [&](const auto& tables, auto in, auto out, const Queue& q) {
        tables.mask_readout.grad_weight(out[0], nullptr, in[2], in[0], in[1], s, Write::overwrite,
                                        Write::overwrite, q);
      });
      check_gpu_kernel(inputs, {{one.features, 0}},
                       [&](const auto& tables, auto in, auto out, const Queue& q) {
                         tables.mask_readout.grad_weight(nullptr, out[0], in[2], in[0], in[1], s,
                                                         Write::overwrite, Write::accumulate, q);
                         tables.mask_readout.grad_weight(nullptr, out[0], in[2], in[0], in[1], s,
                                                         Write::overwrite, Write::overwrite, q);
                       });
    }
}

TEST_CASE("GPU: the gradient of a mask readout's weight stays within the rounding of its sums") {
  const WeightCase one{{1, 50, 18, 37, false, {}}};
  const Inputs inputs = weight_inputs(one, [](auto count, auto seed) { return random_normal(count, seed); });
  const auto run = [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.mask_readout.grad_weight(out[0], out[1], in[2], in[0], in[1], one.s, Write::overwrite,
                                    Write::overwrite, q);
  };
  // A mask's sum goes over the channels; a feature's over two pixels, eight warps, and one in f64.
  std::vector<KernelOutput> outputs{{one.mask, 0}, {one.features, 0}};
  bound_outputs(outputs, inputs, 18, run);
  check_gpu_kernel(inputs, outputs, run);
}

// ---- mask readout: the activation
// -------------------------------------------------------------------------------

namespace {

constexpr ActivationKind kinds[] = {ActivationKind::identity, ActivationKind::relu, ActivationKind::elu,
                                    ActivationKind::softplus, ActivationKind::requ, ActivationKind::tanh,
                                    ActivationKind::absolute};

void check_activation(const MaskReadoutShape& s) {
  CAPTURE(static_cast<int>(s.activation.kind));
  CAPTURE(s.rows);
  CAPTURE(s.neurons);
  const std::size_t n = size(s.neurons), count = size(s.rows * s.neurons);
  const Inputs inputs{random_normal(count, 1, 0, 3), random_normal(n, 2, 1, 0.5), random_normal(n, 3),
                      random_normal(count, 4)};
  // |z scale| is up to 30, values and slopes (at most 2 |u|) up to a few hundred.
  const double bound = 2000 * eps, row_count = static_cast<double>(s.rows);
  check_gpu_kernel(inputs, {{count, 8 * eps, {64 * eps}}, {count, 8 * eps, {64 * eps}}},
                   [&](const auto& tables, auto in, auto out, const Queue& q) {
                     tables.mask_readout.activate(out[0], in[0], in[1], in[2], s, q);
                     tables.mask_readout.activate(out[1], in[0], nullptr, nullptr, s, q);
                   });
  const auto sums = [&](Write mode) {
    return KernelOutput{n, 8 * eps, {bound * row_count}, before(mode, n)};
  };
  for (const Write mode : modes)
    check_gpu_kernel(inputs, {{count, 8 * eps, {bound}}, sums(mode), sums(mode)},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       tables.mask_readout.grad_activate(out[0], out[1], out[2], in[3], in[0], in[1], in[2],
                                                         s, mode, mode, q);
                     });
  const KernelOutput dz{count, 8 * eps, {bound}};
  check_gpu_kernel(
      inputs, {dz, dz, sums(Write::overwrite), dz, sums(Write::overwrite)},
      [&](const auto& tables, auto in, auto out, const Queue& q) {
        constexpr Write over = Write::overwrite;
        const auto& op = tables.mask_readout;
        op.grad_activate(out[0], nullptr, nullptr, in[3], in[0], nullptr, nullptr, s, over, over, q);
        op.grad_activate(out[1], out[2], nullptr, in[3], in[0], in[1], nullptr, s, over, over, q);
        op.grad_activate(out[3], nullptr, out[4], in[3], in[0], nullptr, in[2], s, over, over, q);
      });
}

}  // namespace

TEST_CASE("GPU: activations of a readout and their gradients") {
  for (const ActivationKind kind : kinds) {
    check_activation({33, 1, 1, 36, false, {kind, 0.25, 0.5}});
    check_activation({7, 1, 1, 41, false, {kind, 0.25, 0.5}});
  }
  // Vectors and single floats; one row and several blocks of 64; rows that are shorter than a block's step.
  for (const std::int64_t rows : {1, 64, 65, 600})
    for (const std::int64_t neurons : {1, 3, 4, 8}) {
      check_activation({rows, 1, 1, neurons, false, {ActivationKind::elu}});
      check_activation({rows, 1, 1, neurons, false, {ActivationKind::softplus}});
    }
  check_activation({2, 1, 1, 1100, false, {ActivationKind::softplus}});
}

TEST_CASE("GPU: sums of a readout's slopes are exact on whole numbers") {
  const std::int64_t rows = 200, neurons = 35;
  const MaskReadoutShape s{rows, 1, 1, neurons, false, {ActivationKind::requ}};
  const Inputs inputs{random_whole(size(rows * neurons), 1), random_whole(size(neurons), 2),
                      random_whole(size(neurons), 3), random_whole(size(rows * neurons), 4)};
  for (const Write mode : modes)
    check_gpu_kernel(inputs,
                     {{size(rows * neurons), 0},
                      {size(neurons), 0, {0}, before(mode, size(neurons))},
                      {size(neurons), 0, {0}, before(mode, size(neurons))}},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       tables.mask_readout.grad_activate(out[0], out[1], out[2], in[3], in[0], in[1], in[2],
                                                         s, mode, mode, q);
                     });
}

TEST_CASE("GPU: exponentials of a readout over their whole range, to a few units of the last place") {
  std::vector<float> x;
  for (float value = -110; value < 100; value += 0.0937f) x.push_back(value);
  const auto count = static_cast<std::int64_t>(x.size());
  const std::vector<float> ones(x.size(), 1.0f);
  for (const ActivationKind kind : {ActivationKind::elu, ActivationKind::softplus, ActivationKind::tanh}) {
    const MaskReadoutShape s{1, 1, 1, count, false, {kind}};
    CAPTURE(static_cast<int>(kind));
    const double units = kind == ActivationKind::softplus ? 0.51 : 4;
    const double absolute = kind == ActivationKind::tanh ? eps : 2e-38;
    check_gpu_kernel({x, ones},
                     {{x.size(), units * eps, {absolute}}, {x.size(), (units + 1) * eps, {absolute}}},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       tables.mask_readout.activate(out[0], in[0], nullptr, nullptr, s, q);
                       tables.mask_readout.grad_activate(out[1], nullptr, nullptr, in[1], in[0], nullptr,
                                                         nullptr, s, Write::overwrite, Write::overwrite, q);
                     });
  }
}

TEST_CASE("GPU: NaN goes through the parts of a mask readout") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Device device = emulator_device();
  for (const ActivationKind kind : kinds) {
    const MaskReadoutShape s{2, 1, 1, 1, false, {kind}};
    CAPTURE(static_cast<int>(kind));
    const auto out =
        device_outputs(device, {{nan, 1}, {nan, 1}, {1, 1}}, {{2, 0}, {2, 0}, {1, 0}, {1, 0}}, 0,
                       [&](const auto& tables, auto in, auto to, const Queue& q) {
                         tables.mask_readout.activate(to[0], in[0], nullptr, nullptr, s, q);
                         tables.mask_readout.grad_activate(to[1], to[2], to[3], in[1], in[2], nullptr,
                                                           nullptr, s, Write::overwrite, Write::overwrite, q);
                       });
    CHECK(std::isnan(out[0][0]));
    CHECK(std::isfinite(out[0][1]));
    CHECK(std::isnan(out[1][0]));
    CHECK(std::isfinite(out[1][1]));
    CHECK(std::isnan(out[2][0]));
    CHECK(std::isnan(out[3][0]));
  }
}

TEST_CASE("GPU: a mask readout of no rows, and of no pixels, has gradients of zeros") {
  const MaskReadoutShape rows{0, 1, 1, 5, false, {ActivationKind::softplus}}, pixels{1, 0, 2, 5, false, {}};
  for (const Write mode : modes)
    check_gpu_kernel(
        {random_whole(10, 1)},
        {{5, 0, {0}, before(mode, 5)}, {5, 0, {0}, before(mode, 5)}, {10, 0, {0}, before(mode, 10)}},
        [&](const auto& tables, auto in, auto out, const Queue& q) {
          const auto& op = tables.mask_readout;
          op.activate(nullptr, nullptr, in[0], nullptr, rows, q);
          op.grad_activate(nullptr, out[0], out[1], nullptr, nullptr, in[0], nullptr, rows, mode, mode, q);
          op.weight(nullptr, nullptr, in[0], pixels, q);
          op.grad_weight(nullptr, out[2], nullptr, nullptr, in[0], pixels, mode, mode, q);
        });
}

// ---- Gaussian masks
// -----------------------------------------------------------------------------------------------

TEST_CASE("GPU: Gaussian masks and their gradients") {
  for (const std::int64_t neurons : {1, 4, 9})
    for (const std::int64_t pixels : {1, 31, 32, 48, 113}) {
      const GaussianMaskShape s{neurons, pixels, 1.5, 2};
      CAPTURE(neurons);
      CAPTURE(pixels);
      const std::size_t n = size(neurons);
      const Inputs inputs{uniform(2 * n, 1, -0.5, 0.5), uniform(n, 2, -1, 0.5),
                          uniform(n * size(pixels) * 2, 3, -1, 1), random_normal(n * size(pixels), 4)};
      // A density is off by its exponent, at most 10, times a few roundings.
      check_gpu_kernel(inputs, {{n * size(pixels), 100 * eps}},
                       [&](const auto& tables, auto in, auto out, const Queue& q) {
                         tables.gaussian_mask.forward(out[0], in[0], in[1], in[2], s, q);
                       });
      // |upstream| up to 4, coordinates up to 1.75, variance at least exp(-2), distance up to 20.
      const double per_mean = 4 * 1.75 * 2 * std::exp(2) * s.mean_scale, per_log_var = 4 * 20 * s.var_scale;
      check_gpu_kernel(inputs, {{2 * n, 0, {100 * eps * per_mean}}, {n, 0, {100 * eps * per_log_var}}},
                       [&](const auto& tables, auto in, auto out, const Queue& q) {
                         tables.gaussian_mask.grad_parameters(out[0], out[1], in[3], in[0], in[1], in[2], s,
                                                              q);
                       });
    }
}

TEST_CASE("GPU: a Gaussian mask beyond its clamps, and one without parameters") {
  const GaussianMaskShape s{3, 20, 1, 1};
  Inputs inputs{{0, 0, 100, 100, 0.25f, 0}, {25, -25, 20}, uniform(120, 3, -1, 1), random_normal(60, 4)};
  const auto both = [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.gaussian_mask.forward(out[0], in[0], in[1], in[2], s, q);
    tables.gaussian_mask.grad_parameters(out[1], out[2], in[3], in[0], in[1], in[2], s, q);
  };
  const std::vector<KernelOutput> outputs{{60, 100 * eps}, {6, 100 * eps, {100 * eps}}, {3, 0}};
  check_gpu_kernel(inputs, outputs, both);
  inputs[0][0] = std::nanf("");  // the masks of these two are zero, and so are their gradients
  inputs[1][1] = std::nanf("");
  check_gpu_kernel(inputs, outputs, both);
}

// ---- temporal kernels
// ---------------------------------------------------------------------------------------------

TEST_CASE("GPU: temporal kernels and their gradients") {
  for (const std::int64_t length : {3, 11, 21, 50})
    for (const std::int64_t pairs : {1, 17, 40})
      for (const float log_speed : {0.125f, -3.0f, 3.5f}) {
        const TemporalKernelShape s{pairs, length / 3, length};
        CAPTURE(length);
        CAPTURE(pairs);
        CAPTURE(log_speed);
        const std::size_t weights = size(pairs * s.harmonics), taps = size(pairs * length);
        const Inputs inputs{
            random_normal(weights, 1), random_normal(weights, 2), {log_speed}, random_normal(taps, 3)};
        // A product has its own rounding, that of the table and those of the sum over 2 K, or L.
        const auto forward = [&](const auto& tables, auto in, auto out, const Queue& q) {
          tables.temporal_kernel.forward(out[0], in[0], in[1], in[2], s, q);
        };
        const double bound = 4 * eps * static_cast<double>(length * length);
        check_gpu_kernel(inputs, {{taps, 0, {bound}}}, forward);
        for (const Write mode : modes) {
          const KernelOutput dweights{weights, 0, {bound}, before(mode, weights)};
          check_gpu_kernel(
              inputs, {dweights, dweights}, [&](const auto& tables, auto in, auto out, const Queue& q) {
                tables.temporal_kernel.grad_weights(out[0], out[1], in[3], in[2], s, mode, mode, q);
              });
        }
      }
}

TEST_CASE("GPU: one gradient of a temporal kernel without the other") {
  const TemporalKernelShape s{3, 4, 12};
  const Inputs inputs{{0.25f}, random_normal(36, 3)};
  const KernelOutput dweights{12, 0, {rounding_bound<float>(4 * 12, 14)}};
  check_gpu_kernel(inputs, {dweights, dweights}, [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.temporal_kernel.grad_weights(out[0], nullptr, in[1], in[0], s, Write::overwrite, Write::overwrite,
                                        q);
    tables.temporal_kernel.grad_weights(nullptr, out[1], in[1], in[0], s, Write::overwrite, Write::overwrite,
                                        q);
  });
}

TEST_CASE("GPU: temporal kernels of no harmonics are zero") {
  check_gpu_kernel({{0.25f}}, {{6, 0}}, [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.temporal_kernel.forward(out[0], nullptr, nullptr, in[0], {2, 0, 3}, q);
  });
}

TEST_CASE("GPU: the table behind the temporal kernels is right to half a unit of the last place") {
  // Weights that show one harmonic each; high ones at a high speed, where an angle has many turns.
  const std::int64_t length = 30, harmonics = 64;
  const TemporalKernelShape s{2 * harmonics, harmonics, length};
  std::vector<float> sines(size(s.pairs * harmonics), 0.0f), cosines = sines;
  for (std::int64_t k = 0; k < harmonics; ++k) {
    sines[size(2 * k * harmonics + k)] = 1;
    cosines[size((2 * k + 1) * harmonics + k)] = 1;
  }
  for (const float log_speed : {0.3f, 4.0f})
    check_gpu_kernel({sines, cosines, {log_speed}}, {{size(s.pairs * length), 0.51 * eps, {1e-12}}},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       tables.temporal_kernel.forward(out[0], in[0], in[1], in[2], s, q);
                     });
}
