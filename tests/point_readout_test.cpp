// The point readout and its Gaussian positions: gradients in f64 with every option, closed forms, positions
// anywhere, errors. Against PyTorch: op_fixtures_test.cpp.
#include <limits>

#include "tests/gradients.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

/// The grid value of a position in pixels.
double at_pixel(double position, std::int64_t length, bool align_corners) {
  const double pixels = static_cast<double>(length);
  return align_corners ? 2 * position / (pixels - 1) - 1 : (2 * position + 1) / pixels - 1;
}

/// (images, N, 2): inside, between the last pixel and the missing one, and further out; never near a pixel.
Tensor positions(std::int64_t images, std::int64_t height, std::int64_t width, bool align_corners) {
  const double along[] = {0.25, -0.5, 1.6, static_cast<double>(width) - 0.4, 2.3, -3.3},
               across[] = {0.7, 0.35, -0.2, 0.4, static_cast<double>(height) - 0.7, 0.5};
  std::vector<double> grid;
  for (std::int64_t b = 0; b < images; ++b)
    for (std::size_t n = 0; n < 6; ++n) {
      grid.push_back(at_pixel(along[n] + 0.03 * static_cast<double>(b), width, align_corners));
      grid.push_back(at_pixel(across[n] + 0.05 * static_cast<double>(b), height, align_corners));
    }
  return leaf_of(grid, {images, 6, 2});
}

}  // namespace

TEST_CASE("point readout: gradients with every option") {
  for (const bool align_corners : {false, true})
    for (const bool shared : {false, true})
      for (const bool biased : {false, true})
        for (const std::int64_t channels : {1, 3}) {
          CAPTURE(align_corners);
          CAPTURE(shared);
          CAPTURE(biased);
          CAPTURE(channels);
          Tensors inputs{leaf({2, 3, 4, channels}, 1), positions(shared ? 1 : 2, 3, 4, align_corners),
                         leaf({1, channels, 1, 6}, 2)};
          if (biased) inputs.push_back(leaf({6}, 3));
          check_gradients(
              [=](const Tensors& in) {
                return point_readout(in[0], in[1], in[2], biased ? in[3] : Tensor(), align_corners);
              },
              inputs);
        }
}

TEST_CASE("point readout: between whole pixels, exact") {
  // 3 x 5 pixels, channels v and 10 v; positions (1.25, 0.5), (4, 2) and (4.5, -0.25).
  std::vector<double> pixels;
  for (int i = 0; i < 15; ++i) pixels.insert(pixels.end(), {16.0 * i, 160.0 * i});
  const Tensor x = of(pixels, {1, 3, 5, 2}), features = of({1, 2, 3, 0.5, 1, 0}, {2, 3}),
               bias = of({1, 2, 3}, {3});
  const Tensor aligned = of({-0.375, -0.5, 1, 1, 1.25, -1.25}, {1, 3, 2});
  const double first = 16 * (0.5 * (1.25) + 0.5 * (6.25)), last = 16 * 14, outside = 16 * 4 * 0.5 * 0.75;
  const std::vector<double> expected{first * (1 + 5) + 1, last * (2 + 10) + 2, outside * 3 + 3};
  CHECK(point_readout(x, aligned, features, bias, true).to_vector<double>() == expected);
  // The same pixels without align_corners: g = (2 p + 1) / L - 1, rounded for L = 5 and 3.
  std::vector<double> grid;
  for (const auto& [along, across] : {std::pair{1.25, 0.5}, {4.0, 2.0}, {4.5, -0.25}}) {
    grid.push_back(at_pixel(along, 5, false));
    grid.push_back(at_pixel(across, 3, false));
  }
  CHECK(within(of(expected, {1, 3}), point_readout(x, of(grid, {1, 3, 2}), features, bias, false), 1e-11));
}

TEST_CASE("point readout: one position for all images, and the slope at an exact pixel") {
  // One row of pixels; aligned, so the position along the width is 2 (g + 1).
  const Tensor x = of({1, 2, 4, 8, 16, 3, 9, 27, 81, 243}, {2, 1, 5, 1}), features = of({1, 1, 1}, {1, 3});
  const Tensor grid = leaf_of({-1, 0, -0.5, 0, 1, 0}, {1, 3, 2});
  const Tensor y = point_readout(x, grid, features, {}, true);
  CHECK(y.to_vector<double>() == std::vector<double>{1, 2, 16, 3, 9, 243});
  backward(y, of({1, 1, 1, 10, 10, 10}, {2, 3}));
  // To the right, and towards 0 at the last pixel; a single row has no slope.
  CHECK(grid.grad().to_vector<double>() ==
        std::vector<double>{2 * (1 + 10 * 6), 0, 2 * (2 + 10 * 18), 0, 2 * (-16 - 10 * 243), 0});
}

TEST_CASE("point readout: exactly on the first missing pixels") {
  const Tensor x = leaf_of({1, 2, 4, 8, 16}, {1, 1, 5, 1}), features = of({1, 1}, {1, 2});
  const Tensor grid = leaf_of({-1.5, 0, 1.5, 0}, {1, 2, 2});  // pixels -1 and 5
  const Tensor y = point_readout(x, grid, features, {}, true);
  CHECK(y.to_vector<double>() == std::vector<double>{0, 0});
  backward(y, of({3, 5}, {1, 2}));
  CHECK(grid.grad().to_vector<double>() == std::vector<double>{2 * 3 * 1, 0, 0, 0});
  CHECK(x.grad().to_vector<double>() == std::vector<double>(5, 0));
}

TEST_CASE("point readout: positions far outside, infinite and NaN read zeros and have no gradient") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const std::vector<double> far{nan,    0, 0, nan,  nan,   nan, inf,  0,     0,   -inf, 1e300, 1e300,
                                -1e300, 0, 0, 1e19, -5e18, 0,   1e10, -1e10, 3.5, 0,    0,     -2.5};
  const std::int64_t neurons = static_cast<std::int64_t>(far.size()) / 2;
  for (const Isa isa : available_isas())
    for (const DType dtype : {DType::f32, DType::f64})
      for (const bool align_corners : {false, true})
        for (const std::int64_t images : {1, 2}) {
          CAPTURE(to_string(isa));
          const Device host = cpu_device(2, isa);
          std::vector<double> all = far;
          if (images == 2) all.insert(all.end(), far.begin(), far.end());
          Tensor x = constant({2, 4, 4, 3}, 1).to(dtype).to(host),
                 features = constant({3, neurons}, 2).to(dtype).to(host),
                 grid = of(all, {images, neurons, 2}).to(dtype).to(host),
                 bias = Tensor::full({neurons}, 7, dtype, host);
          for (Tensor* leaf : {&x, &features, &grid, &bias}) leaf->set_requires_grad();
          const Tensor y = point_readout(x, grid, features, bias, align_corners);
          CHECK(exact(Tensor::full({2, neurons}, 7, dtype, host), y.detach()));
          backward(y, Tensor::full({2, neurons}, 1, dtype, host));
          CHECK(exact(zeros_like(x), x.grad()));
          CHECK(exact(zeros_like(grid), grid.grad()));
          CHECK(exact(zeros_like(features), features.grad()));
          CHECK(exact(Tensor::full({neurons}, 2, dtype, host), bias.grad()));
        }
}

TEST_CASE("point readout: a session without neurons") {
  for (const Isa isa : available_isas()) {
    const Device host = cpu_device(2, isa);
    Tensor x = Tensor::full({2, 3, 4, 5}, 1, DType::f32, host);
    x.set_requires_grad();
    const auto none = [&](const Shape& shape) { return Tensor::zeros(shape, DType::f32, host); };
    const Tensor y = point_readout(x, none({1, 0, 2}), none({5, 0}), none({0}), true);
    CHECK(y.shape() == Shape{2, 0});
    backward(y, none({2, 0}));
    CHECK(exact(none({2, 3, 4, 5}), x.grad()));
  }
}

TEST_CASE("point readout: errors") {
  const Tensor x = constant({2, 3, 4, 5}, 1), grid = constant({2, 6, 2}, 2), features = constant({5, 6}, 3);
  CHECK_THROWS_WITH_AS(point_readout(x.reshape({2, 12, 5}), grid, features, {}, true),
                       "[point_readout] input must be (B,H,W,C): (2, 12, 5)", ShapeError);
  CHECK_THROWS_WITH_AS(point_readout(x, constant({3, 6, 2}, 2), features, {}, true),
                       "[point_readout] grid must be (2,N,2) or (1,N,2): (3, 6, 2)", ShapeError);
  CHECK_THROWS_AS(point_readout(x, constant({2, 4, 3}, 2), features, {}, true), ShapeError);
  CHECK_THROWS_AS(point_readout(x, constant({12, 2}, 2), features, {}, true), ShapeError);
  CHECK_THROWS_WITH_AS(point_readout(x, grid, constant({5, 7}, 3), {}, true),
                       "[point_readout] features must have 5 x 6 values: (5, 7)", ShapeError);
  CHECK_THROWS_WITH_AS(point_readout(x, grid, features, constant({6, 1}, 4), true),
                       "[point_readout] bias must be (6): (6, 1)", ShapeError);
  CHECK_THROWS_WITH_AS(point_readout(x, grid.to(DType::f32), features, {}, true),
                       "[point_readout] inputs of one dtype: f64 and f32", ShapeError);
}

// ---- Gaussian grid

namespace {

Shape sigma_shape(GaussType type, std::int64_t neurons) {
  if (type == GaussType::full) return {1, neurons, 2, 2};
  return type == GaussType::uncorrelated ? Shape{1, neurons, 1, 2} : Shape{1, neurons, 1, 1};
}

constexpr GaussType gauss_types[] = {GaussType::full, GaussType::uncorrelated, GaussType::isotropic};

}  // namespace

TEST_CASE("gaussian grid: the formulas, exact") {
  const Tensor mu = of({0.25, -0.5, 0.75, 0}, {1, 2, 1, 2}),
               noise = of({0.5, 1, -1, 2, 0, -2, 4, 0.25}, {2, 2, 2}), shift = of({10, 20, -1, 1}, {2, 2});
  const auto grid = [&](const Tensor& sigma, GaussType type) {
    return gaussian_grid(mu, sigma, noise, {}, type).to_vector<double>();
  };
  CHECK(grid(of({0.5, 0.25, -0.5, 0.125, 0.25, 0.125, 0, 0.25}, {1, 2, 2, 2}), GaussType::full) ==
        std::vector<double>{0.75, -0.625, 0.75, 0.5, -0.25, -0.75, 1, 0.0625});
  CHECK(grid(of({0.5, 0.25, -0.25, 0.125}, {1, 2, 1, 2}), GaussType::uncorrelated) ==
        std::vector<double>{0.5, -0.25, 1, 0.25, 0.25, -1, -0.25, 0.03125});
  const Tensor sigma = of({0.5, 0.25}, {1, 2, 1, 1});
  CHECK(grid(sigma, GaussType::isotropic) == std::vector<double>{0.5, 0, 0.5, 0.5, 0.25, -1, 1, 0.0625});
  // The shift comes after the clamp; one draw serves all images; no noise and no shift give the means once.
  CHECK(gaussian_grid(mu, sigma, noise, shift, GaussType::isotropic).to_vector<double>() ==
        std::vector<double>{10.5, 20, 10.5, 20.5, -0.75, 0, 0, 1.0625});
  CHECK(gaussian_grid(mu, sigma, noise.rows(0, 1), shift, GaussType::isotropic).to_vector<double>() ==
        std::vector<double>{10.5, 20, 10.5, 20.5, -0.5, 1, -0.5, 1.5});
  CHECK(gaussian_grid(mu, sigma, {}, shift, GaussType::isotropic).shape() == Shape{2, 2, 2});
  CHECK(exact(mu.reshape({1, 2, 2}), gaussian_grid(mu, sigma, {}, {}, GaussType::isotropic)));
}

TEST_CASE("gaussian grid: gradients with every option") {
  for (const GaussType type : gauss_types)
    for (const std::int64_t draws : {0, 1, 3})
      for (const bool shifted : {false, true}) {
        CAPTURE(static_cast<int>(type));
        CAPTURE(draws);
        CAPTURE(shifted);
        const Tensor noise = draws ? constant({draws, 4, 2}, 1) : Tensor();
        Tensors inputs{leaf({1, 4, 1, 2}, 2, 0, 0.5), leaf(sigma_shape(type, 4), 3, 0, 0.5)};
        if (shifted) inputs.push_back(leaf({3, 2}, 4));
        check_gradients(
            [=](const Tensors& in) {
              return gaussian_grid(in[0], in[1], noise, shifted ? in[2] : Tensor(), type);
            },
            inputs);
      }
}

TEST_CASE("gaussian grid: the clamp passes the gradient strictly inside its bounds only") {
  for (const GaussType type : gauss_types) {
    const Tensor mu = leaf_of({1, -1, 0.5, -1.5}, {2, 2}), shift = leaf_of({4, 5}, {1, 2}),
                 sigma = Tensor::zeros(sigma_shape(type, 2), DType::f64, device()).set_requires_grad();
    const Tensor grid = gaussian_grid(mu, sigma, of({1, 1, 1, 1}, {1, 2, 2}), shift, type);
    CHECK(grid.to_vector<double>() == std::vector<double>{5, 4, 4.5, 4});
    backward(grid, of({1, 2, 4, 8}, {1, 2, 2}));
    CHECK(mu.grad().to_vector<double>() == std::vector<double>{0, 0, 4, 0});
    CHECK(shift.grad().to_vector<double>() == std::vector<double>{5, 10});
    CHECK(sigma.grad().to_vector<double>()[0] == 0);
  }
}

TEST_CASE("gaussian grid: without noise the gradient of sigma is written, as zeros") {
  const Tensor mu = leaf({3, 2}, 1, 0, 0.3), sigma = leaf({3, 2}, 2);
  backward(gaussian_grid(mu, sigma, {}, {}, GaussType::uncorrelated), constant({1, 3, 2}, 3));
  REQUIRE(sigma.grad());
  CHECK(sigma.grad().to_vector<double>() == std::vector<double>(6, 0));
}

TEST_CASE("gaussian grid: errors") {
  const Tensor mu = constant({1, 3, 1, 2}, 1), sigma = constant({1, 3, 2, 2}, 2),
               noise = constant({4, 3, 2}, 3);
  const auto full = GaussType::full;
  CHECK_THROWS_WITH_AS(gaussian_grid(constant({3}, 1), sigma, noise, {}, full),
                       "[gaussian_grid] mu must have N x 2 values: (3)", ShapeError);
  CHECK_THROWS_WITH_AS(gaussian_grid(mu, sigma, noise, {}, GaussType::isotropic),
                       "[gaussian_grid] sigma must have 3 x 1 values: (1, 3, 2, 2)", ShapeError);
  CHECK_THROWS_WITH_AS(gaussian_grid(mu, sigma, constant({4, 2, 2}, 3), {}, full),
                       "[gaussian_grid] noise must be (B,3,2) or (1,3,2): (4, 2, 2)", ShapeError);
  CHECK_THROWS_WITH_AS(gaussian_grid(mu, sigma, noise, constant({4, 3}, 4), full),
                       "[gaussian_grid] shift must be (B,2): (4, 3)", ShapeError);
  CHECK_THROWS_WITH_AS(gaussian_grid(mu, sigma, noise, constant({5, 2}, 4), full),
                       "[gaussian_grid] noise and shift of one batch: (4, 3, 2) and (5, 2)", ShapeError);
}
