// Losses and metrics of models.md section 6 by class name.
#pragma once
#include <functional>
#include <string>

#include "fovea/tensor.hpp"
#include "models/json.hpp"

namespace fovea {

/// A loss or metric as a configuration names it.
struct LossFunction {
  Json config;  // {"class": .., every parameter}
  std::function<Tensor(const Tensor& output, const Tensor& target)> evaluate;
};

/// From `{class: PoissonLoss3d, bias: 1.0e-16, ..}`. `where` is the key it stands under (loss or metric).
LossFunction make_loss(const std::string& where, const Json& section);

}  // namespace fovea
