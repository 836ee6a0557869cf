// CPU kernels of activations, products, copies of channels and constraints against the f64 reference.
#include <limits>

#include "tests/cpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr double eps = std::numeric_limits<float>::epsilon();

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

/// Every tail of a vector, and more than one chunk of 16384.
const std::vector<std::int64_t> counts{1, 2, 7, 15, 16, 17, 31, 32, 33, 47, 16384, 16385, 40003};

const std::vector<ActivationKind> kinds{ActivationKind::identity, ActivationKind::relu, ActivationKind::elu,
                                        ActivationKind::softplus, ActivationKind::requ, ActivationKind::tanh,
                                        ActivationKind::absolute};

/// Roundings of a value relative to 1 rather than to itself: exp(x) - 1, log(1 + exp(x)), 1 - 2 / (1 + exp).
double absolute_roundings(ActivationKind kind) {
  return kind == ActivationKind::elu || kind == ActivationKind::softplus || kind == ActivationKind::tanh ? 4
                                                                                                         : 0;
}

/// Values around all bends and far out.
std::vector<float> arguments(std::int64_t count, unsigned seed) {
  std::vector<float> x = random_normal(size(count), seed, 0, 6);
  const std::vector<float> special{0.0f,   -0.0f,  0.125f,  20.0f,  20.125f,
                                   -90.0f, 100.0f, -1e-30f, 1e-30f, -1e-4f};
  for (std::size_t i = 0; i < x.size(); i += 3) x[i] = special[(i / 3) % special.size()];
  return x;
}

std::vector<Write> modes() { return {Write::overwrite, Write::accumulate}; }

std::vector<float> before(std::int64_t count, Write mode) {
  return mode == Write::accumulate ? random_whole(size(count), 9) : std::vector<float>{};
}

}  // namespace

TEST_CASE("activations of any number of values") {
  for (const ActivationKind kind : kinds)
    for (const std::int64_t count : counts) {
      const int number = static_cast<int>(kind);
      CAPTURE(number);
      CAPTURE(count);
      const Activation activation{kind, 0.125, 0.25};
      const Inputs inputs{arguments(count, 1), random_normal(size(count), 2)};
      // The square of a tiny value may vanish.
      const double absolute =
          absolute_roundings(kind) * eps + static_cast<double>(std::numeric_limits<float>::min());
      check_kernel(inputs, {{size(count), 8 * eps, {absolute}}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.activation.forward(out[0], in[0], activation, count, queue);
                   });
      for (const Write mode : modes()) {
        KernelOutput output{size(count), 8 * eps, {}, before(count, mode)};
        for (std::size_t i = 0; i < size(count); ++i)
          output.bounds.push_back(absolute * std::abs(inputs[1][i]) +
                                  (mode == Write::accumulate ? 8 * eps * std::abs(output.initial[i]) : 0));
        if (count == 1) output.bounds.resize(1);
        check_kernel(inputs, {output}, [&](const auto& tables, auto in, auto out, const Queue& queue) {
          tables.activation.grad(out[0], in[1], in[0], activation, count, mode, queue);
        });
      }
    }
}

TEST_CASE("activations without exponentials are exact on whole numbers") {
  for (const ActivationKind kind :
       {ActivationKind::identity, ActivationKind::relu, ActivationKind::requ, ActivationKind::absolute})
    for (const std::int64_t count : {5, 33, 16385}) {
      const Inputs inputs{random_whole(size(count), 1), random_whole(size(count), 2)};
      check_kernel(inputs, {{size(count), 0}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.activation.forward(out[0], in[0], {kind, 0, 0}, count, queue);
                   });
      for (const Write mode : modes())
        check_kernel(inputs, {{size(count), 0, {0}, before(count, mode)}},
                     [&](const auto& tables, auto in, auto out, const Queue& queue) {
                       tables.activation.grad(out[0], in[1], in[0], {kind, 0, 0}, count, mode, queue);
                     });
    }
}

TEST_CASE("a gradient in place of its upstream gradient") {
  for (const ActivationKind kind : kinds) {
    const std::int64_t count = 16401;
    const std::vector<float> upstream = random_normal(size(count), 2);
    check_kernel(
        {arguments(count, 1)}, {{size(count), 8 * eps, {4 * eps * 5}, upstream}},
        [&](const auto& tables, auto in, auto out, const Queue& queue) {
          tables.activation.grad(out[0], out[0], in[0], {kind, 0.125, 0.25}, count, Write::overwrite, queue);
        });
  }
}

TEST_CASE("parametric activations of any number of values") {
  for (const std::int64_t count : counts) {
    CAPTURE(count);
    const Inputs inputs{arguments(count, 1), random_normal(size(count), 2), {0.125f}, {0.75f}, {-1.5f}};
    const auto relu = [](auto& in) {
      using T = std::remove_const_t<std::remove_pointer_t<std::decay_t<decltype(in[0])>>>;
      return ParametricRelu<T>{in[2], in[3], in[4]};
    };
    check_kernel(inputs, {{size(count), 2 * eps}},
                 [&](const auto& tables, auto in, auto out, const Queue& queue) {
                   tables.activation.parametric_relu(out[0], in[0], relu(in), count, queue);
                 });
    double products = 0;  // of the slopes' sums, whose order is free
    for (std::size_t i = 0; i < size(count); ++i) products += std::abs(inputs[1][i] * (inputs[0][i] - 0.125));
    const double sums = rounding_bound<float>(products, 256.0 + static_cast<double>(count) / 256 + 2);
    for (const Write mode : modes()) {
      std::vector<double> bounds(size(count), 0.0);
      const std::vector<float> initial = before(count, mode);
      for (std::size_t i = 0; i < initial.size(); ++i) bounds[i] = 2 * eps * std::abs(initial[i]);
      for (std::size_t i = 0; i < bounds.size(); ++i) bounds[i] += 2 * eps * 1.5 * std::abs(inputs[1][i]);
      check_kernel(inputs, {{size(count), 2 * eps, bounds, initial}, {1, 0, {sums}}, {1, 0, {sums}}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.activation.parametric_relu_grad(out[0], out[1], out[2], in[1], in[0], relu(in),
                                                            count, mode, queue);
                   });
      check_kernel(inputs, {{1, 0, {sums}}, {1, 0, {sums}}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     using T = std::remove_pointer_t<std::decay_t<decltype(out[0])>>;
                     tables.activation.parametric_relu_grad(static_cast<T*>(nullptr), out[0], out[1], in[1],
                                                            in[0], relu(in), count, mode, queue);
                   });
    }
    for (const double least : {-std::numeric_limits<double>::infinity(), 0.5}) {
      const auto softplus = [least](auto& in) {
        using T = std::remove_const_t<std::remove_pointer_t<std::decay_t<decltype(in[0])>>>;
        return ParametricSoftplus<T>{in[3], in[4], in[2], least};
      };
      // beta x + gamma rounds relative to its terms, at most 150.
      check_kernel(inputs, {{size(count), 8 * eps, {0.75 * 2 * eps * 150}}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.activation.parametric_softplus(out[0], in[0], softplus(in), count, queue);
                   });
      for (const Write mode : modes())
        check_kernel(inputs, {{size(count), 8 * eps, {16 * eps * 5}, before(count, mode)}},
                     [&](const auto& tables, auto in, auto out, const Queue& queue) {
                       tables.activation.parametric_softplus_grad(out[0], in[1], in[0], softplus(in), count,
                                                                  mode, queue);
                     });
    }
  }
}

TEST_CASE("products, and magnitudes in place") {
  for (const std::int64_t count : counts) {
    CAPTURE(count);
    for (const Write mode : modes()) {
      const auto multiply = [&](const auto& tables, auto in, auto out, const Queue& queue) {
        tables.elementwise.multiply(out[0], in[0], in[1], count, mode, queue);
      };
      check_kernel({random_whole(size(count), 1), random_whole(size(count), 2)},
                   {{size(count), 0, {0}, before(count, mode)}}, multiply);
      const Inputs inputs{random_normal(size(count), 1), random_normal(size(count), 2)};
      std::vector<double> bounds;
      for (std::size_t i = 0; i < size(count); ++i)
        bounds.push_back(rounding_bound<float>(std::abs(inputs[0][i] * inputs[1][i]), 1));
      check_kernel(inputs, {{size(count), eps / 2 * (1 + eps), bounds, before(count, mode)}}, multiply);
    }
    check_kernel({}, {{size(count), 0, {0}, random_normal(size(count), 3)}},
                 [&](const auto& tables, auto, auto out, const Queue& queue) {
                   tables.elementwise.absolute(out[0], count, queue);
                 });
  }
}

TEST_CASE("clamping in place, one-sided too; NaN stays at every place of a vector") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (const std::int64_t count : counts)
    for (const auto& [least, most] :
         {std::pair{-0.5, 0.75}, std::pair{0.0, infinity}, std::pair{-infinity, 0.25}}) {
      CAPTURE(count);
      check_kernel({}, {{size(count), 0, {0}, random_normal(size(count), 3)}},
                   [&, low = least, high = most](const auto& tables, auto, auto out, const Queue& queue) {
                     tables.elementwise.clamp(out[0], low, high, count, queue);
                   });
    }
  for (const Isa isa : available_isas()) {
    CAPTURE(to_string(isa));
    const Device device = cpu_device(1, isa);
    for (std::size_t place = 0; place < 50; ++place) {
      std::vector<float> x(50, 2.0f);
      x[place] = std::nanf("");
      tables<float>(device).elementwise.clamp(x.data(), -1, 1, 50, device.backend().queue());
      for (std::size_t i = 0; i < 50; ++i) CHECK((i == place ? std::isnan(x[i]) : x[i] == 1.0f));
    }
  }
}

TEST_CASE("copies of channels touch nothing else") {
  struct Case {
    std::int64_t rows, count, y_channels, y_first, x_channels, x_first;
  };
  const std::vector<Case> cases{{1, 1, 1, 0, 1, 0},
                                {5, 3, 7, 2, 3, 0},
                                {5, 3, 3, 0, 9, 4},
                                {17, 16, 40, 11, 33, 17},
                                {17, 17, 17, 0, 17, 0},
                                {3, 1, 64, 63, 1, 0},
                                {3, 31, 64, 33, 40, 9},
                                {4, 0, 5, 5, 3, 1},
                                {0, 3, 5, 1, 3, 0},
                                {6000, 8, 24, 8, 8, 0},
                                {2, 20000, 20001, 1, 20003, 2},
                                {20000, 1, 3, 1, 2, 1}};
  for (const Case& c : cases) {
    CAPTURE(c.rows);
    CAPTURE(c.count);
    const std::int64_t outputs = std::max<std::int64_t>(1, c.rows * c.y_channels);
    for (const Write mode : modes())
      check_kernel({random_whole(size(std::max<std::int64_t>(1, c.rows * c.x_channels)), 1)},
                   {{size(outputs), 0, {0}, random_whole(size(outputs), 2)}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.elementwise.copy_channels(
                         out[0], in[0], {c.rows, c.count, c.y_channels, c.y_first, c.x_channels, c.x_first},
                         mode, queue);
                   });
  }
}

TEST_CASE("the norm constraint in place") {
  for (const NormShape& s : {NormShape{1, 1, 1, 1e-5}, NormShape{7, 49, 1, 1e-5}, NormShape{1, 16, 41, 1e-5},
                             NormShape{6, 5, 9, 0.5}, NormShape{3, 4000, 2, 1e-5}}) {
    CAPTURE(s.outer);
    CAPTURE(s.reduced);
    CAPTURE(s.inner);
    const std::size_t count = size(s.outer * s.reduced * s.inner);
    // Half the roundings of the sum of squares, in any order of chunks of 256, and three more.
    const double roundings = (256.0 + static_cast<double>(s.reduced) / 256) / 2 + 3;
    check_kernel({}, {{count, rounding_bound<float>(1, roundings), {0}, random_normal(count, 3)}},
                 [&](const auto& tables, auto, auto out, const Queue& queue) {
                   tables.elementwise.unit_norm(out[0], s, queue);
                 });
  }
}
