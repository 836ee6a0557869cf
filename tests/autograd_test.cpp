// The tape, custom_op and gradcheck.
#include "fovea/autograd.hpp"
#include "autograd/tape.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "check.hpp"
#include "engine/step_memory.hpp"
#include "fovea/ops.hpp"
#include "fovea/random.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

Tensor leaf(const std::vector<double>& values, const Shape& shape, const Device& device) {
  Tensor tensor = Tensor::from(values, shape, device);
  return tensor.set_requires_grad();
}

Tensor random_leaf(const Shape& shape, std::uint64_t seed, const Device& device) {
  Tensor tensor(shape, DType::f64, device);
  Random(seed).normal(tensor);
  return tensor.set_requires_grad();
}

/// f applied to every value.
Tensor map(const Tensor& x, const std::function<double(double)>& f) {
  std::vector<double> values = x.to_vector<double>();
  for (double& value : values) value = f(value);
  return Tensor::from(values, x.shape(), x.device());
}

/// a + b, handing the same upstream tensor to both.
Tensor plus(const Tensor& a, const Tensor& b) {
  return custom_op(
      "plus", {a, b},
      [](auto inputs) {
        std::vector<double> sum = inputs[0].template to_vector<double>();
        const std::vector<double> other = inputs[1].template to_vector<double>();
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += other[i];
        return Tensor::from(sum, inputs[0].shape(), inputs[0].device());
      },
      [](const Tensor& d_output, auto, const Tensor&) {
        return std::vector<Tensor>{d_output, d_output};
      });
}

/// x^3 elementwise with the gradient `gradient(upstream, x)`.
Tensor cube(const Tensor& x, const std::function<Tensor(const Tensor&, const Tensor&)>& gradient) {
  return custom_op(
      "cube", {x}, [](auto inputs) { return map(inputs[0], [](double v) { return v * v * v; }); },
      [gradient](const Tensor& d_output, auto inputs, const Tensor&) {
        return std::vector<Tensor>{gradient(d_output, inputs[0])};
      });
}

Tensor right_gradient(const Tensor& upstream, const Tensor& x) {
  const std::vector<double> up = upstream.to_vector<double>();
  std::vector<double> values = x.to_vector<double>();
  for (std::size_t i = 0; i < values.size(); ++i) values[i] *= 3 * values[i] * up[i];
  return Tensor::from(values, x.shape(), x.device());
}

Tensor sum_of_products(const Tensor& row, const Tensor& column) { return matmul(row, column).reshape({}); }

}  // namespace

TEST_CASE("a second backward pass adds to the gradient, after clear_grad it overwrites") {
  const Device device = cpu_device(1);
  const Tensor w = leaf({1, 2}, {1, 2}, device);
  const Tensor x = Tensor::from(std::vector<double>{3, 4}, {2, 1}, device);
  CHECK(!w.grad().defined());
  backward(sum_of_products(w, x));
  CHECK(w.grad().to_vector<double>() == std::vector<double>{3, 4});
  backward(sum_of_products(w, x));
  CHECK(w.grad().to_vector<double>() == std::vector<double>{6, 8});
  w.clear_grad();
  CHECK(!w.grad().defined());
  backward(sum_of_products(w, x));
  CHECK(w.grad().to_vector<double>() == std::vector<double>{3, 4});
}

TEST_CASE("gradients go into the memory that was bound for them") {
  const Device device = cpu_device(1);
  const Tensor w = leaf({1, 2}, {1, 2}, device);
  const Tensor arena = Tensor::full({1, 2}, -5, DType::f64, device);
  w.bind_grad(arena);
  CHECK(!w.grad().defined());
  backward(sum_of_products(w, Tensor::from(std::vector<double>{3, 4}, {2, 1}, device)));
  CHECK(arena.to_vector<double>() == std::vector<double>{3, 4});
  CHECK_THROWS_AS(w.bind_grad(Tensor::zeros({2, 1}, DType::f64, device)), ShapeError);
  CHECK_THROWS_AS(w.bind_grad(Tensor::zeros({1, 2}, DType::f32, device)), ShapeError);
}

TEST_CASE("an input used twice by one op gets both gradients") {
  const Device device = cpu_device(1);
  const Tensor a = leaf({1, 2, 3, 4}, {2, 2}, device);
  backward(matmul(a, a), Tensor::full({2, 2}, 1, DType::f64, device));
  // d sum(A A) / d A_ij = (row sum of A at j) + (column sum of A at i)
  CHECK(a.grad().to_vector<double>() == std::vector<double>{3 + 4, 7 + 4, 3 + 6, 7 + 6});
}

TEST_CASE("the branches of a diamond add up, at a leaf and at an intermediate result") {
  const Device device = cpu_device(1);
  const Tensor x = leaf({2, -1}, {1, 2}, device);
  const Tensor y = cube(x, right_gradient);
  // y reaches the sum as itself, through reshapes and through a cube: 3 y + y^3
  const Tensor sum = plus(plus(y.reshape({2, 1}).reshape({1, 2}), y), plus(cube(y, right_gradient), y));
  backward(sum, Tensor::full({1, 2}, 1, DType::f64, device));
  const auto slope = [](double v) { return 3 * v * v * (3 + 3 * std::pow(v, 6)); };
  CHECK(x.grad().to_vector<double>() == std::vector<double>{slope(2), slope(-1)});
}

TEST_CASE("the caller's seed is not written to") {
  const Device device = cpu_device(1);
  const Tensor x = leaf({2, -1}, {2}, device), y = leaf({1, 1}, {2}, device);
  const Tensor seed = Tensor::from(std::vector<double>{10, 20}, {1, 2}, device);
  backward(plus(plus(x, y), x).reshape({1, 2}), seed);
  CHECK(seed.to_vector<double>() == std::vector<double>{10, 20});
  CHECK(x.grad().to_vector<double>() == std::vector<double>{20, 40});
  CHECK(y.grad().to_vector<double>() == std::vector<double>{10, 20});
}

TEST_CASE("only leaves that ask get a gradient") {
  const Device device = cpu_device(1);
  const Tensor asks = leaf({1, 2}, {1, 2}, device);
  const Tensor silent = Tensor::from(std::vector<double>{3, 4}, {2, 1}, device);
  backward(sum_of_products(asks, silent));
  CHECK(asks.grad().defined());
  CHECK(!silent.grad().defined());
  CHECK(!silent.requires_grad());
  CHECK(!sum_of_products(silent.reshape({1, 2}), silent).requires_grad());
  CHECK(!asks.detach().requires_grad());
  CHECK(sum_of_products(asks, silent).requires_grad());
}

TEST_CASE("without grad mode nothing is recorded, and scopes nest") {
  const Device device = cpu_device(1);
  const Tensor x = leaf({1, 2}, {1, 2}, device);
  {
    const NoGrad outer;
    {
      const NoGrad inner;
      CHECK(!grad_enabled());
    }
    CHECK(!grad_enabled());
    CHECK(!x.reshape({2, 1}).requires_grad());
    CHECK(!cube(x, right_gradient).requires_grad());
    CHECK(!matmul(x, x.reshape({2, 1})).requires_grad());
  }
  CHECK(grad_enabled());
  CHECK(matmul(x, x.reshape({2, 1})).requires_grad());
}

TEST_CASE("backward refuses what has no gradient or is no scalar") {
  const Device device = cpu_device(1);
  const Tensor x = leaf({1, 2}, {1, 2}, device);
  const Tensor constant = Tensor::scalar(1, DType::f64, device);
  CHECK_THROWS_WITH_AS(backward(cube(x, right_gradient)),
                       "[backward] a loss is a scalar unless a seed is given: (1, 2)", ShapeError);
  CHECK_THROWS_AS(backward(constant), ShapeError);
  CHECK_THROWS_AS(backward(cube(x, right_gradient), constant), ShapeError);
  CHECK_THROWS_AS(backward(cube(x, right_gradient), Tensor::zeros({1, 2}, DType::f32, device)), ShapeError);
  CHECK_THROWS_AS(cube(x, right_gradient).set_requires_grad(), ShapeError);
  CHECK_THROWS_AS(Tensor::zeros({2}, DType::i64, device).set_requires_grad(), ShapeError);
}

TEST_CASE("a chain of a hundred thousand ops is walked without recursion") {
  const Device device = cpu_device(1);
  const Tensor x = leaf({5}, {1}, device);
  Tensor y = x;
  for (int i = 0; i < 100000; ++i) y = y.reshape({1});
  backward(y);
  CHECK(x.grad().item() == 1);
}

TEST_CASE("saved tensors go when their node has run") {
  const Device device = cpu_device(1);
  const std::int64_t size = 64;
  const std::size_t bytes = static_cast<std::size_t>(size * size) * sizeof(double);
  const Tensor w = random_leaf({size, size}, 1, device);
  w.bind_grad(zeros_like(w));
  const std::size_t before = device.memory().bytes_in_use;
  std::size_t inside = 0;
  Tensor y = custom_op(
      "probe", {w}, [](auto inputs) { return inputs[0].clone(); },
      [&](const Tensor& d_output, auto, const Tensor&) {
        inside = device.memory().bytes_in_use;
        return std::vector<Tensor>{d_output};
      });
  for (int i = 0; i < 5; ++i) y = matmul(y, w.detach());
  const Tensor loss =
      sum_of_products(y.reshape({1, size * size}), Tensor::full({size * size, 1}, 1, DType::f64, device));
  y = Tensor();
  CHECK(device.memory().bytes_in_use > before + 5 * bytes);
  backward(loss);
  // First op, last backward: its own output and the upstream gradient are what is left.
  CHECK(inside <= before + 3 * bytes);
  CHECK(device.memory().bytes_in_use <= before + sizeof(double));  // the loss itself
  CHECK_THROWS_AS(backward(loss), ShapeError);                     // its history is consumed
}

TEST_CASE("the tape keeps values only for ops that need them") {
  const Device device = cpu_device(1);
  const Tensor x = random_leaf({1, 4, 5, 1}, 1, device);
  const std::size_t before = device.memory().bytes_in_use;
  const Tensor y = scale(scale(to_channels_first(x), 2), 3);
  CHECK(device.memory().bytes_in_use == before + y.bytes());
  backward(y, Tensor::full(y.shape(), 1, DType::f64, device));
  CHECK(x.grad().to_vector<double>() == std::vector<double>(20, 6));
}

namespace {

/// Where gradients lie: an identity whose gradient is memory of its own, which somebody may hold.
struct GradientProbe final : Node {
  const void** place = nullptr;
  Tensor* holder = nullptr;

  void backward(const Tensor& d_output) override {
    const Tensor gradient = d_output.clone();
    *place = gradient.raw();
    if (holder) *holder = gradient;
    pass_gradient(0, gradient);
  }
};
struct ArrivalProbe final : Node {
  const void** place = nullptr;

  void backward(const Tensor& d_output) override {
    *place = d_output.raw();
    pass_gradient(0, d_output);
  }
};

}  // namespace

TEST_CASE("batch norm writes over the gradient that it got, but not over one that somebody else holds") {
  const Device device = cpu_device(1);
  const Tensor x = random_leaf({6, 3}, 1, device), running_mean = Tensor::zeros({3}, DType::f64, device),
               running_var = Tensor::full({3}, 1, DType::f64, device);
  Tensor seed({6, 3}, DType::f64, device);
  Random(2).normal(seed);
  const std::vector<double> values = seed.to_vector<double>();
  std::vector<double> expected;
  for (const bool held : {true, false}) {
    CAPTURE(held);
    const void *above = nullptr, *below = nullptr;
    Tensor holder;
    ArrivalProbe arrival;
    arrival.place = &below;
    const Tensor input = x.detach().clone();
    record(input, {x}, std::move(arrival));
    const Tensor normal = batch_norm_elu(input, {{}, {}, {}, running_mean, running_var}, {.training = true});
    GradientProbe gradient;
    gradient.place = &above;
    if (held) gradient.holder = &holder;
    const Tensor y = normal.detach().clone();
    record(y, {normal}, std::move(gradient));
    x.clear_grad();
    backward(y, seed);
    CHECK(seed.to_vector<double>() == values);
    CHECK((above == below) == !held);
    if (held) {
      CHECK(holder.to_vector<double>() == values);
      expected = x.grad().to_vector<double>();
    }
    CHECK(x.grad().to_vector<double>() == expected);
  }
}

TEST_CASE("a forward and backward pass in a memory plan allocates nothing from the second time on") {
  const Device device = cpu_device(1);
  StepMemory memory(device);
  const Tensor spatial = random_leaf({2, 1, 3, 3}, 1, device), sines = random_leaf({2, 1, 2}, 2, device),
               cosines = random_leaf({2, 1, 2}, 3, device), weight = random_leaf({2}, 4, device),
               features = random_leaf({2, 3}, 5, device), mask = random_leaf({3, 5, 2}, 6, device);
  const std::vector<Tensor> parameters{spatial, sines, cosines, weight, features, mask};
  for (const Tensor& parameter : parameters) parameter.bind_grad(zeros_like(parameter));
  Tensor movie({1, 8, 7, 6, 1}, DType::f64, device);
  Random(7).normal(movie);
  const Tensor running_mean = Tensor::zeros({2}, DType::f64, device),
               running_var = Tensor::full({2}, 1, DType::f64, device),
               log_speed = Tensor::zeros({1}, DType::f64, device);
  const auto step = [&] {
    const StepMemory::Scope scope(memory, "step");
    for (const Tensor& parameter : parameters) parameter.clear_grad();
    const Tensor temporal = temporal_kernel(sines, cosines, log_speed, 6);
    Tensor y = sepconv3d(movie, spatial, temporal);
    y = batch_norm_elu(y, {weight, {}, {}, running_mean, running_var}, {.training = true});
    y = max_pool3d(y, {1, 1, 2});
    y = drop_first_frames(y, 1);
    y = mask_readout(y, mask, features.reshape({1, 2, 1, 3}), {}, {});
    backward(sum_of_products(y.reshape({1, 6}), Tensor::full({6, 1}, 1, DType::f64, device)));

    return weight.grad().to_vector<double>();
  };
  const std::vector<double> first = step();
  CHECK(std::abs(first[0]) > 0);
  const auto recorded = device.memory().allocations;
  CHECK(step() == first);
  CHECK(device.memory().allocations == recorded + 1);  // the slab
  for (int i = 0; i < 3; ++i) CHECK(step() == first);
  CHECK(device.memory().allocations == recorded + 1);
}

TEST_CASE("an op of one's own is differentiated like the others") {
  const Device device = cpu_device(1);
  const Tensor x = leaf({2, -1, 0.5}, {3}, device);
  const Tensor y = cube(x, right_gradient);
  CHECK(y.to_vector<double>() == std::vector<double>{8, -1, 0.125});
  backward(y, Tensor::from(std::vector<double>{1, 2, 4}, {3}, device));
  CHECK(x.grad().to_vector<double>() == std::vector<double>{12, 6, 3});
}

TEST_CASE("an op of one's own may return its input, and leave gradients out") {
  const Device device = cpu_device(1);
  const Tensor a = leaf({1, 2}, {2}, device), b = leaf({3, 4}, {2}, device);
  const Tensor first = custom_op(
      "first", {a, b}, [](auto inputs) { return inputs[0]; },
      [](const Tensor& d_output, auto, const Tensor&) {
        return std::vector<Tensor>{d_output, Tensor()};
      });
  CHECK(!first.same(a));
  backward(first, Tensor::full({2}, 1, DType::f64, device));
  CHECK(a.grad().to_vector<double>() == std::vector<double>{1, 1});
  CHECK(!b.grad().defined());
}

TEST_CASE("an op of one's own works in single precision and beside ops that need nothing") {
  const Device device = cpu_device(1, Isa::reference);
  Tensor x = Tensor::full({2}, 3, DType::f32, device);
  x.set_requires_grad();
  const Tensor constant = Tensor::full({2}, 5, DType::f32, device);
  const Tensor y = custom_op(
      "keep", {constant, x}, [](auto inputs) { return inputs[1].clone(); },
      [](const Tensor& d_output, auto, const Tensor&) {
        return std::vector<Tensor>{d_output, d_output};
      });
  backward(y, Tensor::full({2}, 7, DType::f32, device));
  CHECK(x.grad().to_vector<float>() == std::vector<float>{7, 7});
  CHECK(!constant.grad().defined());
}

TEST_CASE("what an op of one's own gets wrong is named") {
  const Device device = cpu_device(1);
  const Tensor x = leaf({1, 2}, {2}, device);
  const Tensor up = Tensor::full({2}, 1, DType::f64, device);
  const auto returning = [&](std::vector<Tensor> gradients) {
    return custom_op(
        "mine", {x}, [](auto inputs) { return inputs[0].clone(); },
        [gradients](const Tensor&, auto, const Tensor&) { return gradients; });
  };
  CHECK_THROWS_WITH_AS(backward(returning({}), up),
                       "[mine] backward must return one gradient per input, 1: 0", ShapeError);
  CHECK_THROWS_WITH_AS(backward(returning({Tensor::zeros({3}, DType::f64, device)}), up),
                       "[mine] gradient of input 0 must be (2): (3)", ShapeError);
  CHECK_THROWS_WITH_AS(backward(returning({Tensor::zeros({2}, DType::f32, device)}), up),
                       "[mine] inputs of one dtype: f64 and f32", ShapeError);
  CHECK_THROWS_WITH_AS(custom_op(
                           "mine", {x}, [](auto) { return Tensor(); },
                           [](const Tensor&, auto, const Tensor&) { return std::vector<Tensor>(); }),
                       "[mine] forward returned an undefined tensor", ShapeError);
  CHECK_THROWS_WITH_AS(returning({}).same(custom_op(
                           "mine", {Tensor()}, [](auto inputs) { return inputs[0]; },
                           [](const Tensor&, auto, const Tensor&) { return std::vector<Tensor>(); })),
                       "[mine] input 0 is undefined", ShapeError);
}

// ---- gradcheck, which must fail when it should

namespace {

GradcheckReport check_cube(const std::function<Tensor(const Tensor&, const Tensor&)>& gradient,
                           const GradcheckOptions& options = {}) {
  const Device device = cpu_device(1);
  return gradcheck([&](const std::vector<Tensor>& inputs) { return cube(inputs[0], gradient); },
                   {leaf({0.7, -1.3, 0.4, 2.1, -0.2}, {5}, device)}, options);
}

}  // namespace

TEST_CASE("gradcheck passes the right gradient and leaves its inputs as they were") {
  const GradcheckReport report = check_cube(right_gradient, {.tolerance = 1e-8});
  CHECK_MESSAGE(report.passed, report.where);
  CHECK(report.compared == 5);
  CHECK(report.worst < 1e-8);

  const Device device = cpu_device(1);
  const Tensor x = leaf({0.7, -1.3}, {2}, device);
  gradcheck([](const std::vector<Tensor>& inputs) { return cube(inputs[0], right_gradient); }, {x});
  CHECK(x.to_vector<double>() == std::vector<double>{0.7, -1.3});
  CHECK(!x.grad().defined());
}

TEST_CASE("gradcheck fails a gradient times 7") {
  const GradcheckReport report = check_cube([](const Tensor& up, const Tensor& x) {
    return map(right_gradient(up, x), [](double v) { return 7 * v; });
  });
  CHECK(!report.passed);
  CHECK(report.worst > 1);
}

TEST_CASE("gradcheck fails a gradient that is a little off, in one entry") {
  const auto off = [](double by) {
    return check_cube([by](const Tensor& up, const Tensor& x) {
      std::vector<double> values = right_gradient(up, x).to_vector<double>();
      values[3] += by;
      return Tensor::from(values, x.shape(), x.device());
    });
  };
  CHECK(!off(1e-3).passed);
  CHECK(off(1e-3).where.find("input 0 entry 3") == 0);
  CHECK(off(1e-12).passed);
}

TEST_CASE("gradcheck fails NaN and infinity") {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    const GradcheckReport report = check_cube([bad](const Tensor& up, const Tensor& x) {
      std::vector<double> values = right_gradient(up, x).to_vector<double>();
      values[1] = bad;  // finite entries follow
      return Tensor::from(values, x.shape(), x.device());
    });
    CHECK(!report.passed);
    CHECK(report.where.find("input 0 entry 1") == 0);
  }
  const Device device = cpu_device(1);
  const auto nan_forward = [](const std::vector<Tensor>& inputs) {
    return custom_op(
        "nan", {inputs[0]}, [](auto in) { return map(in[0], [](double v) { return std::log(v); }); },
        [](const Tensor& up, auto, const Tensor&) { return std::vector<Tensor>{up}; });
  };
  CHECK(!gradcheck(nan_forward, {leaf({-1}, {1}, device)}).passed);
}

TEST_CASE("gradcheck fails a shifted index") {
  CHECK(!check_cube([](const Tensor& up, const Tensor& x) {
           std::vector<double> values = right_gradient(up, x).to_vector<double>();
           std::rotate(values.begin(), values.begin() + 1, values.end());
           return Tensor::from(values, x.shape(), x.device());
         }).passed);
  // A linear function has a constant slope: only the random upstream gradient shows the shift.
  const Device device = cpu_device(1);
  const auto shifted = [](const std::vector<Tensor>& inputs) {
    return custom_op(
        "shifted", {inputs[0]}, [](auto in) { return in[0].clone(); },
        [](const Tensor& up, auto, const Tensor&) {
          std::vector<double> values = up.to_vector<double>();
          std::rotate(values.begin(), values.begin() + 1, values.end());
          return std::vector<Tensor>{Tensor::from(values, up.shape(), up.device())};
        });
  };
  CHECK(!gradcheck(shifted, {leaf({1, 2, 3}, {3}, device)}).passed);
}

TEST_CASE("gradcheck fails a gradient that is missing") {
  CHECK(!check_cube([](const Tensor&, const Tensor&) { return Tensor(); }).passed);
}

TEST_CASE("gradcheck fails a small gradient beside the large one of another input") {
  const Device device = cpu_device(1);
  const auto product = [](const std::vector<Tensor>& inputs) {
    return custom_op(
        "product", {inputs[0], inputs[1]},
        [](auto in) { return map(in[0], [&](double v) { return v * in[1].item(); }); },
        [](const Tensor& up, auto in, const Tensor&) {
          const double upstream = up.item();
          return std::vector<Tensor>{
              map(in[1], [&](double v) { return 7 * v * upstream; }),  // wrong
              map(in[0], [&](double v) { return v * upstream; }),
          };
        });
  };
  const GradcheckReport report = gradcheck(product, {leaf({1e9}, {1}, device), leaf({1}, {1}, device)});
  CHECK(!report.passed);
  CHECK(report.where.find("input 0") == 0);
}

TEST_CASE("gradcheck that compared nothing has not passed") {
  const Device device = cpu_device(1);
  const auto constant = [&](const std::vector<Tensor>&) { return Tensor::scalar(1, DType::f64, device); };
  const GradcheckReport none = gradcheck(constant, {});
  CHECK(!none.passed);
  CHECK(none.compared == 0);
  CHECK(!gradcheck(constant, {leaf({}, {0}, device)}).passed);
  // A function that does not depend on its input has the gradient 0.
  CHECK(gradcheck(constant, {leaf({3}, {1}, device)}).passed);
}

TEST_CASE("gradcheck tries the number of entries that it is told, and no other inputs than f64 leaves") {
  CHECK(check_cube(right_gradient, {.most_entries = 2}).compared == 2);
  CHECK(check_cube(right_gradient, {.most_entries = 100}).compared == 5);
  const Device device = cpu_device(1);
  const auto same = [](const std::vector<Tensor>& inputs) { return inputs[0].reshape({1}); };
  Tensor single = Tensor::zeros({1}, DType::f32, device);
  single.set_requires_grad();
  CHECK_THROWS_AS(gradcheck(same, {single}), ShapeError);
  CHECK_THROWS_AS(gradcheck(same, {Tensor::zeros({1}, DType::f64, device)}), ShapeError);
  CHECK_THROWS_AS(gradcheck(same, {leaf({1}, {1}, device).reshape({1})}), ShapeError);
}

TEST_CASE("a very deep graph that nobody differentiates is freed without recursion") {
  const Device device = cpu_device(1);
  Tensor x = Tensor::full({2}, 1, DType::f64, device);
  x.set_requires_grad();
  Tensor y = x;
  for (int i = 0; i < 300000; ++i) y = y.reshape({2});
  CHECK(y.requires_grad());
  y = Tensor();
  CHECK(x.unique());
}
