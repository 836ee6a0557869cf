#include "kernels/frames.hpp"

#include "autograd/op.hpp"

namespace fovea {
namespace {

PoolShape pool_shape(const char* op, const Tensor& x, std::array<std::int64_t, 3> kernel) {
  const Shape& in = x.shape();
  if (in.rank() != 5) throw ShapeError(op, text("input must be (B,T,H,W,C): ", in));
  const auto [t, h, w] = kernel;
  if (t < 1 || h < 1 || w < 1 || t > in[1] || h > in[2] || w > in[3])
    throw ShapeError(
        op, text("kernel (", t, ", ", h, ", ", w, ") must be at least 1 and no larger than the input ", in));
  return {in[0], in[1], in[2], in[3], in[4], t, h, w, in[1] / t, in[2] / h, in[3] / w};
}

Tensor pooled(const Tensor& x, const PoolShape& s) {
  return {{s.batch, s.out_t, s.out_h, s.out_w, s.channels}, x.dtype(), x.device()};
}

/// Memory for `count` 32-bit indices; no dtype of a Tensor is that narrow.
Tensor index_memory(std::int64_t count, const Device& device) {
  return {{(count + 1) / 2}, DType::i64, device};
}
std::int32_t* indices(const Tensor& memory) { return static_cast<std::int32_t*>(memory.raw()); }

struct MaxPoolBackward final : Node {
  PoolShape shape;
  Tensor index;

  void backward(const Tensor& d_output) override {
    const GradientBuffer dx = input_gradient(0);
    if (!dx) return;
    dispatch("max_pool3d", d_output.dtype(), [&]<class T>() {
      tables<T>(d_output.device())
          .frames.max_pool_grad(dx.data<T>(), d_output.data<T>(), indices(index), shape, dx.mode,
                                queue_of(d_output));
    });
  }
};

struct AveragePoolBackward final : Node {
  PoolShape shape;

  void backward(const Tensor& d_output) override {
    const GradientBuffer dx = input_gradient(0);
    if (!dx) return;
    dispatch("average_pool3d", d_output.dtype(), [&]<class T>() {
      tables<T>(d_output.device())
          .frames.average_pool_grad(dx.data<T>(), d_output.data<T>(), shape, dx.mode, queue_of(d_output));
    });
  }
};

struct DropFramesBackward final : Node {
  std::int64_t batch, frames, inner, first;

  void backward(const Tensor& d_output) override {
    const GradientBuffer dx = input_gradient(0);
    if (!dx) return;
    dispatch("drop_first_frames", d_output.dtype(), [&]<class T>() {
      tables<T>(d_output.device())
          .frames.slice_frames_grad(dx.data<T>(), d_output.data<T>(), batch, frames, inner, first,
                                    frames - first, dx.mode, queue_of(d_output));
    });
  }
};

struct ScaleChannelsBackward final : Node {
  std::int64_t batch, inner, channels;
  Tensor factor;

  void backward(const Tensor& d_output) override {
    const GradientBuffer dx = input_gradient(0);
    if (!dx) return;
    dispatch("scale_channels", d_output.dtype(), [&]<class T>() {
      tables<T>(d_output.device())
          .frames.scale_channels(dx.data<T>(), d_output.data<T>(), factor.data<T>(), batch, inner, channels,
                                 dx.mode, queue_of(d_output));
    });
  }
};

}  // namespace

Tensor max_pool3d(const Tensor& x, std::array<std::int64_t, 3> kernel) {
  const PoolShape shape = pool_shape("max_pool3d", x, kernel);
  const Tensor y = pooled(x, shape);
  MaxPoolBackward node;
  node.shape = shape;
  node.index = index_memory(y.elements(), x.device());
  dispatch("max_pool3d", x.dtype(), [&]<class T>() {
    tables<T>(x.device()).frames.max_pool(y.data<T>(), indices(node.index), x.data<T>(), shape, queue_of(x));
  });
  if (needs_record({x})) record(y, {x}, std::move(node));
  return y;
}

Tensor average_pool3d(const Tensor& x, std::array<std::int64_t, 3> kernel) {
  const PoolShape shape = pool_shape("average_pool3d", x, kernel);
  const Tensor y = pooled(x, shape);
  dispatch("average_pool3d", x.dtype(), [&]<class T>() {
    tables<T>(x.device()).frames.average_pool(y.data<T>(), x.data<T>(), shape, queue_of(x));
  });
  if (needs_record({x})) {
    AveragePoolBackward node;
    node.shape = shape;
    record(y, {x}, std::move(node));
  }
  return y;
}

Tensor drop_first_frames(const Tensor& x, std::int64_t count) {
  const Shape& in = x.shape();
  if (in.rank() < 2) throw ShapeError("drop_first_frames", text("input must be (B,T,...): ", in));
  if (count < 0 || count >= in[1])
    throw ShapeError("drop_first_frames", text("must leave at least one frame of ", in[1], ": ", count));
  if (count == 0) return x;
  std::vector<std::int64_t> extents = in.vector();
  extents[1] -= count;
  DropFramesBackward node;
  node.batch = in[0];
  node.frames = in[1];
  node.inner = 1;
  for (int axis = 2; axis < in.rank(); ++axis) node.inner *= in[axis];
  node.first = count;
  const Tensor y(Shape(extents), x.dtype(), x.device());
  dispatch("drop_first_frames", x.dtype(), [&]<class T>() {
    tables<T>(x.device())
        .frames.slice_frames(y.data<T>(), x.data<T>(), node.batch, node.frames, node.inner, count, extents[1],
                             queue_of(x));
  });
  if (needs_record({x})) record(y, {x}, std::move(node));
  return y;
}

Tensor scale_channels(const Tensor& x, const Tensor& factor) {
  const Shape& in = x.shape();
  check_same("scale_channels", {x, factor});
  if (in.rank() < 2) throw ShapeError("scale_channels", text("input must be (B,...,C): ", in));
  check_shape("scale_channels", "factor", factor, {in[0], in[-1]});
  ScaleChannelsBackward node;
  node.batch = in[0];
  node.channels = in[-1];
  node.inner = 1;
  for (int axis = 1; axis + 1 < in.rank(); ++axis) node.inner *= in[axis];
  node.factor = factor.detach();
  const Tensor y = empty_like(x);
  dispatch("scale_channels", x.dtype(), [&]<class T>() {
    tables<T>(x.device())
        .frames.scale_channels(y.data<T>(), x.data<T>(), factor.data<T>(), node.batch, node.inner,
                               node.channels, Write::overwrite, queue_of(x));
  });
  if (needs_record({x})) record(y, {x}, std::move(node));
  return y;
}

}  // namespace fovea
