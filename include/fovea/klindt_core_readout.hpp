// KlindtCoreReadout2D and 3D: valid convolutions with batch norm and selectable activations, then one spatial
// mask and one feature vector per neuron. Source: Klindt et al. 2017, "Neural system identification for large
// populations separating what and where"; the class whose parameters are the table's.
#pragma once
#include <array>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "fovea/model.hpp"

namespace fovea {

/// A square, or (height, width).
struct ImageSize : std::variant<std::int64_t, std::array<std::int64_t, 2>> {
  using variant::variant;
};

/// k: k x k pixels; (h, w); in 3D also (t, h, w). What has no time is one frame long.
struct KernelSize : std::variant<std::int64_t, std::array<std::int64_t, 2>, std::array<std::int64_t, 3>> {
  using variant::variant;
};

/// Parameters by the names of the table.
struct KlindtCoreReadoutOptions {
  ImageSize image_size{};
  std::int64_t image_channels = 0;
  std::vector<KernelSize> kernel_sizes{};
  std::vector<std::int64_t> num_kernels{};
  /// relu, elu, softplus, requ, "" = same = none, parametric_relu[:neg=a,pos=b], parametric_softplus[:min=m]
  std::vector<std::string> act_fns{};
  std::array<double, 4> reg{};                         ///< kernel, mask, weights, dropout
  std::array<std::array<double, 2>, 3> init_scales{};  ///< kernel, mask, weights: mean and deviation
  std::optional<std::string> kernel_constraint{};      ///< "norm"
  bool batch_norm = true;
  bool bn_cent = false;                ///< affine batch norm
  std::optional<std::int64_t> seed{};  ///< of the initial values; none: the seed of the run
  std::int64_t num_neurons = 1;
  bool final_relu = false;                          ///< relu(out + bias) instead of a linear output
  std::optional<std::string> weights_constraint{};  ///< "abs", "norm", "absnorm"
  std::optional<std::string> mask_constraint{};     ///< "abs"
  double learning_rate = 0.01;
};

/// Images (B,C,H,W) -> (B,N). The session is named `session`.
std::unique_ptr<Model> make_klindt_core_readout_2d(const KlindtCoreReadoutOptions& options,
                                                   const Placement& placement, std::uint64_t seed = 0);
/// Movies (B,C,T,H,W) -> (B,T_out,N).
std::unique_ptr<Model> make_klindt_core_readout_3d(const KlindtCoreReadoutOptions& options,
                                                   const Placement& placement, std::uint64_t seed = 0);

/// init_mask: masks (h*w, N) of the core's output map, or (N,1,H,W) images of which the centre is taken.
/// ConfigError when the model is no Klindt model, ShapeError when the shape does not fit.
void set_init_mask(Model& model, const Tensor& init_mask);
/// init_weights: (C,N).
void set_init_weights(Model& model, const Tensor& init_weights);

}  // namespace fovea
