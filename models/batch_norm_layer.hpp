// Batch norm as a module: torch.nn.BatchNorm2d and 3d on channels-last activations.
#pragma once
#include "fovea/module.hpp"
#include "fovea/ops.hpp"

namespace fovea {

class BatchNormLayer : public Module {
 public:
  struct Options {
    const char* where;   // the class that messages name
    bool affine = true;  // weight and bias
    double momentum = 0.1;
  };
  BatchNormLayer(std::int64_t channels, const Options& options, const Placement& placement);

  /// Parameters of one value per channel that stand outside the layer, undefined where there are none.
  struct Outside {
    Tensor scale, bias;
  };
  /// activation(norm(x) * scale + bias). A training pass updates the statistics unless the layer is frozen.
  /// A layer that is affine takes no scale from outside.
  Tensor forward(const Tensor& x, const Pass& pass, const Activation& activation,
                 const Outside& outside = {}) const;

 private:
  Options options_;
  Tensor weight_, bias_, running_mean_, running_var_, num_batches_tracked_;
};

}  // namespace fovea
