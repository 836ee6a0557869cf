// The activations of the Klindt models by name: "relu", "parametric_relu:neg=0.1,pos=1", ..
#pragma once
#include <optional>
#include <string>

#include "fovea/module.hpp"
#include "fovea/ops.hpp"

namespace fovea {

/// An activation as `act_fns` spells it.
struct ActivationSpec {
  enum class Kind { fixed, parametric_relu, parametric_softplus };
  Kind kind = Kind::fixed;
  Activation activation{};                // fixed
  std::optional<double> neg, pos, least;  // named in the text: learnable slopes, lower bound
};
/// ConfigError with the known names where there is none of this name.
ActivationSpec parse_activation(const std::string& where, const std::string& key, const std::string& spec);

class KlindtActivation : public Module {
 public:
  KlindtActivation(const ActivationSpec& spec, const Placement& placement);

  bool fixed() const { return spec_.kind == ActivationSpec::Kind::fixed; }
  const Activation& activation() const { return spec_.activation; }
  Tensor forward(const Tensor& x) const;

 private:
  ActivationSpec spec_;
  Tensor thresh_, neg_slope_, pos_slope_;  // parametric ReLU
  Tensor alpha_, beta_, gamma_;            // parametric softplus
};

}  // namespace fovea
