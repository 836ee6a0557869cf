#include "models/losses.hpp"

#include <sstream>

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

template <class Options, Tensor (*function)(const Tensor&, const Tensor&, const Options&)>
LossFunction make(const std::string& where, const Json& section) {
  const auto parameters = table(static_cast<Options*>(nullptr));
  const Options options = parameters.parse(where, section, {"class"});
  return {parameters.write_section(options),
          [=](const Tensor& output, const Tensor& target) { return function(output, target, options); }};
}

struct LossClass {
  std::string name;
  bool of_movies, of_images;
  LossFunction (*make)(const std::string& where, const Json& section);
  std::vector<ParameterDocumentation> (*document)();
};

template <class Options>
std::vector<ParameterDocumentation> document() {
  return document_table(table(static_cast<Options*>(nullptr)));
}

const std::vector<LossClass>& loss_classes() {
  static const std::vector<LossClass> classes{
      {"PoissonNLLLoss", true, true, make<PoissonNLLLossOptions, poisson_nll_loss>,
       document<PoissonNLLLossOptions>},
      {"PoissonLoss3d", true, true, make<PoissonLoss3dOptions, poisson_loss3d>,
       document<PoissonLoss3dOptions>},
      {"PoissonLoss", true, true, make<PoissonLossOptions, poisson_loss>, document<PoissonLossOptions>},
      {"CorrelationLoss2D", false, true, make<CorrelationLoss2DOptions, correlation_loss2d>,
       document<CorrelationLoss2DOptions>},
      {"CorrelationLoss3d", true, false, make<CorrelationLoss3dOptions, correlation_loss3d>,
       document<CorrelationLoss3dOptions>},
  };
  return classes;
}

/// A loss as Python writes it, "nn.PoissonNLLLoss(log_input = False)", as a section; the module in front of
/// the name does not matter.
Json section_of_call(const std::string& where, const std::string& call) {
  const auto trimmed = [](const std::string& part) {
    const std::size_t first = part.find_first_not_of(' '), last = part.find_last_not_of(' ');
    return first == std::string::npos ? std::string() : part.substr(first, last - first + 1);
  };
  const auto refuse = [&] {
    refuse_value(where, "class", "a name such as PoissonLoss3d or a call such as PoissonLoss3d(avg = True)",
                 Json(call));
  };
  const std::string written = trimmed(call);
  const std::size_t open = written.find('(');
  std::string name = trimmed(written.substr(0, open));
  if (const std::size_t dot = name.rfind('.'); dot != std::string::npos) name = name.substr(dot + 1);
  Json section{{"class", name}};
  if (open == std::string::npos) return section;
  if (written.back() != ')') refuse();
  std::istringstream arguments(written.substr(open + 1, written.size() - open - 2));
  for (std::string part; std::getline(arguments, part, ',');) {
    const std::size_t equal = part.find('=');
    if (equal == std::string::npos) refuse();
    const std::string key = trimmed(part.substr(0, equal)), value = trimmed(part.substr(equal + 1));
    if (key.empty() || section.contains(key)) refuse();
    const Json number = Json::parse(value, nullptr, false);
    if (value == "True" || value == "False")
      section[key] = value == "True";
    else if (number.is_number())
      section[key] = number;
    else
      refuse();
  }
  return section;
}

}  // namespace

std::vector<LossDocumentation> document_losses() {
  std::vector<LossDocumentation> losses;
  for (const LossClass& one : loss_classes())
    losses.push_back({one.name, one.of_movies, one.of_images, one.document()});
  return losses;
}

LossFunction make_loss(const std::string& where, const Json& section, bool movies) {
  if (section.is_string())
    return make_loss(where, section_of_call(where, section.get<std::string>()), movies);
  if (!section.is_object() || !section.contains("class"))
    refuse_value(where, "class", "the name of a loss in a map such as {class: PoissonLoss3d}", section);
  const Json& name = section["class"];
  std::vector<std::string> known;
  for (const LossClass& one : loss_classes()) {
    if (movies ? !one.of_movies : !one.of_images) continue;
    if (name == Json(one.name)) return one.make(where, section);
    known.push_back(one.name);
  }
  refuse_name(where, text("class, for ", movies ? "movies," : "images,"), name, known);
}

}  // namespace fovea
