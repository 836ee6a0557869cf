// Ops against PyTorch: values, gradients and updated buffers of every op_*.safetensors.
// The files are in PyTorch's layout (B,C,...); the permutation at the edge is part of the differentiated
// function.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>

#include "check.hpp"
#include "fixture.hpp"
#include "fovea/autograd.hpp"
#include "fovea/ops.hpp"

using namespace fovea;
using namespace fovea::test;
using Json = nlohmann::json;

namespace {

using Named = std::map<std::string, Tensor>;
using Op = std::function<Tensor(const Named& inputs, const Json& attributes)>;

Tensor optional(const Named& inputs, const std::string& name) {
  const auto found = inputs.find(name);
  return found == inputs.end() ? Tensor() : found->second;
}

Tensor run_batch_norm(const Named& in, const Json& a) {
  BatchNormTensors tensors;
  tensors.weight = optional(in, "weight");
  tensors.bias = optional(in, "bias");
  tensors.running_mean = in.at("mean");
  tensors.running_var = in.at("var");
  return to_channels_first(
      batch_norm(to_channels_last(in.at("x")), tensors, {a["eps"], a["momentum"], a["training"]}));
}

template <ActivationKind kind>
Tensor run_activation(const Named& in, const Json& a) {
  return activate(in.at("x"), {kind, a.value("xshift", 0.0), a.value("yshift", 0.0)});
}

Tensor run_parametric_relu(const Named& in, const Json&) {
  const Tensor& x = in.at("x");
  return parametric_relu(x, Tensor::zeros({1}, x.dtype(), x.device()), in.at("neg_slope"),
                         in.at("pos_slope"));
}

Tensor run_parametric_softplus(const Named& in, const Json& a) {
  const std::string what = a["act_fn"], before = "parametric_softplus:min=";
  REQUIRE(what.compare(0, before.size(), before) == 0);
  const Tensor &x = in.at("x"), one = Tensor::full({1}, 1, x.dtype(), x.device());
  return parametric_softplus(x, one, one, zeros_like(one), std::stod(what.substr(before.size())));
}

Tensor run_input_regularizer(const Named& in, const Json& a) {
  const std::map<std::string, InputRegularizer> kinds{
      {"LaplaceL2", InputRegularizer::laplace_l2},
      {"LaplaceL2norm", InputRegularizer::laplace_l2_norm},
      {"LaplaceL1", InputRegularizer::laplace_l1},
      {"GaussianLaplaceL2", InputRegularizer::gaussian_laplace_l2}};
  return input_regularizer(in.at("w"), {kinds.at(a["kind"]), a["padding"], a["average"]});
}

/// The readout's constant grid: linspace(-L/m, L/m, L) on both axes, m the longer side.
Tensor mask_grid(std::int64_t neurons, std::int64_t height, std::int64_t width, const Tensor& like) {
  const auto at = [longest = std::max(height, width)](std::int64_t i, std::int64_t length) {
    const double end = static_cast<double>(length) / static_cast<double>(longest);
    return length == 1 ? -end : -end + 2 * end * static_cast<double>(i) / static_cast<double>(length - 1);
  };
  std::vector<double> grid;
  for (std::int64_t n = 0; n < neurons; ++n)
    for (std::int64_t h = 0; h < height; ++h)
      for (std::int64_t w = 0; w < width; ++w) grid.insert(grid.end(), {at(h, height), at(w, width)});
  return Tensor::from(grid, {neurons, height, width, 2}, like.device()).to(like.dtype());
}

Tensor run_gaussian_mask(const Named& in, const Json& a) {
  const Tensor& mean = in.at("mask_mean");
  return gaussian_mask(mean, in.at("mask_log_var"), mask_grid(mean.shape()[0], a["height"], a["width"], mean),
                       a["mean_scale"], a["var_scale"]);
}

Tensor run_loss(const Named& in, const Json& a) {
  const Tensor &output = in.at("output"), &target = in.at("target");
  const std::string name = a["class"];
  if (name == "PoissonNLLLoss")
    return poisson_nll_loss(output, target, {a["log_input"], a["full"], a["eps"]});
  if (name == "PoissonLoss3d") return poisson_loss3d(output, target, {a["bias"], a["per_neuron"], a["avg"]});
  if (name == "PoissonLoss")
    return poisson_loss(output, target, {a["bias"], a["per_neuron"], a["avg"], a["full_loss"]});
  if (name == "CorrelationLoss2D")
    return correlation_loss2d(output, target, {a["eps"], a["per_neuron"], a["avg"]});
  REQUIRE(name == "CorrelationLoss3d");
  return correlation_loss3d(output, target, {a["bias"], a["per_neuron"], a["avg"], a["negate"]});
}

template <Tensor (*pool)(const Tensor&, std::array<std::int64_t, 3>)>
Tensor run_pool(const Named& in, const Json& a) {
  return to_channels_first(
      pool(to_channels_last(in.at("x")), a["kernel"].get<std::array<std::int64_t, 3>>()));
}

/// One number for all axes, or one each.
template <std::size_t axes>
AxisSizes<axes> axis_sizes(const Json& value) {
  return value.is_number() ? every_axis<axes>(value) : value.get<AxisSizes<axes>>();
}

template <std::size_t axes>
Tensor run_conv(const Named& in, const Json& a) {
  const Tensor &weight = in.at("weight"), x = to_channels_last(in.at("x"));
  ConvOptions<axes> options{axis_sizes<axes>(a["stride"]), {}, axis_sizes<axes>(a["dilation"]), a["groups"]};
  AxisSizes<axes> kernel;
  for (std::size_t i = 0; i < axes; ++i) kernel[i] = weight.shape()[static_cast<int>(i) + 2];
  options.padding = a["padding"] == "same" ? Padding<axes>::same(kernel, options.dilation)
                                           : Padding<axes>::symmetric(axis_sizes<axes>(a["padding"]));
  if constexpr (axes == 2)
    return to_channels_first(conv2d(x, weight, optional(in, "bias"), options));
  else
    return to_channels_first(conv3d(x, weight, optional(in, "bias"), options));
}

/// Every channel sampled at every point, by readouts that see one channel each.
Tensor run_grid_sample(const Named& in, const Json& a) {
  const Tensor x = to_channels_last(in.at("x"));
  const std::int64_t channels = x.shape()[3], points = in.at("grid").shape()[1];
  std::vector<std::int64_t> point;
  std::vector<double> features;
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t i = 0; i < channels * points; ++i) {
      if (c == 0) point.push_back(i % points);
      features.push_back(i / points == c ? 1 : 0);
    }
  const Tensor index = Tensor::from(point, {channels * points}, x.device());
  const Tensor one_hot = Tensor::from(features, {channels, channels * points}, x.device()).to(x.dtype());
  return point_readout(x, gather(in.at("grid"), index, 1), one_hot, {}, a["align_corners"])
      .reshape({x.shape()[0], channels, points});
}

/// By the beginning of the fixture's name.
const std::map<std::string, Op> ops{
    {"batch_norm_", run_batch_norm},
    {"adaptive_elu", run_activation<ActivationKind::elu>},
    {"elu", run_activation<ActivationKind::elu>},
    {"relu", run_activation<ActivationKind::relu>},
    {"requ", run_activation<ActivationKind::requ>},
    {"softplus", run_activation<ActivationKind::softplus>},
    {"parametric_relu", run_parametric_relu},
    {"parametric_softplus", run_parametric_softplus},
    {"max_pool_", run_pool<max_pool3d>},
    {"avg_pool3d_", run_pool<average_pool3d>},
    {"gaussian_mask_", run_gaussian_mask},
    {"grid_sample_", run_grid_sample},
    {"temporal_kernel_",
     [](const Named& in, const Json& a) {
       return temporal_kernel(in.at("sin_weights"), in.at("cos_weights"), in.at("log_speed"), a["length"]);
     }},
    {"loss_", run_loss},
    {"conv2d_", run_conv<2>},
    {"conv3d_", run_conv<3>},
    {"depthwise_", run_conv<2>},
    {"laplace_time", [](const Named& in, const Json&) { return laplace_ratio_time(in.at("w")); }},
    {"laplace_space", [](const Named& in, const Json&) { return laplace_ratio(in.at("w")); }},
    {"laplace_GaussianLaplaceL2", run_input_regularizer},
    {"laplace_LaplaceL", run_input_regularizer},
    {"group_sparsity_neuralpredictors",
     [](const Named& in, const Json&) { return mean_filter_norm(in.at("w")); }},
    {"group_sparsity_openretina", [](const Named& in, const Json&) { return group_sparsity(in.at("w")); }},
    {"temporal_smoothing",
     [](const Named& in, const Json&) {
       return temporal_smoothing(in.at("sin_weights"), in.at("cos_weights"));
     }},
};

struct Case {
  std::string name;
  const Op* op = nullptr;
  Json attributes;
  Named inputs, expected;  // f64; the upstream gradient is an input
  std::vector<std::string> differentiable;
};

bool begins_with(const std::string& name, const std::string& start) {
  return name.compare(0, start.size(), start) == 0;
}

Case load_case(const std::string& name, const Op& op, const Device& device) {
  const Safetensors file = load_fixture("op_" + name, device);
  Case one;
  one.name = name;
  one.op = &op;
  one.attributes = Json::parse(file.metadata.at("attributes"));
  for (const auto& [key, tensor] : file.tensors) {
    const bool expected = key == "output" || begins_with(key, "grad.") || begins_with(key, "buffer.");
    if (expected)
      one.expected[key] = tensor;
    else
      one.inputs[begins_with(key, "input.") ? key.substr(6) : key] = tensor;
    if (begins_with(key, "grad.")) one.differentiable.push_back(key.substr(5));
  }
  return one;
}

/// Every expected tensor of the case as fovea computes it.
Named evaluate(const Case& one, const Named& inputs, DType dtype, const Device& device) {
  Named leaves;
  for (const auto& [name, tensor] : inputs) leaves[name] = tensor.to(dtype).to(device).clone();
  for (const std::string& name : one.differentiable) leaves.at(name).set_requires_grad();
  const Tensor output = (*one.op)(leaves, one.attributes);
  backward(output, leaves.at("upstream").reshape(output.shape()));
  Named results{{"output", output.detach()}};
  for (const auto& [key, tensor] : one.expected) {
    if (begins_with(key, "grad.")) results[key] = leaves.at(key.substr(5)).grad();
    if (begins_with(key, "buffer.")) results[key] = leaves.at(key.substr(7));
  }
  return results;
}

std::vector<std::string> fixture_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(fixture_folder())) {
    const std::string stem = entry.path().stem().string();
    if (begins_with(stem, "op_")) names.push_back(stem.substr(3));
  }
  std::sort(names.begin(), names.end());
  return names;
}

const Op* find_op(const std::string& name) {
  const Op* found = nullptr;
  for (const auto& [start, op] : ops)
    if (begins_with(name, start)) found = &op;
  return found;
}

std::vector<Case> all_cases(const Device& device) {
  std::vector<Case> cases;
  for (const std::string& name : fixture_names())
    if (const Op* op = find_op(name); op) cases.push_back(load_case(name, *op, device));
  return cases;
}

/// The inputs with every value changed by a relative 2^-26 up or down. Equal values change alike, so that
/// what is constant stays constant.
Named perturbed(const Named& inputs, std::uint64_t draw) {
  Named result;
  for (const auto& [name, tensor] : inputs) {
    std::vector<double> x = values(tensor);
    for (double& value : x) {
      const std::uint64_t hash =
          (std::hash<double>{}(value) ^ draw * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;
      value += (hash >> 63 ? 1 : -1) * std::ldexp(value == 0 ? 1.0 : std::abs(value), -26);
    }
    result[name] = Tensor::from(x, tensor.shape(), tensor.device());
  }
  return result;
}

/// Bounds of the f32 error of every result: roundings * eps/2 * (|y| + sum_i |d y / d x_i| |x_i|), the error
/// of an algorithm whose steps are each stable. The sum is estimated in f64 by changing the inputs at random.
std::map<std::string, std::vector<double>> f32_bounds(const Case& one, const Named& inputs,
                                                      const Named& truth, const Device& device) {
  constexpr double roundings = 16;
  std::map<std::string, std::vector<double>> spreads;
  for (const auto& [name, tensor] : truth) spreads[name].resize(static_cast<std::size_t>(tensor.elements()));
  for (std::uint64_t draw = 1; draw <= 16; ++draw) {
    const Named changed = evaluate(one, perturbed(inputs, draw), DType::f64, device);
    for (const auto& [name, tensor] : truth) {
      const std::vector<double> before = values(tensor), after = values(changed.at(name));
      for (std::size_t i = 0; i < before.size(); ++i)
        spreads[name][i] = std::max(spreads[name][i], std::ldexp(std::abs(after[i] - before[i]), 26));
    }
  }
  for (const auto& [name, tensor] : truth) {
    const std::vector<double> y = values(tensor);
    for (std::size_t i = 0; i < y.size(); ++i)
      spreads[name][i] = rounding_bound<float>(std::abs(y[i]) + spreads[name][i], roundings);
  }
  return spreads;
}

}  // namespace

TEST_CASE("every op fixture is compared") {
  std::map<const Op*, int> cases;
  for (const std::string& name : fixture_names()) {
    CAPTURE(name);
    const Op* op = find_op(name);
    CHECK(op != nullptr);
    ++cases[op];
  }
  CHECK(fixture_names().size() == 69);
  for (const auto& one : ops) CHECK_MESSAGE(cases.count(&one.second) == 1, one.first);
}

TEST_CASE("ops agree with PyTorch in f64") {
  const Device device = cpu_device(1);
  double worst = 0;
  std::string where;
  for (const Case& one : all_cases(device)) {
    const Named actual = evaluate(one, one.inputs, DType::f64, device);
    for (const auto& [key, expected] : one.expected) {
      CAPTURE(one.name);
      const std::string label = key;
      CAPTURE(label);
      const Comparison comparison = relative_l2(expected, actual.at(key).reshape(expected.shape()), 1e-9);
      CHECK(comparison);
      if (comparison.worst <= worst) continue;
      worst = comparison.worst;
      where = one.name + ' ' + key;
    }
  }
  MESSAGE("worst relative L2 error " << worst << " in " << where);
}

TEST_CASE("ops in f32 agree with f64 to rounding on every instruction set") {
  const Device reference = cpu_device(1, Isa::reference);
  for (const Isa isa : available_isas()) {
    const Device device = cpu_device(2, isa);
    double worst = 0;
    std::string where;
    for (const Case& one : all_cases(reference)) {
      Named inputs;  // that f32 holds exactly
      for (const auto& [name, tensor] : one.inputs) inputs[name] = tensor.to(DType::f32).to(DType::f64);
      const Named truth = evaluate(one, inputs, DType::f64, reference);
      const Named actual = evaluate(one, inputs, DType::f32, device);
      const auto bounds = f32_bounds(one, inputs, truth, reference);
      for (const auto& [key, expected] : truth) {
        CAPTURE(one.name);
        const std::string label = key;
        CAPTURE(label);
        CAPTURE(to_string(isa));
        const Comparison comparison = within_each(expected, actual.at(key).to(reference), bounds.at(key));
        CHECK(comparison);
        if (comparison.worst <= worst) continue;
        worst = comparison.worst;
        where = one.name + ' ' + key;
      }
    }
    MESSAGE(to_string(isa) << ": worst error " << worst << " of its bound in " << where);
  }
}
