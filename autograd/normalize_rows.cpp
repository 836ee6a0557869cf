#include "kernels/normalize_rows.hpp"

#include "autograd/op.hpp"

namespace fovea {
namespace {

constexpr auto op = "normalize_rows";

std::int64_t columns_of(const Tensor& x) { return x.shape()[0] > 0 ? x.elements() / x.shape()[0] : 0; }

struct NormalizeRowsBackward final : Node {
  Tensor x;

  void backward(const Tensor& d_output) override {
    dispatch(op, x.dtype(), [&]<class T>() {
      if (const GradientBuffer dx = input_gradient(0))
        tables<T>(x.device())
            .normalize_rows.grad(dx.data<T>(), d_output.data<T>(), x.data<T>(), x.shape()[0], columns_of(x),
                                 dx.mode, queue_of(x));
    });
  }
};

}  // namespace

Tensor normalize_rows(const Tensor& x) {
  if (x.shape().rank() < 1) throw ShapeError(op, text("input must be (N,...): ", x.shape()));
  Tensor y = empty_like(x);
  dispatch(op, x.dtype(), [&]<class T>() {
    tables<T>(x.device())
        .normalize_rows.forward(y.data<T>(), x.data<T>(), x.shape()[0], columns_of(x), queue_of(x));
  });
  if (needs_record({x})) {
    NormalizeRowsBackward node;
    node.x = x.detach();
    record(y, {x}, std::move(node));
  }
  return y;
}

}  // namespace fovea
