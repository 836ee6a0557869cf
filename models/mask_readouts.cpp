#include "models/mask_readouts.hpp"

#include <algorithm>

#include "fovea/ops.hpp"

namespace fovea {
namespace {

/// torch.linspace(-end, end, count): counted from both ends, a single value is the first.
double symmetric_linspace(double end, std::int64_t count, std::int64_t index) {
  if (count == 1) return -end;
  const double step = 2 * end / static_cast<double>(count - 1);
  if (index < count / 2) return -end + step * static_cast<double>(index);
  return end - step * static_cast<double>(count - 1 - index);
}

Tensor mask_grid(const CoreMaskReadout::Geometry& g, const Placement& placement) {
  const Tensor grid({g.neurons, g.height, g.width, 2}, placement.dtype, placement.device);
  const double longer = static_cast<double>(std::max(g.height, g.width));
  std::vector<double> values;
  values.reserve(static_cast<std::size_t>(grid.elements()));
  for (std::int64_t n = 0; n < g.neurons; ++n)
    for (std::int64_t h = 0; h < g.height; ++h)
      for (std::int64_t w = 0; w < g.width; ++w) {
        values.push_back(symmetric_linspace(static_cast<double>(g.height) / longer, g.height, h));
        values.push_back(symmetric_linspace(static_cast<double>(g.width) / longer, g.width, w));
      }
  grid.copy_from(Tensor::from(values, grid.shape(), placement.device).to(placement.dtype));
  return grid;
}

Tensor normal(const Shape& shape, double mean, double deviation, const Placement& placement, Random& random) {
  const Tensor tensor(shape, placement.dtype, placement.device);
  random.normal(tensor, mean, deviation);
  return tensor;
}

}  // namespace

CoreMaskReadout::CoreMaskReadout(const Geometry& g, const SessionOptions& session,
                                 const CoreReadoutOptions& options, const Placement& p, Random& random)
    : geometry_(g), options_(options) {
  if (options.readout_gaussian_masks) {
    mask_mean_ = add_tensor("mask_mean", Role::parameter, Tensor::zeros({g.neurons, 2}, p.dtype, p.device));
    mask_log_var_ =
        add_tensor("mask_log_var", Role::parameter, Tensor::zeros({g.neurons}, p.dtype, p.device));
    grid_ = add_tensor("grid", Role::constant, mask_grid(g, p));
  } else {
    masks_ =
        add_tensor("masks", Role::parameter, normal({g.height, g.width, g.neurons}, 0.0, 0.01, p, random));
  }
  features_ = add_tensor(
      "features", Role::parameter,
      normal({1, g.channels, 1, g.neurons}, 1.0 / static_cast<double>(g.channels), 0.01, p, random));
  scale_ = options.readout_scale
               ? add_tensor("scale_param", Role::parameter, normal({g.neurons}, 1.0, 0.01, p, random))
               : add_tensor("scale_param", Role::constant, Tensor::full({g.neurons}, 1.0, p.dtype, p.device));
  bias_ = add_tensor("bias", options.readout_bias ? Role::parameter : Role::constant,
                     Tensor::zeros({g.neurons}, p.dtype, p.device));
  if (options.readout_bias && session.mean_activity)
    bias_.copy_from(Tensor::from(*session.mean_activity, {g.neurons}, p.device).to(p.dtype));
}

Tensor CoreMaskReadout::forward(const Tensor& x) const {
  if (masks_) return mask_readout(x, masks_, features_, scale_, bias_, true);
  const Tensor mask = gaussian_mask(mask_mean_, mask_log_var_, grid_, options_.readout_gaussian_mean_scale,
                                    options_.readout_gaussian_var_scale);
  return mask_readout(x, mask, features_, scale_, bias_, false);
}

void CoreMaskReadout::apply_constraints() const {
  const NoGrad guard;
  if (options_.readout_positive) clamp_min_(features_, 0.0);
  if (masks_) abs_(masks_);
}

Tensor CoreMaskReadout::regularizer() const {
  std::vector<Tensor> terms;
  std::vector<double> factors;
  const bool mean = options_.readout_reg_avg;
  if (options_.readout_gamma != 0) {
    terms.push_back(absolute_sum(features_, mean));
    factors.push_back(options_.readout_gamma);
  }
  if (options_.readout_gamma_masks != 0) {
    terms.push_back(masks_ ? absolute_sum(masks_, mean)
                           : gaussian_extent(mask_mean_, mask_log_var_, options_.readout_gaussian_mean_scale,
                                             options_.readout_gaussian_var_scale, mean));
    factors.push_back(options_.readout_gamma_masks);
  }
  return terms.empty() ? Tensor() : weighted_sum(terms, factors);
}

}  // namespace fovea
