#include "models/separable_core.hpp"

namespace fovea {
namespace {

constexpr auto where = "CoreReadout";

Padding3d resolve(const PaddingOption& option, std::array<std::int64_t, 3> kernel) {
  if (const bool* same = std::get_if<bool>(&option))
    return *same ? Padding3d::same(kernel) : Padding3d::none();
  if (const auto* all = std::get_if<std::int64_t>(&option)) return Padding3d::symmetric({*all, *all, *all});
  return Padding3d::symmetric(std::get<std::array<std::int64_t, 3>>(option));
}

std::string shown(std::array<std::int64_t, 3> size) { return to_string(Shape{size[0], size[1], size[2]}); }

Tensor new_normal(const Shape& shape, double deviation, const Placement& placement, Random& random) {
  const Tensor tensor(shape, placement.dtype, placement.device);
  random.normal(tensor, 0.0, deviation);
  return tensor;
}

}  // namespace

SeparableLayer::Convolution::Convolution(const Geometry& g, const Placement& placement, Random& random) {
  const std::int64_t harmonics = g.kernel_t / 3;
  if (harmonics < 1)
    throw ConfigError(where,
                      text("temporal_kernel_sizes must be at least 3 with custom_separable: ", g.kernel_t));
  const auto normal = [&](const Shape& shape) { return new_normal(shape, 0.01, placement, random); };
  sin_weights =
      add_tensor("sin_weights", Role::parameter, normal({g.out_channels, g.in_channels, harmonics}));
  cos_weights =
      add_tensor("cos_weights", Role::parameter, normal({g.out_channels, g.in_channels, harmonics}));
  weight_spatial = add_tensor("weight_spatial", Role::parameter,
                              normal({g.out_channels, g.in_channels, 1, g.kernel_s, g.kernel_s}));
  log_speed =
      add_tensor("_log_speed_default", Role::constant, Tensor::zeros({1}, placement.dtype, placement.device));
}

SeparableLayer::Norm::Norm(std::int64_t channels, const Placement& p) {
  weight = add_tensor("weight", Role::parameter, Tensor::full({channels}, 1.0, p.dtype, p.device));
  bias = add_tensor("bias", Role::parameter, Tensor::zeros({channels}, p.dtype, p.device));
  running_mean = add_tensor("running_mean", Role::statistic, Tensor::zeros({channels}, p.dtype, p.device));
  running_var = add_tensor("running_var", Role::statistic, Tensor::full({channels}, 1.0, p.dtype, p.device));
  num_batches_tracked =
      add_tensor("num_batches_tracked", Role::statistic, Tensor::zeros({}, DType::i64, p.device));
}

SeparableLayer::Bias::Bias(std::int64_t channels, const Placement& p) {
  bias = add_tensor("bias", Role::parameter, Tensor::zeros({1, channels, 1, 1, 1}, p.dtype, p.device));
}

SeparableLayer::SeparableLayer(const Geometry& geometry, const Placement& placement, Random& random)
    : geometry_(geometry),
      conv_(geometry, placement, random),
      norm_(geometry.out_channels, placement),
      bias_(geometry.out_channels, placement) {
  add_child("conv", conv_);
  add_child("norm", norm_);
  add_child("bias", bias_);
}

Tensor SeparableLayer::forward(const Tensor& x, const Pass& pass) const {
  const Tensor temporal =
      temporal_kernel(conv_.sin_weights, conv_.cos_weights, conv_.log_speed, geometry_.kernel_t);
  Tensor y = sepconv3d(x, conv_.weight_spatial, temporal, geometry_.padding);
  const BatchNormTensors norm{norm_.weight, norm_.bias, bias_.bias, norm_.running_mean, norm_.running_var};
  BatchNormOptions options;
  options.training = pass.training && !norm_.frozen();
  y = batch_norm_elu(y, norm, options);
  if (options.training) norm_.num_batches_tracked.fill(norm_.num_batches_tracked.item() + 1);
  if (pass.training && pass.random && geometry_.dropout > 0) {
    const Tensor factors({y.shape()[0], geometry_.out_channels}, y.dtype(), y.device());
    pass.random->dropout_factors(factors, geometry_.dropout);
    y = scale_channels(y, factors);
  }
  return geometry_.pool ? max_pool3d(y, {1, 2, 2}) : y;
}

std::array<std::int64_t, 3> SeparableLayer::output_size(std::array<std::int64_t, 3> size) const {
  const std::array<std::int64_t, 3> kernel{geometry_.kernel_t, geometry_.kernel_s, geometry_.kernel_s};
  std::array<std::int64_t, 3> out{};
  for (std::size_t axis = 0; axis < 3; ++axis)
    out[axis] =
        size[axis] + geometry_.padding.before[axis] + geometry_.padding.after[axis] - kernel[axis] + 1;
  if (geometry_.pool) out = {out[0], out[1] / 2, out[2] / 2};
  if (out[0] < 1 || out[1] < 1 || out[2] < 1)
    throw ShapeError(where, text("input ", shown(size), " is too small for kernel ", shown(kernel),
                                 geometry_.pool ? " and pooling" : ""));
  return out;
}

SeparableCore::SeparableCore(const CoreReadoutOptions& options, const Placement& placement, Random& random)
    : options_(options) {
  for (std::size_t l = 0; l < options.hidden_channels.size(); ++l) {
    const std::int64_t in = l ? options.hidden_channels[l - 1] : options.in_shape[0];
    const std::int64_t kt = options.temporal_kernel_sizes[l], ks = options.spatial_kernel_sizes[l];
    const PaddingOption& padding = l ? options.core_hidden_padding : options.core_input_padding;
    const auto every = options.maxpool_every_n_layers;
    const bool pool = every && static_cast<std::int64_t>(l) % *every == 0;
    layers_.push_back(std::make_unique<SeparableLayer>(
        SeparableLayer::Geometry{in, options.hidden_channels[l], kt, ks, resolve(padding, {kt, ks, ks}), pool,
                                 options.dropout_rate},
        placement, random));
    features_.add_child("layer" + std::to_string(l), *layers_.back());
  }
  add_child("features", features_);
}

Tensor SeparableCore::forward(const Tensor& x, const Pass& pass) const {
  Tensor y =
      options_.downsample_input_kernel_size ? average_pool3d(x, *options_.downsample_input_kernel_size) : x;
  for (const auto& layer : layers_) y = layer->forward(y, pass);
  return options_.cut_first_n_frames_in_core ? drop_first_frames(y, options_.cut_first_n_frames_in_core) : y;
}

Tensor SeparableCore::regularizer() const {
  std::vector<Tensor> terms;
  std::vector<double> factors;
  const auto add = [&](double factor, const Tensor& term) {
    terms.push_back(term);
    factors.push_back(factor);
  };
  if (options_.core_gamma_input != 0)
    add(options_.core_gamma_input, laplace_ratio(layers_[0]->weight_spatial()));
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const double sparse = options_.core_gamma_in_sparse + (l ? options_.core_gamma_hidden : 0.0);
    if (sparse != 0) add(sparse, group_sparsity(layers_[l]->weight_spatial()));
    if (options_.core_gamma_temporal != 0)
      add(options_.core_gamma_temporal,
          temporal_smoothing(layers_[l]->sin_weights(), layers_[l]->cos_weights()));
  }
  return terms.empty() ? Tensor() : weighted_sum(terms, factors);
}

CoreSizes SeparableCore::sizes(std::array<std::int64_t, 3> input) const {
  CoreSizes sizes;
  if (const auto& kernel = options_.downsample_input_kernel_size)
    for (std::size_t axis = 0; axis < 3; ++axis) input[axis] /= (*kernel)[axis];
  if (input[0] < 1 || input[1] < 1 || input[2] < 1)
    throw ShapeError(where, text("downsample_input_kernel_size leaves nothing of the input: ", shown(input)));
  sizes.input = sizes.output = input;
  for (const auto& layer : layers_) sizes.layers.push_back(sizes.output = layer->output_size(sizes.output));
  sizes.output[0] -= options_.cut_first_n_frames_in_core;
  if (sizes.output[0] < 1)
    throw ShapeError(where, text("cut_first_n_frames_in_core leaves no frames: ",
                                 options_.cut_first_n_frames_in_core, " of ", sizes.layers.back()[0]));
  return sizes;
}

}  // namespace fovea
