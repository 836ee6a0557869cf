#include "models/core_convolution.hpp"

#include <cmath>

namespace fovea {
namespace {

constexpr auto where = "CoreReadout";
using Geometry = CoreConvolution::Geometry;

Padding3d resolve(const PaddingOption& option, const AxisSizes<3>& kernel) {
  if (const bool* same = std::get_if<bool>(&option))
    return *same ? Padding3d::same(kernel) : Padding3d::none();
  if (const auto* all = std::get_if<std::int64_t>(&option)) return Padding3d::symmetric({*all, *all, *all});
  return Padding3d::symmetric(std::get<std::array<std::int64_t, 3>>(option));
}

Tensor log_speed_of_zero(const Placement& placement) {
  return Tensor::zeros({1}, placement.dtype, placement.device);
}

/// The weight of a torch.nn.Conv3d without bias, initialised as PyTorch does: uniform in +-1/sqrt(fan in).
struct ConvWeight : Module {
  ConvWeight(std::int64_t out_channels, std::int64_t in_channels, const AxisSizes<3>& kernel,
             const Placement& placement, Random& random)
      : weight(add_tensor("weight", Role::parameter,
                          Tensor({out_channels, in_channels, kernel[0], kernel[1], kernel[2]},
                                 placement.dtype, placement.device))) {
    const std::int64_t fan_in = in_channels * kernel[0] * kernel[1] * kernel[2];
    const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
    random.uniform(weight, -bound, bound);
  }
  Tensor weight;
};

/// openretina's STSeparableBatchConv3d: a temporal kernel of sines and cosines times a spatial one, per pair
/// of channels.
class CustomSeparable final : public CoreConvolution {
 public:
  CustomSeparable(const Geometry& g, const Placement& placement, Random& random)
      : CoreConvolution(g, {{g.kernel_t, g.kernel_s, g.kernel_s}}) {
    const std::int64_t harmonics = g.kernel_t / 3;
    if (harmonics < 1)
      throw ConfigError(where, text("temporal_kernel_sizes[", g.layer,
                                    "] must be at least 3 with custom_separable: ", g.kernel_t));
    const auto normal = [&](const Shape& shape) {
      Tensor tensor(shape, placement.dtype, placement.device);
      random.normal(tensor, 0.0, 0.01);
      return tensor;
    };
    const Shape weights{g.out_channels, g.in_channels, harmonics};
    sin_weights_ = add_tensor("sin_weights", Role::parameter, normal(weights));
    cos_weights_ = add_tensor("cos_weights", Role::parameter, normal(weights));
    weight_spatial_ = add_tensor("weight_spatial", Role::parameter,
                                 normal({g.out_channels, g.in_channels, 1, g.kernel_s, g.kernel_s}));
    log_speed_ = add_tensor("_log_speed_default", Role::constant, log_speed_of_zero(placement));
  }

  Tensor forward(const Tensor& x) const override {
    const Tensor temporal = temporal_kernel(sin_weights_, cos_weights_, log_speed_, geometry().kernel_t);
    return sepconv3d(x, weight_spatial_, temporal, stages()[0].padding);
  }
  Tensor spatial_weight() const override { return weight_spatial_; }
  Tensor temporal_regularizer() const override { return temporal_smoothing(sin_weights_, cos_weights_); }

 private:
  Tensor sin_weights_, cos_weights_, weight_spatial_, log_speed_;
};

/// openretina's TorchSTSeparableConv3D: space, then time, each with the layer's whole padding, times
/// exp(log_speed).
class Separable final : public CoreConvolution {
 public:
  Separable(const Geometry& g, const Placement& placement, Random& random)
      : CoreConvolution(g, {{1, g.kernel_s, g.kernel_s}, {g.kernel_t, 1, 1}}),
        log_speed_(add_tensor("_log_speed_default", Role::constant, log_speed_of_zero(placement))),
        space_(g.out_channels, g.in_channels, stages()[0].kernel, placement, random),
        time_(g.out_channels, g.out_channels, stages()[1].kernel, placement, random) {
    add_child("space_conv", space_);
    add_child("time_conv", time_);
  }

  Tensor forward(const Tensor& x) const override {
    const Tensor y = conv3d(x, space_.weight, {}, {.padding = stages()[0].padding});
    // The factor on the output, applied to the few weights instead.
    const Tensor weight = scale(time_.weight, std::exp(log_speed_.item()));
    return conv3d(y, weight, {}, {.padding = stages()[1].padding});
  }
  Tensor temporal_regularizer() const override {
    return geometry().layer == 0 ? laplace_ratio_time(time_.weight) : Tensor();
  }

 private:
  Tensor log_speed_;
  ConvWeight space_, time_;
};

/// openretina's TorchFullConv3D. Its _log_speed_default is stored and changes nothing.
class Full final : public CoreConvolution {
 public:
  Full(const Geometry& g, const Placement& placement, Random& random)
      : CoreConvolution(g, {{g.kernel_t, g.kernel_s, g.kernel_s}}),
        conv_(g.out_channels, g.in_channels, stages()[0].kernel, placement, random) {
    add_tensor("_log_speed_default", Role::constant, log_speed_of_zero(placement));
    add_child("conv", conv_);
  }

  Tensor forward(const Tensor& x) const override {
    return conv3d(x, conv_.weight, {}, {.padding = stages()[0].padding});
  }

 private:
  ConvWeight conv_;
};

/// openretina's TimeIndependentConv3D: every frame by itself.
class TimeIndependent final : public CoreConvolution {
 public:
  TimeIndependent(const Geometry& g, const Placement& placement, Random& random)
      : CoreConvolution(g, {{1, g.kernel_s, g.kernel_s}}),
        conv_(g.out_channels, g.in_channels, stages()[0].kernel, placement, random) {
    add_child("conv", conv_);
  }

  Tensor forward(const Tensor& x) const override {
    return conv3d(x, conv_.weight, {}, {.padding = stages()[0].padding});
  }
  /// A constant: the reference regularizes a copy, so that values count and gradients do not.
  Tensor spatial_weight() const override { return conv_.weight.detach(); }

 private:
  ConvWeight conv_;
};

template <class Convolution>
std::unique_ptr<CoreConvolution> make(const Geometry& geometry, const Placement& placement, Random& random) {
  return std::make_unique<Convolution>(geometry, placement, random);
}

}  // namespace

std::string size_text(const AxisSizes<3>& size) {
  return text('(', size[0], ", ", size[1], ", ", size[2], ')');
}

CoreConvolution::CoreConvolution(const Geometry& geometry, const std::vector<AxisSizes<3>>& kernels)
    : geometry_(geometry) {
  for (const AxisSizes<3>& kernel : kernels) stages_.push_back({kernel, resolve(geometry.padding, kernel)});
}

AxisSizes<3> CoreConvolution::output_size(AxisSizes<3> size) const {
  for (const auto& [kernel, padding] : stages_) {
    for (std::size_t axis = 0; axis < 3; ++axis) size[axis] += padding.before[axis] + padding.after[axis];
    for (std::size_t axis = 0; axis < 3; ++axis)
      if (size[axis] < kernel[axis])
        throw ShapeError(where,
                         text("layer ", geometry_.layer, ": its input ", size_text(size),
                              ", padding included, is too small for ", axis == 0 ? "temporal" : "spatial",
                              "_kernel_sizes[", geometry_.layer, "]: ", kernel[axis]));
    for (std::size_t axis = 0; axis < 3; ++axis) size[axis] -= kernel[axis] - 1;
  }
  return size;
}

const std::vector<CoreConvolutionType>& core_convolution_types() {
  static const std::vector<CoreConvolutionType> types{
      {"custom_separable", true, true, make<CustomSeparable>},
      {"separable", false, true, make<Separable>},
      {"full", false, false, make<Full>},
      {"time_independent", true, false, make<TimeIndependent>},
  };
  return types;
}

const CoreConvolutionType& core_convolution_type(const std::string& name) {
  for (const CoreConvolutionType& type : core_convolution_types())
    if (type.name == name) return type;
  throw ConfigError(where, text("unknown convolution_type '", name, "'"));
}

}  // namespace fovea
