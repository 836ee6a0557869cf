#include "models/mlp.hpp"

#include <cmath>

namespace fovea {

/// PyTorch's default initialisation of Linear: uniform within 1 / sqrt(inputs).
Mlp::Mlp(const Options& options, const Placement& p, Random& random) : options_(options) {
  for (std::size_t l = 0; l + 1 < options.sizes.size(); ++l) {
    const std::int64_t in = options.sizes[l], out = options.sizes[l + 1];
    const double bound = 1 / std::sqrt(static_cast<double>(in));
    auto layer = std::make_unique<Linear>();
    layer->weight = layer->add_tensor("weight", Role::parameter, Tensor({out, in}, p.dtype, p.device));
    random.uniform(layer->weight, -bound, bound);
    if (options.bias) {
      layer->bias = layer->add_tensor("bias", Role::parameter, Tensor({out}, p.dtype, p.device));
      random.uniform(layer->bias, -bound, bound);
    }
    add_child(std::to_string(2 * l), *layer);
    layers_.push_back(std::move(layer));
  }
}

Tensor Mlp::forward(const Tensor& x) const {
  Tensor y = x;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    y = linear(y, layers_[l]->weight, layers_[l]->bias);
    y = activate(y, {l + 1 < layers_.size() ? options_.between : options_.last});
  }
  return y;
}

}  // namespace fovea
