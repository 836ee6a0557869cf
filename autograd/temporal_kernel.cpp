#include "kernels/temporal_kernel.hpp"

#include "autograd/op.hpp"

namespace fovea {
namespace {

TemporalKernelShape checked_shape(const Tensor& sin_weights, const Tensor& cos_weights,
                                  const Tensor& log_speed, std::int64_t length) {
  constexpr auto op = "temporal_kernel";
  check_same(op, {sin_weights, cos_weights, log_speed});
  const Shape& weights = sin_weights.shape();
  if (weights.rank() != 3 || cos_weights.shape() != weights)
    throw ShapeError(
        op, text("sin and cos weights must both be (O,I,K): ", weights, " and ", cos_weights.shape()));
  if (log_speed.elements() != 1)
    throw ShapeError(op, text("log_speed must be one value: ", log_speed.shape()));
  if (length < 1) throw ShapeError(op, text("length must be at least 1: ", length));
  return {weights[0] * weights[1], weights[2], length};
}

struct TemporalKernelBackward final : Node {
  TemporalKernelShape shape;
  Tensor log_speed;

  void backward(const Tensor& d_output) override {
    dispatch("temporal_kernel", d_output.dtype(), [&]<class T>() {
      const GradientBuffer dsin = input_gradient(0), dcos = input_gradient(1);
      tables<T>(d_output.device())
          .temporal_kernel.grad_weights(dsin.data<T>(), dcos.data<T>(), d_output.data<T>(),
                                        log_speed.data<T>(), shape, dsin.mode, dcos.mode, queue_of(d_output));
    });
  }
};

}  // namespace

Tensor temporal_kernel(const Tensor& sin_weights, const Tensor& cos_weights, const Tensor& log_speed,
                       std::int64_t length) {
  const TemporalKernelShape shape = checked_shape(sin_weights, cos_weights, log_speed, length);
  const Tensor temporal({sin_weights.shape()[0], sin_weights.shape()[1], length}, sin_weights.dtype(),
                        sin_weights.device());
  dispatch("temporal_kernel", temporal.dtype(), [&]<class T>() {
    tables<T>(temporal.device())
        .temporal_kernel.forward(temporal.data<T>(), sin_weights.data<T>(), cos_weights.data<T>(),
                                 log_speed.data<T>(), shape, queue_of(temporal));
  });
  if (needs_record({sin_weights, cos_weights})) {
    TemporalKernelBackward node;
    node.shape = shape;
    node.log_speed = log_speed.detach();
    record(temporal, {sin_weights, cos_weights}, std::move(node));
  }
  return temporal;
}

}  // namespace fovea
