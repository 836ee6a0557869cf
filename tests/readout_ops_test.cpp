// The factorized readout, normalised rows, gather and linear: gradients in f64 with every option, values on
// whole numbers, errors.
#include "autograd/factorized_readout.hpp"
#include "engine/backend.hpp"
#include "tests/gradients.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr ReadoutWay ways[] = {ReadoutWay::weights, ReadoutWay::maps};

/// The formula, one product after the other: x (rows, P, C) -> (rows * N).
std::vector<double> readout_of(const Tensor& x, const Tensor& masks, const Tensor& features,
                               const Tensor& bias, const MaskReadoutShape& s) {
  const auto px = x.to_vector<double>(), pm = masks.to_vector<double>(), pf = features.to_vector<double>();
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  std::vector<double> y;
  for (std::int64_t m = 0; m < s.rows; ++m)
    for (std::int64_t n = 0; n < s.neurons; ++n) {
      double sum = bias ? bias.to_vector<double>()[at(n)] : 0;
      for (std::int64_t c = 0; c < s.channels; ++c)
        for (std::int64_t p = 0; p < s.pixels; ++p)
          sum += pf[at(c * s.neurons + n)] * px[at((m * s.pixels + p) * s.channels + c)] *
                 pm[at(s.mask_neurons_last ? p * s.neurons + n : n * s.pixels + p)];
      y.push_back(s.activation.kind == ActivationKind::relu ? std::max(0.0, sum) : sum);
    }
  return y;
}

}  // namespace

TEST_CASE("factorized readout: gradients both ways with every option") {
  for (const ReadoutWay way : ways)
    for (const bool movie : {false, true})
      for (const bool neurons_last : {false, true})
        for (const bool biased : {false, true})
          for (const bool relu : {false, true}) {
            CAPTURE(static_cast<int>(way));
            CAPTURE(movie);
            CAPTURE(neurons_last);
            CAPTURE(biased);
            CAPTURE(relu);
            Tensors inputs{leaf(movie ? Shape{2, 2, 3, 2, 3} : Shape{3, 3, 2, 3}, 1),
                           leaf(neurons_last ? Shape{6, 4} : Shape{4, 3, 2}, 2), leaf({1, 3, 1, 4}, 3)};
            if (biased) inputs.push_back(leaf({4}, 4));
            check_gradients(
                [=](const Tensors& in) {
                  return factorized_readout(in[0], in[1], in[2], biased ? in[3] : Tensor(),
                                            {neurons_last, relu}, way);
                },
                inputs);
          }
}

TEST_CASE("factorized readout: exact on whole numbers, both ways, in f64 and on every instruction set") {
  const std::vector<MaskReadoutShape> shapes{{1, 1, 1, 1, false, {}},
                                             {3, 6, 1, 5, false, {}},
                                             {2, 35, 7, 19, false, {}},
                                             {5, 12, 18, 150, false, {}}};
  for (MaskReadoutShape s : shapes)
    for (const bool neurons_last : {false, true})
      for (const bool relu : {false, true}) {
        CAPTURE(s.neurons);
        CAPTURE(neurons_last);
        s.mask_neurons_last = neurons_last;
        s.activation.kind = relu ? ActivationKind::relu : ActivationKind::identity;
        const Tensor x = whole({s.rows, s.pixels, 1, s.channels}, 1),
                     features = whole({s.channels, s.neurons}, 3), masks = whole({s.neurons * s.pixels}, 2),
                     bias = whole({s.neurons}, 4), upstream = whole({s.rows, s.neurons}, 5);
        const Tensor expected = of(readout_of(x, masks, features, bias, s), {s.rows, s.neurons});
        Tensors first;  // gradients
        for (const ReadoutWay way : ways)
          for (const Isa isa : available_isas())
            for (const DType dtype : {DType::f32, DType::f64}) {
              CAPTURE(to_string(isa));
              CAPTURE(static_cast<int>(way));
              const Device host = cpu_device(2, isa);
              Tensors leaves;
              for (const Tensor& input : {x, masks, features, bias}) {
                leaves.push_back(input.to(dtype).to(host).clone());
                leaves.back().set_requires_grad();
              }
              const Tensor y =
                  factorized_readout(leaves[0], leaves[1], leaves[2], leaves[3], {neurons_last, relu}, way);
              CHECK(exact(expected, y.detach().to(DType::f64).to(device())));
              backward(y, upstream.to(dtype).to(host));
              Tensors gradients;
              for (const Tensor& one : leaves) gradients.push_back(one.grad().to(DType::f64).to(device()));
              if (first.empty()) first = gradients;
              for (std::size_t i = 0; i < first.size(); ++i) CHECK(exact(first[i], gradients[i]));
            }
      }
}

TEST_CASE("factorized readout: the way with less memory is taken") {
  CHECK(readout_way({32 * 120, 48, 16, 41, false, {}}) == ReadoutWay::weights);  // openretina's frames
  CHECK(readout_way({32, 36 * 64, 64, 8372, false, {}}) == ReadoutWay::maps);    // a weight of 5 GB
  CHECK(readout_way({128, 36 * 64, 64, 8372, false, {}}) == ReadoutWay::maps);
  CHECK(readout_way({512, 102 * 102, 16, 1000, true, {}}) == ReadoutWay::maps);
  const Tensor x = constant({2, 4, 5, 3}, 1), masks = constant({30, 4, 5}, 2),
               features = constant({3, 30}, 3);
  CHECK(exact(factorized_readout(x, masks, features, {}, {}, ReadoutWay::maps),
              factorized_readout(x, masks, features, {})));
}

TEST_CASE("factorized readout: the gradient of the relu is 0 at 0 and the output may be overwritten") {
  for (const ReadoutWay way : ways) {
    const Tensor x = leaf_of({-1, 0, 2}, {3, 1, 1, 1}), one = of({1}, {1, 1});
    const Tensor y = factorized_readout(x, one, one, {}, {false, true}, way);
    CHECK(y.to_vector<double>() == std::vector<double>{0, 0, 2});
    y.fill(7);
    backward(y, of({3, 5, 7}, {3, 1}));
    CHECK(x.grad().to_vector<double>() == std::vector<double>{0, 0, 7});
  }
}

TEST_CASE("factorized readout: errors") {
  const Tensor x = constant({2, 2, 3, 3}, 1), masks = constant({4, 2, 3}, 2), features = constant({3, 4}, 3);
  CHECK_THROWS_WITH_AS(factorized_readout(x.reshape({4, 3, 3}), masks, features, {}),
                       "[factorized_readout] input must be (B,H,W,C) or (B,T,H,W,C): (4, 3, 3)", ShapeError);
  CHECK_THROWS_WITH_AS(factorized_readout(x, masks, constant({2, 4}, 3), {}),
                       "[factorized_readout] features must have 3 x N values: (2, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(factorized_readout(x, constant({4, 2, 2}, 2), features, {}),
                       "[factorized_readout] masks must have 6 x 4 values: (4, 2, 2)", ShapeError);
  CHECK_THROWS_WITH_AS(factorized_readout(x, masks, features, constant({1, 4}, 4)),
                       "[factorized_readout] bias must be (4): (1, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(factorized_readout(x, masks.to(DType::f32), features, {}),
                       "[factorized_readout] inputs of one dtype: f64 and f32", ShapeError);
  CHECK_THROWS_WITH_AS(
      factorized_readout(Tensor::zeros({2, 2, 3, 0}, DType::f64, device()), masks, features, {}),
      "[factorized_readout] input needs pixels and channels: (2, 2, 3, 0)", ShapeError);
}

// ---- normalised rows

TEST_CASE("normalised rows: values, gradients") {
  const Tensor x = of({3, 4, 0, 0, -5, 12}, {3, 1, 2});
  const double five = 5 + 1e-6, thirteen = 13 + 1e-6;
  CHECK(within(of({3 / five, 4 / five, 0, 0, -5 / thirteen, 12 / thirteen}, {3, 1, 2}), normalize_rows(x),
               rounding_bound<double>(1, 2)));
  for (const Shape& shape : {Shape{3, 2, 4}, Shape{1, 5}, Shape{4, 1}, Shape{6}})
    check_gradients([](const Tensors& in) { return normalize_rows(in[0]); }, {leaf(shape, 1, 0.5)});
  CHECK_THROWS_WITH_AS(normalize_rows(Tensor::scalar(1, DType::f64, device())),
                       "[normalize_rows] input must be (N,...): ()", ShapeError);
}

TEST_CASE("normalised rows: a zero row has the gradient of a constant norm") {
  const Tensor x = leaf_of({0, 0, 0, 3, 4, 0}, {2, 3});
  backward(normalize_rows(x), of({1, -2, 3, 0, 0, 0}, {2, 3}));
  CHECK(within(of({1e6, -2e6, 3e6, 0, 0, 0}, {2, 3}), x.grad(), rounding_bound<double>(3e6, 2)));
}

TEST_CASE("normalised rows: clamping the output in place does not change the gradient") {
  const Tensor x = leaf({4, 5}, 1), same = leaf({4, 5}, 1), upstream = constant({4, 5}, 2);
  const Tensor y = normalize_rows(x);
  clamp_min_(y, 0);
  backward(y, upstream);
  backward(normalize_rows(same), upstream);
  CHECK(exact(same.grad(), x.grad()));
}

// ---- gather

TEST_CASE("gather: entries along every axis, with factors, exact") {
  const Tensor x = of({1, 2, 3, 4, 5, 6}, {1, 2, 3});
  CHECK(gather(x, indices({2, 0, 2, 1}), 2).to_vector<double>() ==
        std::vector<double>{3, 1, 3, 2, 6, 4, 6, 5});
  CHECK(gather(x, indices({1, 1, 0}), 1).to_vector<double>() ==
        std::vector<double>{4, 5, 6, 4, 5, 6, 1, 2, 3});
  CHECK(gather(x, indices({0, 0}), 0).shape() == Shape{2, 2, 3});
  CHECK(gather(x, indices({2, 0}), 2, of({10, -1}, {2, 1})).to_vector<double>() ==
        std::vector<double>{30, -1, 60, -4});
}

TEST_CASE("gather: gradients; what several entries chose is summed") {
  const Tensor x = leaf_of({1, 2, 3}, {3, 1}), scales = leaf_of({2, 3, 5, 7}, {4, 1});
  backward(gather(x, indices({2, 0, 2, 2}), 0, scales), of({1, 10, 100, 1000}, {4, 1}));
  CHECK(x.grad().to_vector<double>() == std::vector<double>{30, 0, 2 + 500 + 7000});
  CHECK(scales.grad().to_vector<double>() == std::vector<double>{3, 10, 300, 3000});
  const Tensor index = indices({1, 0, 1, 1, 2});
  const std::vector<std::pair<Shape, int>> cases{{{1, 2, 1, 3}, 3}, {{3, 4}, 0}, {{1, 3, 1, 2}, 1}};
  for (const auto& [shape, axis] : cases) {
    check_gradients([&, along = axis](const Tensors& in) { return gather(in[0], index, along); },
                    {leaf(shape, 1)});
    check_gradients([&, along = axis](const Tensors& in) { return gather(in[0], index, along, in[1]); },
                    {leaf(shape, 1), leaf({1, 1, 1, 5}, 2)});
  }
}

TEST_CASE("gather: errors") {
  const Tensor x = constant({2, 3}, 1);
  CHECK_THROWS_WITH_AS(gather(x, indices({0, 3}), 1), "[gather] index must be from 0 to 2: 3", ShapeError);
  CHECK_THROWS_WITH_AS(gather(x, indices({-1}), 1), "[gather] index must be from 0 to 2: -1", ShapeError);
  CHECK_THROWS_WITH_AS(gather(x, of({0, 1}, {2}), 1), "[gather] index must be i64 (N): f64 (2)", ShapeError);
  CHECK_THROWS_WITH_AS(gather(x, indices({0, 1}).reshape({1, 2}), 1),
                       "[gather] index must be i64 (N): i64 (1, 2)", ShapeError);
  CHECK_THROWS_WITH_AS(gather(x, indices({0}), 2), "[gather] axis must be one of the 2 of the input: 2",
                       ShapeError);
  CHECK_THROWS_WITH_AS(gather(x, indices({0, 1}), 1, constant({3}, 2)),
                       "[gather] scales must have 2 values: (3)", ShapeError);
}

// ---- linear

TEST_CASE("linear: exact on whole numbers, gradients, errors") {
  const Tensor x = of({1, 2, 3, -1, 0, 4}, {2, 3}), weight = of({1, 0, 2, -3, 1, 1}, {2, 3});
  CHECK(linear(x, weight).to_vector<double>() == std::vector<double>{7, 2, 7, 7});
  CHECK(linear(x, weight, of({10, 20}, {2})).to_vector<double>() == std::vector<double>{17, 22, 17, 27});
  for (const auto& [batch, in, out] : {std::array<std::int64_t, 3>{3, 4, 2}, {1, 1, 1}, {2, 3, 20}}) {
    check_gradients([](const Tensors& t) { return linear(t[0], t[1]); },
                    {leaf({batch, in}, 1), leaf({out, in}, 2)});
    check_gradients([](const Tensors& t) { return linear(t[0], t[1], t[2]); },
                    {leaf({batch, in}, 1), leaf({out, in}, 2), leaf({out}, 3)});
  }
  CHECK_THROWS_WITH_AS(linear(x, constant({2, 4}, 1)),
                       "[linear] needs (B,I) and a weight (O,I): (2, 3) and (2, 4)", ShapeError);
  CHECK_THROWS_AS(linear(x.reshape({6}), weight), ShapeError);
  CHECK_THROWS_WITH_AS(linear(x, weight, constant({3}, 1)), "[linear] bias must be (2): (3)", ShapeError);
}
