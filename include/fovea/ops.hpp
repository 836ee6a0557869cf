// Differentiable operations. Activations are channels-last: movies (B,T,H,W,C), images (B,H,W,C), neurons
// last; parameters have PyTorch's layout. Inputs must be defined, of one floating dtype and on one device. A
// shape that does not fit throws ShapeError tagged with the op's name.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "fovea/tensor.hpp"

namespace fovea {

/// Zeros around the three axes (time, height, width) of a movie.
struct Padding3d {
  std::array<std::int64_t, 3> before{0, 0, 0};
  std::array<std::int64_t, 3> after{0, 0, 0};

  static Padding3d none() { return {}; }
  static Padding3d symmetric(std::array<std::int64_t, 3> zeros) { return {zeros, zeros}; }
  /// PyTorch's "same": k - 1 zeros in all, (k - 1) / 2 rounded down before, the rest after.
  static Padding3d same(std::array<std::int64_t, 3> kernel);
};

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
};
/// elu(batch_norm(x) + channel_bias) over all axes but the last, in one pass. Training with one value per
/// channel is an error, as in PyTorch.
Tensor batch_norm_elu(const Tensor& x, const BatchNormTensors& tensors, const BatchNormOptions& options);
/// The same without the nonlinearity.
Tensor batch_norm(const Tensor& x, const BatchNormTensors& tensors, const BatchNormOptions& options);

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
void abs_(const Tensor& x);

}  // namespace fovea
