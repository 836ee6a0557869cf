#include "kernels/conv3d.hpp"

#include "autograd/op.hpp"

namespace fovea {
namespace {

ConvAxis checked_axis(const char* op, const char* name, std::int64_t in, std::int64_t kernel,
                      std::int64_t stride, std::int64_t before, std::int64_t after, std::int64_t dilation) {
  if (kernel < 1 || stride < 1 || dilation < 1 || before < 0 || after < 0)
    throw ShapeError(op, text(name, ": kernel, stride and dilation must be at least 1, padding at least 0: ",
                              kernel, ", ", stride, ", ", dilation, ", ", before, '+', after));
  const std::int64_t padded = in + before + after, reach = dilation * (kernel - 1) + 1;
  if (reach > padded)
    throw ShapeError(op, text(name, ": kernel reaches over ", reach, " elements, padded input has ", padded));
  return {in, kernel, stride, before, dilation, (padded - reach) / stride + 1};
}

Conv3dShape checked_shape(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias,
                          const Conv3dOptions& options) {
  check_same(op, {x, weight});
  const Shape &in = x.shape(), &w = weight.shape();
  if (in.rank() != 5) throw ShapeError(op, text("input must be (B,T,H,W,C): ", in));
  if (w.rank() != 5) throw ShapeError(op, text("weight must be (O,I/groups,KT,KH,KW): ", w));
  const std::int64_t groups = options.groups;
  if (groups < 1 || in[4] % groups || w[0] % groups)
    throw ShapeError(op, text("groups must divide the channels of input and output: ", groups, " for ", in[4],
                              " and ", w[0]));
  if (w[0] < 1 || w[1] < 1 || w[1] != in[4] / groups)
    throw ShapeError(op, text("weight ", w, " with ", groups, " groups needs ", w[1] * groups,
                              " input channels, input has ", in[4]));
  if (bias) {
    check_same(op, {x, bias});
    check_shape(op, "bias", bias, {w[0]});
  }
  const auto axis = [&](const char* name, std::size_t i) {
    const int at = static_cast<int>(i);
    return checked_axis(op, name, in[1 + at], w[2 + at], options.stride[i], options.padding.before[i],
                        options.padding.after[i], options.dilation[i]);
  };
  return {in[0], in[4], w[0], groups, axis("time", 0), axis("height", 1), axis("width", 2)};
}

struct Conv3dBackward final : Node {
  Conv3dShape shape;
  Tensor x, weight;

  void backward(const Tensor& d_output) override {
    dispatch("conv3d", x.dtype(), [&]<class T>() {
      const Conv3dKernels<T>& kernels = tables<T>(x.device()).conv3d;
      const Queue queue = queue_of(x);
      if (needs_gradient(1) || needs_gradient(2)) {
        const Tensor dweight = empty_like(weight),
                     dbias =
                         needs_gradient(2) ? Tensor({shape.out_channels}, x.dtype(), x.device()) : Tensor();
        kernels.grad_weight(dweight.data<T>(), data_or_null<T>(dbias), d_output.data<T>(), x.data<T>(), shape,
                            queue);
        pass_gradient(1, dweight);
        if (dbias) pass_gradient(2, dbias);
      }
      x = Tensor();
      if (const GradientBuffer dx = input_gradient(0))
        kernels.grad_input(dx.data<T>(), d_output.data<T>(), weight.data<T>(), shape, dx.mode, queue);
    });
  }
};

Tensor convolve(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias,
                const Conv3dOptions& options) {
  const Conv3dShape shape = checked_shape(op, x, weight, bias, options);
  Tensor y({shape.batch, shape.t.out, shape.h.out, shape.w.out, shape.out_channels}, x.dtype(), x.device());
  dispatch(op, x.dtype(), [&]<class T>() {
    tables<T>(x.device())
        .conv3d.forward(y.data<T>(), x.data<T>(), weight.data<T>(), data_or_null<T>(bias), shape,
                        queue_of(x));
  });
  if (needs_record({x, weight, bias})) {
    Conv3dBackward node;
    node.shape = shape;
    node.x = x.detach();
    node.weight = weight.detach();
    record(y, {x, weight, bias}, std::move(node));
  }
  return y;
}

}  // namespace

Tensor conv3d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv3dOptions& options) {
  return convolve("conv3d", x, weight, bias, options);
}

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options) {
  constexpr auto op = "conv2d";
  check_same(op, {x, weight});
  const Shape &in = x.shape(), &w = weight.shape();
  if (in.rank() != 4) throw ShapeError(op, text("input must be (B,H,W,C): ", in));
  if (w.rank() != 4) throw ShapeError(op, text("weight must be (O,I/groups,KH,KW): ", w));
  const auto& [before, after] = options.padding;
  const Conv3dOptions as_3d{{1, options.stride[0], options.stride[1]},
                            {{0, before[0], before[1]}, {0, after[0], after[1]}},
                            {1, options.dilation[0], options.dilation[1]},
                            options.groups};
  const Tensor y = convolve(op, x.reshape({in[0], 1, in[1], in[2], in[3]}),
                            weight.reshape({w[0], w[1], 1, w[2], w[3]}), bias, as_3d);
  const Shape& out = y.shape();
  return y.reshape({out[0], out[2], out[3], out[4]});
}

}  // namespace fovea
