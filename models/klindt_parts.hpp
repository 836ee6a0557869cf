// Core and readout of the Klindt models, in 2D and 3D.
#pragma once
#include "fovea/klindt_core_readout.hpp"
#include "models/batch_norm_layer.hpp"
#include "models/klindt_activation.hpp"

namespace fovea {

/// Sizes (t,h,w) of a kernel or a map; images are one frame.
using KlindtSize = std::array<std::int64_t, 3>;

KlindtSize size_of_kernel(const KernelSize& kernel);
KlindtSize size_of_image(const ImageSize& image);

class KlindtCore : public Module {
 public:
  KlindtCore(const KlindtCoreReadoutOptions& options, bool movies, const Placement& placement,
             Random& random);

  /// x (B,T,H,W,C) or (B,H,W,C).
  Tensor forward(const Tensor& x, const Pass& pass) const;
  void apply_constraints() const;
  /// Undefined when its factor is zero.
  Tensor regularizer() const;
  /// Map after every layer; ShapeError naming the kernel where nothing is left.
  std::vector<KlindtSize> sizes(KlindtSize input) const;
  std::size_t layers() const { return kernels_.size(); }
  const KlindtSize& kernel(std::size_t layer) const { return kernels_[layer]; }
  std::int64_t parameters_of(std::size_t layer) const;

 private:
  struct Conv : Module {
    Tensor weight, bias;
    using Module::add_tensor;
  };
  struct Group : Module {
    using Module::add_child;
  };

  Tensor dropped_out(const Tensor& x, const Pass& pass) const;
  const char* class_name() const { return movies_ ? "KlindtCoreReadout3D" : "KlindtCoreReadout2D"; }
  Shape shown_size(const KlindtSize& size) const {
    return movies_ ? Shape{size[0], size[1], size[2]} : Shape{size[1], size[2]};
  }

  KlindtCoreReadoutOptions options_;
  bool movies_;
  std::vector<KlindtSize> kernels_;
  std::vector<std::unique_ptr<Conv>> convs_;
  std::vector<std::unique_ptr<BatchNormLayer>> norms_;  // empty without batch_norm
  std::vector<std::unique_ptr<KlindtActivation>> activations_;
  Group conv_layers_, bn_layers_, activation_layers_;
};

class KlindtReadout : public Module {
 public:
  struct Geometry {
    std::int64_t channels, height, width, neurons;
  };
  KlindtReadout(const Geometry& geometry, const KlindtCoreReadoutOptions& options, const Placement& placement,
                Random& random);

  /// x (B,T,H,W,C) -> (B,T,N), or (B,H,W,C) -> (B,N).
  Tensor forward(const Tensor& x) const;
  void apply_constraints() const;
  Tensor regularizer() const;
  const Geometry& geometry() const { return geometry_; }
  const Tensor& mask_weights() const { return mask_weights_; }
  const Tensor& readout_weights() const { return readout_weights_; }

 private:
  Geometry geometry_;
  KlindtCoreReadoutOptions options_;
  Tensor mask_weights_, readout_weights_, bias_;
};

}  // namespace fovea
