// Small models of the Klindt classes and of FiringRateEncoder, and what two models differ in.
#pragma once
#include "fovea/firing_rate_encoder.hpp"
#include "fovea/klindt_core_readout.hpp"
#include "model_fixture.hpp"

namespace model_test {

/// Two layers, 9 x 8 -> 7 x 6 -> 6 x 4.
inline Json klindt2d() {
  return Json::parse(R"({"class": "KlindtCoreReadout2D", "image_size": [9, 8], "image_channels": 2,
    "kernel_sizes": [3, [2, 3]], "num_kernels": [3, 4], "act_fns": ["elu", "softplus"],
    "reg": [0.01, 0.02, 0.03, 0], "init_scales": [[0, 0.1], [0.1, 0.05], [0.2, 0.05]], "num_neurons": 5})");
}

/// The same in movies, two frames less.
inline Json klindt3d() {
  return with(klindt2d(), Json::parse(R"({"class": "KlindtCoreReadout3D", "kernel_sizes": [3, [3, 2, 3]]})"));
}

/// Three layers of 7 x 9 maps, two sessions.
inline Json encoder() {
  return Json::parse(R"({"class": "FiringRateEncoder", "in_shape": [2, 7, 9],
    "core": {"class": "Stacked2dCore", "input_channels": 2, "hidden_channels": 3, "input_kern": 5, "hidden_kern": 3,
             "gamma_input": 0.5, "gamma_hidden": 0.25},
    "readout": {"class": "FullGaussian2d", "bias": true},
    "n_neurons_dict": {"one": 5, "two": 4}})");
}

/// The section with changes to its core, its readout or its shifter.
inline Json with_part(Json section, const std::string& part, const Json& changes) {
  section[part] = with(section.value(part, Json::object()), changes);
  return section;
}
inline Json with_core(const Json& changes, const Json& section = encoder()) {
  return with_part(section, "core", changes);
}
inline Json with_readout(const Json& changes, const Json& section = encoder()) {
  return with_part(section, "readout", changes);
}
inline Json factorized(const Json& changes = Json::object()) {
  Json section = encoder();
  section["readout"] = with(Json::parse(R"({"class": "FullFactorized2d", "bias": true})"), changes);
  return section;
}
inline Json shifted(const Json& changes = Json::object()) {
  return with_part(encoder(), "shifter", with(Json::parse(R"({"class": "MLPShifter"})"), changes));
}

/// Shape and role of every tensor by name: "(3, 2) parameter".
using TensorTable = std::map<std::string, std::string>;

inline TensorTable tensor_table(const Model& model) {
  TensorTable table;
  for (const NamedTensor& one : model.tensors()) {
    const char* role = one.role == Role::parameter  ? " parameter"
                       : one.role == Role::constant ? " constant"
                                                    : " statistic";
    table[one.name] = to_string(one.tensor.shape()) + role;
  }
  return table;
}
inline TensorTable tensor_table(const Json& section) { return tensor_table(*make(section)); }

/// The tensors whose names begin so.
inline TensorTable under(const std::string& prefix, const TensorTable& table) {
  TensorTable result;
  for (const auto& [name, what] : table)
    if (name.rfind(prefix, 0) == 0) result[name] = what;
  return result;
}

/// All parameters and statistics by their names alone, whatever the model was made with.
inline void fill_by_name(const Model& model) {
  for (const NamedTensor& one : model.tensors()) {
    if (one.role == Role::constant || one.tensor.dtype() == DType::i64) continue;
    std::uint64_t hash = 1469598103934665603u;
    for (const char letter : one.name) hash = (hash ^ static_cast<unsigned char>(letter)) * 1099511628211u;
    const Tensor filled(one.tensor.shape(), one.tensor.dtype(), one.tensor.device());
    Random(hash).normal(filled, 0, 0.3);
    one.tensor.copy_from(filled);
    if (one.name.find("running_var") != std::string::npos) abs_(one.tensor);
  }
}

inline ModelInput input_of(const Model& model, const std::string& session, std::int64_t batch = 3) {
  std::vector<std::int64_t> sample = model.in_shape().vector();
  if (model.takes_movies()) sample[1] += 3;
  ModelInput input{session, stimulus(batch, Shape(sample), model.placement()), {}, {}};
  if (model.pupil_columns() > 0)
    input.pupil_center = random_tensor({batch, model.pupil_columns()}, 6, model.placement());
  return input;
}

inline Tensor evaluate(const Model& model, const ModelInput& input) {
  const NoGrad no_grad;
  return model.forward(input, {});
}

/// Gradients by name of a random sum of the output, zeros where there is none.
inline std::map<std::string, std::vector<double>> gradients_of(const Model& model, const Tensor& output) {
  for (const NamedTensor& one : model.tensors()) one.tensor.clear_grad();
  backward(output, random_tensor(output.shape(), 8, model.placement()));
  std::map<std::string, std::vector<double>> result;
  for (const NamedTensor& one : model.tensors())
    if (one.role == Role::parameter && one.tensor.grad().defined())
      result[one.name] = values(one.tensor.grad());
  return result;
}

inline void require_gradients(const Model& model) {
  for (const NamedTensor& one : model.tensors())
    if (one.role == Role::parameter) Tensor(one.tensor).set_requires_grad();
}

/// What a configuration makes of a model, by letter.
struct Outcome {
  TensorTable tensors;                                        // T
  std::map<std::string, std::vector<double>> initial;         // I
  std::vector<double> evaluation, training;                   // E, O
  std::map<std::string, std::vector<double>> gradients;       // G, of the training output
  std::vector<double> core_regularizer, readout_regularizer;  // C, R
  std::vector<double> loss, metric;                           // L, M
  double learning_rate = 0;                                   // A
};

inline std::vector<double> values_or_none(const Tensor& tensor) {
  return tensor ? values(tensor) : std::vector<double>();
}

/// Initial values, then everything else with values that depend on the tensors' names alone.
inline Outcome outcome_of(const Json& section) {
  const auto model = make(section, 7);
  const std::string session = model->sessions().front();
  Outcome outcome;
  outcome.tensors = tensor_table(*model);
  outcome.initial = all_values(*model);
  outcome.learning_rate = model->learning_rate();
  fill_by_name(*model);
  require_gradients(*model);
  const ModelInput input = input_of(*model, session);
  model->apply_constraints(session);
  outcome.core_regularizer = values_or_none(model->core_regularizer());
  outcome.readout_regularizer = values_or_none(model->readout_regularizer(session));
  const Tensor y = evaluate(*model, input);
  outcome.evaluation = values(y);
  Random random(4);
  const Tensor trained = model->forward(input, {true, &random});
  outcome.training = values(trained);
  outcome.gradients = gradients_of(*model, trained);
  const Tensor positive = random_tensor(y.shape(), 11), target = random_tensor(y.shape(), 12);
  abs_(positive);
  abs_(target);
  outcome.loss = values(model->loss(positive, target));
  outcome.metric = values(model->metric(positive, target));
  return outcome;
}

/// The letters of what differs.
inline std::string differences(const Outcome& a, const Outcome& b) {
  std::string letters;
  const auto add = [&](char letter, bool differs) {
    if (differs) letters += letter;
  };
  add('T', a.tensors != b.tensors);
  add('I', a.initial != b.initial);
  add('E', a.evaluation != b.evaluation);
  add('O', a.training != b.training);
  add('G', a.gradients != b.gradients);
  add('C', a.core_regularizer != b.core_regularizer);
  add('R', a.readout_regularizer != b.readout_regularizer);
  add('L', a.loss != b.loss);
  add('M', a.metric != b.metric);
  add('A', a.learning_rate != b.learning_rate);
  return letters;
}

/// One changed parameter: what must differ, where both models have `base`.
struct Effect {
  std::string key, value, letters;
  std::string base = "{}";
};

inline std::vector<double> column(const std::vector<double>& table, std::size_t columns, std::size_t which) {
  std::vector<double> result;
  for (std::size_t i = which; i < table.size(); i += columns) result.push_back(table[i]);
  return result;
}

inline Json part(const char* key, const std::string& value) { return Json{{key, Json::parse(value)}}; }

inline std::vector<double> magnitudes(std::vector<double> x) {
  for (double& value : x) value = std::abs(value);
  return x;
}

/// Within a tolerance of 1 + |a|.
inline bool close(const std::vector<double>& a, const std::vector<double>& b, double tolerance = 1e-13) {
  bool all = a.size() == b.size() && !a.empty();
  for (std::size_t i = 0; all && i < a.size(); ++i)
    all = std::abs(a[i] - b[i]) <= tolerance * (1 + std::abs(a[i]));
  return all;
}

/// x of y = elu(x) + 1.
inline std::vector<double> before_elu(std::vector<double> y) {
  for (double& value : y) value = value > 1 ? value - 1 : std::log(value);
  return y;
}

struct Moments {
  double mean, deviation, least, most;
};
inline Moments moments(const std::vector<double>& sample) {
  const double count = static_cast<double>(sample.size());
  double mean = 0, square = 0;
  for (const double x : sample) mean += x / count;
  for (const double x : sample) square += (x - mean) * (x - mean) / count;
  return {mean, std::sqrt(square), *std::min_element(sample.begin(), sample.end()),
          *std::max_element(sample.begin(), sample.end())};
}

/// Whether a sample can be N(mean, deviation): five standard errors of its moments.
inline bool looks_normal(const std::vector<double>& sample, double mean, double deviation) {
  const Moments m = moments(sample);
  const double count = static_cast<double>(sample.size());
  return std::abs(m.mean - mean) <= 5 * deviation / std::sqrt(count) &&
         std::abs(m.deviation - deviation) <= 5 * deviation / std::sqrt(2 * count);
}

/// Whether a sample can be uniform in +-bound: it stays inside, comes near both ends and has the moments.
inline bool looks_uniform(const std::vector<double>& sample, double bound) {
  const Moments m = moments(sample);
  const double count = static_cast<double>(sample.size()), near = 1 - 20 / count;  // e^-10 on either side
  return m.most <= bound && m.least >= -bound && m.most >= near * bound && m.least <= -near * bound &&
         std::abs(m.mean) <= 5 * bound / std::sqrt(3 * count) &&
         std::abs(m.deviation - bound / std::sqrt(3)) <= 5 * bound / std::sqrt(3 * count);
}

}  // namespace model_test
