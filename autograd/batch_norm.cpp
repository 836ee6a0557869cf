#include "kernels/batch_norm.hpp"

#include "autograd/op.hpp"

namespace fovea {
namespace {

Tensor detached(const Tensor& tensor) { return tensor.defined() ? tensor.detach() : Tensor(); }

BatchNormShape checked_shape(const char* op, const Tensor& x, const BatchNormTensors& tensors,
                             const BatchNormOptions& options) {
  check_same(
      op, {x, tensors.weight, tensors.bias, tensors.channel_bias, tensors.running_mean, tensors.running_var});
  if (x.shape().rank() < 2) throw ShapeError(op, text("input must be (..., C): ", x.shape()));
  const std::int64_t channels = x.shape()[-1];
  if (!tensors.running_mean || !tensors.running_var)
    throw ShapeError(op, text("needs running statistics for ", channels, " channels"));
  const auto check = [&](const char* name, const Tensor& tensor) {
    if (tensor) check_shape(op, name, tensor, {channels});
  };
  check("weight", tensors.weight);
  check("bias", tensors.bias);
  check("running_mean", tensors.running_mean);
  check("running_var", tensors.running_var);
  if (tensors.channel_bias && tensors.channel_bias.elements() != channels)
    throw ShapeError(op,
                     text("channel bias must have ", channels, " values: ", tensors.channel_bias.shape()));
  const std::int64_t rows = channels ? x.elements() / channels : 0;
  if (options.training && rows < 2)
    throw ShapeError(op, text("training needs more than one value per channel: ", x.shape()));
  return {rows, channels, options.eps, options.momentum, options.activation};
}

struct BatchNormBackward final : Node {
  BatchNormShape shape;
  bool training;
  Tensor x, weight, bias, channel_bias;
  Tensor mean, spread;  // training: of the batch, 1 / deviation; evaluation: running statistics, variance

  void backward(const Tensor& d_output) override {
    dispatch("batch_norm", x.dtype(), [&]<class T>() {
      const BatchNormKernels<T>& kernels = tables<T>(x.device()).batch_norm;
      const GradientBuffer dx = input_gradient_over(0, d_output);
      const Tensor dweight(mean.shape(), x.dtype(), x.device()), dbias = empty_like(dweight);
      const auto grad = training ? kernels.grad_training : kernels.grad_evaluation;
      grad(dx.data<T>(), dweight.data<T>(), dbias.data<T>(), d_output.data<T>(), x.data<T>(), mean.data<T>(),
           spread.data<T>(), {data_or_null<T>(weight), data_or_null<T>(bias), data_or_null<T>(channel_bias)},
           shape, dx.mode, queue_of(x));
      pass_gradient(1, dweight);
      if (needs_gradient(2) && needs_gradient(3)) {
        // Two gradients with the same values: the second must not share memory with the first.
        pass_gradient(3, dbias.clone().reshape(channel_bias.shape()));
      } else if (needs_gradient(3)) {
        pass_gradient(3, dbias.reshape(channel_bias.shape()));
      }
      pass_gradient(2, dbias);
    });
  }
};

Tensor normalise(const char* op, const Tensor& x, const BatchNormTensors& tensors,
                 const BatchNormOptions& options) {
  const BatchNormShape shape = checked_shape(op, x, tensors, options);
  Tensor y = empty_like(x);
  BatchNormBackward node;
  dispatch(op, x.dtype(), [&]<class T>() {
    const BatchNormKernels<T>& kernels = tables<T>(x.device()).batch_norm;
    const BatchNormParameters<T> parameters{data_or_null<T>(tensors.weight), data_or_null<T>(tensors.bias),
                                            data_or_null<T>(tensors.channel_bias)};
    if (options.training) {
      node.mean = empty_like(tensors.running_mean);
      node.spread = empty_like(tensors.running_var);
      kernels.forward_training(y.data<T>(), node.mean.data<T>(), node.spread.data<T>(),
                               tensors.running_mean.data<T>(), tensors.running_var.data<T>(), x.data<T>(),
                               parameters, shape, queue_of(x));
    } else {
      node.mean = tensors.running_mean.detach();
      node.spread = tensors.running_var.detach();
      kernels.forward_evaluation(y.data<T>(), node.mean.data<T>(), node.spread.data<T>(), x.data<T>(),
                                 parameters, shape, queue_of(x));
    }
  });
  if (needs_record({x, tensors.weight, tensors.bias, tensors.channel_bias})) {
    node.shape = shape;
    node.training = options.training;
    node.x = x.detach();
    node.weight = detached(tensors.weight);
    node.bias = detached(tensors.bias);
    node.channel_bias = detached(tensors.channel_bias);
    record(y, {x, tensors.weight, tensors.bias, tensors.channel_bias}, std::move(node));
  }
  return y;
}

}  // namespace

Tensor batch_norm(const Tensor& x, const BatchNormTensors& tensors, const BatchNormOptions& options) {
  return normalise("batch_norm", x, tensors, options);
}

Tensor batch_norm_elu(const Tensor& x, const BatchNormTensors& tensors, BatchNormOptions options) {
  options.activation = {ActivationKind::elu};
  return normalise("batch_norm_elu", x, tensors, options);
}

}  // namespace fovea
