// Losses and regularizers: gradients by central differences for every option, closed forms, constants,
// errors.
#include <doctest/doctest.h>

#include <random>

#include "check.hpp"
#include "fovea/autograd.hpp"
#include "fovea/ops.hpp"
#include "fovea/random.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

const Device device = cpu_device(1);

Tensor leaf(const Shape& shape, unsigned seed, double low = -1, double high = 1) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(low, high);
  std::vector<double> x(static_cast<std::size_t>(shape.elements()));
  for (double& value : x) value = uniform(random);
  return Tensor::from(x, shape, device).set_requires_grad();
}

Tensor constant(const Shape& shape, unsigned seed, double low = -1, double high = 1) {
  return leaf(shape, seed, low, high).detach();
}

using Inputs = std::vector<Tensor>;

void check_gradient(const std::function<Tensor(const Inputs&)>& function, const Inputs& inputs) {
  const GradcheckReport report = gradcheck(function, inputs);
  CHECK_MESSAGE(report.passed, report.worst << " at " << report.where);
  std::int64_t entries = 0;
  for (const Tensor& input : inputs) entries += input.elements();
  CHECK(report.compared == entries);
}

const std::vector<bool> both{false, true};

/// Shapes of output and target: images, movies, movies whose target has more frames.
const std::vector<std::pair<Shape, Shape>> shapes{
    {{5, 3}, {5, 3}}, {{2, 4, 3}, {2, 4, 3}}, {{2, 4, 3}, {2, 7, 3}}, {{1, 1, 1}, {1, 2, 1}}};

template <class Function>
std::string message_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("gradients of the Poisson losses") {
  for (const auto& pair : shapes) {
    const Shape &out = pair.first, &seen = pair.second;
    CAPTURE(out);
    const Tensor rates = leaf(out, 1, 0.2, 3), logs = leaf(out, 2);
    const Tensor target = constant(seen, 3, 0, 4);  // some below one, where Stirling's term is left out
    for (const bool a : both)
      for (const bool b : both) {
        CAPTURE(a);
        CAPTURE(b);
        const Tensor& y = a ? logs : rates;
        check_gradient([&](const Inputs& in) { return poisson_nll_loss(in[0], target, {a, b, 1e-3}); }, {y});
        check_gradient(
            [&](const Inputs& in) {
              return poisson_loss3d(in[0], target, {1e-3, a, b});
            },
            {rates});
        for (const bool full : both)
          check_gradient(
              [&](const Inputs& in) {
                return poisson_loss(in[0], target, {1e-3, a, b, full});
              },
              {rates});
      }
  }
}

TEST_CASE("gradients of the correlation losses") {
  for (const bool per_neuron : both)
    for (const bool avg : both) {
      CAPTURE(per_neuron);
      CAPTURE(avg);
      for (const double eps : {1e-16, 0.1}) {
        const Tensor images = constant({6, 3}, 2), movie = constant({2, 9, 3}, 4);
        check_gradient(
            [&](const Inputs& in) {
              return correlation_loss2d(in[0], images, {eps, per_neuron, avg});
            },
            {leaf({6, 3}, 1)});
        for (const bool negate : both)
          check_gradient(
              [&](const Inputs& in) {
                return correlation_loss3d(in[0], movie, {eps, per_neuron, avg, negate});
              },
              {leaf({2, 5, 3}, 3)});
      }
    }
}

TEST_CASE("gradients of the regularizers") {
  for (const Shape& shape : {Shape{2, 3, 1, 5, 4}, Shape{1, 1, 3, 3}, Shape{4, 3}}) {
    CAPTURE(shape);
    check_gradient([](const Inputs& in) { return laplace_ratio(in[0]); }, {leaf(shape, 1)});
  }
  for (const Shape& shape : {Shape{2, 3, 7, 1, 1}, Shape{3, 1, 1}, Shape{2, 4, 1, 1}}) {
    CAPTURE(shape);
    check_gradient([](const Inputs& in) { return laplace_ratio_time(in[0]); }, {leaf(shape, 1)});
  }
  for (const Shape& shape : {Shape{2, 3, 1, 5, 4}, Shape{3, 1, 2}, Shape{2, 3}})
    check_gradient([](const Inputs& in) { return group_sparsity(in[0]); }, {leaf(shape, 2)});
  for (const std::int64_t harmonics : {1, 2, 7})
    check_gradient([](const Inputs& in) { return temporal_smoothing(in[0], in[1]); },
                   {leaf({3, 2, harmonics}, 3), leaf({3, 2, harmonics}, 4)});
  for (const bool mean : both) {
    check_gradient([&](const Inputs& in) { return absolute_sum(in[0], mean); }, {leaf({2, 3, 4}, 5)});
    check_gradient([&](const Inputs& in) { return gaussian_extent(in[0], in[1], 6.0, 4.0, mean); },
                   {leaf({5, 2}, 6), leaf({5}, 7)});
  }
}

TEST_CASE("gradients pass through a weighted sum, also of one term twice") {
  check_gradient(
      [](const Inputs& in) {
        const Tensor extent = absolute_sum(in[0]), sparse = group_sparsity(in[0]);
        return weighted_sum({extent, sparse, extent}, {0.5, -3, 2});
      },
      {leaf({3, 4}, 1)});
  const Tensor a = Tensor::scalar(3, DType::f64, device), b = Tensor::scalar(-2, DType::f64, device);
  CHECK(weighted_sum({a, b}, {2, 0.5}).item() == 5);
  CHECK(weighted_sum({a}, {2}).shape() == Shape{});
}

TEST_CASE("only inputs that ask for a gradient get one, and the target never does") {
  Tensor output = leaf({2, 4, 3}, 1, 0.2, 3), target = leaf({2, 5, 3}, 2, 0, 4);
  backward(poisson_loss3d(output, target));
  CHECK(output.grad().defined());
  CHECK_FALSE(target.grad().defined());
  CHECK_FALSE(poisson_loss3d(output.detach(), target).requires_grad());
  {
    const NoGrad guard;
    CHECK_FALSE(poisson_loss3d(output, target).requires_grad());
  }
  const Tensor sin_weights = leaf({2, 1, 3}, 3), cos_weights = constant({2, 1, 3}, 4);
  backward(temporal_smoothing(sin_weights, cos_weights));
  CHECK(sin_weights.grad().defined());
  CHECK_FALSE(cos_weights.grad().defined());
}

TEST_CASE("closed forms") {
  const auto values_of = [](const Tensor& x) { return x.to_vector<double>(); };
  const Tensor output = Tensor::from(std::vector<double>{1, 2, 4, 8}, {2, 2}, device);
  const Tensor target = Tensor::from(std::vector<double>{0, 1, 2, 3}, {2, 2}, device);
  const double logs[] = {0, std::log(2.0), 2 * std::log(4.0), 3 * std::log(8.0)};
  const double terms[] = {1 - logs[0], 2 - logs[1], 4 - logs[2], 8 - logs[3]};
  const double sum = terms[0] + terms[1] + terms[2] + terms[3];
  CHECK(poisson_loss3d(output, target, {0, false, false}).item() == doctest::Approx(sum));
  CHECK(poisson_loss3d(output, target, {0, false, true}).item() == doctest::Approx(sum / 4));
  for (const bool avg : both)  // per neuron it is a mean whatever avg says
    CHECK(values_of(poisson_loss3d(output, target, {0, true, avg}))[1] ==
          doctest::Approx((terms[1] + terms[3]) / 2));
  CHECK(values_of(poisson_loss(output, target, {0, true, false, false}))[1] ==
        doctest::Approx(terms[1] + terms[3]));
  // Stirling's term for targets 2 and 3, none for 0 and 1
  const auto stirling = [](double y) {
    return y * std::log(y) - y + 0.5 * std::log(2 * 3.14159265358979323846 * y);
  };
  CHECK(poisson_loss(output, target, {0, false, false, true}).item() ==
        doctest::Approx(sum + stirling(2) + stirling(3)));
  CHECK(poisson_nll_loss(output, target, {false, true, 0}).item() ==
        doctest::Approx((sum + stirling(2) + stirling(3)) / 4));
  const double exponentials = std::exp(1.0) + std::exp(2.0) + std::exp(4.0) + std::exp(8.0) - 2 - 8 - 24;
  CHECK(poisson_nll_loss(output, target, {true, false, 0}).item() == doctest::Approx(exponentials / 4));
  CHECK(correlation_loss2d(output, target).item() == doctest::Approx(-2));
  CHECK(correlation_loss3d(output.reshape({1, 2, 2}), target.reshape({1, 2, 2}), {1e-16, false, true, false})
            .item() == doctest::Approx(1));
  CHECK(group_sparsity(Tensor::from(std::vector<double>{3, 4}, {1, 2, 1}, device)).item() ==
        doctest::Approx(7.0 / 5));
  CHECK(temporal_smoothing(output.reshape({2, 1, 2}), output.reshape({2, 1, 2})).item() ==
        doctest::Approx(0.01 * (1 + 16) + 0.81 * (4 + 64)));
  CHECK(temporal_smoothing(output.reshape({4, 1, 1}), output.reshape({4, 1, 1})).item() ==
        doctest::Approx(2 * 0.01 * 85 / 4));
  CHECK(absolute_sum(Tensor::from(std::vector<double>{-3, 0, 1}, {3}, device), true).item() ==
        doctest::Approx(4.0 / 3));
}

TEST_CASE("the target counts by its last frames") {
  const Tensor output = constant({2, 4, 3}, 1, 0.2, 3), longer = constant({2, 7, 3}, 2, 0, 4);
  std::vector<double> last;
  const std::vector<double> all = longer.to_vector<double>();
  for (std::size_t b = 0; b < 2; ++b)
    last.insert(last.end(), all.begin() + static_cast<std::ptrdiff_t>(b * 21 + 9),
                all.begin() + static_cast<std::ptrdiff_t>(b * 21 + 21));
  const Tensor aligned = Tensor::from(last, {2, 4, 3}, device);
  CHECK(exact(poisson_loss3d(output, aligned), poisson_loss3d(output, longer)));
  CHECK(exact(poisson_nll_loss(output, aligned), poisson_nll_loss(output, longer)));
  CHECK(exact(correlation_loss3d(output, aligned), correlation_loss3d(output, longer)));
}

TEST_CASE("a correlation with a constant is zero with a finite gradient, in both precisions") {
  // 0.1 has no exact sum: only a careful mean gives deviations of exactly zero
  const std::int64_t frames = 11;
  for (const DType dtype : {DType::f32, DType::f64})
    for (const double eps : {1e-16, 0.0}) {
      CAPTURE(dtype);
      CAPTURE(eps);
      const Tensor flat = Tensor::full({1, frames, 2}, 0.1, dtype, device);
      const Tensor moving = constant({1, frames, 2}, 1, 0, 4).to(dtype);
      const auto gradient = [&](const Tensor& output, const Tensor& target) {
        Tensor x = output.clone().set_requires_grad();
        const Tensor r = correlation_loss3d(x, target, {eps, false, false, false});
        CHECK(r.item() == 0);
        backward(r);
        return values(x.grad());
      };
      const std::vector<double> zeros(2 * frames, 0.0);
      CHECK(gradient(moving, flat) == zeros);
      CHECK(gradient(flat, flat) == zeros);
      const std::vector<double> slope = gradient(flat, moving), y = values(moving);
      for (std::size_t n = 0; n < 2; ++n) {
        double mean = 0, variance = 0;
        for (std::size_t t = 0; t < 11; ++t) mean += y[2 * t + n] / 11;
        for (std::size_t t = 0; t < 11; ++t) variance += (y[2 * t + n] - mean) * (y[2 * t + n] - mean) / 11;
        for (std::size_t t = 0; t < 11; ++t) {
          const double expected =
              eps == 0 ? 0 : (y[2 * t + n] - mean) / (11 * std::sqrt(eps * (variance + eps)));
          CHECK(slope[2 * t + n] == doctest::Approx(expected).epsilon(1e-5));
        }
      }
    }
}

TEST_CASE("a prediction that is not a number stays visible") {
  Tensor output = Tensor::full({1, 3, 1}, std::nan(""), DType::f64, device);
  const Tensor target = constant({1, 3, 1}, 1, 0, 1);
  CHECK(std::isnan(correlation_loss3d(output, target).item()));
  CHECK(std::isnan(poisson_loss3d(output, target).item()));
}

TEST_CASE("silent filters have a finite gradient") {
  for (const auto& regularizer : {group_sparsity, laplace_ratio}) {
    Tensor w = Tensor::zeros({2, 2, 3, 3}, DType::f32, device).set_requires_grad();
    const Tensor value = regularizer(w);
    backward(value);
    CHECK(value.item() == 0);
    CHECK(values(w.grad()) == std::vector<double>(36, 0.0));
  }
}

TEST_CASE("errors name the op, the rule and the values") {
  const Tensor output = constant({2, 6, 3}, 1), short_target = constant({2, 5, 3}, 2);
  CHECK(message_of([&] { poisson_loss3d(output, short_target); }) ==
        "[poisson_loss3d] target of 5 frames is shorter than the output's 6 frames");
  CHECK(message_of([&] { correlation_loss3d(output, short_target); }) ==
        "[correlation_loss3d] target of 5 frames is shorter than the output's 6 frames");
  CHECK(message_of([&] {
          poisson_loss(output, constant({2, 6, 4}, 2));
        }) == "[poisson_loss] output and target must be (B,T,N), or both (B,N): (2, 6, 3) and (2, 6, 4)");
  CHECK_THROWS_AS(poisson_loss(output, constant({3, 6, 3}, 2)), ShapeError);
  CHECK_THROWS_AS(poisson_nll_loss(output, constant({2, 3}, 2)), ShapeError);
  CHECK_THROWS_AS(poisson_nll_loss(output, output.to(DType::f32)), ShapeError);
  CHECK_THROWS_AS(poisson_nll_loss(output, Tensor()), ShapeError);
  CHECK_THROWS_AS(
      poisson_nll_loss(Tensor::zeros({0, 3}, DType::f64, device), Tensor::zeros({0, 3}, DType::f64, device)),
      ShapeError);
  CHECK_THROWS_AS(poisson_nll_loss(output, output, {false, false, -1e-8}), ConfigError);
  CHECK_THROWS_AS(poisson_nll_loss(output, output, {false, false, std::nan("")}), ConfigError);
  CHECK(message_of([&] { correlation_loss2d(output, output); }) ==
        "[correlation_loss2d] output must be (B,N): (2, 6, 3)");
  CHECK(message_of([&] {
          correlation_loss3d(constant({2, 3}, 1), constant({2, 3}, 1));
        }) == "[correlation_loss3d] output must be (B,T,N): (2, 3)");
  CHECK(message_of([&] {
          laplace_ratio(constant({3, 2, 1, 5, 2}, 1));
        }) == "[laplace_ratio] filters (..., KH, KW) must be at least 3 x 3: (3, 2, 1, 5, 2)");
  CHECK(message_of([&] {
          laplace_ratio_time(constant({3, 2, 2, 1, 1}, 1));
        }) == "[laplace_ratio_time] filters (..., KT, 1, 1) must have at least 3 frames: (3, 2, 2, 1, 1)");
  CHECK_THROWS_AS(laplace_ratio_time(constant({3, 2, 5, 1, 3}, 1)), ShapeError);
  CHECK_THROWS_AS(group_sparsity(constant({3}, 1)), ShapeError);
  CHECK_THROWS_AS(temporal_smoothing(constant({3, 2, 4}, 1), constant({3, 2, 5}, 1)), ShapeError);
  CHECK_THROWS_AS(absolute_sum(Tensor::zeros({0}, DType::f64, device)), ShapeError);
  CHECK_THROWS_AS(gaussian_extent(constant({5, 3}, 1), constant({5}, 1), 1, 1), ShapeError);
  CHECK_THROWS_AS(gaussian_extent(constant({5, 2}, 1), constant({5, 1}, 1), 1, 1), ShapeError);
  const Tensor one = Tensor::scalar(1, DType::f64, device);
  CHECK(message_of([&] {
          weighted_sum({one, one}, {1});
        }) == "[weighted_sum] needs a weight for each of one or more terms: 2 terms, 1 weights");
  CHECK_THROWS_AS(weighted_sum({}, {}), ShapeError);
  CHECK_THROWS_AS(weighted_sum({output}, {1}), ShapeError);
  CHECK_THROWS_AS(weighted_sum({one, one.to(DType::f32)}, {1, 1}), ShapeError);
}

TEST_CASE("regularizers of large tensors in single precision lose nothing to their many terms") {
  const Tensor narrow({6'000'000}, DType::f32, device);
  Random(5).uniform(narrow, 0, 1);
  const Tensor wide = narrow.to(DType::f64);
  const auto relative = [](const Tensor& f32, const Tensor& f64) {
    return std::fabs(f32.item() - f64.item()) / std::fabs(f64.item());
  };
  constexpr double one_rounding = 1e-7;
  CHECK(relative(absolute_sum(narrow), absolute_sum(wide)) < one_rounding);
  const Shape filters{2, 1000, 1, 50, 60};
  CHECK(relative(laplace_ratio(narrow.reshape(filters)), laplace_ratio(wide.reshape(filters))) <
        one_rounding);
  CHECK(relative(group_sparsity(narrow.reshape(filters)), group_sparsity(wide.reshape(filters))) <
        one_rounding);
  const Shape neurons{3'000'000, 2};
  const Tensor log_var = narrow.rows(0, 3'000'000);
  CHECK(relative(gaussian_extent(narrow.reshape(neurons), log_var, 6, 4),
                 gaussian_extent(wide.reshape(neurons), wide.rows(0, 3'000'000), 6, 4)) < one_rounding);
}

TEST_CASE("group sparsity of one input channel: a slope that nearly cancels") {
  Tensor narrow = Tensor::from(std::vector<float>{0.01f, -0.02f, 0.03f, 0.005f}, {1, 1, 2, 2}, device);
  Tensor wide = narrow.to(DType::f64);
  narrow.set_requires_grad();
  wide.set_requires_grad();
  backward(group_sparsity(narrow));
  backward(group_sparsity(wide));
  const auto a = narrow.grad().to_vector<float>();
  const auto b = wide.grad().to_vector<double>();
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(std::fabs(a[i] - b[i]) <= 1e-7 * std::fabs(b[i]));
}
