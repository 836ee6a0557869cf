#include "autograd/op.hpp"

namespace fovea {
namespace {

void run_multiply(const Tensor& y, const Tensor& a, const Tensor& b, Write mode) {
  dispatch("multiply", a.dtype(), [&]<class T>() {
    tables<T>(a.device())
        .elementwise.multiply(y.data<T>(), a.data<T>(), b.data<T>(), a.elements(), mode, queue_of(a));
  });
}

struct MultiplyBackward final : Node {
  Tensor a, b;

  void backward(const Tensor& d_output) override {
    if (const GradientBuffer da = input_gradient(0)) run_multiply(da.tensor, d_output, b, da.mode);
    if (const GradientBuffer db = input_gradient(1)) run_multiply(db.tensor, d_output, a, db.mode);
  }
};

}  // namespace

Tensor multiply(const Tensor& a, const Tensor& b) {
  check_same("multiply", {a, b});
  check_shape("multiply", "second factor", b, a.shape());
  const Tensor y = empty_like(a);
  run_multiply(y, a, b, Write::overwrite);
  if (needs_record({a, b})) {
    MultiplyBackward node;
    node.a = a.detach();
    node.b = b.detach();
    record(y, {a, b}, std::move(node));
  }
  return y;
}

}  // namespace fovea
