#include "models/losses.hpp"

#include "fovea/ops.hpp"
#include "models/parameters.hpp"

namespace fovea {
namespace {

constexpr auto per_neuron_doc = "one value per neuron instead of a scalar";
constexpr auto avg_doc = "mean instead of sum";

ParameterTable<PoissonNLLLossOptions> table(PoissonNLLLossOptions*) {
  using O = PoissonNLLLossOptions;
  return ParameterTable<O>("PoissonNLLLoss")
      .add("log_input", &O::log_input, "bool", "the prediction is the logarithm of the rate")
      .add("full", &O::full, "bool", "adds the Stirling term where the target is above 1")
      .add("eps", &O::eps, "float", "added inside the logarithm", finite_at_least(0));
}

ParameterTable<PoissonLoss3dOptions> table(PoissonLoss3dOptions*) {
  using O = PoissonLoss3dOptions;
  return ParameterTable<O>("PoissonLoss3d")
      .add("bias", &O::bias, "float", "added inside the logarithm", finite_at_least(0))
      .add("per_neuron", &O::per_neuron, "bool", per_neuron_doc)
      .add("avg", &O::avg, "bool", avg_doc);
}

ParameterTable<PoissonLossOptions> table(PoissonLossOptions*) {
  using O = PoissonLossOptions;
  return ParameterTable<O>("PoissonLoss")
      .add("bias", &O::bias, "float", "added inside the logarithm", finite_at_least(0))
      .add("per_neuron", &O::per_neuron, "bool", per_neuron_doc)
      .add("avg", &O::avg, "bool", avg_doc)
      .add("full_loss", &O::full_loss, "bool", "adds the Stirling term where the target is above 1");
}

ParameterTable<CorrelationLoss2DOptions> table(CorrelationLoss2DOptions*) {
  using O = CorrelationLoss2DOptions;
  return ParameterTable<O>("CorrelationLoss2D")
      .add("eps", &O::eps, "float", "added to each variance", finite_above(0))
      .add("per_neuron", &O::per_neuron, "bool", per_neuron_doc)
      .add("avg", &O::avg, "bool", avg_doc);
}

ParameterTable<CorrelationLoss3dOptions> table(CorrelationLoss3dOptions*) {
  using O = CorrelationLoss3dOptions;
  return ParameterTable<O>("CorrelationLoss3d")
      .add("bias", &O::bias, "float", "added to each variance", finite_above(0))
      .add("per_neuron", &O::per_neuron, "bool", per_neuron_doc)
      .add("avg", &O::avg, "bool", avg_doc)
      .add("negate", &O::negate, "bool", "the negative correlation, to be minimised");
}

template <class Options>
LossFunction make(const Json& section, Tensor (*function)(const Tensor&, const Tensor&, const Options&)) {
  const auto parameters = table(static_cast<Options*>(nullptr));
  const Options options = parameters.parse(section, {"class"});
  Json config{{"class", parameters.class_name()}};
  config.update(parameters.write(options));
  return {config,
          [=](const Tensor& output, const Tensor& target) { return function(output, target, options); }};
}

}  // namespace

LossFunction make_loss(const std::string& where, const Json& section) {
  static const std::vector<std::string> known{"PoissonNLLLoss", "PoissonLoss3d", "PoissonLoss",
                                              "CorrelationLoss2D", "CorrelationLoss3d"};
  if (!section.is_object() || !section.contains("class") || !section["class"].is_string())
    refuse_value(where, "class", "the name of a loss in a map such as {class: PoissonLoss3d}", section);
  const std::string name = section["class"];
  if (name == "PoissonNLLLoss") return make(section, poisson_nll_loss);
  if (name == "PoissonLoss3d") return make(section, poisson_loss3d);
  if (name == "PoissonLoss") return make(section, poisson_loss);
  if (name == "CorrelationLoss2D") return make(section, correlation_loss2d);
  if (name == "CorrelationLoss3d") return make(section, correlation_loss3d);
  refuse_value(where, "class", one_of(known).rule + "; did you mean '" + nearest_name(name, known) + "'?",
               section["class"]);
}

}  // namespace fovea
