// The core of CoreReadout.
#pragma once
#include <memory>

#include "fovea/core_readout.hpp"
#include "models/batch_norm_layer.hpp"
#include "models/core_convolution.hpp"

namespace fovea {

/// One layer: convolution -> batch norm -> bias -> ELU -> channel dropout -> max pool.
class ConvLayer : public Module {
 public:
  struct Options {
    bool pool;
    double dropout;
  };
  ConvLayer(std::unique_ptr<CoreConvolution> convolution, const Options& options, const Placement& placement);

  Tensor forward(const Tensor& x, const Pass& pass) const;
  /// (T,H,W) after this layer; ShapeError where nothing is left.
  std::array<std::int64_t, 3> output_size(std::array<std::int64_t, 3> size) const;
  const CoreConvolution& convolution() const { return *conv_; }
  std::int64_t out_channels() const { return conv_->geometry().out_channels; }
  const Options& options() const { return options_; }

 private:
  struct Bias : Module {
    Bias(std::int64_t channels, const Placement& placement);
    Tensor bias;
  };

  std::unique_ptr<CoreConvolution> conv_;
  Options options_;
  BatchNormLayer norm_;
  Bias bias_;
};

/// Sizes of every stage of a core for one sample.
struct CoreSizes {
  std::array<std::int64_t, 3> input;                // after downsampling
  std::vector<std::array<std::int64_t, 3>> layers;  // after each layer
  std::array<std::int64_t, 3> output;               // after the cut
};

class ConvCore : public Module {
 public:
  ConvCore(const CoreReadoutOptions& options, const Placement& placement, Random& random);

  /// x (B,T,H,W,C) -> (B,T',H',W',C').
  Tensor forward(const Tensor& x, const Pass& pass) const;
  /// Undefined when every factor is zero.
  Tensor regularizer() const;
  CoreSizes sizes(std::array<std::int64_t, 3> input) const;
  std::int64_t out_channels() const { return layers_.back()->out_channels(); }
  const std::vector<std::unique_ptr<ConvLayer>>& layers() const { return layers_; }

 private:
  struct Features : Module {
    using Module::add_child;
  };

  CoreReadoutOptions options_;
  std::vector<std::unique_ptr<ConvLayer>> layers_;
  Features features_;
};

}  // namespace fovea
