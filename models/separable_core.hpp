// The core of CoreReadout.
#pragma once
#include <memory>

#include "fovea/core_readout.hpp"
#include "fovea/ops.hpp"

namespace fovea {

/// One layer: separable convolution -> batch norm -> bias -> ELU -> channel dropout -> max pool.
class SeparableLayer : public Module {
 public:
  struct Geometry {
    std::int64_t in_channels, out_channels, kernel_t, kernel_s;
    Padding3d padding;
    bool pool;
    double dropout;
  };
  SeparableLayer(const Geometry& geometry, const Placement& placement, Random& random);

  Tensor forward(const Tensor& x, const Pass& pass) const;
  /// (T,H,W) after this layer; ShapeError where nothing is left.
  std::array<std::int64_t, 3> output_size(std::array<std::int64_t, 3> size) const;
  const Geometry& geometry() const { return geometry_; }
  const Tensor& sin_weights() const { return conv_.sin_weights; }
  const Tensor& cos_weights() const { return conv_.cos_weights; }
  const Tensor& weight_spatial() const { return conv_.weight_spatial; }

 private:
  struct Convolution : Module {
    Convolution(const Geometry& geometry, const Placement& placement, Random& random);
    Tensor sin_weights, cos_weights, weight_spatial, log_speed;
  };
  struct Norm : Module {
    Norm(std::int64_t channels, const Placement& placement);
    Tensor weight, bias, running_mean, running_var, num_batches_tracked;
  };
  struct Bias : Module {
    Bias(std::int64_t channels, const Placement& placement);
    Tensor bias;
  };

  Geometry geometry_;
  Convolution conv_;
  Norm norm_;
  Bias bias_;
};

/// Sizes of every stage of a core for one sample.
struct CoreSizes {
  std::array<std::int64_t, 3> input;                // after downsampling
  std::vector<std::array<std::int64_t, 3>> layers;  // after each layer
  std::array<std::int64_t, 3> output;               // after the cut
};

class SeparableCore : public Module {
 public:
  SeparableCore(const CoreReadoutOptions& options, const Placement& placement, Random& random);

  /// x (B,T,H,W,C) -> (B,T',H',W',C').
  Tensor forward(const Tensor& x, const Pass& pass) const;
  /// Undefined when every factor is zero.
  Tensor regularizer() const;
  CoreSizes sizes(std::array<std::int64_t, 3> input) const;
  std::int64_t out_channels() const { return layers_.back()->geometry().out_channels; }
  const std::vector<std::unique_ptr<SeparableLayer>>& layers() const { return layers_; }

 private:
  struct Features : Module {
    using Module::add_child;
  };

  CoreReadoutOptions options_;
  std::vector<std::unique_ptr<SeparableLayer>> layers_;
  Features features_;
};

}  // namespace fovea
