#include "models/conv_core.hpp"

namespace fovea {
namespace {

constexpr auto where = "CoreReadout";

}  // namespace

ConvLayer::Bias::Bias(std::int64_t channels, const Placement& p) {
  bias = add_tensor("bias", Role::parameter, Tensor::zeros({1, channels, 1, 1, 1}, p.dtype, p.device));
}

ConvLayer::ConvLayer(std::unique_ptr<CoreConvolution> convolution, const Options& options,
                     const Placement& placement)
    : conv_(std::move(convolution)),
      options_(options),
      norm_(out_channels(), {where}, placement),
      bias_(out_channels(), placement) {
  add_child("conv", *conv_);
  add_child("norm", norm_);
  add_child("bias", bias_);
}

Tensor ConvLayer::forward(const Tensor& x, const Pass& pass) const {
  Tensor y = norm_.forward(conv_->forward(x), pass, {ActivationKind::elu}, {{}, bias_.bias});
  if (pass.drops_out() && options_.dropout > 0) {
    const Tensor factors({y.shape()[0], out_channels()}, y.dtype(), y.device());
    pass.random->dropout_factors(factors, options_.dropout);
    y = scale_channels(y, factors);
  }
  return options_.pool ? max_pool3d(y, {1, 2, 2}) : y;
}

std::array<std::int64_t, 3> ConvLayer::output_size(std::array<std::int64_t, 3> size) const {
  const std::array<std::int64_t, 3> out = conv_->output_size(size);
  if (!options_.pool) return out;
  if (out[1] < 2 || out[2] < 2)
    throw ShapeError(where, text("layer ", conv_->geometry().layer, ": the output ", size_text(out),
                                 " of its convolution is too small for 2 x 2 pooling"));
  return {out[0], out[1] / 2, out[2] / 2};
}

ConvCore::ConvCore(const CoreReadoutOptions& options, const Placement& placement, Random& random)
    : options_(options) {
  const CoreConvolutionType& type = core_convolution_type(options.convolution_type);
  for (std::size_t l = 0; l < options.hidden_channels.size(); ++l) {
    const CoreConvolution::Geometry geometry{l ? options.hidden_channels[l - 1] : options.in_shape[0],
                                             options.hidden_channels[l],
                                             options.temporal_kernel_sizes[l],
                                             options.spatial_kernel_sizes[l],
                                             l ? options.core_hidden_padding : options.core_input_padding,
                                             l};
    const auto every = options.maxpool_every_n_layers;
    const bool pool = every && static_cast<std::int64_t>(l) % *every == 0;
    layers_.push_back(std::make_unique<ConvLayer>(type.make(geometry, placement, random),
                                                  ConvLayer::Options{pool, options.dropout_rate}, placement));
    features_.add_child("layer" + std::to_string(l), *layers_.back());
  }
  add_child("features", features_);
}

Tensor ConvCore::forward(const Tensor& x, const Pass& pass) const {
  Tensor y =
      options_.downsample_input_kernel_size ? average_pool3d(x, *options_.downsample_input_kernel_size) : x;
  for (const auto& layer : layers_) y = layer->forward(y, pass);
  return options_.cut_first_n_frames_in_core ? drop_first_frames(y, options_.cut_first_n_frames_in_core) : y;
}

Tensor ConvCore::regularizer() const {
  std::vector<Tensor> terms;
  std::vector<double> factors;
  const auto add = [&](double factor, const Tensor& term) {
    terms.push_back(term);
    factors.push_back(factor);
  };
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const CoreConvolution& conv = layers_[l]->convolution();
    if (l == 0 && options_.core_gamma_input != 0)
      add(options_.core_gamma_input, laplace_ratio(conv.spatial_weight()));
    const double sparse = options_.core_gamma_in_sparse + (l ? options_.core_gamma_hidden : 0.0);
    if (sparse != 0) add(sparse, group_sparsity(conv.spatial_weight()));
    if (options_.core_gamma_temporal != 0)
      if (const Tensor term = conv.temporal_regularizer()) add(options_.core_gamma_temporal, term);
  }
  return terms.empty() ? Tensor() : weighted_sum(terms, factors);
}

CoreSizes ConvCore::sizes(std::array<std::int64_t, 3> input) const {
  CoreSizes sizes;
  if (input[0] < 1) throw ShapeError(where, text("a stimulus needs at least one frame: ", input[0]));
  if (const auto& kernel = options_.downsample_input_kernel_size) {
    const std::array<std::int64_t, 3> whole = input;
    for (std::size_t axis = 0; axis < 3; ++axis) input[axis] /= (*kernel)[axis];
    if (input[0] < 1 || input[1] < 1 || input[2] < 1)
      throw ShapeError(where, text("downsample_input_kernel_size ", size_text(*kernel),
                                   " leaves nothing of the input: ", size_text(whole)));
  }
  sizes.input = sizes.output = input;
  for (const auto& layer : layers_) sizes.layers.push_back(sizes.output = layer->output_size(sizes.output));
  sizes.output[0] -= options_.cut_first_n_frames_in_core;
  if (sizes.output[0] < 1)
    throw ShapeError(where, text("cut_first_n_frames_in_core leaves no frames: ",
                                 options_.cut_first_n_frames_in_core, " of ", sizes.layers.back()[0]));
  return sizes;
}

}  // namespace fovea
