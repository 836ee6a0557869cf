#include "models/klindt_parts.hpp"

#include <algorithm>
#include <cmath>

#include "fovea/autograd.hpp"

namespace fovea {
namespace {

constexpr double batch_norm_momentum = 0.002;

Tensor normal(const Shape& shape, const std::array<double, 2>& scale, const Placement& p, Random& random) {
  Tensor tensor(shape, p.dtype, p.device);
  random.normal(tensor, scale[0], scale[1]);
  return tensor;
}

}  // namespace

KlindtSize size_of_kernel(const KernelSize& kernel) {
  if (const auto* side = std::get_if<0>(&kernel)) return {1, *side, *side};
  if (const auto* plane = std::get_if<1>(&kernel)) return {1, (*plane)[0], (*plane)[1]};
  return std::get<2>(kernel);
}

KlindtSize size_of_image(const ImageSize& image) {
  if (const auto* side = std::get_if<0>(&image)) return {1, *side, *side};
  const auto& plane = std::get<1>(image);
  return {1, plane[0], plane[1]};
}

KlindtCore::KlindtCore(const KlindtCoreReadoutOptions& options, bool movies, const Placement& p,
                       Random& random)
    : options_(options), movies_(movies) {
  std::int64_t channels = options.image_channels;
  for (std::size_t l = 0; l < options.num_kernels.size(); ++l) {
    const KlindtSize kernel = size_of_kernel(options.kernel_sizes[l]);
    const std::int64_t out = options.num_kernels[l];
    const auto& [kt, kh, kw] = kernel;
    kernels_.push_back(kernel);
    auto conv = std::make_unique<Conv>();
    const Shape shape = movies ? Shape{out, channels, kt, kh, kw} : Shape{out, channels, kh, kw};
    conv->weight =
        conv->add_tensor("weight", Role::parameter, normal(shape, options.init_scales[0], p, random));
    if (!options.batch_norm) {
      conv->bias = conv->add_tensor("bias", Role::parameter, Tensor({out}, p.dtype, p.device));
      const double bound = 1 / std::sqrt(static_cast<double>(channels * kt * kh * kw));
      random.uniform(conv->bias, -bound, bound);
    }
    const std::string index = std::to_string(l);
    conv_layers_.add_child(index, *conv);
    convs_.push_back(std::move(conv));
    if (options.batch_norm) {
      norms_.push_back(std::make_unique<BatchNormLayer>(
          out, BatchNormLayer::Options{class_name(), options.bn_cent, batch_norm_momentum}, p));
      bn_layers_.add_child(index, *norms_.back());
    }
    const ActivationSpec spec = parse_activation(class_name(), "act_fns", options.act_fns[l]);
    activations_.push_back(std::make_unique<KlindtActivation>(spec, p));
    activation_layers_.add_child(index, *activations_.back());
    channels = out;
  }
  add_child("conv_layers", conv_layers_);
  add_child("bn_layers", bn_layers_);
  add_child("activation_layers", activation_layers_);
  apply_constraints();
}

void KlindtCore::apply_constraints() const {
  if (!options_.kernel_constraint) return;
  const NoGrad guard;
  for (const auto& conv : convs_) unit_norm_(conv->weight, 2, conv->weight.shape().rank() - 1);
}

/// Single values of images, whole channels of movies.
Tensor KlindtCore::dropped_out(const Tensor& x, const Pass& pass) const {
  const double rate = options_.reg[3];
  if (!pass.drops_out() || rate == 0) return x;
  const Shape& shape = x.shape();
  const Tensor factors(movies_ ? Shape{shape[0], shape[-1]} : shape, x.dtype(), x.device());
  pass.random->dropout_factors(factors, rate);
  return movies_ ? scale_channels(x, factors) : multiply(x, factors);
}

Tensor KlindtCore::forward(const Tensor& x, const Pass& pass) const {
  Tensor y = dropped_out(x, pass);
  for (std::size_t l = 0; l < convs_.size(); ++l) {
    const Conv& conv = *convs_[l];
    y = movies_ ? conv3d(y, conv.weight, conv.bias) : conv2d(y, conv.weight, conv.bias);
    const KlindtActivation& activation = *activations_[l];
    if (!norms_.empty() && activation.fixed()) {
      y = norms_[l]->forward(y, pass, activation.activation());
    } else {
      if (!norms_.empty()) y = norms_[l]->forward(y, pass, {});
      y = activation.forward(y);
    }
  }
  return y;
}

Tensor KlindtCore::regularizer() const {
  if (options_.reg[0] == 0) return {};
  std::vector<Tensor> terms;
  for (const auto& conv : convs_) terms.push_back(square_sum(conv->weight));
  return weighted_sum(terms, std::vector<double>(terms.size(), options_.reg[0]));
}

std::vector<KlindtSize> KlindtCore::sizes(KlindtSize input) const {
  std::vector<KlindtSize> sizes;
  for (std::size_t l = 0; l < kernels_.size(); ++l) {
    const KlindtSize& kernel = kernels_[l];
    KlindtSize output;
    for (std::size_t axis = 0; axis < 3; ++axis) output[axis] = input[axis] - kernel[axis] + 1;
    if (*std::min_element(output.begin(), output.end()) < 1)
      throw ShapeError(class_name(), text("layer ", l, ": its input ", shown_size(input),
                                          " is too small for kernel_sizes[", l, "]: ", shown_size(kernel)));
    input = output;
    sizes.push_back(input);
  }
  return sizes;
}

std::int64_t KlindtCore::parameters_of(std::size_t layer) const {
  return convs_[layer]->parameter_count() + activations_[layer]->parameter_count() +
         (norms_.empty() ? 0 : norms_[layer]->parameter_count());
}

KlindtReadout::KlindtReadout(const Geometry& g, const KlindtCoreReadoutOptions& options, const Placement& p,
                             Random& random)
    : geometry_(g), options_(options) {
  mask_weights_ = add_tensor("mask_weights", Role::parameter,
                             normal({g.height * g.width, g.neurons}, options.init_scales[1], p, random));
  readout_weights_ = add_tensor("readout_weights", Role::parameter,
                                normal({g.channels, g.neurons}, options.init_scales[2], p, random));
  if (options.final_relu)
    bias_ = add_tensor("bias", Role::parameter, Tensor::zeros({g.neurons}, p.dtype, p.device));
}

void KlindtReadout::apply_constraints() const {
  const NoGrad guard;
  const std::string weights = options_.weights_constraint.value_or("");
  if (options_.mask_constraint) abs_(mask_weights_);
  if (weights == "abs" || weights == "absnorm") abs_(readout_weights_);
  if (weights == "norm" || weights == "absnorm") unit_norm_(readout_weights_, 0, 0);
}

Tensor KlindtReadout::forward(const Tensor& x) const {
  FactorizedReadoutOptions options;
  options.masks_neurons_last = true;
  options.final_relu = options_.final_relu;
  return factorized_readout(x, mask_weights_, readout_weights_, bias_, options);
}

Tensor KlindtReadout::regularizer() const {
  std::vector<Tensor> terms;
  std::vector<double> factors;
  const auto add = [&](double factor, const Tensor& weights) {
    if (factor == 0) return;
    terms.push_back(absolute_sum(weights));
    factors.push_back(factor / static_cast<double>(geometry_.neurons));
  };
  add(options_.reg[1], mask_weights_);
  add(options_.reg[2], readout_weights_);
  return terms.empty() ? Tensor() : weighted_sum(terms, factors);
}

}  // namespace fovea
