#include "autograd/mask_readout.hpp"

namespace fovea {
namespace {

MaskReadoutShape checked_shape(const Tensor& x, const Tensor& mask, const Tensor& features,
                               const Tensor& scale, const Tensor& bias, bool neurons_last) {
  constexpr auto op = "mask_readout";
  check_same(op, {x, mask, features, scale, bias});
  const Shape& in = x.shape();
  if (in.rank() != 5) throw ShapeError(op, text("input must be (B,T,H,W,C): ", in));
  if (mask.shape().rank() != 3)
    throw ShapeError(op, text("mask must be ", neurons_last ? "(H,W,N)" : "(N,H,W)", ": ", mask.shape()));
  const std::int64_t neurons = mask.shape()[neurons_last ? 2 : 0];
  check_shape(op, "mask", mask, neurons_last ? Shape{in[2], in[3], neurons} : Shape{neurons, in[2], in[3]});
  if (features.elements() != in[4] * neurons)
    throw ShapeError(op, text("features must have ", in[4], " x ", neurons, " values: ", features.shape()));
  if (scale) check_shape(op, "scale", scale, {neurons});
  if (bias) check_shape(op, "bias", bias, {neurons});
  return {in[0] * in[1], in[2] * in[3], in[4], neurons, neurons_last, {ActivationKind::softplus}};
}

struct MaskReadoutBackward final : Node {
  MaskReadoutShape shape;
  Tensor x, mask, features, scale, bias;
  Tensor weight, z;

  void backward(const Tensor& d_output) override {
    dispatch("mask_readout", x.dtype(), [&]<class T>() {
      const MatmulKernels<T>& matmul = tables<T>(x.device()).matmul;
      const Queue queue = queue_of(x);
      const Tensor dz = activation_gradient<T>(d_output);
      if (needs_gradient(1) || needs_gradient(2)) weight_gradient<T>(dz);
      x = Tensor();
      if (const GradientBuffer dx = input_gradient(0))
        matmul.nt(dx.data<T>(), dz.data<T>(), weight.data<T>(),
                  {shape.rows, shape.pixels * shape.channels, shape.neurons}, dx.mode, queue);
    });
  }

  template <class T>
  void weight_gradient(const Tensor& dz) {
    const KernelTables<T>& kernels = tables<T>(x.device());
    const std::int64_t taps = shape.pixels * shape.channels;
    const Tensor dweight = empty_like(weight);
    kernels.matmul.tn(dweight.data<T>(), x.data<T>(), dz.data<T>(), {taps, shape.neurons, shape.rows},
                      Write::overwrite, queue_of(x));
    const GradientBuffer dmask = input_gradient(1), dfeatures = input_gradient(2);
    kernels.mask_readout.grad_weight(dmask.data<T>(), dfeatures.data<T>(), dweight.data<T>(), mask.data<T>(),
                                     features.data<T>(), shape, dmask.mode, dfeatures.mode, queue_of(x));
  }

  template <class T>
  Tensor activation_gradient(const Tensor& d_output) {
    Tensor dz = empty_like(z);
    const GradientBuffer dscale = input_gradient(3), dbias = input_gradient(4);
    tables<T>(x.device())
        .mask_readout.grad_activate(dz.data<T>(), dscale.data<T>(), dbias.data<T>(), d_output.data<T>(),
                                    z.data<T>(), data_or_null<T>(scale), data_or_null<T>(bias), shape,
                                    dscale.mode, dbias.mode, queue_of(x));
    return dz;
  }
};

}  // namespace

Tensor weighted_readout(const char* op, const MaskReadoutShape& shape, const Shape& result, const Tensor& x,
                        const Tensor& mask, const Tensor& features, const Tensor& scale, const Tensor& bias) {
  const std::int64_t taps = shape.pixels * shape.channels;
  const Tensor weight({taps, shape.neurons}, x.dtype(), x.device());
  const Tensor z({shape.rows, shape.neurons}, x.dtype(), x.device());
  Tensor y(result, x.dtype(), x.device());
  dispatch(op, x.dtype(), [&]<class T>() {
    const KernelTables<T>& kernels = tables<T>(x.device());
    const Queue queue = queue_of(x);
    kernels.mask_readout.weight(weight.data<T>(), mask.data<T>(), features.data<T>(), shape, queue);
    kernels.matmul.nn(z.data<T>(), x.data<T>(), weight.data<T>(), {shape.rows, shape.neurons, taps},
                      Write::overwrite, queue);
    kernels.mask_readout.activate(y.data<T>(), z.data<T>(), data_or_null<T>(scale), data_or_null<T>(bias),
                                  shape, queue);
  });
  if (needs_record({x, mask, features, scale, bias})) {
    MaskReadoutBackward node;
    node.shape = shape;
    node.x = x.detach();
    node.mask = mask.detach();
    node.features = features.detach();
    if (scale) node.scale = scale.detach();
    if (bias) node.bias = bias.detach();
    node.weight = weight;
    node.z = z;
    record(y, {x, mask, features, scale, bias}, std::move(node));
  }
  return y;
}

Tensor mask_readout(const Tensor& x, const Tensor& mask, const Tensor& features, const Tensor& scale,
                    const Tensor& bias, bool neurons_last) {
  const MaskReadoutShape shape = checked_shape(x, mask, features, scale, bias, neurons_last);
  return weighted_readout("mask_readout", shape, {x.shape()[0], x.shape()[1], shape.neurons}, x, mask,
                          features, scale, bias);
}

}  // namespace fovea
