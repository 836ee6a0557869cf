// Stacked2dCore as a module.
#pragma once
#include "fovea/stacked2d_core.hpp"
#include "models/batch_norm_layer.hpp"
#include "models/parameters.hpp"

namespace fovea {

/// A 2-D convolution with its tensors.
class Conv2dLayer : public Module {
 public:
  struct Geometry {
    std::int64_t in_channels, out_channels;
    std::int64_t kernel;
    std::int64_t stride = 1;
    AxisSizes<2> padding{};
    std::int64_t dilation = 1, groups = 1;
    bool bias = true;
  };
  /// Xavier normal weights, zero bias.
  Conv2dLayer(const Geometry& geometry, const Placement& placement, Random& random);

  Tensor forward(const Tensor& x) const { return conv2d(x, weight_, bias_, options_); }
  /// (H,W) of the output; at most 0 where nothing is left.
  AxisSizes<2> output_size(const AxisSizes<2>& size) const;
  const Geometry& geometry() const { return geometry_; }
  const Tensor& weight() const { return weight_; }
  /// "3 -> 64, kernel 9 x 9, padding 4 x 4"
  std::string text() const;

 private:
  Geometry geometry_;
  Conv2dOptions options_;
  Tensor weight_, bias_;
};

/// One layer: convolution (or 1x1, depthwise, 1x1) -> batch norm -> scale, bias -> ELU.
class StackedLayer : public Module {
 public:
  struct Options {
    bool batch_norm, scale, bias;
    double momentum;
    Activation activation;
  };
  StackedLayer(const Conv2dLayer::Geometry& conv, bool depth_separable, const Options& options,
               const Placement& placement, Random& random);

  Tensor forward(const Tensor& x, const Pass& pass) const;
  AxisSizes<2> output_size(AxisSizes<2> size) const;
  /// Of the only convolution of a layer that is not depth-separable.
  const Tensor& weight() const { return convs_.front()->weight(); }
  const std::vector<std::unique_ptr<Conv2dLayer>>& convs() const { return convs_; }
  const Options& options() const { return options_; }
  std::int64_t out_channels() const { return convs_.back()->geometry().out_channels; }
  std::string text() const;

 private:
  struct Group : Module {
    using Module::add_child;
    using Module::add_tensor;
  };

  Options options_;
  std::vector<std::unique_ptr<Conv2dLayer>> convs_;
  Group separable_, scale_group_, bias_group_;
  std::unique_ptr<BatchNormLayer> norm_;
  Tensor scale_, bias_;
};

const ParameterTable<Stacked2dCoreOptions>& stacked2d_core_table();
/// ConfigError where parameters do not go together.
void check(const Stacked2dCoreOptions& options);

}  // namespace fovea
