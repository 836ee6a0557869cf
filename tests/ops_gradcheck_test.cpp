// Gradients of the ops against central differences in f64 (odd sizes, every option), closed forms, and the
// errors of wrong shapes.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "gradients.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

using Inputs = Tensors;

/// A non-leaf input: its gradient goes to a node instead of a leaf.
Tensor through_node(const Tensor& x) { return x.reshape({x.elements()}).reshape(x.shape()); }

}  // namespace

TEST_CASE("temporal kernel: gradients") {
  for (const auto& [length, speed] : {std::pair{7, 0.0}, {3, 0.4}, {21, -0.3}, {1, 0.2}}) {
    const Tensor log_speed = of({speed}, {1});
    check_gradients(
        [&, taps = length](const Inputs& in) { return temporal_kernel(in[0], in[1], log_speed, taps); },
        {leaf({3, 2, 4}, 1), leaf({3, 2, 4}, 2)});
  }
}

TEST_CASE("temporal kernel: the dead sine, the plateau of the mask and no gradient of the speed") {
  Tensor log_speed = of({0.0}, {1});
  log_speed.set_requires_grad();
  // The zeroth sine is zero everywhere; the zeroth cosine gives the mask, sigmoid(t - L + floor(0.95 L)).
  const Tensor sine = temporal_kernel(of({1, 0}, {1, 1, 2}), of({0, 0}, {1, 1, 2}), log_speed, 7);
  CHECK(sine.to_vector<double>() == std::vector<double>(7, 0));
  const Tensor mask = temporal_kernel(of({0, 0}, {1, 1, 2}), of({1, 0}, {1, 1, 2}), log_speed, 7);
  std::vector<double> expected;
  for (int t = 0; t < 7; ++t) expected.push_back(1 / (1 + std::exp(-(t - 7 + 6))));
  CHECK(within(of(expected, {1, 1, 7}), mask, 1e-15));
  CHECK(!mask.requires_grad());
}

TEST_CASE("temporal kernel: errors") {
  const Tensor weights = constant({3, 2, 4}, 1), log_speed = of({0}, {1});
  CHECK_THROWS_WITH_AS(temporal_kernel(weights, constant({3, 2, 5}, 1), log_speed, 7),
                       "[temporal_kernel] sin and cos weights must both be (O,I,K): (3, 2, 4) and (3, 2, 5)",
                       ShapeError);
  CHECK_THROWS_AS(temporal_kernel(constant({6, 4}, 1), constant({6, 4}, 1), log_speed, 7), ShapeError);
  CHECK_THROWS_WITH_AS(temporal_kernel(weights, weights, of({0, 0}, {2}), 7),
                       "[temporal_kernel] log_speed must be one value: (2)", ShapeError);
  CHECK_THROWS_WITH_AS(temporal_kernel(weights, weights, log_speed, 0),
                       "[temporal_kernel] length must be at least 1: 0", ShapeError);
  CHECK_THROWS_WITH_AS(temporal_kernel(weights, weights.to(DType::f32), log_speed, 7),
                       "[temporal_kernel] inputs of one dtype: f64 and f32", ShapeError);
}

// ---- batch norm

namespace {

/// in: x, then weight, bias, channel bias as far as they are there.
TensorFunction norm(bool elu, bool training, bool affine, bool channel_bias) {
  return [=](const Inputs& in) {
    BatchNormTensors tensors;
    std::size_t next = 1;
    if (affine) {
      tensors.weight = in[next++];
      tensors.bias = in[next++];
    }
    if (channel_bias) tensors.channel_bias = in[next++];
    tensors.running_mean = of({0.3, -0.2, 0.1}, {3});
    tensors.running_var = of({1.5, 0.4, 0.9}, {3});
    const BatchNormOptions options{.eps = 1e-3, .training = training};
    return elu ? batch_norm_elu(in[0], tensors, options) : batch_norm(in[0], tensors, options);
  };
}

}  // namespace

TEST_CASE("batch norm: gradients with every option") {
  for (const bool elu : {false, true})
    for (const bool training : {false, true})
      for (const bool affine : {false, true})
        for (const bool channel_bias : {false, true}) {
          CAPTURE(elu);
          CAPTURE(training);
          CAPTURE(affine);
          CAPTURE(channel_bias);
          Inputs inputs{leaf({2, 3, 1, 2, 3}, 1, 0.5, 2)};
          if (affine) {
            inputs.push_back(leaf({3}, 2, 1));
            inputs.push_back(leaf({3}, 3));
          }
          if (channel_bias) inputs.push_back(leaf({1, 3, 1, 1, 1}, 4));
          check_gradients(norm(elu, training, affine, channel_bias), inputs);
        }
}

TEST_CASE("batch norm: bias and channel bias do not share gradient memory") {
  const Tensor x = constant({5, 3}, 1), bias = leaf({3}, 2), channel_bias = leaf({3}, 3);
  const auto pass = [&](const Tensor& b, const Tensor& c) {
    const BatchNormTensors tensors{{}, b, c, of({0, 0, 0}, {3}), of({1, 1, 1}, {3})};
    backward(sum_of(batch_norm(x, tensors, {}), batch_norm(x, tensors, {})),
             Tensor::full({5, 3}, 1, DType::f64, device()));
  };
  pass(through_node(bias), through_node(channel_bias));
  CHECK(bias.grad().to_vector<double>() == std::vector<double>{10, 10, 10});
  CHECK(channel_bias.grad().to_vector<double>() == std::vector<double>{10, 10, 10});
}

TEST_CASE("batch norm: training normalises by the batch and updates the running statistics in place") {
  const Tensor x = of({1, 10, 2, 20, 6, 60}, {3, 2});  // means 3, 30; squared deviations 14, 1400
  const Tensor mean = of({1, 2}, {2}), var = of({3, 4}, {2});
  const Tensor y = batch_norm(x, {{}, {}, {}, mean, var}, {.eps = 0, .momentum = 0.25, .training = true});
  const double s = std::sqrt(14.0 / 3);
  CHECK(within(of({-2 / s, -2 / s, -1 / s, -1 / s, 3 / s, 3 / s}, {3, 2}), y, 1e-15 * 3));
  CHECK(within(of({0.75 * 1 + 0.25 * 3, 0.75 * 2 + 0.25 * 30}, {2}), mean, 1e-14));
  CHECK(within(of({0.75 * 3 + 0.25 * 7, 0.75 * 4 + 0.25 * 700}, {2}), var, 1e-13));
  const Tensor kept_mean = mean.clone(), kept_var = var.clone();
  const Tensor z = batch_norm_elu(x, {{}, {}, {}, mean, var}, {.eps = 0});
  CHECK(exact(kept_mean, mean));
  CHECK(exact(kept_var, var));
  const double normalised = (1 - 1.5) / std::sqrt(4.0);
  CHECK(std::abs(z.to_vector<double>()[0] - std::expm1(normalised)) < 1e-15);
}

TEST_CASE("batch norm: errors") {
  const Tensor x = constant({4, 3}, 1), mean = constant({3}, 2),
               var = Tensor::full({3}, 1, DType::f64, device());
  CHECK_THROWS_WITH_AS(
      batch_norm_elu(constant({1, 1, 1, 1, 3}, 1), {{}, {}, {}, mean, var}, {.training = true}),
      "[batch_norm_elu] training needs more than one value per channel: (1, 1, 1, 1, 3)", ShapeError);
  CHECK_NOTHROW(batch_norm_elu(constant({1, 1, 1, 1, 3}, 1), {{}, {}, {}, mean, var}, {}));
  CHECK_THROWS_WITH_AS(batch_norm(x, {constant({4}, 1), {}, {}, mean, var}, {}),
                       "[batch_norm] weight must be (3): (4)", ShapeError);
  CHECK_THROWS_WITH_AS(batch_norm(x, {{}, {}, constant({1, 4}, 1), mean, var}, {}),
                       "[batch_norm] channel bias must have 3 values: (1, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(batch_norm(x, {}, {}), "[batch_norm] needs running statistics for 3 channels",
                       ShapeError);
  CHECK_THROWS_AS(batch_norm(constant({3}, 1), {{}, {}, {}, mean, var}, {}), ShapeError);
  CHECK_THROWS_AS(batch_norm(x, {{}, {}, {}, mean, var.to(DType::f32)}, {}), ShapeError);
}

// ---- matrix product, masks, readout

TEST_CASE("matmul: exact on integers, gradients") {
  const Tensor a = of({1, 2, 3, 4, 5, 6}, {2, 3}), b = of({1, 0, 2, -1, 3, 1}, {3, 2});
  CHECK(matmul(a, b).to_vector<double>() ==
        std::vector<double>{1 + 4 + 9, 0 - 2 + 3, 4 + 10 + 18, 0 - 5 + 6});
  for (const auto& [m, k, n] : {std::array<std::int64_t, 3>{3, 5, 2}, {1, 7, 1}, {4, 1, 3}})
    check_gradients([](const Inputs& in) { return matmul(in[0], in[1]); },
                    {leaf({m, k}, 1), leaf({k, n}, 2)});
  check_gradient([](const Inputs& in) { return matmul(in[0], in[0]); }, {leaf({3, 3}, 1)});
  CHECK_THROWS_WITH_AS(matmul(a, a), "[matmul] factors must be (M,K) and (K,N): (2, 3) and (2, 3)",
                       ShapeError);
  CHECK_THROWS_AS(matmul(a.reshape({6}), b), ShapeError);
}

namespace {

/// openretina's grid of (N,H,W).
Tensor mask_grid(std::int64_t neurons, std::int64_t height, std::int64_t width) {
  const auto end = [&](std::int64_t extent) {
    return static_cast<double>(extent) / static_cast<double>(std::max(height, width));
  };
  const auto at = [&](std::int64_t i, std::int64_t extent) {
    return extent > 1
               ? -end(extent) + 2 * end(extent) * static_cast<double>(i) / static_cast<double>(extent - 1)
               : -end(extent);
  };
  std::vector<double> grid;
  for (std::int64_t n = 0; n < neurons; ++n)
    for (std::int64_t h = 0; h < height; ++h)
      for (std::int64_t w = 0; w < width; ++w) {
        grid.push_back(at(h, height));
        grid.push_back(at(w, width));
      }
  return of(grid, {neurons, height, width, 2});
}

}  // namespace

TEST_CASE("gaussian mask: gradients") {
  for (const auto& [height, width] : {std::pair<std::int64_t, std::int64_t>{3, 5}, {4, 1}, {1, 1}})
    check_gradients([grid = mask_grid(4, height, width)](
                        const Inputs& in) { return gaussian_mask(in[0], in[1], grid, 1.5, 2.0); },
                    {leaf({4, 2}, 1, 0, 0.3), leaf({4}, 2, 0, 0.5)});
}

TEST_CASE("gaussian mask: gradients beyond the clamps are zero") {
  const Tensor grid = mask_grid(3, 3, 4);
  // log variance times scale: 22 (flat mask), -22 (every pixel but none near: uniform), 1 (in between)
  const Tensor mean = leaf_of({0.1, 0.2, 0.15, -0.05, 0.1, 0}, {3, 2}),
               log_var = leaf_of({11, -11, 0.5}, {3});
  check_gradient([&](const Inputs& in) { return gaussian_mask(in[0], in[1], grid, 1, 2); }, {mean, log_var});
  backward(gaussian_mask(mean, log_var, grid, 1, 2), constant({3, 3, 4}, 5));
  const std::vector<double> slope = log_var.grad().to_vector<double>();
  CHECK(slope[0] == 0);
  CHECK(slope[1] == 0);
  CHECK(slope[2] != 0);
}

TEST_CASE("gaussian mask: sums to one, and NaN becomes 0") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor mean = leaf_of({0.1, 0.2, nan, 0, 0, 0}, {3, 2}), log_var = leaf_of({0, 0, nan}, {3});
  const Tensor mask = gaussian_mask(mean, log_var, mask_grid(3, 3, 4), 1, 2);
  const std::vector<double> values = mask.to_vector<double>();
  double total = 0;
  for (std::size_t p = 0; p < 12; ++p) {
    total += values[p];
    CHECK(values[12 + p] == 0);
    CHECK(values[24 + p] == 0);
  }
  CHECK(std::abs(total - 1) < 1e-14);
  backward(mask, constant({3, 3, 4}, 1));
  const std::vector<double> dmean = mean.grad().to_vector<double>(),
                            dlog_var = log_var.grad().to_vector<double>();
  CHECK(dmean[0] != 0);
  CHECK(std::vector<double>(dmean.begin() + 2, dmean.end()) == std::vector<double>(4, 0));
  CHECK(std::vector<double>(dlog_var.begin() + 1, dlog_var.end()) == std::vector<double>(2, 0));
}

TEST_CASE("gaussian mask: errors") {
  const Tensor grid = mask_grid(2, 3, 4);
  CHECK_THROWS_WITH_AS(gaussian_mask(constant({3, 2}, 1), constant({2}, 1), grid, 1, 1),
                       "[gaussian_mask] mask_mean must be (2, 2): (3, 2)", ShapeError);
  CHECK_THROWS_WITH_AS(gaussian_mask(constant({2, 2}, 1), constant({2, 1}, 1), grid, 1, 1),
                       "[gaussian_mask] mask_log_var must be (2): (2, 1)", ShapeError);
  CHECK_THROWS_WITH_AS(gaussian_mask(constant({2, 2}, 1), constant({2}, 1), constant({2, 3, 4}, 1), 1, 1),
                       "[gaussian_mask] grid must be (N,H,W,2): (2, 3, 4)", ShapeError);
}

TEST_CASE("mask readout: gradients with every option") {
  for (const bool neurons_last : {false, true})
    for (const bool scaled : {false, true})
      for (const bool biased : {false, true}) {
        CAPTURE(neurons_last);
        CAPTURE(scaled);
        CAPTURE(biased);
        Inputs inputs{leaf({2, 3, 2, 3, 2}, 1), leaf(neurons_last ? Shape{2, 3, 5} : Shape{5, 2, 3}, 2),
                      leaf({1, 2, 1, 5}, 3)};
        if (scaled) inputs.push_back(leaf({5}, 4, 1));
        if (biased) inputs.push_back(leaf({5}, 5));
        check_gradients(
            [=](const Inputs& in) {
              return mask_readout(in[0], in[1], in[2], scaled ? in[3] : Tensor(),
                                  biased ? in.back() : Tensor(), neurons_last);
            },
            inputs);
      }
}

TEST_CASE("mask readout: the sum of the formula") {
  const Tensor x = constant({1, 2, 2, 2, 3}, 1), mask = constant({4, 2, 2}, 2),
               features = constant({3, 4}, 3), scale = constant({4}, 4), bias = constant({4}, 5);
  const auto at = [](const Tensor& t, std::size_t i) { return t.to_vector<double>()[i]; };
  std::vector<double> expected;
  for (std::size_t t = 0; t < 2; ++t)
    for (std::size_t n = 0; n < 4; ++n) {
      double total = 0;
      for (std::size_t p = 0; p < 4; ++p)
        for (std::size_t c = 0; c < 3; ++c)
          total += at(x, (t * 4 + p) * 3 + c) * at(mask, n * 4 + p) * at(features, c * 4 + n);
      expected.push_back(std::log1p(std::exp(at(scale, n) * total + at(bias, n))));
    }
  CHECK(within(of(expected, {1, 2, 4}), mask_readout(x, mask, features, scale, bias), 1e-13));
}

TEST_CASE("mask readout: softplus is linear above 20 and its slope is PyTorch's on both sides") {
  const std::vector<double> z{-800, -30, 0, 19.9, 20, 20.1, 800};
  const Tensor x = leaf_of(z, {1, 7, 1, 1, 1}), one = of({1}, {1, 1, 1});
  const Tensor y = mask_readout(x, one, of({1}, {1, 1}), {}, {});
  backward(y, Tensor::full({1, 7, 1}, 1, DType::f64, device()));
  const std::vector<double> value = y.to_vector<double>(), slope = x.grad().to_vector<double>();
  for (std::size_t i = 0; i < z.size(); ++i) {
    CHECK(value[i] == (z[i] > 20 ? z[i] : std::log1p(std::exp(z[i]))));
    CHECK(slope[i] == (z[i] > 20 ? 1 : std::exp(z[i]) / (std::exp(z[i]) + 1)));
  }
}

TEST_CASE("mask readout: errors") {
  const Tensor x = constant({1, 2, 2, 3, 3}, 1), mask = constant({4, 2, 3}, 2),
               features = constant({3, 4}, 3);
  CHECK_THROWS_WITH_AS(mask_readout(x, constant({4, 3, 2}, 1), features, {}, {}),
                       "[mask_readout] mask must be (4, 2, 3): (4, 3, 2)", ShapeError);
  CHECK_THROWS_WITH_AS(mask_readout(x, mask, features, {}, {}, true),
                       "[mask_readout] mask must be (2, 3, 3): (4, 2, 3)", ShapeError);
  CHECK_THROWS_WITH_AS(mask_readout(x, mask, constant({4, 4}, 1), {}, {}),
                       "[mask_readout] features must have 3 x 4 values: (4, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(mask_readout(x, mask, features, constant({3}, 1), {}),
                       "[mask_readout] scale must be (4): (3)", ShapeError);
  CHECK_THROWS_WITH_AS(mask_readout(x, mask, features, {}, constant({1, 4}, 1)),
                       "[mask_readout] bias must be (4): (1, 4)", ShapeError);
  CHECK_THROWS_AS(mask_readout(x.reshape({2, 2, 3, 3}), mask, features, {}, {}), ShapeError);
  CHECK_THROWS_AS(mask_readout(x, mask.reshape({8, 3}), features, {}, {}), ShapeError);
}

// ---- layout, constraints

TEST_CASE("channels last and first: order, round trip, gradients") {
  const Tensor x = of({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, {1, 3, 2, 2});
  CHECK(to_channels_last(x).shape() == Shape{1, 2, 2, 3});
  CHECK(to_channels_last(x).to_vector<double>() == std::vector<double>{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11});
  for (const Shape& shape : {Shape{2, 3, 4, 1, 5}, Shape{2, 1, 3, 2}, Shape{3, 4}, Shape{2, 3, 1, 1}}) {
    const Tensor y = constant(shape, 1);
    CHECK(exact(y, to_channels_first(to_channels_last(y))));
    CHECK(exact(y, to_channels_last(to_channels_first(y))));
    check_gradients([](const Inputs& in) { return to_channels_last(in[0]); }, {leaf(shape, 2)});
    check_gradients([](const Inputs& in) { return to_channels_first(in[0]); }, {leaf(shape, 3)});
  }
  CHECK_THROWS_WITH_AS(to_channels_last(of({1}, {1})), "[to_channels_last] input must be (B,C,...): (1)",
                       ShapeError);
  CHECK_THROWS_AS(to_channels_first(Tensor::scalar(1, DType::f64, device())), ShapeError);
}

TEST_CASE("constraints act in place, outside differentiation, and keep NaN") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor x = leaf_of({-2, 0.5, 3, nan}, {4});
  clamp_min_(x, 0.75);
  const std::vector<double> clamped = x.to_vector<double>();
  CHECK(std::vector<double>(clamped.begin(), clamped.begin() + 3) == std::vector<double>{0.75, 0.75, 3});
  CHECK(std::isnan(clamped[3]));
  const Tensor y = leaf_of({-2, -0.0, 3}, {3});
  abs_(y);
  CHECK(y.to_vector<double>() == std::vector<double>{2, 0, 3});
  CHECK(!std::signbit(y.to_vector<double>()[1]));
  CHECK_NOTHROW(Tensor(y).set_requires_grad(false));  // still a leaf
  CHECK_THROWS_AS(abs_(Tensor::zeros({2}, DType::i64, device())), ShapeError);
}

// ---- frames

TEST_CASE("pooling: gradients; incomplete windows are dropped") {
  const Shape shape{2, 3, 5, 7, 2};
  for (const std::array<std::int64_t, 3> kernel :
       {std::array<std::int64_t, 3>{1, 2, 2}, {2, 1, 3}, {3, 5, 7}, {1, 1, 1}}) {
    check_gradients([&](const Inputs& in) { return max_pool3d(in[0], kernel); }, {leaf(shape, 1)});
    check_gradients([&](const Inputs& in) { return average_pool3d(in[0], kernel); }, {leaf(shape, 2)});
  }
  CHECK(max_pool3d(constant(shape, 1), {2, 2, 2}).shape() == Shape{2, 1, 2, 3, 2});
}

TEST_CASE("pooling: values, ties go to the first in row order, NaN wins") {
  const Tensor x = leaf_of({1, 2, 3, 3, 5, 9, 2, 3, 3, 1, 1, 9}, {1, 1, 2, 6, 1});
  const Tensor y = max_pool3d(x, {1, 2, 2});
  CHECK(y.to_vector<double>() == std::vector<double>{3, 3, 9});
  backward(y, of({1, 10, 100}, {1, 1, 1, 3, 1}));
  CHECK(x.grad().to_vector<double>() == std::vector<double>{0, 0, 10, 0, 0, 100, 0, 1, 0, 0, 0, 0});
  CHECK(average_pool3d(x, {1, 2, 2}).to_vector<double>() == std::vector<double>{2, 2.5, 6});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(std::isnan(max_pool3d(of({1, nan, 7, 2}, {1, 1, 2, 2, 1}), {1, 2, 2}).item()));
}

TEST_CASE("pooling: errors") {
  CHECK_THROWS_WITH_AS(max_pool3d(constant({1, 2, 3, 3, 1}, 1), {3, 1, 1}),
                       "[max_pool3d] kernel (3, 1, 1) must be at least 1 and no larger than the input "
                       "(1, 2, 3, 3, 1)",
                       ShapeError);
  CHECK_THROWS_AS(average_pool3d(constant({1, 2, 3, 3, 1}, 1), {1, 0, 1}), ShapeError);
  CHECK_THROWS_WITH_AS(average_pool3d(constant({2, 3, 3, 1}, 1), {1, 1, 1}),
                       "[average_pool3d] input must be (B,T,H,W,C): (2, 3, 3, 1)", ShapeError);
}

TEST_CASE("dropped frames: values, gradients, errors") {
  const Tensor x = of({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, {2, 3, 2});
  CHECK(drop_first_frames(x, 1).to_vector<double>() == std::vector<double>{2, 3, 4, 5, 8, 9, 10, 11});
  CHECK(drop_first_frames(x, 0).same(x));
  for (const std::int64_t count : {0, 1, 3})
    check_gradients([&](const Inputs& in) { return drop_first_frames(through_node(in[0]), count); },
                    {leaf({2, 4, 1, 3, 2}, 1)});
  check_gradients([](const Inputs& in) { return drop_first_frames(in[0], 2); }, {leaf({2, 3}, 1)});
  CHECK_THROWS_WITH_AS(drop_first_frames(x, 3), "[drop_first_frames] must leave at least one frame of 3: 3",
                       ShapeError);
  CHECK_THROWS_AS(drop_first_frames(x, -1), ShapeError);
  CHECK_THROWS_AS(drop_first_frames(of({1}, {1}), 0), ShapeError);
}

TEST_CASE("scaled channels: values, gradients, errors") {
  const Tensor x = of({1, 2, 3, 4, 5, 6, 7, 8}, {2, 2, 2});
  CHECK(scale_channels(x, of({0, 2, 1, 10}, {2, 2})).to_vector<double>() ==
        std::vector<double>{0, 4, 0, 8, 5, 60, 7, 80});
  const Tensor factor = leaf({2, 3}, 2);
  check_gradients([&](const Inputs& in) { return scale_channels(in[0], factor); }, {leaf({2, 1, 5, 3}, 1)});
  CHECK(!factor.grad().defined());
  CHECK_THROWS_WITH_AS(scale_channels(x, of({0, 2, 1}, {1, 3})),
                       "[scale_channels] factor must be (2, 2): (1, 3)", ShapeError);
  CHECK_THROWS_AS(scale_channels(of({1}, {1}), of({1}, {1})), ShapeError);
}

TEST_CASE("separable convolution: gradients") {
  for (const Padding3d& padding :
       {Padding3d::none(), Padding3d::same({3, 2, 3}), Padding3d::symmetric({1, 0, 2})})
    check_gradients([&](const Inputs& in) { return sepconv3d(in[0], in[1], in[2], padding); },
                    {leaf({2, 4, 3, 5, 2}, 1), leaf({3, 2, 1, 2, 3}, 2), leaf({3, 2, 3}, 3)});
  const Tensor x = leaf({2, 4, 3, 5, 2}, 1).detach(), spatial = leaf({3, 2, 1, 2, 3}, 2).detach(),
               temporal = leaf({3, 2, 3}, 3).detach();
  check_gradients([&](const Inputs& in) { return sepconv3d(in[0], spatial, temporal); },
                  {leaf(x.shape(), 1)});
  check_gradients([&](const Inputs& in) { return sepconv3d(in[0], spatial, in[1]); },
                  {leaf(x.shape(), 1), leaf(temporal.shape(), 3)});
  check_gradients([&](const Inputs& in) { return sepconv3d(x, in[0], in[1]); },
                  {leaf(spatial.shape(), 2), leaf(temporal.shape(), 3)});
}
