#include "autograd/op.hpp"

namespace fovea {
namespace {

struct ConcatenateBackward final : Node {
  std::int64_t rows, channels;          // of the output
  std::vector<std::int64_t> of_inputs;  // channels

  void backward(const Tensor& d_output) override {
    dispatch("concatenate_channels", d_output.dtype(), [&]<class T>() {
      std::int64_t first = 0;
      for (std::size_t i = 0; i < of_inputs.size(); ++i) {
        const std::int64_t count = of_inputs[i];
        if (const GradientBuffer dx = input_gradient(i))
          tables<T>(d_output.device())
              .elementwise.copy_channels(dx.data<T>(), d_output.data<T>(),
                                         {rows, count, count, 0, channels, first}, dx.mode,
                                         queue_of(d_output));
        first += count;
      }
    });
  }
};

}  // namespace

Tensor concatenate_channels(const std::vector<Tensor>& tensors) {
  constexpr auto op = "concatenate_channels";
  if (tensors.empty()) throw ShapeError(op, "there is nothing to concatenate");
  const Tensor& one = tensors.front();
  std::vector<std::int64_t> extents = one.shape().vector();
  if (extents.empty()) throw ShapeError(op, text("tensors must be (..., C): ", one.shape()));
  ConcatenateBackward node;
  for (const Tensor& tensor : tensors) {
    check_same(op, {one, tensor});
    std::vector<std::int64_t> other = tensor.shape().vector();
    if (!other.empty()) other.back() = extents.back();
    if (other != extents)
      throw ShapeError(
          op, text("maps must agree in all axes but the channels: ", one.shape(), " and ", tensor.shape()));
    node.of_inputs.push_back(tensor.shape()[-1]);
  }
  if (tensors.size() == 1) return one;
  node.rows = extents.back() ? one.elements() / extents.back() : 0;
  node.channels = 0;
  for (const std::int64_t count : node.of_inputs) node.channels += count;
  extents.back() = node.channels;
  const Tensor y(Shape(extents), one.dtype(), one.device());
  dispatch(op, one.dtype(), [&]<class T>() {
    std::int64_t first = 0;
    for (const Tensor& tensor : tensors) {
      const std::int64_t count = tensor.shape()[-1];
      tables<T>(one.device())
          .elementwise.copy_channels(y.data<T>(), tensor.data<T>(),
                                     {node.rows, count, node.channels, first, count, 0}, Write::overwrite,
                                     queue_of(one));
      first += count;
    }
  });
  if (needs_record(tensors)) record(y, tensors, std::move(node));
  return y;
}

}  // namespace fovea
