#include "kernels/point_readout.hpp"

#include "autograd/op.hpp"

namespace fovea {
namespace {

constexpr auto op = "point_readout";

PointReadoutShape checked_shape(const Tensor& x, const Tensor& grid, const Tensor& features,
                                const Tensor& bias, bool align_corners) {
  check_same(op, {x, grid, features, bias});
  const Shape &in = x.shape(), &points = grid.shape();
  if (in.rank() != 4) throw ShapeError(op, text("input must be (B,H,W,C): ", in));
  if (points.rank() != 3 || points[2] != 2 || (points[0] != 1 && points[0] != in[0]))
    throw ShapeError(op, text("grid must be (", in[0], ",N,2) or (1,N,2): ", points));
  const std::int64_t neurons = points[1];
  if (features.elements() != in[3] * neurons)
    throw ShapeError(op, text("features must have ", in[3], " x ", neurons, " values: ", features.shape()));
  if (bias) check_shape(op, "bias", bias, {neurons});
  return {in[0], in[1], in[2], in[3], neurons, points[0] == 1, align_corners};
}

struct PointReadoutBackward final : Node {
  PointReadoutShape shape;
  Tensor x, grid, features;

  void backward(const Tensor& d_output) override {
    dispatch(op, x.dtype(), [&]<class T>() {
      const PointReadoutKernels<T>& kernels = tables<T>(x.device()).point_readout;
      const Queue queue = queue_of(x);
      const GradientBuffer dgrid = input_gradient(1), dfeatures = input_gradient(2),
                           dbias = input_gradient(3);
      if (dgrid || dfeatures || dbias)
        kernels.grad_points(dgrid.data<T>(), dfeatures.data<T>(), dbias.data<T>(), d_output.data<T>(),
                            x.data<T>(), grid.data<T>(), features.data<T>(), shape, dgrid.mode,
                            dfeatures.mode, dbias.mode, queue);
      x = Tensor();
      if (const GradientBuffer dx = input_gradient(0))
        kernels.grad_input(dx.data<T>(), d_output.data<T>(), grid.data<T>(), features.data<T>(), shape,
                           dx.mode, queue);
    });
  }
};

}  // namespace

Tensor point_readout(const Tensor& x, const Tensor& grid, const Tensor& features, const Tensor& bias,
                     bool align_corners) {
  const PointReadoutShape shape = checked_shape(x, grid, features, bias, align_corners);
  Tensor y({shape.batch, shape.neurons}, x.dtype(), x.device());
  dispatch(op, x.dtype(), [&]<class T>() {
    tables<T>(x.device())
        .point_readout.forward(y.data<T>(), x.data<T>(), grid.data<T>(), features.data<T>(),
                               data_or_null<T>(bias), shape, queue_of(x));
  });
  if (needs_record({x, grid, features, bias})) {
    PointReadoutBackward node;
    node.shape = shape;
    node.x = x.detach();
    node.grid = grid.detach();
    node.features = features.detach();
    record(y, {x, grid, features, bias}, std::move(node));
  }
  return y;
}

}  // namespace fovea
