// The AdamW kernel against torch.optim.AdamW, twenty steps, three sets of options.
#include <doctest/doctest.h>

#include "check.hpp"
#include "engine/backend.hpp"
#include "fixture.hpp"
#include "kernels/tables.hpp"

using namespace fovea;
using namespace fovea::test;
using Json = nlohmann::json;

namespace {

AdamWStep step_of(const Json& run, std::int64_t index) {
  return {index < 10 ? run["lr"] : run["lr_after_10"],
          run["betas"][0],
          run["betas"][1],
          run["eps"],
          run["weight_decay"],
          index + 1,
          1.0};
}

struct Trace {
  Tensor parameters;  // after every step
  Tensor exp_avg, exp_avg_sq;
};

/// Runs the kernel over the gradients of one run of the fixture; they are divided by `scale`, which the
/// kernel is told to undo.
template <class T>
Trace run_adamw(const Safetensors& file, const std::string& run, const Json& options, const Device& device,
                double scale = 1) {
  const auto input = [&](const char* name) {
    return tensor_of(file, run + name).to(DTypeOf<T>::value).to(device);
  };
  const Tensor parameter = input(".start").clone(), gradients = input(".gradients");
  const Tensor exp_avg = Tensor::zeros(parameter.shape(), parameter.dtype(), device),
               exp_avg_sq = exp_avg.clone();
  const Tensor after = empty_like(gradients);
  for (std::int64_t i = 0; i < gradients.shape()[0]; ++i) {
    std::vector<T> gradient = gradients.rows(i, i + 1).template to_vector<T>();
    for (T& value : gradient) value /= static_cast<T>(scale);
    const Tensor scaled = Tensor::from(gradient, parameter.shape(), device);
    AdamWStep step = step_of(options, i);
    step.gradient_scale = scale;
    tables<T>(device).optimizer.adamw(parameter.data<T>(), exp_avg.data<T>(), exp_avg_sq.data<T>(),
                                      scaled.data<T>(), parameter.elements(), step, device.backend().queue());
    after.rows(i, i + 1).copy_from(parameter.reshape(after.rows(i, i + 1).shape()));
  }
  return {after, exp_avg, exp_avg_sq};
}

template <class Visit>
void for_each_run(Visit visit) {
  const Device device = cpu_device(1);
  const Safetensors file = load_fixture("adamw_trace", device);
  const Json runs = Json::parse(file.metadata.at("runs"));
  REQUIRE(runs.size() == 3);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const std::string run = "run" + std::to_string(i);
    CAPTURE(run);
    visit(file, run, runs[i]);
  }
}

}  // namespace

TEST_CASE("AdamW follows PyTorch in f64") {
  for_each_run([](const Safetensors& file, const std::string& run, const Json& options) {
    for (const double scale : {1.0, 0.25}) {  // a power of two: the same bits
      const Trace trace = run_adamw<double>(file, run, options, cpu_device(1), scale);
      CHECK(relative_l2(tensor_of(file, run + ".after"), trace.parameters, 1e-13));
      CHECK(relative_l2(tensor_of(file, run + ".exp_avg"), trace.exp_avg, 1e-13));
      CHECK(relative_l2(tensor_of(file, run + ".exp_avg_sq"), trace.exp_avg_sq, 1e-13));
    }
  });
}

TEST_CASE("AdamW in f32 follows PyTorch's f64 to rounding on every instruction set") {
  for (const Isa isa : available_isas()) {
    CAPTURE(to_string(isa));
    for_each_run([&](const Safetensors& file, const std::string& run, const Json& options) {
      const Trace trace = run_adamw<float>(file, run, options, cpu_device(2, isa));
      const Tensor expected = tensor_of(file, run + ".after");
      const Tensor gradients = tensor_of(file, run + ".gradients");
      // A step moves by at most a few learning rates and rounds parameter and update some eight times; the
      // errors of all steps add up. The moments round like sums of their terms.
      const double moved = 20 * 10 * options["lr"].get<double>();
      std::vector<double> bounds, moments, squares;
      for (const double value : values(expected))
        bounds.push_back(rounding_bound<float>(std::abs(value) + moved, 20));
      const std::vector<double> g = values(gradients);
      const std::size_t count = values(trace.exp_avg).size();
      for (std::size_t i = 0; i < count; ++i) {
        double largest = 0;
        for (std::size_t at = i; at < g.size(); at += count) largest = std::max(largest, std::abs(g[at]));
        moments.push_back(rounding_bound<float>(largest, 20 * 4));
        squares.push_back(rounding_bound<float>(largest * largest, 20 * 4));
      }
      CHECK(within_each(expected, trace.parameters.to(cpu_device(1)), bounds));
      CHECK(within_each(tensor_of(file, run + ".exp_avg"), trace.exp_avg, moments));
      CHECK(within_each(tensor_of(file, run + ".exp_avg_sq"), trace.exp_avg_sq, squares));
    });
  }
}

TEST_CASE("AdamW writes only where its segment lies") {
  for (const Isa isa : available_isas()) {
    const Device device = cpu_device(1, isa);
    for (const std::size_t count : {0, 1, 3, 7, 16, 33, 100}) {
      CAPTURE(count);
      GuardedBuffer<float> parameter(count, 1), exp_avg(count, 2), exp_avg_sq(count, 3);
      const std::vector<float> gradient(count, 0.5f);
      for (auto* buffer : {&parameter, &exp_avg, &exp_avg_sq}) std::fill_n(buffer->data(), count, 0.0f);
      tables<float>(device).optimizer.adamw(parameter.data(), exp_avg.data(), exp_avg_sq.data(),
                                            gradient.data(), static_cast<std::int64_t>(count),
                                            {0.1, 0.9, 0.999, 1e-8, 0, 1, 1}, device.backend().queue());
      CHECK((parameter.intact() && exp_avg.intact() && exp_avg_sq.intact()));
      for (const float value : parameter.values()) CHECK(value == doctest::Approx(-0.1));
    }
  }
}

TEST_CASE("the sum of squares is taken in double") {
  std::vector<float> x(100001, 1e-4f);
  x[0] = 4096;
  for (const Isa isa : available_isas()) {
    const Device device = cpu_device(2, isa);
    const Tensor tensor = Tensor::from(x, {static_cast<std::int64_t>(x.size())}, device);
    double sum = 0;
    tables<float>(device).optimizer.sum_of_squares(&sum, tensor.data<float>(), tensor.elements(),
                                                   device.backend().queue());
    const double small = static_cast<double>(1e-4f);
    const double expected = 4096.0 * 4096.0 + 100000 * small * small;  // the second part is lost in f32
    CHECK(std::abs(sum - expected) <= rounding_bound<double>(expected, 100001));
  }
}
