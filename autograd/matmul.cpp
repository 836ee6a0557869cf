#include "kernels/matmul.hpp"

#include "autograd/op.hpp"

namespace fovea {
namespace {

struct MatmulBackward final : Node {
  MatmulShape shape;
  Tensor a, b;

  void backward(const Tensor& d_output) override {
    dispatch("matmul", a.dtype(), [&]<class T>() {
      const MatmulKernels<T>& kernels = tables<T>(a.device()).matmul;
      const Queue queue = queue_of(a);
      if (const GradientBuffer db = input_gradient(1))
        kernels.tn(db.data<T>(), a.data<T>(), d_output.data<T>(), {shape.k, shape.n, shape.m}, db.mode,
                   queue);
      a = Tensor();
      if (const GradientBuffer da = input_gradient(0))
        kernels.nt(da.data<T>(), d_output.data<T>(), b.data<T>(), {shape.m, shape.k, shape.n}, da.mode,
                   queue);
    });
  }
};

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  check_same("matmul", {a, b});
  if (a.shape().rank() != 2 || b.shape().rank() != 2 || a.shape()[1] != b.shape()[0])
    throw ShapeError("matmul", text("factors must be (M,K) and (K,N): ", a.shape(), " and ", b.shape()));
  const MatmulShape shape{a.shape()[0], b.shape()[1], a.shape()[1]};
  Tensor c({shape.m, shape.n}, a.dtype(), a.device());
  dispatch("matmul", a.dtype(), [&]<class T>() {
    tables<T>(a.device())
        .matmul.nn(c.data<T>(), a.data<T>(), b.data<T>(), shape, Write::overwrite, queue_of(a));
  });
  if (needs_record({a, b})) {
    MatmulBackward node;
    node.shape = shape;
    node.a = a.detach();
    node.b = b.detach();
    record(c, {a, b}, std::move(node));
  }
  return c;
}

}  // namespace fovea
