// The CUDA kernels of activations, and the elementary functions of all CUDA kernels by way of them.
#include <limits>

#include "tests/gpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr double eps = std::numeric_limits<float>::epsilon();
constexpr double infinity = std::numeric_limits<double>::infinity();

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

/// Every tail of a float4, one block of 256 fours and several.
const std::vector<std::int64_t> counts{1, 2, 3, 4, 5, 255, 1024, 1027, 2310};

const std::vector<Write> modes{Write::overwrite, Write::accumulate};

std::vector<float> before(std::int64_t count, Write mode) {
  return mode == Write::accumulate ? random_whole(size(count), 9) : std::vector<float>{};
}

const std::vector<ActivationKind> kinds{ActivationKind::identity, ActivationKind::relu, ActivationKind::elu,
                                        ActivationKind::softplus, ActivationKind::requ, ActivationKind::tanh,
                                        ActivationKind::absolute};

/// Values around all bends and far out.
std::vector<float> arguments(std::int64_t count, unsigned seed) {
  std::vector<float> x = random_normal(size(count), seed, 0, 6);
  const std::vector<float> special{0.0f,   -0.0f,  0.125f,  20.0f,  20.125f,
                                   -90.0f, 100.0f, -1e-30f, 1e-30f, -1e-4f};
  for (std::size_t i = 0; i < x.size(); i += 3) x[i] = special[(i / 3) % special.size()];
  return x;
}

}  // namespace

// ---- activations
// -----------------------------------------------------------------------------------------------

TEST_CASE("CUDA activations of any number of values") {
  for (const ActivationKind kind : kinds)
    for (const std::int64_t count : counts) {
      CAPTURE(static_cast<int>(kind));
      CAPTURE(count);
      const Activation activation{kind, 0.125, 0.25};
      const Inputs inputs{arguments(count, 1), random_normal(size(count), 2)};
      // elu rounds relative to its shifts; the square of a tiny value may vanish, exp stops at 1.6e-38.
      const double absolute = kind == ActivationKind::elu ? 2 * eps : 2e-38;
      check_gpu_kernel(inputs, {{size(count), 4 * eps, {absolute}}},
                       [&](const auto& tables, auto in, auto out, const Queue& queue) {
                         tables.activation.forward(out[0], in[0], activation, count, queue);
                       });
      for (const Write mode : modes) {
        KernelOutput output{size(count), 4 * eps, {}, before(count, mode)};
        for (std::size_t i = 0; i < size(count); ++i) {
          output.bounds.push_back((4 * eps + 2e-38) * std::abs(inputs[1][i]));
          if (kind == ActivationKind::tanh) output.bounds[i] += 1e-15;  // the reference cancels
          if (kind == ActivationKind::requ) output.bounds[i] *= 1 + 2 * std::abs(inputs[0][i]);
        }
        check_gpu_kernel(inputs, {output}, [&](const auto& tables, auto in, auto out, const Queue& queue) {
          tables.activation.grad(out[0], in[1], in[0], activation, count, mode, queue);
        });
      }
    }
}

TEST_CASE("CUDA activations without exponentials are exact on whole numbers") {
  for (const ActivationKind kind :
       {ActivationKind::identity, ActivationKind::relu, ActivationKind::requ, ActivationKind::absolute}) {
    const std::int64_t count = 1103;
    const Inputs inputs{random_whole(size(count), 1), random_whole(size(count), 2)};
    check_gpu_kernel(inputs, {{size(count), 0}},
                     [&](const auto& tables, auto in, auto out, const Queue& queue) {
                       tables.activation.forward(out[0], in[0], {kind, 0, 0}, count, queue);
                     });
    for (const Write mode : modes)
      check_gpu_kernel(inputs, {{size(count), 0, {0}, before(count, mode)}},
                       [&](const auto& tables, auto in, auto out, const Queue& queue) {
                         tables.activation.grad(out[0], in[1], in[0], {kind, 0, 0}, count, mode, queue);
                       });
  }
}

TEST_CASE("a CUDA gradient in place of its upstream gradient") {
  for (const ActivationKind kind : kinds) {
    const std::int64_t count = 1103;
    const std::vector<float> upstream = random_normal(size(count), 2);
    check_gpu_kernel(
        {arguments(count, 1)}, {{size(count), 8 * eps, {4 * eps * 5}, upstream}},
        [&](const auto& tables, auto in, auto out, const Queue& queue) {
          tables.activation.grad(out[0], out[0], in[0], {kind, 0.125, 0.25}, count, Write::overwrite, queue);
        });
  }
}

namespace {

template <class In>
auto relu_of(const In& in) {
  using T = std::remove_const_t<std::remove_pointer_t<std::decay_t<decltype(in[0])>>>;
  return ParametricRelu<T>{in[2], in[3], in[4]};
}

void check_parametric_relu(std::int64_t count) {
  const Inputs inputs{arguments(count, 1), random_normal(size(count), 2), {0.125f}, {0.75f}, {-1.5f}};
  check_gpu_kernel(inputs, {{size(count), 2 * eps}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.activation.parametric_relu(out[0], in[0], relu_of(in), count, queue);
                   });
  double products = 0;  // x - thresh rounds once, the sum at its end
  for (std::size_t i = 0; i < size(count); ++i) products += std::abs(inputs[1][i] * (inputs[0][i] - 0.125));
  const double sums = rounding_bound<float>(products, 2.01);
  for (const Write mode : modes) {
    const std::vector<float> initial = before(count, mode);
    std::vector<double> bounds(size(count));
    for (std::size_t i = 0; i < bounds.size(); ++i)
      bounds[i] = rounding_bound<float>(
          std::abs(initial.empty() ? 0 : initial[i]) + 1.5 * std::abs(inputs[1][i]), 2.01);
    check_gpu_kernel(inputs, {{size(count), 0, bounds, initial}, {1, 0, {sums}}, {1, 0, {sums}}},
                     [&](const auto& tables, auto in, auto out, const Queue& queue) {
                       tables.activation.parametric_relu_grad(out[0], out[1], out[2], in[1], in[0],
                                                              relu_of(in), count, mode, queue);
                     });
  }
  check_gpu_kernel(inputs, {{1, 0, {sums}}, {1, 0, {sums}}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     using T = std::remove_pointer_t<std::decay_t<decltype(out[0])>>;
                     tables.activation.parametric_relu_grad(static_cast<T*>(nullptr), out[0], out[1], in[1],
                                                            in[0], relu_of(in), count, Write::overwrite,
                                                            queue);
                   });
}

void check_parametric_softplus(std::int64_t count, double least) {
  const Inputs inputs{arguments(count, 1), random_normal(size(count), 2), {0.75f}, {-1.5f}, {0.125f}};
  const auto softplus = [least](auto& in) {
    using T = std::remove_const_t<std::remove_pointer_t<std::decay_t<decltype(in[0])>>>;
    return ParametricSoftplus<T>{in[2], in[3], in[4], least};
  };
  // beta x + gamma rounds relative to its terms, at most 150: so does the softplus, and a quarter of that its
  // slope, both times alpha.
  const double argument = rounding_bound<float>(150, 1);
  check_gpu_kernel(inputs, {{size(count), 2 * eps, {0.75 * argument}}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.activation.parametric_softplus(out[0], in[0], softplus(in), count, queue);
                   });
  for (const Write mode : modes) {
    const std::vector<float> initial = before(count, mode);
    std::vector<double> bounds(size(count));
    for (std::size_t i = 0; i < bounds.size(); ++i)
      bounds[i] = std::abs(inputs[1][i]) * 1.125 * (argument / 4 + 3 * eps) +
                  (initial.empty() ? 0 : eps * std::abs(initial[i]));
    check_gpu_kernel(inputs, {{size(count), eps, bounds, initial}},
                     [&](const auto& tables, auto in, auto out, const Queue& queue) {
                       tables.activation.parametric_softplus_grad(out[0], in[1], in[0], softplus(in), count,
                                                                  mode, queue);
                     });
  }
}

}  // namespace

TEST_CASE("CUDA parametric activations of any number of values") {
  for (const std::int64_t count : counts) {
    CAPTURE(count);
    check_parametric_relu(count);
    check_parametric_softplus(count, -infinity);
    check_parametric_softplus(count, 0.5);
  }
  check_parametric_relu(9001);  // three blocks of the sums
}

TEST_CASE("the CUDA sums of a parametric ReLU's slopes when blocks go round") {
  const std::size_t count = 1024 * 4096 + 5;
  std::vector<float> x(count, -2.0f);
  for (std::size_t i = 0; i < count; i += 3) x[i] = 1.0f;
  const Inputs inputs{x, std::vector<float>(count, 0.5f), {0.0f}, {0.75f}, {-1.5f}};
  const auto sums =
      gpu_outputs(inputs, {{1, 0}, {1, 0}}, [&](const auto& tables, auto in, auto out, const Queue& queue) {
        tables.activation.parametric_relu_grad(static_cast<float*>(nullptr), out[0], out[1], in[1], in[0],
                                               relu_of(in), static_cast<std::int64_t>(count),
                                               Write::overwrite, queue);
      });
  const std::size_t above = (count + 2) / 3;
  CHECK(sums[0][0] == -static_cast<float>(count - above));
  CHECK(sums[1][0] == 0.5f * static_cast<float>(above));
}

TEST_CASE("CUDA activations of NaN and infinities") {
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  const Device host = cpu_device(1, Isa::reference);
  for (const ActivationKind kind : kinds) {
    CAPTURE(static_cast<int>(kind));
    const Inputs inputs{{nan, inf, -inf, nan, inf}, {1, 1, 1, nan, nan}};
    const std::vector<KernelOutput> outputs{{5, 0}, {5, 0}};
    const auto run = [&](const auto& tables, auto in, auto out, const Queue& queue) {
      tables.activation.forward(out[0], in[0], {kind, 0, 0}, 5, queue);
      tables.activation.grad(out[1], in[1], in[0], {kind, 0, 0}, 5, Write::overwrite, queue);
    };
    const auto expected = kernel_outputs(reference_tables<double>(), host, inputs, outputs, run);
    const auto actual = gpu_outputs(inputs, outputs, run);
    for (std::size_t o = 0; o < 2; ++o)
      for (std::size_t i = 0; i < 5; ++i) {
        CAPTURE(o);
        CAPTURE(i);
        if (std::isnan(expected[o][i]))
          CHECK(std::isnan(actual[o][i]));
        else
          CHECK((actual[o][i] == expected[o][i] || std::abs(actual[o][i] - expected[o][i]) < 1e-37));
      }
  }
}

// ---- the elementary functions, over the whole range
// ------------------------------------------------------------

namespace {

/// Numbers of one sign spread evenly over the representable ones up to `most`, its ends included.
std::vector<float> spread(float most, bool negative, std::size_t count) {
  std::uint32_t last;
  std::memcpy(&last, &most, 4);
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t bits = static_cast<std::uint32_t>(std::uint64_t{last} * i / (count - 1));
    std::memcpy(&values[i], &bits, 4);
    if (negative) values[i] = -values[i];
  }
  return values;
}

double unit_in_last_place(double value) {
  const float magnitude = std::abs(static_cast<float>(value));
  return static_cast<double>(std::nextafter(magnitude, std::numeric_limits<float>::infinity())) -
         static_cast<double>(magnitude);
}

/// `absolute` is an error that is allowed beside `units` of the last place.
template <class Function, class Run>
void check_accuracy(const Inputs& inputs, double units, double absolute, const Function& function,
                    const Run& run) {
  const std::vector<float>& x = inputs[0];
  const std::vector<float> y = gpu_outputs(inputs, {{x.size(), 0}}, run)[0];
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = function(static_cast<double>(x[i]));
    const bool good =
        static_cast<float>(expected) == y[i] ||  // infinities too
        std::abs(expected - static_cast<double>(y[i])) <= units * unit_in_last_place(expected) + absolute;
    if (!good && wrong++ < 3) MESSAGE(x[i] << " gives " << y[i] << " instead of " << expected);
  }
  CHECK(wrong == 0);
}

template <class Function>
void check_forward_accuracy(ActivationKind kind, const std::vector<float>& x, double units, double absolute,
                            const Function& function) {
  CAPTURE(static_cast<int>(kind));
  check_accuracy(
      {x}, units, absolute, function, [&](const auto& tables, auto in, auto out, const Queue& queue) {
        tables.activation.forward(out[0], in[0], {kind, 0, 0}, static_cast<std::int64_t>(x.size()), queue);
      });
}

template <class Function>
void check_slope_accuracy(ActivationKind kind, const std::vector<float>& x, double units, double absolute,
                          const Function& function) {
  CAPTURE(static_cast<int>(kind));
  check_accuracy({x, std::vector<float>(x.size(), 1.0f)}, units, absolute, function,
                 [&](const auto& tables, auto in, auto out, const Queue& queue) {
                   tables.activation.grad(out[0], in[1], in[0], {kind, 0, 0},
                                          static_cast<std::int64_t>(x.size()), Write::overwrite, queue);
                 });
}

}  // namespace

TEST_CASE("exponentials and hyperbolic tangents of CUDA kernels, from subnormal numbers to the largest") {
  constexpr float most = std::numeric_limits<float>::max();
  const auto softplus = [](double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); };
  const auto sigmoid = [](double x) {
    return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
  };
  const auto tanh_slope = [](double x) { return 1 / (std::cosh(x) * std::cosh(x)); };
  const double stops = 1.7e-38;  // exp of what is below -87 is exp(-87)
  for (const bool negative : {true, false}) {
    CAPTURE(negative);
    for (const float end : {most, 110.0f}) {
      std::vector<float> x = spread(end, negative, 6001);
      if (end < most)  // evenly over the numbers themselves too
        for (std::size_t i = 0; i < 3000; ++i)
          x[i] = (negative ? -1.0f : 1.0f) * 110.0f * static_cast<float>(i) / 3000.0f;
      if (negative) {
        check_forward_accuracy(ActivationKind::elu, x, 2, 0, [](double v) { return std::expm1(v); });
        check_slope_accuracy(ActivationKind::elu, x, 2, stops, [](double v) { return std::exp(v); });
      }
      check_forward_accuracy(ActivationKind::softplus, x, 0.51, 0, softplus);
      check_slope_accuracy(ActivationKind::softplus, x, 0.51, 0, sigmoid);
      check_forward_accuracy(ActivationKind::tanh, x, 3, 0, [](double v) { return std::tanh(v); });
      check_slope_accuracy(ActivationKind::tanh, x, 6, 4 * stops, tanh_slope);
    }
  }
}

TEST_CASE("exponentials and logarithms of the Poisson loss") {
  const auto value_accuracy = [](const std::vector<float>& x, float target, bool log_input, double units,
                                 const auto& function) {
    const LossShape s{1, 1, 1, static_cast<std::int64_t>(x.size()), Reduction::per_neuron_sum};
    check_accuracy({x, std::vector<float>(x.size(), target)}, units, 0, function,
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.loss.poisson(out[0], nullptr, in[0], in[1], s, {0, log_input, false}, queue);
                   });
  };
  // Where nothing was counted the loss of a logarithm of a rate is the rate.
  const auto exp = [](double v) { return std::exp(v); };
  value_accuracy(spread(std::numeric_limits<float>::max(), true, 6001), 0, true, 2, exp);
  value_accuracy(spread(std::numeric_limits<float>::max(), false, 6001), 0, true, 2, exp);
  std::vector<float> x;
  for (float value = -110; value < 92; value += 0.03125f * 1.01f) x.push_back(value);
  value_accuracy(x, 0, true, 2, exp);
  // Where as much was counted as here the rate itself hardly matters beside its logarithm.
  const float counted = 0x1p113f;
  const auto log = [=](double v) { return v - static_cast<double>(counted) * std::log(v); };
  value_accuracy(spread(0x1p100f, false, 9001), counted, false, 2.5, log);
  x.clear();
  for (float value = 0.5f; value < 2; value += 0x1p-12f * 1.01f) x.push_back(value);
  value_accuracy(x, counted, false, 2.5, log);
}
