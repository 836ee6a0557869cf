#include "autograd/slope_node.hpp"
#include "kernels/loss.hpp"

namespace fovea {

namespace {

/// Images are `batch` x 1 frame, movies (B,T,N) have their frames.
LossShape checked_shape(std::string_view op, const Tensor& output, const Tensor& target,
                        Reduction reduction) {
  check_same(op, {output, target});
  const Shape &out = output.shape(), &seen = target.shape();
  if ((out.rank() != 2 && out.rank() != 3) || seen.rank() != out.rank() || seen[0] != out[0] ||
      seen[-1] != out[-1])
    throw ShapeError(op, text("output and target must be (B,T,N), or both (B,N): ", out, " and ", seen));
  if (out.elements() == 0) throw ShapeError(op, text("there is nothing to compare: ", out));
  if (out.rank() == 2) return {out[0], 1, 1, out[1], reduction};
  if (seen[1] < out[1])
    throw ShapeError(op,
                     text("target of ", seen[1], " frames is shorter than the output's ", out[1], " frames"));
  return {out[0], out[1], seen[1], out[2], reduction};
}

void check_eps(std::string_view op, std::string_view name, double eps) {
  if (!(eps >= 0)) throw ConfigError(op, text(name, " must not be negative: ", eps));
}

Shape value_shape(const LossShape& shape) {
  const bool per_neuron =
      shape.reduction == Reduction::per_neuron_sum || shape.reduction == Reduction::per_neuron_mean;
  return per_neuron ? Shape{shape.neurons} : Shape{};
}

Tensor poisson(std::string_view op, const Tensor& output, const Tensor& target, const LossShape& shape,
               const PoissonOptions& options) {
  return value_with_slopes(op, {output}, value_shape(shape),
                           [&]<class T>(T* value, const std::vector<Tensor>& slopes) {
                             tables<T>(output.device())
                                 .loss.poisson(value, data_or_null<T>(slopes[0]), output.data<T>(),
                                               target.data<T>(), shape, options, queue_of(output));
                           });
}

Tensor correlation(std::string_view op, const Tensor& output, const Tensor& target, const LossShape& shape,
                   const CorrelationOptions& options) {
  return value_with_slopes(op, {output}, value_shape(shape),
                           [&]<class T>(T* value, const std::vector<Tensor>& slopes) {
                             tables<T>(output.device())
                                 .loss.correlation(value, data_or_null<T>(slopes[0]), output.data<T>(),
                                                   target.data<T>(), shape, options, queue_of(output));
                           });
}

}  // namespace

Tensor poisson_nll_loss(const Tensor& output, const Tensor& target, const PoissonNLLLossOptions& options) {
  constexpr auto op = "poisson_nll_loss";
  check_eps(op, "eps", options.eps);
  return poisson(op, output, target, checked_shape(op, output, target, Reduction::mean),
                 {options.eps, options.log_input, options.full});
}

Tensor poisson_loss3d(const Tensor& output, const Tensor& target, const PoissonLoss3dOptions& options) {
  constexpr auto op = "poisson_loss3d";
  check_eps(op, "bias", options.bias);
  const Reduction reduction = options.per_neuron ? Reduction::per_neuron_mean
                              : options.avg      ? Reduction::mean
                                                 : Reduction::sum;
  return poisson(op, output, target, checked_shape(op, output, target, reduction),
                 {options.bias, false, false});
}

Tensor poisson_loss(const Tensor& output, const Tensor& target, const PoissonLossOptions& options) {
  constexpr auto op = "poisson_loss";
  check_eps(op, "bias", options.bias);
  const Reduction whole = options.avg ? Reduction::mean : Reduction::sum;
  const Reduction single = options.avg ? Reduction::per_neuron_mean : Reduction::per_neuron_sum;
  return poisson(op, output, target, checked_shape(op, output, target, options.per_neuron ? single : whole),
                 {options.bias, false, options.full_loss});
}

Tensor correlation_loss2d(const Tensor& output, const Tensor& target,
                          const CorrelationLoss2DOptions& options) {
  constexpr auto op = "correlation_loss2d";
  check_eps(op, "eps", options.eps);
  if (output.shape().rank() != 2) throw ShapeError(op, text("output must be (B,N): ", output.shape()));
  const Reduction reduction = options.per_neuron ? Reduction::per_neuron_sum
                              : options.avg      ? Reduction::mean
                                                 : Reduction::sum;
  LossShape shape = checked_shape(op, output, target, reduction);
  // The batch takes the part of time.
  shape.frames = shape.target_frames = shape.batch;
  shape.batch = 1;
  return correlation(op, output, target, shape, {options.eps, -1});
}

Tensor correlation_loss3d(const Tensor& output, const Tensor& target,
                          const CorrelationLoss3dOptions& options) {
  constexpr auto op = "correlation_loss3d";
  check_eps(op, "bias", options.bias);
  if (output.shape().rank() != 3) throw ShapeError(op, text("output must be (B,T,N): ", output.shape()));
  const Reduction reduction = options.per_neuron ? Reduction::per_neuron_mean
                              : options.avg      ? Reduction::mean
                                                 : Reduction::sum;
  return correlation(op, output, target, checked_shape(op, output, target, reduction),
                     {options.bias, options.negate ? -1.0 : 1.0});
}

}  // namespace fovea
