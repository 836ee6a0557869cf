#include "models/klindt_activation.hpp"

#include <cmath>
#include <sstream>

#include "models/parameters.hpp"

namespace fovea {
namespace {

struct Known {
  const char* name;
  ActivationSpec::Kind kind;
  ActivationKind fixed;
  std::vector<std::string> arguments;
};

const std::vector<Known>& known_activations() {
  using Kind = ActivationSpec::Kind;
  static const std::vector<Known> known{
      {"relu", Kind::fixed, ActivationKind::relu, {}},
      {"elu", Kind::fixed, ActivationKind::elu, {}},
      {"softplus", Kind::fixed, ActivationKind::softplus, {}},
      {"requ", Kind::fixed, ActivationKind::requ, {}},
      {"", Kind::fixed, ActivationKind::identity, {}},
      {"same", Kind::fixed, ActivationKind::identity, {}},
      {"none", Kind::fixed, ActivationKind::identity, {}},
      {"parametric_relu", Kind::parametric_relu, ActivationKind::identity, {"neg", "pos"}},
      {"parametric_softplus", Kind::parametric_softplus, ActivationKind::identity, {"min"}},
  };
  return known;
}

const Known& find_activation(const std::string& where, const std::string& key, const std::string& name) {
  std::vector<std::string> names;
  for (const Known& one : known_activations()) {
    if (one.name == name) return one;
    names.emplace_back(one.name);
  }
  refuse_name(where, key, Json(name), names);
}

double read_number(const std::string& where, const std::string& key, const std::string& argument,
                   const std::string& written) {
  std::istringstream stream(written);
  stream.imbue(std::locale::classic());
  double value = 0;
  if (!(stream >> value) || stream.peek() != std::istringstream::traits_type::eof() || !std::isfinite(value))
    refuse_value(where, key, text("given a finite number as ", argument), Json(written));
  return value;
}

}  // namespace

ActivationSpec parse_activation(const std::string& where, const std::string& key, const std::string& spec) {
  const std::size_t colon = spec.find(':');
  const Known& known = find_activation(where, key, spec.substr(0, colon));
  ActivationSpec result{known.kind, {known.fixed}, {}, {}, {}};
  if (colon == std::string::npos) return result;
  std::istringstream arguments(spec.substr(colon + 1));
  std::string part;
  bool any = false;
  while (std::getline(arguments, part, ',')) {
    const std::size_t equal = part.find('=');
    const std::string argument = part.substr(0, equal);
    if (known.arguments.empty())
      refuse_value(where, key, text("without arguments, which '", known.name, "' does not have"), Json(spec));
    check_name(where, text(key, " argument of ", known.name), argument, known.arguments);
    std::optional<double>& into = argument == "neg"   ? result.neg
                                  : argument == "pos" ? result.pos
                                                      : result.least;
    if (into) refuse_value(where, key, text("given ", argument, " once"), Json(spec));
    into = read_number(where, key, argument, equal == std::string::npos ? "" : part.substr(equal + 1));
    any = true;
  }
  if (!any) refuse_value(where, key, "followed by arguments after ':'", Json(spec));
  return result;
}

KlindtActivation::KlindtActivation(const ActivationSpec& spec, const Placement& p) : spec_(spec) {
  const auto add = [&](const char* name, Role role, double value) {
    return add_tensor(name, role, Tensor::full({1}, value, p.dtype, p.device));
  };
  const auto slope = [&](const char* name, const std::optional<double>& given, double otherwise) {
    return add(name, given ? Role::parameter : Role::constant, given.value_or(otherwise));
  };
  if (spec.kind == ActivationSpec::Kind::parametric_relu) {
    thresh_ = add("thresh", Role::constant, 0);
    neg_slope_ = slope("neg_slope", spec.neg, 0);
    pos_slope_ = slope("pos_slope", spec.pos, 1);
  } else if (spec.kind == ActivationSpec::Kind::parametric_softplus) {
    alpha_ = add("alpha", Role::constant, 1);
    beta_ = add("beta", Role::constant, 1);
    gamma_ = add("gamma", Role::constant, 0);
  }
}

Tensor KlindtActivation::forward(const Tensor& x) const {
  switch (spec_.kind) {
    case ActivationSpec::Kind::fixed:
      break;
    case ActivationSpec::Kind::parametric_relu:
      return parametric_relu(x, thresh_, neg_slope_, pos_slope_);
    case ActivationSpec::Kind::parametric_softplus:
      return parametric_softplus(x, alpha_, beta_, gamma_, spec_.least);
  }
  return activate(x, spec_.activation);
}

}  // namespace fovea
