#include "autograd/op.hpp"

namespace fovea {

// A convolution of images of one pixel: the tape sees conv2d.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  constexpr auto op = "linear";
  check_same(op, {x, weight, bias});
  const Shape &in = x.shape(), &w = weight.shape();
  if (in.rank() != 2 || w.rank() != 2 || in[1] != w[1] || w[0] < 1 || w[1] < 1)
    throw ShapeError(op, text("needs (B,I) and a weight (O,I): ", in, " and ", w));
  if (bias) check_shape(op, "bias", bias, {w[0]});
  const Tensor y = conv2d(x.reshape({in[0], 1, 1, in[1]}), weight.reshape({w[0], w[1], 1, 1}), bias);
  return y.reshape({in[0], w[0]});
}

}  // namespace fovea
