#include "training/parameter_arena.hpp"

#include <algorithm>
#include <cmath>

#include "autograd/op.hpp"

namespace fovea {
namespace {

constexpr std::size_t boundary = 64;  // bytes

/// "readout.<session>" of "readout.<session>.features"; sessions may contain dots, so they are matched, not
/// split off.
std::string segment_of(const std::string& name, const std::vector<std::string>& sessions) {
  const std::string room = name.substr(0, name.find('.'));
  std::string best = room;
  for (const std::string& session : sessions) {
    const std::string segment = text(room, '.', session);
    if (name.compare(0, segment.size() + 1, text(segment, '.')) == 0 && segment.size() > best.size())
      best = segment;
  }
  return best;
}

bool all_finite(const Tensor& tensor) {
  const auto finite = [](auto value) { return std::isfinite(value); };
  if (tensor.dtype() == DType::f32) {
    const auto values = tensor.to_vector<float>();
    return std::all_of(values.begin(), values.end(), finite);
  }
  const auto values = tensor.to_vector<double>();
  return std::all_of(values.begin(), values.end(), finite);
}

}  // namespace

ParameterArena::ParameterArena(const Model& model) : placement_(model.placement()) {
  const auto per_boundary = static_cast<std::int64_t>(boundary / size_of(placement_.dtype));
  const std::vector<std::string> sessions = model.sessions();
  std::int64_t size = 0;
  for (const NamedTensor& one : model.tensors()) {
    if (one.role != Role::parameter || one.frozen) continue;
    const std::int64_t count = one.tensor.elements();
    parameters_.push_back({one.name, segment_of(one.name, sessions), one.tensor, size, count, 0});
    size += (count + per_boundary - 1) / per_boundary * per_boundary;
  }
  if (parameters_.empty()) throw ConfigError("training", "nothing to learn: every parameter is frozen");
  for (Tensor* arena : {&values_, &gradients_, &exp_avg_, &exp_avg_sq_})
    *arena = Tensor::zeros({size}, placement_.dtype, placement_.device);
  for (Parameter& parameter : parameters_) {
    const Tensor place = part(values_, parameter);
    place.copy_from(parameter.tensor);
    parameter.tensor.rebind(place);
    parameter.tensor.set_requires_grad();
    parameter.tensor.bind_grad(part(gradients_, parameter));
  }
}

Tensor ParameterArena::part(const Tensor& arena, const Parameter& parameter) const {
  return arena.rows(parameter.begin, parameter.begin + parameter.count).reshape(parameter.tensor.shape());
}

void ParameterArena::clear_gradients() const {
  for (const Parameter& parameter : parameters_) parameter.tensor.clear_grad();
}

std::vector<ParameterArena::Run> ParameterArena::reached_runs() const {
  std::vector<Run> runs;
  bool adjacent = false;
  for (const Parameter& parameter : parameters_) {
    const bool reached = parameter.tensor.grad().defined();
    const std::int64_t end = parameter.begin + parameter.count;
    if (reached && adjacent && runs.back().steps == parameter.steps) {
      runs.back().end = end;
    } else if (reached) {
      runs.push_back({parameter.begin, end, parameter.steps});
    }
    adjacent = reached;
  }
  return runs;
}

double ParameterArena::gradient_norm(const std::vector<Run>& runs) const {
  double squares = 0;
  dispatch("training", placement_.dtype, [&]<class T>() {
    for (const Run& run : runs) {
      double sum = 0;
      tables<T>(placement_.device)
          .optimizer.sum_of_squares(&sum, gradients_.data<T>() + run.begin, run.end - run.begin,
                                    queue_of(gradients_));
      squares += sum;
    }
  });
  return std::sqrt(squares);
}

double ParameterArena::step(const OptimizerOptions& optimizer, const Step& step) {
  const std::vector<Run> runs = reached_runs();
  const double norm = gradient_norm(runs) * step.gradient_scale;
  if (!std::isfinite(norm)) return norm;
  double scale = step.gradient_scale;
  if (step.gradient_clip) scale *= std::min(1.0, *step.gradient_clip / (norm + 1e-6));
  dispatch("training", placement_.dtype, [&]<class T>() {
    for (const Run& run : runs) {
      const AdamWStep adamw{step.learning_rate,
                            optimizer.betas[0],
                            optimizer.betas[1],
                            optimizer.eps,
                            optimizer.weight_decay,
                            run.steps + 1,
                            scale};
      tables<T>(placement_.device)
          .optimizer.adamw(values_.data<T>() + run.begin, exp_avg_.data<T>() + run.begin,
                           exp_avg_sq_.data<T>() + run.begin, gradients_.data<T>() + run.begin,
                           run.end - run.begin, adamw, queue_of(values_));
    }
  });
  for (Parameter& parameter : parameters_)
    if (parameter.tensor.grad()) ++parameter.steps;
  return norm;
}

std::string ParameterArena::first_bad_gradient() const {
  for (auto parameter = parameters_.rbegin(); parameter != parameters_.rend(); ++parameter)
    if (const Tensor gradient = parameter->tensor.grad(); gradient && !all_finite(gradient))
      return parameter->name;
  return {};
}

}  // namespace fovea
