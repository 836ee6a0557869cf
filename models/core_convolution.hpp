// The convolutions of CoreReadout's core, one class per `convolution_type`; none has a bias.
#pragma once
#include <memory>

#include "fovea/core_readout.hpp"
#include "fovea/ops.hpp"

namespace fovea {

/// "(t, h, w)".
std::string size_text(const AxisSizes<3>& size);

class CoreConvolution : public Module {
 public:
  struct Geometry {
    std::int64_t in_channels, out_channels, kernel_t, kernel_s;
    PaddingOption padding;
    std::size_t layer = 0;
  };
  /// One pass over the movie: its kernel (t,h,w) and the zeros around its input.
  struct Stage {
    AxisSizes<3> kernel;
    Padding3d padding;
  };

  /// x (B,T,H,W,C) -> (B,T',H',W',C').
  virtual Tensor forward(const Tensor& x) const = 0;
  /// What the regularizers of spatial kernels see; undefined where the type has none.
  virtual Tensor spatial_weight() const { return {}; }
  /// The term of core_gamma_temporal; undefined where there is none.
  virtual Tensor temporal_regularizer() const { return {}; }

  const Geometry& geometry() const { return geometry_; }
  const std::vector<Stage>& stages() const { return stages_; }
  /// (T,H,W) of the output; ShapeError naming the kernel where nothing is left.
  AxisSizes<3> output_size(AxisSizes<3> size) const;

 protected:
  /// A stage per kernel, each with the whole padding.
  CoreConvolution(const Geometry& geometry, const std::vector<AxisSizes<3>>& kernels);

 private:
  Geometry geometry_;
  std::vector<Stage> stages_;
};

/// A convolution_type, and the regularizers that it has.
struct CoreConvolutionType {
  const char* name;
  bool spatial_regularizers, temporal_regularizer;
  std::unique_ptr<CoreConvolution> (*make)(const CoreConvolution::Geometry&, const Placement&, Random&);
};
const std::vector<CoreConvolutionType>& core_convolution_types();
/// Of a name that exists.
const CoreConvolutionType& core_convolution_type(const std::string& name);

}  // namespace fovea
