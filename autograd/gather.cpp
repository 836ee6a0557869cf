#include "kernels/gather.hpp"

#include "autograd/op.hpp"

namespace fovea {
namespace {

constexpr auto op = "gather";

void check_index(const Tensor& x, const Tensor& index, std::int64_t source) {
  if (index.dtype() != DType::i64 || index.shape().rank() != 1)
    throw ShapeError(op, text("index must be i64 (N): ", index.dtype(), ' ', index.shape()));
  if (!(index.device() == x.device())) throw ShapeError(op, "inputs on one device");
  for (const std::int64_t entry : index.to_vector<std::int64_t>())
    if (entry < 0 || entry >= source)
      throw ShapeError(op, text("index must be from 0 to ", source - 1, ": ", entry));
}

GatherShape checked_shape(const Tensor& x, const Tensor& index, int axis, const Tensor& scales) {
  check_same(op, {x, scales});
  const Shape& in = x.shape();
  if (axis < 0 || axis >= in.rank())
    throw ShapeError(op, text("axis must be one of the ", in.rank(), " of the input: ", axis));
  check_index(x, index, in[axis]);
  if (scales && scales.elements() != index.elements())
    throw ShapeError(op, text("scales must have ", index.elements(), " values: ", scales.shape()));
  GatherShape shape{1, in[axis], index.elements(), 1};
  for (int before = 0; before < axis; ++before) shape.outer *= in[before];
  for (int after = axis + 1; after < in.rank(); ++after) shape.inner *= in[after];
  return shape;
}

struct GatherBackward final : Node {
  GatherShape shape;
  Tensor x, index, scales;

  void backward(const Tensor& d_output) override {
    dispatch(op, x.dtype(), [&]<class T>() {
      const GradientBuffer dx = input_gradient(0), dscales = input_gradient(1);
      tables<T>(x.device())
          .gather.grad(dx.data<T>(), dscales.data<T>(), d_output.data<T>(), x.data<T>(),
                       index.data<std::int64_t>(), data_or_null<T>(scales), shape, dx.mode, dscales.mode,
                       queue_of(x));
    });
  }
};

}  // namespace

Tensor gather(const Tensor& x, const Tensor& index, int axis, const Tensor& scales) {
  const GatherShape shape = checked_shape(x, index, axis, scales);
  std::vector<std::int64_t> extents = x.shape().vector();
  extents[static_cast<std::size_t>(axis)] = shape.count;
  Tensor y(Shape(extents), x.dtype(), x.device());
  dispatch(op, x.dtype(), [&]<class T>() {
    tables<T>(x.device())
        .gather.forward(y.data<T>(), x.data<T>(), index.data<std::int64_t>(), data_or_null<T>(scales), shape,
                        queue_of(x));
  });
  if (needs_record({x, scales})) {
    GatherBackward node;
    node.shape = shape;
    node.x = x.detach();
    node.index = index.detach();
    if (scales) node.scales = scales.detach();
    record(y, {x, scales}, std::move(node));
  }
  return y;
}

}  // namespace fovea
