// Gradients of the convolutions against central differences in f64, closed forms, and the errors.
#include <doctest/doctest.h>

#include "gradients.hpp"

using namespace fovea;
using namespace fovea::test;

using Inputs = Tensors;

TEST_CASE("conv3d: gradients with every option") {
  struct Case {
    std::int64_t in, out;
    std::array<std::int64_t, 3> kernel;
    Conv3dOptions options;
  };
  const std::vector<Case> cases{
      {2, 3, {3, 2, 3}, {}},
      {2, 3, {2, 4, 3}, {.padding = Padding3d::same({2, 4, 3})}},
      {3, 2, {2, 3, 2}, {.stride = {2, 1, 3}, .padding = {{1, 0, 2}, {0, 2, 1}}}},
      {2, 2, {2, 3, 2}, {.padding = Padding3d::same({2, 3, 2}, {2, 1, 3}), .dilation = {2, 1, 3}}},
      {4, 6, {2, 3, 1}, {.stride = {1, 2, 2}, .padding = Padding3d::symmetric({0, 1, 2}), .groups = 2}},
      {3,
       3,
       {1, 3, 3},
       {.stride = {1, 2, 1}, .padding = Padding3d::symmetric({0, 2, 2}), .dilation = {1, 2, 2}, .groups = 3}},
      {5, 4, {1, 1, 1}, {}}};
  for (const Case& one : cases) {
    CAPTURE(one.out);
    const auto& [in, out, kernel, options] = one;
    const Shape weight{out, in / options.groups, kernel[0], kernel[1], kernel[2]};
    const Inputs inputs{leaf({2, 4, 5, 7, in}, 1), leaf(weight, 2), leaf({out}, 3)};
    check_gradients([&, o = options](const Inputs& x) { return conv3d(x[0], x[1], x[2], o); }, inputs);
    check_gradients([&, o = options](const Inputs& x) { return conv3d(x[0], x[1], {}, o); },
                    {inputs[0], inputs[1]});
  }
}

TEST_CASE("conv3d: a gradient adds to what another node wrote") {
  const Tensor x = leaf({1, 3, 4, 5, 2}, 1), weight = leaf({2, 2, 2, 3, 3}, 2), bias = leaf({2}, 3);
  check_gradients(
      [&](const Inputs& in) {
        return conv3d(conv3d(in[0], in[1], in[2], {.padding = Padding3d::same({2, 3, 3})}), in[1], in[2]);
      },
      {x, weight, bias});
}

TEST_CASE("conv2d: gradients, and the same values as conv3d with one frame") {
  const Conv2dOptions options{{2, 1}, {{1, 0}, {2, 1}}, {1, 2}, 2};
  const Inputs inputs{leaf({2, 7, 6, 4}, 1), leaf({6, 2, 3, 2}, 2), leaf({6}, 3)};
  check_gradients([&](const Inputs& in) { return conv2d(in[0], in[1], in[2], options); }, inputs);
  const Tensor flat = conv2d(inputs[0], inputs[1], inputs[2], options);
  const Conv3dOptions same{{1, 2, 1}, {{0, 1, 0}, {0, 2, 1}}, {1, 1, 2}, 2};
  const Tensor deep =
      conv3d(inputs[0].reshape({2, 1, 7, 6, 4}), inputs[1].reshape({6, 2, 1, 3, 2}), inputs[2], same);
  CHECK(flat.shape() == Shape{2, 4, 5, 6});
  CHECK(exact(deep.reshape(flat.shape()), flat));
}

TEST_CASE("conv: values by hand") {
  const Tensor x = of({1, 2, 3, 4}, {1, 1, 4, 1}), weight = of({10, 1}, {1, 1, 1, 2});
  CHECK(conv2d(x, weight).to_vector<double>() == std::vector<double>{12, 23, 34});
  CHECK(conv2d(x, weight, of({0.5}, {1}), {.stride = {1, 2}}).to_vector<double>() ==
        std::vector<double>{12.5, 34.5});
  CHECK(conv2d(x, weight, {}, {.dilation = {1, 3}}).to_vector<double>() == std::vector<double>{14});
  // "same" puts the odd zero after.
  CHECK(conv2d(x, weight, {}, {.padding = Padding2d::same({1, 2})}).to_vector<double>() ==
        std::vector<double>{12, 23, 34, 40});
  // Two groups of one channel each.
  CHECK(conv2d(of({1, 2, 3, 4}, {1, 1, 2, 2}), of({10, 100, 1000, 10000}, {4, 1, 1, 1}), {}, {.groups = 2})
            .to_vector<double>() == std::vector<double>{10, 100, 2000, 20000, 30, 300, 4000, 40000});
}

TEST_CASE("conv: errors") {
  const Tensor x = constant({1, 4, 5, 6, 4}, 1), weight = constant({6, 4, 2, 3, 3}, 2);
  const auto with = [&](const Conv3dOptions& options) { return conv3d(x, weight, {}, options); };
  CHECK_THROWS_WITH_AS(conv3d(constant({4, 5, 6, 4}, 1), weight),
                       "[conv3d] input must be (B,T,H,W,C): (4, 5, 6, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(conv3d(x, constant({6, 4, 3, 3}, 1)),
                       "[conv3d] weight must be (O,I/groups,KT,KH,KW): (6, 4, 3, 3)", ShapeError);
  CHECK_THROWS_WITH_AS(with({.groups = 3}),
                       "[conv3d] groups must divide the channels of input and output: 3 for 4 and 6",
                       ShapeError);
  CHECK_THROWS_AS(with({.groups = 0}), ShapeError);
  CHECK_THROWS_WITH_AS(with({.groups = 2}),
                       "[conv3d] weight (6, 4, 2, 3, 3) with 2 groups needs 8 input channels, input has 4",
                       ShapeError);
  CHECK_THROWS_WITH_AS(conv3d(x, weight, constant({4}, 1)), "[conv3d] bias must be (6): (4)", ShapeError);
  CHECK_THROWS_WITH_AS(with({.dilation = {1, 1, 3}}),
                       "[conv3d] width: kernel reaches over 7 elements, padded input has 6", ShapeError);
  CHECK_THROWS_WITH_AS(with({.stride = {1, 0, 1}}),
                       "[conv3d] height: kernel, stride and dilation must be at least 1, padding at least 0: "
                       "3, 0, 1, 0+0",
                       ShapeError);
  CHECK_THROWS_AS(with({.padding = Padding3d::symmetric({0, 0, -1})}), ShapeError);
  CHECK_THROWS_AS(conv3d(x, weight.to(DType::f32)), ShapeError);
  CHECK_THROWS_WITH_AS(conv2d(x, constant({6, 4, 3, 3}, 1)),
                       "[conv2d] input must be (B,H,W,C): (1, 4, 5, 6, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(conv2d(constant({1, 5, 6, 4}, 1), weight),
                       "[conv2d] weight must be (O,I/groups,KH,KW): (6, 4, 2, 3, 3)", ShapeError);
}

TEST_CASE("scale: values and gradients") {
  CHECK(scale(of({1, -2, 3}, {3}), -0.5).to_vector<double>() == std::vector<double>{-0.5, 1, -1.5});
  check_gradients([](const Inputs& in) { return scale(in[0], 1.7); }, {leaf({2, 3}, 1)});
}
