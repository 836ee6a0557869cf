// A multi-layer perceptron with torch.nn.Sequential's names: linear layers 0, 2, 4 .. with activations
// between.
#pragma once
#include <memory>
#include <vector>

#include "fovea/module.hpp"
#include "fovea/ops.hpp"

namespace fovea {

class Mlp : public Module {
 public:
  struct Options {
    std::vector<std::int64_t> sizes;  // input, hidden layers, output
    ActivationKind between, last;
    bool bias = true;
  };
  Mlp(const Options& options, const Placement& placement, Random& random);

  Tensor forward(const Tensor& x) const;  // (B,I) -> (B,O)

 private:
  struct Linear : Module {
    Tensor weight, bias;
    using Module::add_tensor;
  };

  Options options_;
  std::vector<std::unique_ptr<Linear>> layers_;
};

}  // namespace fovea
