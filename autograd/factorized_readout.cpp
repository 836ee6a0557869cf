#include "autograd/factorized_readout.hpp"

#include "autograd/mask_readout.hpp"

namespace fovea {
namespace {

constexpr auto op = "factorized_readout";

MaskReadoutShape checked_shape(const Tensor& x, const Tensor& masks, const Tensor& features,
                               const Tensor& bias, const FactorizedReadoutOptions& options) {
  check_same(op, {x, masks, features, bias});
  const Shape& in = x.shape();
  if (in.rank() != 4 && in.rank() != 5)
    throw ShapeError(op, text("input must be (B,H,W,C) or (B,T,H,W,C): ", in));
  const std::int64_t channels = in[-1], pixels = in[-3] * in[-2];
  if (channels < 1 || pixels < 1) throw ShapeError(op, text("input needs pixels and channels: ", in));
  if (features.elements() % channels)
    throw ShapeError(op, text("features must have ", channels, " x N values: ", features.shape()));
  const std::int64_t neurons = features.elements() / channels;
  if (masks.elements() != neurons * pixels)
    throw ShapeError(op, text("masks must have ", pixels, " x ", neurons, " values: ", masks.shape()));
  if (bias) check_shape(op, "bias", bias, {neurons});
  const ActivationKind activation = options.final_relu ? ActivationKind::relu : ActivationKind::identity;
  const std::int64_t rows = in.rank() == 5 ? in[0] * in[1] : in[0];
  return {rows, pixels, channels, neurons, options.masks_neurons_last, {activation}};
}

/// maps (rows * C, P) times masks: z (rows * C, N).
template <class T>
void reduce_maps(const Tensor& z, const Tensor& maps, const Tensor& masks, const MaskReadoutShape& s) {
  const MatmulKernels<T>& matmul = tables<T>(maps.device()).matmul;
  (s.mask_neurons_last ? matmul.nn : matmul.nt)(z.data<T>(), maps.data<T>(), masks.data<T>(),
                                                {s.rows * s.channels, s.neurons, s.pixels}, Write::overwrite,
                                                queue_of(maps));
}

struct FactorizedReadoutBackward final : Node {
  MaskReadoutShape shape;
  Tensor maps, masks, features, bias;  // maps (rows, C, P) are x with the pixels last
  Tensor z, sums;                      // (rows, C, N); (rows, N), before bias and activation

  void backward(const Tensor& d_output) override {
    dispatch(op, z.dtype(), [&]<class T>() {
      const KernelTables<T>& kernels = tables<T>(z.device());
      const Tensor dsums = activation_gradient<T>(d_output);
      const bool below = needs_gradient(0) || needs_gradient(1);
      const Tensor dz = below ? empty_like(z) : Tensor();
      const GradientBuffer dfeatures = input_gradient(2);
      if (!below && !dfeatures) return;
      kernels.feature_sum.grad(data_or_null<T>(dz), dfeatures.data<T>(), dsums.data<T>(), z.data<T>(),
                               features.data<T>(), {shape.rows, shape.channels, shape.neurons},
                               dfeatures.mode, queue_of(z));
      if (const GradientBuffer dmasks = input_gradient(1)) mask_gradient<T>(dmasks, dz);
      maps = Tensor();
      if (needs_gradient(0)) input_gradient_through<T>(dz);
    });
  }

  template <class T>
  Tensor activation_gradient(const Tensor& d_output) {
    Tensor dsums = empty_like(sums);
    const GradientBuffer dbias = input_gradient(3);
    tables<T>(z.device())
        .mask_readout.grad_activate(dsums.data<T>(), {}, dbias.data<T>(), d_output.data<T>(), sums.data<T>(),
                                    {}, data_or_null<T>(bias), shape, Write::overwrite, dbias.mode,
                                    queue_of(z));
    return dsums;
  }

  template <class T>
  void input_gradient_through(const Tensor& dz) {
    const KernelTables<T>& kernels = tables<T>(z.device());
    const Tensor dmaps({shape.rows, shape.channels, shape.pixels}, z.dtype(), z.device());
    const MatmulShape product{shape.rows * shape.channels, shape.pixels, shape.neurons};
    (shape.mask_neurons_last ? kernels.matmul.nt : kernels.matmul.nn)(
        dmaps.data<T>(), dz.data<T>(), masks.data<T>(), product, Write::overwrite, queue_of(z));
    const GradientBuffer dx = input_gradient(0);
    kernels.elementwise.permute(dx.data<T>(), dmaps.data<T>(), {shape.rows, shape.channels, shape.pixels},
                                dx.mode, queue_of(z));
  }

  template <class T>
  void mask_gradient(const GradientBuffer& dmasks, const Tensor& dz) const {
    const MatmulKernels<T>& matmul = tables<T>(z.device()).matmul;
    const std::int64_t items = shape.rows * shape.channels;
    if (shape.mask_neurons_last)
      matmul.tn(dmasks.data<T>(), maps.data<T>(), dz.data<T>(), {shape.pixels, shape.neurons, items},
                dmasks.mode, queue_of(z));
    else
      matmul.tn(dmasks.data<T>(), dz.data<T>(), maps.data<T>(), {shape.neurons, shape.pixels, items},
                dmasks.mode, queue_of(z));
  }
};

Tensor readout_by_maps(const MaskReadoutShape& s, const Shape& result, const Tensor& x, const Tensor& masks,
                       const Tensor& features, const Tensor& bias) {
  const Tensor maps = to_channels_first(x.detach().reshape({s.rows, s.pixels, s.channels}));
  const Tensor z({s.rows, s.channels, s.neurons}, x.dtype(), x.device());
  const Tensor sums({s.rows, s.neurons}, x.dtype(), x.device());
  Tensor y(result, x.dtype(), x.device());
  dispatch(op, x.dtype(), [&]<class T>() {
    const KernelTables<T>& kernels = tables<T>(x.device());
    reduce_maps<T>(z, maps, masks, s);
    kernels.feature_sum.forward(sums.data<T>(), z.data<T>(), features.data<T>(),
                                {s.rows, s.channels, s.neurons}, queue_of(x));
    kernels.mask_readout.activate(y.data<T>(), sums.data<T>(), {}, data_or_null<T>(bias), s, queue_of(x));
  });
  if (needs_record({x, masks, features, bias})) {
    FactorizedReadoutBackward node;
    node.shape = s;
    node.maps = maps;
    node.masks = masks.detach();
    node.features = features.detach();
    if (bias) node.bias = bias.detach();
    node.z = z;
    node.sums = sums;
    record(y, {x, masks, features, bias}, std::move(node));
  }
  return y;
}

}  // namespace

// Both ways multiply rows * C * P * N times in their products; they differ by what they write and read again
// besides x, masks and y: C*P*N values of the weight against rows*C*P of the turned input and rows*C*N of the
// reduced maps (each once more in the backward pass). C cancels. Few neurons on many frames (the retina: 41
// on 3840) take the weight, thousands of neurons on a batch of images (8372 on 32, where the weight would
// have 5 GB) the maps.
ReadoutWay readout_way(const MaskReadoutShape& s) {
  return s.pixels * s.neurons <= s.rows * (s.pixels + s.neurons) ? ReadoutWay::weights : ReadoutWay::maps;
}

Tensor factorized_readout(const Tensor& x, const Tensor& masks, const Tensor& features, const Tensor& bias,
                          const FactorizedReadoutOptions& options, ReadoutWay way) {
  const MaskReadoutShape shape = checked_shape(x, masks, features, bias, options);
  const Shape& in = x.shape();
  const Shape result = in.rank() == 5 ? Shape{in[0], in[1], shape.neurons} : Shape{in[0], shape.neurons};
  if (way == ReadoutWay::maps) return readout_by_maps(shape, result, x, masks, features, bias);
  return weighted_readout(op, shape, result, x, masks, features, {}, bias);
}

Tensor factorized_readout(const Tensor& x, const Tensor& masks, const Tensor& features, const Tensor& bias,
                          const FactorizedReadoutOptions& options) {
  return factorized_readout(x, masks, features, bias, options,
                            readout_way(checked_shape(x, masks, features, bias, options)));
}

}  // namespace fovea
