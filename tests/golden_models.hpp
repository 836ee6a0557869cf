// Whole models against PyTorch: one <case>.{model,io}.safetensors at a time, on any device.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "check.hpp"
#include "fixture.hpp"
#include "fovea/gradients.hpp"
#include "fovea/ops.hpp"
#include "training/train_step.hpp"

namespace fovea::test {

/// How far from PyTorch a tensor may be, relative to its norm. Where a loss amplifies roundings it may be as
/// far as `roundings` times what rounding the inputs alone does. A gradient whose terms cancel is as exact as
/// its terms: `of_largest` of the largest gradient of the case.
struct Tolerance {
  double relative, roundings = 0, of_largest = 0;
};
constexpr Tolerance f64_tolerance{1e-9};
/// At most what the specification allows; the cases are small sums, PyTorch's own f32 stays below it. Some
/// roundings of f32 in a chain of layers, for each of the inputs.
constexpr Tolerance f32_tolerance{2e-5, 8};
/// Kernels of GPUs sum in an order of their own: a convolution may be off by 2e-6, which are 32 roundings.
constexpr Tolerance device_tolerance{2e-5, 32, std::numeric_limits<float>::epsilon()};

/// Of the cases whose names begin so.
inline std::vector<std::string> case_names(const std::string& prefix) {
  std::set<std::string> names;
  const std::string ending = ".model.safetensors";
  for (const auto& entry : std::filesystem::directory_iterator(fixture_folder())) {
    const std::string name = entry.path().filename().string();
    if (name.rfind(prefix, 0) == 0 && name.size() > ending.size() &&
        name.compare(name.size() - ending.size(), ending.size(), ending) == 0)
      names.insert(name.substr(0, name.size() - ending.size()));
  }
  return {names.begin(), names.end()};
}

struct Case {
  std::string name, session;
  bool training;
  nlohmann::json config;
  Safetensors io;
};

inline Case load_case(const std::string& name, const Device& host) {
  Case one{name, {}, false, {}, load_fixture(name + ".io", host)};
  one.config = nlohmann::json::parse(load_fixture(name + ".model", host).metadata.at("config"));
  one.session = one.io.metadata.at("session");
  one.training = one.io.metadata.at("mode") == "train";
  return one;
}

inline double norm(const Tensor& tensor) {
  double sum = 0;
  for (const double value : values(tensor)) sum = std::hypot(sum, value);
  return sum;
}

inline double distance(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = values(a), y = values(b);
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum = std::hypot(sum, y[i] - x[i]);
  return sum;
}

/// |actual - expected| / |expected|, or / `floor` where the reference of a gradient is zero up to rounding.
class Comparer {
 public:
  Comparer(std::string name, const Tolerance& tolerance, double floor)
      : name_(std::move(name)), tolerance_(tolerance), floor_(floor) {}

  bool zero_up_to_rounding(const Tensor& gradient) const { return norm(gradient) < 1e-11 * floor_; }

  void compare(const std::string& what, const Tensor& expected, const Tensor& actual) {
    const bool is_gradient = what.rfind("grad.", 0) == 0;
    const double own = norm(expected);
    compare(what, expected, actual, is_gradient && zero_up_to_rounding(expected) ? floor_ : own);
  }

  /// Relative to `scale`.
  void compare(const std::string& what, const Tensor& expected, const Tensor& actual, double scale) {
    INFO(name_, ": ", what);
    const std::string obstacle = detail::obstacle(expected, actual);
    CHECK_MESSAGE(obstacle.empty(), obstacle);
    if (!obstacle.empty()) return;
    const double difference = distance(expected, actual);
    const double error = difference == 0 ? 0 : difference / scale;
    double most = tolerance_.relative;
    if (const auto allowed = allowed_.find(what); allowed != allowed_.end())
      most = std::max(most, allowed->second);
    if (what.rfind("grad.", 0) == 0) most = std::max(most, tolerance_.of_largest * floor_ / scale);
    CHECK(error <= most);
    if (!(error <= worst_)) {
      worst_ = error;
      where_ = name_ + " " + what;
    }
    ++compared_;
  }

  /// What rounding the inputs alone does to a tensor: `rounded` is computed exactly from rounded inputs.
  void allow_for_rounding(const std::string& what, const Tensor& expected, const Tensor& rounded) {
    const bool zero = what.rfind("grad.", 0) == 0 && zero_up_to_rounding(expected);
    const double scale = zero ? floor_ : norm(expected), difference = distance(expected, rounded);
    if (difference > 0) allowed_[what] = tolerance_.roundings * difference / scale;
  }

  double worst() const { return worst_; }
  const std::string& where() const { return where_; }
  int compared() const { return compared_; }

 private:
  std::string name_, where_;
  Tolerance tolerance_;
  double floor_, worst_ = 0;
  int compared_ = 0;
  std::map<std::string, double> allowed_;
};

inline double largest_gradient(const Safetensors& io) {
  double largest = 0;
  for (const auto& [name, tensor] : io.tensors)
    if (name.rfind("grad.", 0) == 0) largest = std::max(largest, norm(tensor));
  return largest;
}

/// What a case gives a model, in the model's placement.
struct CaseInputs {
  Tensor stimulus, responses, pupil, noise;  // the stimulus in PyTorch's order

  CaseInputs(const Safetensors& io, const Placement& placement, const std::string& suffix = "") {
    const auto find = [&](const std::string& name) {
      const Tensor* tensor = io.find(name + suffix);
      return tensor ? tensor->to(placement.dtype).to(placement.device) : Tensor();
    };
    stimulus = find("stimulus");
    responses = find("responses");
    pupil = find("pupil");
    noise = find("noise");
  }
  GradientsInput gradients_of(const std::string& session) const {
    return {session, stimulus, responses, pupil, noise};
  }
  ModelInput input_of(const std::string& session) const {
    return {session, to_channels_last(stimulus), pupil, noise};
  }
};

inline void compare_gradients(const Case& one, const Model& model, Comparer& comparer) {
  const CaseInputs inputs(one.io, model.placement());
  const Gradients result = gradients(model, inputs.gradients_of(one.session), {one.training, nullptr});
  comparer.compare("output", tensor_of(one.io, "output"), result.output);
  comparer.compare("loss", tensor_of(one.io, "loss"), result.loss);
  comparer.compare("core_regularizer", tensor_of(one.io, "core_regularizer"), result.core_regularizer);
  comparer.compare("readout_regularizer", tensor_of(one.io, "readout_regularizer"),
                   result.readout_regularizer);
  comparer.compare("total", tensor_of(one.io, "total"), result.total);
  comparer.compare("grad.stimulus", tensor_of(one.io, "grad.stimulus"), result.stimulus);
  std::set<std::string> seen{"grad.stimulus"};
  CHECK(static_cast<bool>(result.pupil_center) == (one.io.find("grad.pupil") != nullptr));
  if (result.pupil_center) {
    comparer.compare("grad.pupil", tensor_of(one.io, "grad.pupil"), result.pupil_center);
    seen.insert("grad.pupil");
  }
  for (const auto& [name, gradient] : result.parameters) {
    comparer.compare("grad." + name, tensor_of(one.io, "grad." + name), gradient);
    seen.insert("grad." + name);
  }
  if (!one.training) CHECK(result.statistics.empty());
  for (const auto& [name, tensor] : result.statistics) {
    comparer.compare("buffer." + name, tensor_of(one.io, "buffer." + name), tensor);
    seen.insert("buffer." + name);
  }
  for (const auto& entry : one.io.tensors)
    if (entry.first.rfind("grad.", 0) == 0 || entry.first.rfind("buffer.", 0) == 0)
      CHECK_MESSAGE(seen.count(entry.first) == 1, entry.first);
}

/// Output and gradients by the names of the fixture.
inline std::vector<std::pair<std::string, Tensor>> named_results(const Gradients& result) {
  std::vector<std::pair<std::string, Tensor>> all{{"output", result.output},
                                                  {"loss", result.loss},
                                                  {"total", result.total},
                                                  {"grad.stimulus", result.stimulus}};
  if (result.pupil_center) all.emplace_back("grad.pupil", result.pupil_center);
  for (const auto& [name, gradient] : result.parameters) all.emplace_back("grad." + name, gradient);
  return all;
}

/// A loss with a pole near the output, or a kink, amplifies roundings: no f32 can be closer than an exact
/// evaluation of inputs rounded to f32.
inline void allow_for_rounding(const Case& one, const std::string& path, const Device& device,
                               Comparer& comparer) {
  const Placement exact{device, DType::f64};
  const LoadedModel loaded = load_model(path, exact);
  const auto round = [](const Tensor& tensor) {
    return tensor ? tensor.to(DType::f32).to(DType::f64) : tensor;
  };
  for (const NamedTensor& named : loaded.model->tensors())
    if (named.tensor.dtype() == DType::f64) named.tensor.copy_from(round(named.tensor));
  GradientsInput input = CaseInputs(one.io, exact).gradients_of(one.session);
  for (Tensor* tensor : {&input.stimulus, &input.responses, &input.pupil_center, &input.noise})
    *tensor = round(*tensor);
  for (const auto& [name, tensor] : named_results(gradients(*loaded.model, input, {one.training, nullptr})))
    comparer.allow_for_rounding(name, tensor_of(one.io, name), tensor);
}

/// One optimizer step by the function that training calls.
inline void compare_step(const Case& one, const Model& model, Comparer& comparer) {
  const Placement& placement = model.placement();
  TrainingOptions options;
  options.optimizer.weight_decay = std::stod(one.io.metadata.at("weight_decay"));
  TrainingStep step(model, options);
  const CaseInputs inputs(one.io, placement);
  const StepLosses losses = step.run(inputs.input_of(one.session), inputs.responses,
                                     {std::stod(one.io.metadata.at("lr")), nullptr, false});
  CHECK(losses.updated);
  const auto scalar = [&](double value) { return Tensor::scalar(value, DType::f64, cpu_device(1)); };
  comparer.compare("total", tensor_of(one.io, "total"), scalar(losses.total));
  int after = 0;
  for (const NamedTensor& named : model.tensors()) {
    if (named.role == Role::statistic)
      comparer.compare("buffer." + named.name, tensor_of(one.io, "buffer." + named.name), named.tensor);
    if (named.role != Role::parameter) continue;
    const Tensor& expected = tensor_of(one.io, "after." + named.name);
    if (comparer.zero_up_to_rounding(tensor_of(one.io, "grad." + named.name))) {
      // AdamW divides what is nothing but rounding by its eps.
      const double step_of_rounding = std::stod(one.io.metadata.at("lr")) * largest_gradient(one.io) /
                                      options.optimizer.eps * std::numeric_limits<double>::epsilon();
      comparer.compare("after." + named.name, expected, named.tensor,
                       norm(expected) + 64 * step_of_rounding / f64_tolerance.relative);
    } else {
      comparer.compare("after." + named.name, expected, named.tensor);
    }
    ++after;
  }
  CHECK(after == std::count_if(one.io.tensors.begin(), one.io.tensors.end(),
                               [](const auto& entry) { return entry.first.rfind("after.", 0) == 0; }));
}

struct Totals {
  int cases = 0, compared = 0;
  double worst = 0;
  std::string where;
};

/// Compares one case, run in `placement`.
inline void run_case(const std::string& name, const Placement& placement, const Tolerance& tolerance,
                     bool with_step, Totals& totals) {
  static const Device host = cpu_device(1, Isa::reference);
  const Case one = load_case(name, host);
  Comparer comparer(name, tolerance, largest_gradient(one.io));
  const std::string path = fixture_folder() + '/' + name + ".model.safetensors";
  const LoadedModel loaded = load_model(path, placement);
  if (placement.dtype == DType::f32) allow_for_rounding(one, path, host, comparer);
  compare_gradients(one, *loaded.model, comparer);
  if (with_step && one.training) compare_step(one, *loaded.model, comparer);
  ++totals.cases;
  totals.compared += comparer.compared();
  if (comparer.worst() > totals.worst) {
    totals.worst = comparer.worst();
    totals.where = comparer.where();
  }
}

inline Totals run_all(const std::string& prefix, const Placement& placement, const Tolerance& tolerance,
                      bool with_step) {
  Totals totals;
  for (const std::string& name : case_names(prefix)) run_case(name, placement, tolerance, with_step, totals);
  MESSAGE(prefix << ": " << totals.cases << " cases, " << totals.compared << " tensors, worst "
                 << totals.worst << " at " << totals.where);
  return totals;
}

/// Cases by the beginnings of their names, and how many there are.
inline const std::vector<std::pair<std::string, int>> families{
    {"core_", 57},       {"klindt2d_", 35}, {"klindt3d_", 12}, {"encoder_", 52},
    {"factorized_", 16}, {"gaussian_", 20}, {"shifter_", 8}};

}  // namespace fovea::test
