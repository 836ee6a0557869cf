// Elementwise ops and activations: gradients in f64, closed forms, kinks, NaN, errors. Against PyTorch:
// op_fixtures_test.cpp.
#include <limits>
#include <map>

#include "tests/gradients.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

const std::vector<ActivationKind> kinds{ActivationKind::identity, ActivationKind::relu, ActivationKind::elu,
                                        ActivationKind::softplus, ActivationKind::requ, ActivationKind::tanh,
                                        ActivationKind::absolute};

struct ValueAndSlope {
  double value, slope;
};

/// The definitions of the specification, of x without shifts.
ValueAndSlope expected(ActivationKind kind, double x) {
  switch (kind) {
    case ActivationKind::identity:
      return {x, 1};
    case ActivationKind::relu:
      return {std::max(x, 0.0), x > 0 ? 1.0 : 0.0};
    case ActivationKind::elu:
      return {x > 0 ? x : std::expm1(x), x > 0 ? 1 : std::exp(x)};
    case ActivationKind::softplus:
      return {x > 20 ? x : std::log1p(std::exp(x)), x > 20 ? 1 : 1 / (1 + std::exp(-x))};
    case ActivationKind::requ:
      return {x > 0 ? x * x : 0, x > 0 ? 2 * x : 0};
    case ActivationKind::tanh:
      return {std::tanh(x), 1 / std::cosh(x) / std::cosh(x)};
    case ActivationKind::absolute:
      break;
  }
  return {std::abs(x), x == 0 ? 0.0 : x > 0 ? 1.0 : -1.0};
}

/// Shifts are those of the ELU; the others have none.
ValueAndSlope expected(const Activation& activation, double x) {
  if (activation.kind != ActivationKind::elu) return expected(activation.kind, x);
  ValueAndSlope result = expected(activation.kind, x - activation.x_shift);
  result.value += activation.y_shift;
  return result;
}

/// Values away from every kink by more than the step of a central difference.
std::vector<double> smooth_points(double x_shift) {
  std::vector<double> x;
  for (const double u : {-7.5, -1.25, -0.01, 0.01, 0.75, 3.0, 12.0, 19.5, 25.0}) x.push_back(u + x_shift);
  return x;
}

/// A non-leaf input: an identity hands its input on as it is, and a leaf is no loss.
Tensor through_node(const Tensor& x) { return x.reshape({x.elements()}).reshape(x.shape()); }

Tensor ones(const Shape& shape) { return Tensor::full(shape, 1, DType::f64, device()); }

}  // namespace

TEST_CASE("activations: gradients with and without shifts") {
  for (const ActivationKind kind : kinds)
    for (const double x_shift : {0.0, 0.3, -1.5}) {
      const int number = static_cast<int>(kind);
      CAPTURE(number);
      CAPTURE(x_shift);
      const Activation activation{kind, x_shift, -0.2};
      const double kink = kind == ActivationKind::elu ? x_shift : 0;
      check_gradients([&](const Tensors& in) { return activate(through_node(in[0]), activation); },
                      {leaf_of(smooth_points(kink), {3, 1, 3})});
      check_gradients(
          [&](const Tensors& in) { return activate(activate(through_node(in[0]), activation), activation); },
          {leaf_of({-2.3, -0.8, 0.45, 1.9}, {4})});
    }
}

TEST_CASE("activations: values and slopes of their definitions, also far out") {
  const std::vector<double> points{-800, -100, -20.5, -3, -1e-9, 1e-9, 0.5, 2, 20, 20.5, 100, 800};
  for (const ActivationKind kind : kinds)
    for (const double x_shift : {0.0, 0.25})
      for (const double y_shift : {0.0, -0.5}) {
        const int number = static_cast<int>(kind);
        CAPTURE(number);
        CAPTURE(x_shift);
        CAPTURE(y_shift);
        const Activation activation{kind, x_shift, y_shift};
        std::vector<double> value, slope, bounds, slope_bounds;
        for (const double x : points) {
          const ValueAndSlope truth = expected(activation, x);
          value.push_back(truth.value);
          slope.push_back(truth.slope);
          bounds.push_back(rounding_bound<double>(std::abs(truth.value) + std::abs(y_shift), 8));
          slope_bounds.push_back(rounding_bound<double>(std::abs(truth.slope), 8));
          // 1 - tanh^2 rounds relative to 1.
          if (kind == ActivationKind::tanh) slope_bounds.back() += rounding_bound<double>(1, 8);
        }
        const Shape shape{static_cast<std::int64_t>(points.size())};
        const Tensor x = leaf_of(points, shape);
        const Tensor y = activate(through_node(x), activation);
        backward(y, ones(shape));
        CHECK(within_each(of(value, shape), y.detach(), bounds));
        CHECK(within_each(of(slope, shape), x.grad(), slope_bounds));
      }
}

TEST_CASE("activations: gradients at their kinks") {
  const auto slope_at = [](ActivationKind kind, double x, double x_shift = 0) {
    const Tensor input = leaf_of({x}, {1});
    backward(activate(through_node(input), {kind, x_shift, 0}), ones({1}));
    return input.grad().item();
  };
  for (const double zero : {0.0, -0.0}) {
    CHECK(slope_at(ActivationKind::relu, zero) == 0);
    CHECK(slope_at(ActivationKind::absolute, zero) == 0);
    CHECK(slope_at(ActivationKind::requ, zero) == 0);
    CHECK(slope_at(ActivationKind::elu, zero) == 1);
  }
  CHECK(slope_at(ActivationKind::elu, 0.25, 0.25) == 1);
  CHECK(slope_at(ActivationKind::identity, 3) == 1);
}

TEST_CASE("activations: NaN stays NaN on every instruction set") {
  for (const Isa isa : available_isas())
    for (const ActivationKind kind : kinds) {
      const int number = static_cast<int>(kind);
      CAPTURE(number);
      CAPTURE(to_string(isa));
      const Device host = cpu_device(1, isa);
      const std::vector<float> x{1, std::nanf(""), -1};
      const std::vector<float> y = activate(Tensor::from(x, {3}, host), {kind, 0.5, 0.25}).to_vector<float>();
      CHECK(std::isfinite(y[0]));
      CHECK(std::isnan(y[1]));
      CHECK(std::isfinite(y[2]));
    }
}

TEST_CASE("activations: an undefined or whole-numbered input is refused") {
  CHECK_THROWS_AS(activate({}, {ActivationKind::relu, 0, 0}), ShapeError);
  CHECK_THROWS_AS(activate(indices({1, 2}), {ActivationKind::relu, 0, 0}), ShapeError);
}

// ---- batch norm with every activation

TEST_CASE("batch norm: gradients with every activation, in training and evaluation") {
  for (const ActivationKind kind : kinds)
    for (const bool training : {false, true}) {
      const int number = static_cast<int>(kind);
      CAPTURE(number);
      CAPTURE(training);
      check_gradients(
          [&](const Tensors& in) {
            const BatchNormTensors tensors{in[1], in[2], in[3], of({0.3, -0.2, 0.1}, {3}),
                                           of({1.5, 0.4, 0.9}, {3})};
            return batch_norm(in[0], tensors,
                              {.eps = 1e-3, .training = training, .activation = {kind, 0.15, 0.7}});
          },
          {leaf({2, 5, 3}, 1, 0.5, 2), leaf({3}, 2, 1), leaf({3}, 3), leaf({1, 3, 1, 1}, 4)});
    }
}

TEST_CASE("batch norm: its activation is the op's") {
  const Tensor x = constant({6, 2}, 1, 0.5, 2), channel_bias = of({0.5, -0.25}, {2});
  for (const ActivationKind kind : kinds)
    for (const bool training : {false, true}) {
      const auto norm = [&](const Activation& activation) {
        const BatchNormTensors tensors{{}, {}, channel_bias, of({0.1, 0.2}, {2}), of({2, 3}, {2})};
        return batch_norm(x, tensors, {.training = training, .activation = activation});
      };
      const Activation shifted{kind, 0.25, -1};
      CHECK(within(activate(norm({}), shifted), norm(shifted), 1e-14));
    }
}

// ---- activations with tensors of their own

TEST_CASE("parametric relu: exact on whole numbers, gradients of the slopes, convention at the threshold") {
  const Tensor thresh = leaf_of({1}, {1}), neg = leaf_of({3}, {1}), pos = leaf_of({-2}, {1});
  const Tensor x = leaf_of({-3, 0, 1, 2, 5, 1}, {2, 3});
  const Tensor y = parametric_relu(x, thresh, neg, pos);
  CHECK(y.shape() == Shape{2, 3});
  CHECK(y.to_vector<double>() == std::vector<double>{-12, -3, 0, -2, -8, 0});
  backward(y, of({1, 2, 3, 4, 5, 6}, {2, 3}));
  // x < thresh takes the negative slope, so x = thresh the positive one.
  CHECK(x.grad().to_vector<double>() == std::vector<double>{3, 6, -6, -8, -10, -12});
  CHECK(neg.grad().item() == 1 * -4 + 2 * -1);
  CHECK(pos.grad().item() == 4 * 1 + 5 * 4);
  CHECK_FALSE(thresh.grad().defined());
}

TEST_CASE("parametric relu: gradients") {
  const Tensor thresh = of({0.25}, {1});
  check_gradients([&](const Tensors& in) { return parametric_relu(in[0], thresh, in[1], in[2]); },
                  {leaf({3, 1, 7}, 1, 0.25, 2), leaf({1}, 2), leaf({1}, 3)});
}

TEST_CASE("parametric relu: NaN stays, errors") {
  const Tensor one = of({1}, {1}), two = of({1, 2}, {2});
  CHECK(std::isnan(parametric_relu(of({not_a_number}, {1}), one, one, one).item()));
  for (int wrong = 0; wrong < 3; ++wrong) {
    CAPTURE(wrong);
    const auto argument = [&](int i) { return i == wrong ? two : one; };
    CHECK_THROWS_AS(parametric_relu(constant({2}, 1), argument(0), argument(1), argument(2)), ShapeError);
    const auto missing = [&](int i) { return i == wrong ? Tensor() : one; };
    CHECK_THROWS_AS(parametric_relu(constant({2}, 1), missing(0), missing(1), missing(2)), ShapeError);
    const auto narrow = [&](int i) { return i == wrong ? one.to(DType::f32) : one; };
    CHECK_THROWS_AS(parametric_relu(constant({2}, 1), narrow(0), narrow(1), narrow(2)), ShapeError);
  }
}

TEST_CASE("parametric softplus: closed form, linear above 20, gradients") {
  const double alpha = 1.5, beta = -0.75, gamma = 0.4;
  const Tensor a = leaf_of({alpha}, {1}), b = leaf_of({beta}, {1}), g = leaf_of({gamma}, {1});
  const std::vector<double> x{-1000, -40, -3, -0.5, 0, 1, 4, 30, 1000};
  std::vector<double> expected_values, bounds;
  for (const double one : x) {
    const double u = beta * one + gamma;
    expected_values.push_back(alpha * (u > 20 ? u : std::log1p(std::exp(u))));
    // The rounding of u is that of its terms.
    bounds.push_back(rounding_bound<double>(expected_values.back() * (2 + std::abs(beta * one)), 8));
  }
  const Tensor input = leaf_of(x, {9});
  const Tensor y = parametric_softplus(input, a, b, g);
  CHECK(within_each(of(expected_values, {9}), y, bounds));
  backward(y, ones({9}));
  CHECK_FALSE(a.grad().defined());
  CHECK_FALSE(b.grad().defined());
  CHECK_FALSE(g.grad().defined());
  CHECK(input.grad().to_vector<double>()[0] == alpha * beta);
  for (const std::optional<double> least : {std::optional<double>(), std::optional<double>(0.9)})
    check_gradients(
        [&](const Tensors& in) {
          return parametric_softplus(in[0], a.detach(), b.detach(), g.detach(), least);
        },
        {leaf({4, 5}, 3, 0, 3)});
}

TEST_CASE("parametric softplus: the least value, its gradient only strictly above, NaN, errors") {
  const Tensor one = of({1}, {1}), zero = of({0}, {1});
  const double at_zero = std::log1p(1.0);
  const Tensor x = leaf_of({-1, 0, 1}, {3});
  const Tensor y = parametric_softplus(x, one, one, zero, at_zero);
  CHECK(y.to_vector<double>()[0] == at_zero);
  CHECK(y.to_vector<double>()[1] == at_zero);
  CHECK(y.to_vector<double>()[2] > at_zero);
  backward(y, ones({3}));
  const std::vector<double> slope = x.grad().to_vector<double>();
  CHECK(slope[0] == 0);
  CHECK(slope[1] == 0);
  CHECK(slope[2] > 0.7);
  CHECK(std::isnan(parametric_softplus(of({not_a_number}, {1}), one, one, zero, 0.5).item()));
  for (int wrong = 0; wrong < 3; ++wrong) {
    const auto argument = [&](int i) { return i == wrong ? of({1, 2}, {2}) : one; };
    CHECK_THROWS_AS(parametric_softplus(x, argument(0), argument(1), argument(2)), ShapeError);
    const auto missing = [&](int i) { return i == wrong ? Tensor() : one; };
    CHECK_THROWS_AS(parametric_softplus(x, missing(0), missing(1), missing(2)), ShapeError);
  }
}

// ---- products, shifts, concatenation

TEST_CASE("multiply: exact on whole numbers, gradients, errors") {
  const Tensor a = whole({2, 3, 5}, 1), b = whole({2, 3, 5}, 2);
  std::vector<double> product = a.to_vector<double>();
  for (std::size_t i = 0; i < product.size(); ++i) product[i] *= b.to_vector<double>()[i];
  CHECK(exact(of(product, {2, 3, 5}), multiply(a, b)));
  check_gradients([](const Tensors& in) { return multiply(in[0], in[1]); },
                  {leaf({3, 4}, 1), leaf({3, 4}, 2)});
  check_gradient([](const Tensors& in) { return multiply(in[0], in[0]); }, {leaf({7}, 3)});
  CHECK(std::isnan(multiply(of({not_a_number}, {1}), of({0}, {1})).item()));
  CHECK_THROWS_AS(multiply(a, b.reshape({3, 2, 5})), ShapeError);
  CHECK_THROWS_AS(multiply(a, of({1}, {1})), ShapeError);
  CHECK_THROWS_AS(multiply(a, b.to(DType::f32)), ShapeError);
  CHECK_THROWS_AS(multiply(a, {}), ShapeError);
}

TEST_CASE("scale and shift: exact on whole numbers, gradients, errors") {
  const Tensor x = of({1, 2, 3, 4, 5, 6}, {2, 3}), factor = leaf_of({2, -1, 0}, {3}),
               offset = leaf_of({10, 20, 30}, {3});
  const Tensor input = leaf_of(x.to_vector<double>(), {2, 3});
  const Tensor y = scale_and_shift(input, factor, offset);
  CHECK(y.to_vector<double>() == std::vector<double>{12, 18, 30, 18, 15, 30});
  backward(y, of({1, 10, 100, 2, 20, 200}, {2, 3}));
  CHECK(input.grad().to_vector<double>() == std::vector<double>{2, -10, 0, 4, -20, 0});
  CHECK(factor.grad().to_vector<double>() == std::vector<double>{1 + 8, 20 + 100, 300 + 1200});
  CHECK(offset.grad().to_vector<double>() == std::vector<double>{3, 30, 300});
  for (const Shape& shape : {Shape{4, 3}, Shape{2, 5, 3}, Shape{1, 3}, Shape{3}})
    check_gradients([](const Tensors& in) { return scale_and_shift(in[0], in[1], in[2]); },
                    {leaf(shape, 1), leaf({3}, 2), leaf({3}, 3)});
  CHECK_THROWS_AS(scale_and_shift(x, constant({2}, 1), constant({3}, 1)), ShapeError);
  CHECK_THROWS_AS(scale_and_shift(x, constant({3}, 1), constant({1}, 1)), ShapeError);
  CHECK_THROWS_AS(scale_and_shift(x, constant({3}, 1), constant({3}, 1).to(DType::f32)), ShapeError);
  CHECK_THROWS_AS(scale_and_shift(x, constant({3}, 1), {}), ShapeError);
}

TEST_CASE("concatenated channels: order, gradients, errors") {
  const Tensor a = of({1, 2, 3, 4}, {2, 2}), b = of({10, 20}, {2, 1}), c = of({5, 6, 7, 8, 9, 0}, {2, 3});
  CHECK(concatenate_channels({a, b, c}).shape() == Shape{2, 6});
  CHECK(concatenate_channels({a, b, c}).to_vector<double>() ==
        std::vector<double>{1, 2, 10, 5, 6, 7, 3, 4, 20, 8, 9, 0});
  CHECK(concatenate_channels({c, a}).to_vector<double>() ==
        std::vector<double>{5, 6, 7, 1, 2, 8, 9, 0, 3, 4});
  CHECK(exact(a, concatenate_channels({a})));
  check_gradients([](const Tensors& in) { return concatenate_channels(in); },
                  {leaf({2, 3, 1, 2}, 1), leaf({2, 3, 1, 1}, 2), leaf({2, 3, 1, 4}, 3)});
  // The same tensor twice: both parts of the gradient arrive.
  check_gradient(
      [](const Tensors& in) {
        return concatenate_channels({in[0], in[1], in[0]});
      },
      {leaf({3, 2}, 1), leaf({3, 1}, 2)});
  check_gradient([](const Tensors& in) { return concatenate_channels({through_node(in[0])}); },
                 {leaf({3, 2}, 1)});
  CHECK_THROWS_AS(concatenate_channels({}), ShapeError);
  CHECK_THROWS_AS(concatenate_channels({a, Tensor()}), ShapeError);
  CHECK_THROWS_AS(concatenate_channels({a, constant({3, 2}, 1)}), ShapeError);
  CHECK_THROWS_AS(concatenate_channels({a, constant({2, 1, 2}, 1)}), ShapeError);
  CHECK_THROWS_AS(concatenate_channels({a, b.to(DType::f32)}), ShapeError);
  CHECK_THROWS_AS(concatenate_channels({Tensor::scalar(1, DType::f64, device())}), ShapeError);
}

// ---- constraints in place

TEST_CASE("clamping in place: both bounds, infinities, NaN stays") {
  for (const Isa isa : available_isas())
    for (const DType dtype : {DType::f32, DType::f64}) {
      CAPTURE(to_string(isa));
      CAPTURE(dtype);
      const Device host = cpu_device(1, isa);
      const Tensor x = of({-infinity, -2, -1, 0.5, 1, 1.5, infinity, not_a_number}, {8}).to(dtype).to(host);
      clamp_(x, -1, 1);
      const std::vector<double> clamped = values(x);
      CHECK(std::vector<double>(clamped.begin(), clamped.end() - 1) ==
            std::vector<double>{-1, -1, -1, 0.5, 1, 1, 1});
      CHECK(std::isnan(clamped.back()));
    }
  CHECK_THROWS_AS(clamp_(indices({1, 2}), -1, 1), ShapeError);
  CHECK_THROWS_AS(clamp_({}, -1, 1), ShapeError);
}

TEST_CASE("the norm constraint: sums over the axes it is given, in place, outside differentiation") {
  // (2, 3, 2): over the last, over the last two, over the middle one, over all.
  const std::vector<double> start{3, 4, 0, 0, -6, 8, 1, 2, -2, 0, 5, 12};
  const auto normed = [&](int first, int last, double eps) {
    const Tensor x = leaf_of(start, {2, 3, 2});
    unit_norm_(x, first, last, eps);
    CHECK_NOTHROW(Tensor(x).set_requires_grad(false));  // still a leaf
    return x.to_vector<double>();
  };
  const auto expected_of = [&](const auto& group, double eps) {
    std::map<int, double> squares;
    for (int i = 0; i < 12; ++i)
      squares[group(i)] += start[static_cast<std::size_t>(i)] * start[static_cast<std::size_t>(i)];
    std::vector<double> result;
    for (int i = 0; i < 12; ++i)
      result.push_back(start[static_cast<std::size_t>(i)] / std::sqrt(squares[group(i)] + eps));
    return result;
  };
  const auto close = [](const std::vector<double>& a, const std::vector<double>& b) {
    return within(of(a, {12}), of(b, {12}), 1e-14);
  };
  CHECK(close(expected_of([](int i) { return i / 2; }, 1e-5), normed(2, 2, 1e-5)));
  CHECK(close(expected_of([](int i) { return i / 6; }, 1e-5), normed(1, 2, 1e-5)));
  CHECK(close(expected_of([](int i) { return i / 6 * 2 + i % 2; }, 1e-5), normed(1, 1, 1e-5)));
  CHECK(close(expected_of([](int i) { return i % 6; }, 0.5), normed(0, 0, 0.5)));
  CHECK(close(expected_of([](int) { return 0; }, 0.5), normed(0, 2, 0.5)));
  // The default eps is that of the models; a zero vector stays one.
  const Tensor zero = of({0, 0}, {1, 2}), one = of({1}, {1});
  unit_norm_(zero, 1, 1);
  CHECK(zero.to_vector<double>() == std::vector<double>{0, 0});
  unit_norm_(one, 0, 0);
  CHECK(one.item() == 1 / std::sqrt(1 + 1e-5));
  CHECK_THROWS_AS(unit_norm_(constant({2, 3}, 1), 1, 2), ShapeError);
  CHECK_THROWS_AS(unit_norm_(constant({2, 3}, 1), 1, 0), ShapeError);
  CHECK_THROWS_AS(unit_norm_(constant({2, 3}, 1), -3, 1), ShapeError);
  CHECK_THROWS_AS(unit_norm_(indices({1}), 0, 0), ShapeError);
}
