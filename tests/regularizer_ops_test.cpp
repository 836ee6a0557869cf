// The regularizers of neuralpredictors: closed forms on small filters, gradients with every option, errors.
// Against PyTorch: op_fixtures_test.cpp.
#include <limits>

#include "tests/gradients.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

struct Kind {
  const char* name;
  InputRegularizer kind;
};
const std::vector<Kind> kinds{{"LaplaceL2", InputRegularizer::laplace_l2},
                              {"LaplaceL2norm", InputRegularizer::laplace_l2_norm},
                              {"LaplaceL1", InputRegularizer::laplace_l1},
                              {"GaussianLaplaceL2", InputRegularizer::gaussian_laplace_l2}};

/// 1 - g on K x K pixels: g a Gaussian of sigma K / 4 about the centre, shifted and scaled to 0 .. 1.
std::vector<double> anti_gaussian(std::int64_t size) {
  const double sigma = static_cast<double>(size) / 4, centre = static_cast<double>(size - 1) / 2;
  std::vector<double> g;
  for (std::int64_t y = 0; y < size; ++y)
    for (std::int64_t x = 0; x < size; ++x) {
      const double dy = static_cast<double>(y) - centre, dx = static_cast<double>(x) - centre;
      g.push_back(std::exp(-(dy * dy + dx * dx) / (2 * sigma * sigma)));
    }
  const double least = *std::min_element(g.begin(), g.end()), most = *std::max_element(g.begin(), g.end());
  for (double& one : g) one = 1 - (one - least) / (most - least);
  return g;
}

/// The definitions, from the Laplacian's cross.
double direct(const Tensor& w, const InputRegularizerOptions& options) {
  const std::int64_t height = w.shape()[-2], width = w.shape()[-1], filters = w.elements() / (height * width);
  const std::vector<double> taps = values(w);
  double laplacian = 0, squares = 0, count = 0;
  for (std::int64_t f = 0; f < filters; ++f) {
    const auto at = [&](std::int64_t y, std::int64_t x) {
      return y < 0 || x < 0 || y >= height || x >= width
                 ? 0
                 : taps[static_cast<std::size_t>((f * height + y) * width + x)];
    };
    std::vector<double> weight;
    if (options.kind == InputRegularizer::gaussian_laplace_l2) weight = anti_gaussian(height);
    for (std::int64_t y = 1 - options.padding; y < height - 1 + options.padding; ++y)
      for (std::int64_t x = 1 - options.padding; x < width - 1 + options.padding; ++x) {
        double lap = 4 * at(y, x) - at(y - 1, x) - at(y + 1, x) - at(y, x - 1) - at(y, x + 1);
        if (!weight.empty()) lap *= weight[static_cast<std::size_t>(y * width + x)];
        laplacian += options.kind == InputRegularizer::laplace_l1 ? std::abs(lap) : lap * lap;
        ++count;
      }
  }
  for (const double tap : taps) squares += tap * tap;
  const double agg_lap = options.mean ? laplacian / count : laplacian;
  const double agg_squares = options.mean ? squares / static_cast<double>(w.elements()) : squares;
  switch (options.kind) {
    case InputRegularizer::laplace_l2:
      return agg_lap / 2;
    case InputRegularizer::laplace_l1:
      return agg_lap;
    case InputRegularizer::laplace_l2_norm:
    case InputRegularizer::gaussian_laplace_l2:
      break;
  }
  return agg_lap / agg_squares;
}

}  // namespace

TEST_CASE("input regularizers: their definitions and gradients for every padding, mean and sum") {
  for (const auto& [name, kind] : kinds)
    for (const std::int64_t padding : {0, 1, 2, 3})
      for (const bool mean : {true, false})
        for (const Shape& shape : {Shape{2, 3, 5, 5}, Shape{2, 1, 4, 4}, Shape{1, 1, 3, 3},
                                   Shape{3, 2, 1, 6, 6}, Shape{1, 2, 2, 2}, Shape{2, 1, 1, 1}}) {
          const bool gaussian = kind == InputRegularizer::gaussian_laplace_l2;
          // A Gaussian on at most 2 x 2 pixels is flat and cannot be scaled, and it needs a padding of 1.
          if (gaussian && (padding != 1 || shape[-1] < 3)) continue;
          if (shape[-1] + 2 * padding < 3) continue;
          const std::string shown_name = name;
          CAPTURE(shown_name);
          CAPTURE(padding);
          CAPTURE(mean);
          CAPTURE(shape);
          const InputRegularizerOptions options{kind, padding, mean};
          // Large sums lose the digits of their differences: small weights where the value grows with them.
          const Tensor w = leaf(shape, 7, 0, kind == InputRegularizer::laplace_l1 ? 0.05 : 1);
          const double expected = direct(w, options), actual = input_regularizer(w, options).item();
          CHECK(input_regularizer(w, options).shape() == Shape{});
          CHECK(std::abs(actual - expected) <= 1e-13 * expected);
          check_gradient([&, o = options](const Tensors& in) { return input_regularizer(in[0], o); }, {w});
          check_gradient(
              [&, o = options](const Tensors& in) {
                return sum_of(input_regularizer(in[0], o), input_regularizer(in[0], o));
              },
              {w});
        }
}

TEST_CASE("input regularizers: exact on a single pixel") {
  // The Laplacian of one pixel 2: 8 in the middle, -2 four times.
  std::vector<double> taps(25, 0.0);
  taps[12] = 2;
  const Tensor w = of(taps, {1, 1, 5, 5});
  const auto value = [&](InputRegularizer kind, std::int64_t padding, bool mean) {
    return input_regularizer(w, {kind, padding, mean}).item();
  };
  CHECK(value(InputRegularizer::laplace_l2, 0, false) == (64 + 4 * 4) / 2.0);
  CHECK(value(InputRegularizer::laplace_l2, 1, true) == doctest::Approx(80 / 25.0 / 2));
  CHECK(value(InputRegularizer::laplace_l1, 0, false) == 16);
  CHECK(value(InputRegularizer::laplace_l1, 2, true) == doctest::Approx(16 / 49.0));
  CHECK(value(InputRegularizer::laplace_l2_norm, 0, false) == 20);
  CHECK(value(InputRegularizer::laplace_l2_norm, 0, true) == doctest::Approx((80 / 9.0) / (4 / 25.0)));
}

TEST_CASE("input regularizers: |lap| has no gradient at 0, zero filters have none at all") {
  const Tensor w = leaf_of(std::vector<double>(9, 1.0), {1, 1, 3, 3});  // flat: lap = 0 inside
  const Tensor value = input_regularizer(w, {InputRegularizer::laplace_l1, 0, false});
  CHECK(value.item() == 0);
  backward(value);
  CHECK(w.grad().to_vector<double>() == std::vector<double>(9, 0.0));
}

TEST_CASE("input regularizers: errors name the op, the kernel and the padding") {
  const Tensor small = constant({2, 1, 2, 2}, 1), good = constant({2, 1, 5, 5}, 1);
  for (const auto& [name, kind] : kinds) {
    const std::string shown_name = name;
    CAPTURE(shown_name);
    if (kind != InputRegularizer::gaussian_laplace_l2)
      CHECK_THROWS_AS(input_regularizer(small, {kind, 0, true}), ShapeError);
    CHECK_THROWS_AS(input_regularizer(good, {kind, -1, true}), ShapeError);
    CHECK_THROWS_AS(input_regularizer(constant({5}, 1), {kind, 1, true}), ShapeError);
    CHECK_THROWS_AS(input_regularizer({}, {kind, 1, true}), ShapeError);
  }
  for (const std::int64_t size : {1, 2})
    CHECK_THROWS_AS(
        input_regularizer(constant({1, 1, size, size}, 1), {InputRegularizer::gaussian_laplace_l2, 1, true}),
        ShapeError);
  for (const std::int64_t padding : {0, 2, 3})
    CHECK_THROWS_AS(input_regularizer(good, {InputRegularizer::gaussian_laplace_l2, padding, true}),
                    ShapeError);
}

TEST_CASE("mean filter norm: exact, gradients, gradient 0 of a zero filter") {
  const Tensor w = leaf_of({3, 4, 0, 0, 5, -12, 8, 6}, {2, 2, 1, 2});
  const Tensor value = mean_filter_norm(w);
  CHECK(value.shape() == Shape{});
  CHECK(value.item() == (5 + 0 + 13 + 10) / 4.0);
  backward(value, Tensor::scalar(4, DType::f64, device()));
  CHECK(within(of({3 / 5.0, 4 / 5.0, 0, 0, 5 / 13.0, -12 / 13.0, 0.8, 0.6}, {2, 2, 1, 2}), w.grad(), 1e-15));
  const std::vector<double> slope = w.grad().to_vector<double>();
  CHECK(slope[2] == 0);
  CHECK(slope[3] == 0);
  check_gradients([](const Tensors& in) { return mean_filter_norm(in[0]); }, {leaf({3, 2, 3, 4}, 1)});
  check_gradients([](const Tensors& in) { return mean_filter_norm(in[0]); }, {leaf({2, 3, 2, 1, 2}, 2)});
  check_gradients([](const Tensors& in) { return mean_filter_norm(in[0]); }, {leaf({2, 3, 1, 1}, 3)});
  CHECK_THROWS_AS(mean_filter_norm(constant({5}, 1)), ShapeError);
  CHECK_THROWS_AS(mean_filter_norm({}), ShapeError);
}

TEST_CASE("square sum: exact, gradients, errors") {
  const Tensor w = leaf_of({1, -2, 3, 0, 5}, {5});
  const Tensor value = square_sum(w);
  CHECK(value.shape() == Shape{});
  CHECK(value.item() == 39);
  backward(value, Tensor::scalar(3, DType::f64, device()));
  CHECK(w.grad().to_vector<double>() == std::vector<double>{6, -12, 18, 0, 30});
  check_gradients([](const Tensors& in) { return square_sum(in[0]); }, {leaf({3, 2, 3, 4}, 1)});
  CHECK_THROWS_AS(square_sum({}), ShapeError);
  CHECK_THROWS_AS(square_sum(indices({1})), ShapeError);
}
