#include "training/train_step.hpp"

#include <algorithm>
#include <cmath>

#include "fovea/autograd.hpp"
#include "fovea/ops.hpp"

namespace fovea {
namespace {

/// Host values of a floating point tensor as doubles.
std::vector<double> host_values(const Tensor& tensor) {
  if (tensor.dtype() == DType::f64) return tensor.to_vector<double>();
  const std::vector<float> values = tensor.to_vector<float>();
  return {values.begin(), values.end()};
}

bool finite(const Tensor& tensor) {
  if (!tensor || tensor.dtype() == DType::i64) return true;
  const std::vector<double> values = host_values(tensor);
  return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

double value_or_zero(const Tensor& scalar) { return scalar ? scalar.item() : 0.0; }

}  // namespace

NonFiniteError::NonFiniteError(const std::string& what, const std::string& tensor)
    : Error("train", text(what, ", first in ", tensor)), tensor_(tensor) {}

double mean_value(const Tensor& values) {
  if (values.elements() == 1) return values.item();
  double sum = 0;
  for (const double value : host_values(values)) sum += value;
  return sum / static_cast<double>(values.elements());
}

TrainingStep::TrainingStep(const Model& model, const TrainingOptions& options)
    : model_(model), options_(options), arena_(model), memory_(model.placement().device) {}

std::string TrainingStep::signature(const ModelInput& input, const Tensor& responses) const {
  return text("train ", accumulated_ ? "later " : "first ", input.stimulus.shape(), responses.shape(),
              input.pupil_center ? to_string(input.pupil_center.shape()) : "", ' ', input.session);
}

StepLosses TrainingStep::run(const ModelInput& input, const Tensor& responses, const Settings& settings) {
  StepLosses losses;
  const StepMemory::Scope scope(memory_, signature(input, responses));
  if (accumulated_ == 0) arena_.clear_gradients();
  try {
    forward_backward(input, responses, settings, losses);
    ++accumulated_;
    if (settings.last || accumulated_ >= options_.accumulate_grad_batches)
      update(settings, input.session, losses);
    else if (!settings.only_memory)
      check_gradient(arena_.gradient_norm(), input.session);  // a later batch may be of another session
  } catch (...) {
    accumulated_ = 0;
    throw;
  }
  return losses;
}

void TrainingStep::forward_backward(const ModelInput& input, const Tensor& responses,
                                    const Settings& settings, StepLosses& losses) {
  model_.apply_constraints(input.session);
  Tensor output = model_.forward(input, {true, settings.random});
  {
    const NoGrad metric_only;
    losses.metric = mean_value(model_.metric(output.detach(), responses));
  }
  const Tensor loss = model_.loss(output, responses);
  if (loss.elements() != 1)
    throw ConfigError("train", text("a loss to train on is one number, not one per neuron: ", loss.shape()));
  std::vector<Tensor> terms{loss};
  const Tensor core = model_.core_regularizer();
  const Tensor readout = model_.readout_regularizer(input.session);
  for (const Tensor& term : {core, readout})
    if (term) terms.push_back(term);
  const Tensor total = weighted_sum(terms, std::vector<double>(terms.size(), 1.0));
  losses.loss = loss.item();
  losses.core_regularizer = value_or_zero(core);
  losses.readout_regularizer = value_or_zero(readout);
  losses.total = total.item();
  if (!std::isfinite(losses.total) && !settings.only_memory)
    report_bad_loss(input, responses, output, losses);
  output = Tensor();                           // what backward needs of it is kept by the tape
  if (total.requires_grad()) backward(total);  // a session may be frozen whole, core and readout
}

void TrainingStep::report_bad_loss(const ModelInput& input, const Tensor& responses, const Tensor& output,
                                   const StepLosses& losses) const {
  const std::string what = text("the loss is not finite: ", losses.total);
  if (!finite(input.stimulus)) throw NonFiniteError(what, "stimulus");
  if (!finite(responses)) throw NonFiniteError(what, "responses");
  if (!finite(input.pupil_center)) throw NonFiniteError(what, "pupil_center");
  if (const std::string bad = first_bad_tensor(); !bad.empty()) throw NonFiniteError(what, bad);
  if (!finite(output)) throw NonFiniteError(what, "output");
  if (!std::isfinite(losses.loss)) throw NonFiniteError(what, "loss");
  if (!std::isfinite(losses.core_regularizer)) throw NonFiniteError(what, "core_regularizer");
  throw NonFiniteError(what, std::isfinite(losses.readout_regularizer) ? "total" : "readout_regularizer");
}

std::string TrainingStep::first_bad_tensor() const {
  // Parameters before statistics: a bad parameter spoils the statistics of its own forward pass.
  for (const bool statistics : {false, true})
    for (const NamedTensor& one : model_.tensors())
      if ((one.role == Role::statistic) == statistics && !finite(one.tensor)) return one.name;
  for (const ParameterArena::Parameter& parameter : arena_.parameters()) {
    if (!finite(arena_.exp_avg(parameter))) return "exp_avg." + parameter.name;
    if (!finite(arena_.exp_avg_sq(parameter))) return "exp_avg_sq." + parameter.name;
  }
  return {};
}

void TrainingStep::update(const Settings& settings, const std::string& session, StepLosses& losses) {
  // As Lightning: the mean over accumulate_grad_batches, also where an epoch ends with fewer.
  const double scale = 1.0 / static_cast<double>(options_.accumulate_grad_batches);
  accumulated_ = 0;
  losses.gradient_norm =
      arena_.step(options_.optimizer, {settings.learning_rate, scale, options_.gradient_clip});
  if (!settings.only_memory) check_gradient(losses.gradient_norm, session);
  losses.updated = true;
}

void TrainingStep::check_gradient(double norm, const std::string& session) const {
  if (std::isfinite(norm)) return;
  const std::string bad = arena_.first_bad_gradient();
  throw NonFiniteError(text("a gradient is not finite in session '", session, "'"),
                       bad.empty() ? "the gradient norm" : "grad." + bad);
}

}  // namespace fovea
