// Differentiable operations. Activations are channels-last: movies (B,T,H,W,C), images (B,H,W,C), neurons
// last; parameters have PyTorch's layout. Inputs must be defined, of one floating dtype and on one device. A
// shape that does not fit throws ShapeError tagged with the op's name.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "fovea/activation.hpp"
#include "fovea/tensor.hpp"

namespace fovea {

/// Sizes along the axes of an image (height, width) or a movie (time, height, width).
template <std::size_t axes>
using AxisSizes = std::array<std::int64_t, axes>;

/// The same size along every axis.
template <std::size_t axes>
constexpr AxisSizes<axes> every_axis(std::int64_t size) {
  AxisSizes<axes> sizes{};
  for (std::int64_t& one : sizes) one = size;
  return sizes;
}

/// Zeros around every axis of an image or a movie.
template <std::size_t axes>
struct Padding {
  AxisSizes<axes> before{};
  AxisSizes<axes> after{};

  static Padding none() { return {}; }
  static Padding symmetric(const AxisSizes<axes>& zeros) { return {zeros, zeros}; }
  /// PyTorch's "same": d (k - 1) zeros in all, half of them rounded down before, the rest after.
  static Padding same(const AxisSizes<axes>& kernel, const AxisSizes<axes>& dilation = every_axis<axes>(1)) {
    Padding padding;
    for (std::size_t axis = 0; axis < axes; ++axis) {
      const std::int64_t zeros = dilation[axis] * (kernel[axis] - 1);
      padding.before[axis] = zeros / 2;
      padding.after[axis] = zeros - zeros / 2;
    }
    return padding;
  }
};
using Padding2d = Padding<2>;
using Padding3d = Padding<3>;

/// (B,C,...) -> (B,...,C) and back.
Tensor to_channels_last(const Tensor& x);
Tensor to_channels_first(const Tensor& x);

/// Temporal kernels (O,I,L) of openretina's custom separable convolution from sin and cos weights (O,I,K) and
/// log_speed (1), which gets no gradient. Source: openretina, compute_temporal_kernel.
Tensor temporal_kernel(const Tensor& sin_weights, const Tensor& cos_weights, const Tensor& log_speed,
                       std::int64_t length);

/// Separable 3-D cross-correlation, weight[o,i,t,h,w] = temporal[o,i,t] * spatial[o,i,h,w].
/// x (B,T,H,W,I), spatial (O,I,1,KH,KW) or (O,I,KH,KW), temporal (O,I,KT) -> (B,T',H',W',O).
Tensor sepconv3d(const Tensor& x, const Tensor& spatial, const Tensor& temporal,
                 const Padding3d& padding = {});

template <std::size_t axes>
struct ConvOptions {
  AxisSizes<axes> stride = every_axis<axes>(1);
  Padding<axes> padding{};
  AxisSizes<axes> dilation = every_axis<axes>(1);
  std::int64_t groups = 1;
};
using Conv2dOptions = ConvOptions<2>;
using Conv3dOptions = ConvOptions<3>;

/// torch.nn.functional.conv3d and conv2d, cross-correlations: x (B,T,H,W,I), weight (O,I/groups,KT,KH,KW),
/// bias (O) or undefined -> (B,T',H',W',O) with T' = (T + zeros - dilation (KT - 1) - 1) / stride + 1 rounded
/// down; without T and KT in 2-D. As many groups as channels make the convolution depthwise.
Tensor conv3d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
              const Conv3dOptions& options = {});
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
              const Conv2dOptions& options = {});

/// factor * x.
Tensor scale(const Tensor& x, double factor);

/// Running statistics and optional per-channel parameters of a batch norm; undefined tensors where it has
/// none.
struct BatchNormTensors {
  Tensor weight, bias;               ///< affine parameters (C)
  Tensor channel_bias;               ///< a further bias after the norm, any shape with C elements
  Tensor running_mean, running_var;  ///< (C), updated in place by a training pass
};
struct BatchNormOptions {
  double eps = 1e-5;
  double momentum = 0.1;
  bool training = false;
  Activation activation{};
};
/// activation(batch_norm(x) + channel_bias) over all axes but the last, in one pass. Training with one value
/// per channel is an error, as in PyTorch.
Tensor batch_norm(const Tensor& x, const BatchNormTensors& tensors, const BatchNormOptions& options);
/// The same with an ELU.
Tensor batch_norm_elu(const Tensor& x, const BatchNormTensors& tensors, BatchNormOptions options);

/// activation(x), elementwise.
Tensor activate(const Tensor& x, const Activation& activation);
/// u = x - thresh: u < 0 ? neg_slope * u : pos_slope * u; the three tensors have one value each, gradients go
/// to x and the slopes. Source: Klindt et al., ParametricReLU.
Tensor parametric_relu(const Tensor& x, const Tensor& thresh, const Tensor& neg_slope,
                       const Tensor& pos_slope);
/// max(alpha * softplus(beta * x + gamma), least); the three tensors have one value each and get no gradient.
Tensor parametric_softplus(const Tensor& x, const Tensor& alpha, const Tensor& beta, const Tensor& gamma,
                           std::optional<double> least = {});
/// factor_n * x + offset_n: x (...,N), factor and offset (N).
Tensor scale_and_shift(const Tensor& x, const Tensor& factor, const Tensor& offset);
/// a * b, elementwise.
Tensor multiply(const Tensor& a, const Tensor& b);
/// The channels of all tensors (..., C_i) side by side, in their order.
Tensor concatenate_channels(const std::vector<Tensor>& tensors);

/// Max and average pooling of (B,T,H,W,C) with stride = kernel (t,h,w); incomplete windows are dropped.
Tensor max_pool3d(const Tensor& x, std::array<std::int64_t, 3> kernel);
Tensor average_pool3d(const Tensor& x, std::array<std::int64_t, 3> kernel);
/// x (B,T,...) without its first `count` frames.
Tensor drop_first_frames(const Tensor& x, std::int64_t count);
/// Multiplies whole channels of a sample: x (B,...,C), factor (B,C) without gradient.
Tensor scale_channels(const Tensor& x, const Tensor& factor);

/// Normalised Gaussian masks (N,H,W): mask_mean (N,2), mask_log_var (N), grid (N,H,W,2).
/// Source: openretina, GaussianMaskReadout.get_mask.
Tensor gaussian_mask(const Tensor& mask_mean, const Tensor& mask_log_var, const Tensor& grid,
                     double mean_scale, double var_scale);

/// softplus(scale_n * sum_c features[c,n] sum_p x[..,p,c] mask[n,p] + bias_n): x (B,T,H,W,C) -> (B,T,N).
/// mask (N,H,W), or (H,W,N) when `neurons_last`; features any shape with C*N elements in the order (C,N);
/// scale, bias (N) or undefined.
Tensor mask_readout(const Tensor& x, const Tensor& mask, const Tensor& features, const Tensor& scale,
                    const Tensor& bias, bool neurons_last = false);

struct FactorizedReadoutOptions {
  bool masks_neurons_last = false;  ///< masks in the order (P,N) instead of (N,P)
  bool final_relu = false;
};
/// sum_c features[c,n] sum_p x[..,p,c] masks[n,p] + bias_n, through a relu if asked: x (B,H,W,C) -> (B,N) or
/// (B,T,H,W,C) -> (B,T,N). masks (N,H,W) or any shape with N*P elements in that order, P = H*W; features any
/// shape with C*N elements in the order (C,N); bias (N) or undefined. No memory grows with C*P*N unless that
/// is small. Source: neuralpredictors, FullFactorized2d.forward; the readout of KlindtCoreReadout2D.
Tensor factorized_readout(const Tensor& x, const Tensor& masks, const Tensor& features, const Tensor& bias,
                          const FactorizedReadoutOptions& options = {});

/// sum_c features[c,n] * bilinear(x[b,:,:,c], grid[b,n]) + bias_n: x (B,H,W,C) -> (B,N). grid (B,N,2), or
/// (1,N,2) for all images, component 0 along the width, both from -1 to 1; features any shape with C*N
/// elements in the order (C,N); bias (N) or undefined. bilinear is torch.nn.functional.grid_sample with zeros
/// padding; NaN positions read zeros. Source: neuralpredictors, FullGaussian2d.forward.
Tensor point_readout(const Tensor& x, const Tensor& grid, const Tensor& features, const Tensor& bias,
                     bool align_corners);

enum class GaussType {
  full,          ///< sigma (N,2,2): d_i = sum_j sigma[n,i,j] noise_j
  uncorrelated,  ///< sigma (N,2): d_i = sigma[n,i] noise_i
  isotropic      ///< sigma (N): d_i = sigma[n] noise_i
};
/// Positions clamp(mu + d, -1, 1) + shift[b] for point_readout: (B,N,2), or (1,N,2) where neither noise nor
/// shift has B. mu and sigma of any shape with 2N, and 4N, 2N or N, elements in the order above; noise
/// (B,N,2), or (1,N,2) for all images, gets no gradient, undefined it is 0; shift (B,2) or undefined.
/// Source: neuralpredictors, FullGaussian2d.sample_grid.
Tensor gaussian_grid(const Tensor& mu, const Tensor& sigma, const Tensor& noise, const Tensor& shift,
                     GaussType type);

/// Entry index[n] of an axis of x for every n, times scales[n]: the axis then has as many entries as index,
/// i64 (N), has values. scales of any shape with N elements, or undefined. How neurons share features and
/// positions.
Tensor gather(const Tensor& x, const Tensor& index, int axis, const Tensor& scales = {});

/// x_n / (||x_n||_2 + 1e-6) for the rows n of axis 0. The gradient at a zero row takes the norm as constant.
/// The output may be changed in place before the backward pass: the gradient is that of the unchanged one.
/// Source: neuralpredictors, FullFactorized2d.normalized_spatial.
Tensor normalize_rows(const Tensor& x);

/// torch.nn.functional.linear: x (B,I), weight (O,I), bias (O) or undefined -> (B,O).
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

/// C (M,N) = A (M,K) B (K,N).
Tensor matmul(const Tensor& a, const Tensor& b);

/// sum_i weight_i * term_i of scalars.
Tensor weighted_sum(const std::vector<Tensor>& terms, const std::vector<double>& weights);

// ---- losses and metrics: output (B,T,N) or (B,N), target with at least as many frames, aligned by its last
// ones. A scalar, or (N) when per_neuron. The target gets no gradient.

struct PoissonNLLLossOptions {
  bool log_input = false;
  bool full = false;
  double eps = 1e-8;
};
/// torch.nn.PoissonNLLLoss, reduction "mean".
Tensor poisson_nll_loss(const Tensor& output, const Tensor& target,
                        const PoissonNLLLossOptions& options = {});

struct PoissonLoss3dOptions {
  double bias = 1e-16;
  bool per_neuron = false;
  bool avg = false;
};
/// openretina.modules.losses.PoissonLoss3d.
Tensor poisson_loss3d(const Tensor& output, const Tensor& target, const PoissonLoss3dOptions& options = {});

struct PoissonLossOptions {
  double bias = 1e-8;
  bool per_neuron = false;
  bool avg = true;
  bool full_loss = false;
};
/// neuralpredictors.measures.modules.PoissonLoss.
Tensor poisson_loss(const Tensor& output, const Tensor& target, const PoissonLossOptions& options = {});

struct CorrelationLoss2DOptions {
  double eps = 1e-16;
  bool per_neuron = false;
  bool avg = false;
};
/// Negative Pearson correlation over the batch, output (B,N).
Tensor correlation_loss2d(const Tensor& output, const Tensor& target,
                          const CorrelationLoss2DOptions& options = {});

struct CorrelationLoss3dOptions {
  double bias = 1e-16;
  bool per_neuron = false;
  bool avg = false;
  bool negate = true;
};
/// openretina.modules.losses.CorrelationLoss3d: Pearson correlation over time per batch item and neuron.
Tensor correlation_loss3d(const Tensor& output, const Tensor& target,
                          const CorrelationLoss3dOptions& options = {});

// ---- regularizers (scalars)

/// sum(lap(w)^2) / (sum(w^2) + 1e-6) of the filters w (..., KH, KW), lap = valid 3x3 Laplacian; a kernel
/// below 3 is an error. Source: openretina, FlatLaplaceL23dnorm.
Tensor laplace_ratio(const Tensor& w);
/// The same of filters in time (..., KT, 1, 1), lap = valid [-1 2 -1]. Source: openretina,
/// TimeLaplaceL23dnorm.
Tensor laplace_ratio_time(const Tensor& w);
/// How neuralpredictors' Laplacian regularizers weigh lap = 3x3 Laplacian of the filters w (..., K, K),
/// padded with `padding` zeros on each side; agg is the mean, or the sum.
enum class InputRegularizer {
  laplace_l2,           ///< agg(lap^2) / 2
  laplace_l2_norm,      ///< agg(lap^2) / agg(w^2)
  laplace_l1,           ///< agg(|lap|)
  gaussian_laplace_l2,  ///< agg((lap (1 - g))^2) / agg(w^2), g a Gaussian of sigma K / 4, scaled to 0 .. 1
};
struct InputRegularizerOptions {
  InputRegularizer kind = InputRegularizer::laplace_l2;
  std::int64_t padding = 0;  ///< the Gaussian needs 1
  bool mean = true;
};
/// Source: neuralpredictors, regularizers.py (LaplaceL2, LaplaceL2norm, LaplaceL1, GaussianLaplaceL2).
Tensor input_regularizer(const Tensor& w, const InputRegularizerOptions& options);
/// mean over o, i of |w_oi|, the norm over the taps of w (O,I,...). Source: neuralpredictors, group sparsity.
Tensor mean_filter_norm(const Tensor& w);
/// sum w^2.
Tensor square_sum(const Tensor& w);
/// sum_o [ sum_i |w_oi| / sqrt(1e-8 + sum_i |w_oi|^2) ] of w (O,I,...). Source: openretina, group sparsity.
Tensor group_sparsity(const Tensor& w);
/// Ramp-weighted energy of the harmonics (O,I,K), divided by O. Source: openretina, temporal smoothing.
Tensor temporal_smoothing(const Tensor& sin_weights, const Tensor& cos_weights);
/// sum |w|, or its mean.
Tensor absolute_sum(const Tensor& w, bool mean = false);
/// R(exp(mask_log_var * var_scale)) + R((mask_mean * mean_scale)^2), R the sum or the mean over entries.
Tensor gaussian_extent(const Tensor& mask_mean, const Tensor& mask_log_var, double mean_scale,
                       double var_scale, bool mean = false);

// ---- in-place constraints, outside differentiation

void clamp_min_(const Tensor& x, double least);
void clamp_(const Tensor& x, double least, double most);
void abs_(const Tensor& x);
/// x / sqrt(sum x^2 + eps), the sum over the axes first_axis .. last_axis: the "norm" constraint of the
/// Klindt models.
void unit_norm_(const Tensor& x, int first_axis, int last_axis, double eps = 1e-5);

}  // namespace fovea
