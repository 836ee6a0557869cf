#include "autograd/op.hpp"

namespace fovea {
namespace {

struct PermuteBackward final : Node {
  PermuteShape shape;

  void backward(const Tensor& d_output) override {
    if (const GradientBuffer dx = input_gradient(0)) {
      dispatch("permute", d_output.dtype(), [&]<class T>() {
        tables<T>(d_output.device())
            .elementwise.permute(dx.data<T>(), d_output.data<T>(), {shape.batch, shape.columns, shape.rows},
                                 dx.mode, queue_of(d_output));
      });
    }
  }
};

Tensor permuted(const char* op, const Tensor& x, const PermuteShape& shape, const Shape& result) {
  if (shape.rows == 1 || shape.columns == 1) return x.reshape(result);  // the same order in memory
  const Tensor y(result, x.dtype(), x.device());
  dispatch(op, x.dtype(), [&]<class T>() {
    tables<T>(x.device()).elementwise.permute(y.data<T>(), x.data<T>(), shape, Write::overwrite, queue_of(x));
  });
  if (needs_record({x})) {
    PermuteBackward node;
    node.shape = shape;
    record(y, {x}, std::move(node));
  }
  return y;
}

}  // namespace

Tensor to_channels_last(const Tensor& x) {
  std::vector<std::int64_t> extents = x.shape().vector();
  if (extents.size() < 2) throw ShapeError("to_channels_last", text("input must be (B,C,...): ", x.shape()));
  const std::int64_t batch = extents[0], channels = extents[1];
  extents.erase(extents.begin() + 1);
  extents.push_back(channels);
  std::int64_t pixels = 1;
  for (std::size_t axis = 1; axis + 1 < extents.size(); ++axis) pixels *= extents[axis];
  return permuted("to_channels_last", x, {batch, channels, pixels}, Shape(extents));
}

Tensor to_channels_first(const Tensor& x) {
  std::vector<std::int64_t> extents = x.shape().vector();
  if (extents.size() < 2) throw ShapeError("to_channels_first", text("input must be (B,...,C): ", x.shape()));
  const std::int64_t batch = extents[0], channels = extents.back();
  std::int64_t pixels = 1;
  for (std::size_t axis = 1; axis + 1 < extents.size(); ++axis) pixels *= extents[axis];
  extents.pop_back();
  extents.insert(extents.begin() + 1, channels);
  return permuted("to_channels_first", x, {batch, pixels, channels}, Shape(extents));
}

}  // namespace fovea
