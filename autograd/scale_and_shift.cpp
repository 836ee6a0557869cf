#include "autograd/op.hpp"

namespace fovea {
namespace {

struct ScaleAndShiftBackward final : Node {
  MaskReadoutShape shape;
  Tensor x, factor, offset;

  void backward(const Tensor& d_output) override {
    dispatch("scale_and_shift", x.dtype(), [&]<class T>() {
      const Tensor dx = empty_like(x), dfactor = empty_like(factor), doffset = empty_like(offset);
      tables<T>(x.device())
          .mask_readout.grad_activate(dx.data<T>(), dfactor.data<T>(), doffset.data<T>(), d_output.data<T>(),
                                      x.data<T>(), factor.data<T>(), offset.data<T>(), shape,
                                      Write::overwrite, Write::overwrite, queue_of(x));
      pass_gradient(0, dx);
      pass_gradient(1, dfactor);
      pass_gradient(2, doffset);
    });
  }
};

}  // namespace

/// The last step of a mask readout, with nothing before it.
Tensor scale_and_shift(const Tensor& x, const Tensor& factor, const Tensor& offset) {
  constexpr auto op = "scale_and_shift";
  check_same(op, {x, factor, offset});
  if (x.shape().rank() < 1) throw ShapeError(op, text("input must be (..., N): ", x.shape()));
  const std::int64_t neurons = x.shape()[-1];
  check_shape(op, "factor", factor, {neurons});
  check_shape(op, "offset", offset, {neurons});
  MaskReadoutShape shape{};
  shape.rows = neurons ? x.elements() / neurons : 0;
  shape.neurons = neurons;
  const Tensor y = empty_like(x);
  dispatch(op, x.dtype(), [&]<class T>() {
    tables<T>(x.device())
        .mask_readout.activate(y.data<T>(), x.data<T>(), factor.data<T>(), offset.data<T>(), shape,
                               queue_of(x));
  });
  if (needs_record({x, factor, offset})) {
    ScaleAndShiftBackward node;
    node.shape = shape;
    node.x = x.detach();
    node.factor = factor.detach();
    node.offset = offset.detach();
    record(y, {x, factor, offset}, std::move(node));
  }
  return y;
}

}  // namespace fovea
