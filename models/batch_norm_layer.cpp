#include "models/batch_norm_layer.hpp"

namespace fovea {

BatchNormLayer::BatchNormLayer(std::int64_t channels, const Options& options, const Placement& p)
    : options_(options) {
  const auto full = [&](double value) { return Tensor::full({channels}, value, p.dtype, p.device); };
  if (options.affine) {
    weight_ = add_tensor("weight", Role::parameter, full(1.0));
    bias_ = add_tensor("bias", Role::parameter, full(0.0));
  }
  running_mean_ = add_tensor("running_mean", Role::statistic, full(0.0));
  running_var_ = add_tensor("running_var", Role::statistic, full(1.0));
  num_batches_tracked_ =
      add_tensor("num_batches_tracked", Role::statistic, Tensor::zeros({}, DType::i64, p.device));
}

Tensor BatchNormLayer::forward(const Tensor& x, const Pass& pass, const Activation& activation,
                               const Outside& outside) const {
  BatchNormOptions options;
  options.momentum = options_.momentum;
  options.training = pass.training && !frozen();
  options.activation = activation;
  if (options.training && x.elements() / x.shape()[-1] < 2)
    throw ShapeError(options_.where, text("batch norm needs more than one value per channel in training: ",
                                          x.shape()[0], " sample of one pixel"));
  const Tensor scale = outside.scale ? outside.scale.reshape({outside.scale.elements()}) : weight_;
  Tensor y = batch_norm(x, {scale, bias_, outside.bias, running_mean_, running_var_}, options);
  if (options.training) num_batches_tracked_.fill(num_batches_tracked_.item() + 1);
  return y;
}

}  // namespace fovea
