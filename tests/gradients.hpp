// Random f64 tensors and gradient checks for the tests of ops.
#pragma once
#include <doctest/doctest.h>

#include <vector>

#include "fovea/autograd.hpp"
#include "fovea/ops.hpp"
#include "fovea/random.hpp"
#include "tests/check.hpp"

namespace fovea::test {

using Tensors = std::vector<Tensor>;
using TensorFunction = std::function<Tensor(const Tensors&)>;

inline const Device& device() {
  static const Device one = cpu_device(1, Isa::reference);
  return one;
}

inline Tensor constant(const Shape& shape, std::uint64_t seed, double mean = 0, double deviation = 1) {
  const Tensor tensor(shape, DType::f64, device());
  Random(seed).normal(tensor, mean, deviation);
  return tensor;
}

inline Tensor leaf(const Shape& shape, std::uint64_t seed, double mean = 0, double deviation = 1) {
  Tensor tensor = constant(shape, seed, mean, deviation);
  return tensor.set_requires_grad();
}

/// Small whole numbers, the sums of whose products are exact in every dtype and order.
inline Tensor whole(const Shape& shape, std::uint64_t seed) {
  std::vector<double> values = constant(shape, seed, 0, 2).to_vector<double>();
  for (double& value : values) value = std::round(value);
  return Tensor::from(values, shape, device());
}

inline Tensor of(const std::vector<double>& values, const Shape& shape) {
  return Tensor::from(values, shape, device());
}

inline Tensor leaf_of(const std::vector<double>& values, const Shape& shape) {
  Tensor tensor = of(values, shape);
  return tensor.set_requires_grad();
}

inline Tensor indices(const std::vector<std::int64_t>& values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())}, device());
}

inline Tensor sum_of(const Tensor& a, const Tensor& b) {
  return custom_op(
      "sum", {a, b},
      [](auto inputs) {
        std::vector<double> values = inputs[0].template to_vector<double>();
        const std::vector<double> other = inputs[1].template to_vector<double>();
        for (std::size_t i = 0; i < values.size(); ++i) values[i] += other[i];
        return Tensor::from(values, inputs[0].shape(), inputs[0].device());
      },
      [](const Tensor& d_output, auto, const Tensor&) {
        return Tensors{d_output, d_output};
      });
}

/// Central differences in f64 with a random upstream gradient. Rounding of the outputs (1e-16) over the step
/// (1e-6) times some tens of terms; the step squared is less.
inline void check_gradient(const TensorFunction& function, const Tensors& inputs) {
  const GradcheckReport report = gradcheck(function, inputs, {.tolerance = 1e-8});
  CHECK_MESSAGE(report.passed, report.where);
  CHECK(report.compared > 0);
}

/// All inputs; all inputs used by two nodes, so that the second adds to what the first wrote; every input
/// alone, so that the others need no gradient.
inline void check_gradients(const TensorFunction& function, const Tensors& inputs) {
  check_gradient(function, inputs);
  check_gradient([&](const Tensors& in) { return sum_of(function(in), function(in)); }, inputs);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    INFO("only input ", i);
    check_gradient(
        [&](const Tensors& in) {
          Tensors mixed;
          for (const Tensor& input : inputs) mixed.push_back(input.detach());
          mixed[i] = in[0];
          return function(mixed);
        },
        {inputs[i]});
  }
}

}  // namespace fovea::test
