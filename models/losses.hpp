// Losses and metrics of models.md section 6 by class name.
#pragma once
#include <functional>
#include <string>

#include "fovea/tensor.hpp"
#include "models/registry.hpp"

namespace fovea {

/// A loss or metric as a configuration names it.
struct LossFunction {
  Json config;  // {"class": .., every parameter}
  std::function<Tensor(const Tensor& output, const Tensor& target)> evaluate;
};

/// From `{class: PoissonLoss3d, bias: 1.0e-16, ..}`, or as Python writes it,
/// "nn.PoissonNLLLoss(log_input = False)": one that predictions for movies, or for images, can have. `where`
/// is the key it stands under, for messages.
LossFunction make_loss(const std::string& where, const Json& section, bool movies);

/// A class of losses, for the documentation.
struct LossDocumentation {
  std::string name;
  bool of_movies, of_images;
  std::vector<ParameterDocumentation> rows;
};
std::vector<LossDocumentation> document_losses();

}  // namespace fovea
