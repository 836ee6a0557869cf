#include "autograd/op.hpp"

namespace fovea {
namespace {

void run_scale(const Tensor& y, const Tensor& x, double factor, Write mode) {
  dispatch("scale", x.dtype(), [&]<class T>() {
    tables<T>(x.device())
        .elementwise.scale(y.data<T>(), x.data<T>(), factor, x.elements(), mode, queue_of(x));
  });
}

struct ScaleBackward final : Node {
  double factor;

  void backward(const Tensor& d_output) override {
    if (const GradientBuffer dx = input_gradient(0)) run_scale(dx.tensor, d_output, factor, dx.mode);
  }
};

}  // namespace

Tensor scale(const Tensor& x, double factor) {
  const Tensor y = empty_like(x);
  run_scale(y, x, factor, Write::overwrite);
  if (needs_record({x})) {
    ScaleBackward node;
    node.factor = factor;
    record(y, {x}, std::move(node));
  }
  return y;
}

}  // namespace fovea
