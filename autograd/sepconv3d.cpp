#include "kernels/sepconv3d.hpp"

#include "autograd/op.hpp"

namespace fovea {
namespace {

SepConv3dShape checked_shape(const Tensor& x, const Tensor& spatial, const Tensor& temporal,
                             const Padding3d& padding) {
  constexpr auto op = "sepconv3d";
  check_same(op, {x, spatial, temporal});
  const Shape &in = x.shape(), &space = spatial.shape(), &time = temporal.shape();
  if (in.rank() != 5) throw ShapeError(op, text("stimulus must be (B,T,H,W,C): ", in));
  const bool flat = space.rank() == 4 || (space.rank() == 5 && space[2] == 1);
  if (!flat || time.rank() != 3 || time[0] != space[0] || time[1] != space[1])
    throw ShapeError(op, text("spatial must be (O,I,1,KH,KW) and temporal (O,I,KT): ", space, " and ", time));
  if (space[1] != in[4])
    throw ShapeError(op, text("weights for ", space[1], " channels, stimulus has ", in[4]));
  const auto& [pad_t, pad_h, pad_w] = padding.before;
  SepConv3dShape s{in[0],     in[4], space[0], in[1], in[2], in[3], time[2], space[-2],
                   space[-1], pad_t, pad_h,    pad_w, 0,     0,     0};
  s.out_t = s.in_t + pad_t + padding.after[0] - s.kernel_t + 1;
  s.out_h = s.in_h + pad_h + padding.after[1] - s.kernel_h + 1;
  s.out_w = s.in_w + pad_w + padding.after[2] - s.kernel_w + 1;
  if (s.out_t < 1 || s.out_h < 1 || s.out_w < 1)
    throw ShapeError(op, text("kernel (", s.kernel_t, ", ", s.kernel_h, ", ", s.kernel_w,
                              ") is larger than the padded "
                              "input (",
                              s.out_t + s.kernel_t - 1, ", ", s.out_h + s.kernel_h - 1, ", ",
                              s.out_w + s.kernel_w - 1, ")"));
  return s;
}

struct SepConv3dBackward final : Node {
  SepConv3dShape shape;
  Tensor x, kept, spatial, temporal;

  void backward(const Tensor& d_output) override {
    dispatch("sepconv3d", x.dtype(), [&]<class T>() {
      const SepConv3dKernels<T>& kernels = tables<T>(x.device()).sepconv3d;
      const Queue queue = queue_of(x);
      const GradientBuffer dx = input_gradient(0);
      const bool weights = needs_gradient(1) || needs_gradient(2);
      if (dx && !weights)
        kernels.grad_input(dx.data<T>(), d_output.data<T>(), spatial.data<T>(), temporal.data<T>(), shape,
                           dx.mode, queue);
      if (!weights) return;
      const Tensor dspatial = empty_like(spatial.detach()), dtemporal = empty_like(temporal.detach());
      if (dx)
        kernels.grad(dx.data<T>(), dspatial.data<T>(), dtemporal.data<T>(), d_output.data<T>(), x.data<T>(),
                     data_or_null<T>(kept), spatial.data<T>(), temporal.data<T>(), shape, dx.mode, queue);
      else
        kernels.grad_weight(dspatial.data<T>(), dtemporal.data<T>(), d_output.data<T>(), x.data<T>(),
                            data_or_null<T>(kept), spatial.data<T>(), temporal.data<T>(), shape, queue);
      pass_gradient(1, dspatial);
      pass_gradient(2, dtemporal);
    });
  }
};

}  // namespace

Tensor sepconv3d(const Tensor& x, const Tensor& spatial, const Tensor& temporal, const Padding3d& padding) {
  const SepConv3dShape shape = checked_shape(x, spatial, temporal, padding);
  Tensor y({shape.batch, shape.out_t, shape.out_h, shape.out_w, shape.out_channels}, x.dtype(), x.device());
  const bool record_it = needs_record({x, spatial, temporal});
  Tensor kept;
  dispatch("sepconv3d", x.dtype(), [&]<class T>() {
    const SepConv3dKernels<T>& kernels = tables<T>(x.device()).sepconv3d;
    const bool weights = needs_record({spatial, temporal});
    if (const std::int64_t floats = weights && kernels.kept ? kernels.kept(shape) : 0)
      kept = Tensor({floats}, x.dtype(), x.device());
    kernels.forward(y.data<T>(), data_or_null<T>(kept), x.data<T>(), spatial.data<T>(), temporal.data<T>(),
                    shape, queue_of(x));
  });
  if (record_it) {
    SepConv3dBackward node;
    node.shape = shape;
    node.x = x.detach();
    node.kept = kept;
    node.spatial = spatial.detach();
    node.temporal = temporal.detach();
    record(y, {x, spatial, temporal}, std::move(node));
  }
  return y;
}

}  // namespace fovea
