// CoreReadout, the default model of Open Retina: a space-time separable convolutional core shared by all
// sessions and a Gaussian-mask readout per session. Source: openretina, models/core_readout.py,
// modules/core/base_core.py, modules/readout/factorized_gaussian.py (Hoefling et al. 2024, Klindt et al.
// 2017).
#pragma once
#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "fovea/model.hpp"

namespace fovea {

/// true: "same"; false: none; a number: zeros on both sides of every axis; three numbers: per axis (t, h, w).
struct PaddingOption : std::variant<bool, std::int64_t, std::array<std::int64_t, 3>> {
  using variant::variant;
};

/// Parameters by the names of openretina's table.
struct CoreReadoutOptions {
  std::array<std::int64_t, 4> in_shape{};             ///< (channels, time, height, width)
  std::vector<std::int64_t> hidden_channels{};        ///< output channels of every layer
  std::vector<std::int64_t> temporal_kernel_sizes{};  ///< frames
  std::vector<std::int64_t> spatial_kernel_sizes{};   ///< pixels, square
  double core_gamma_input = 0.0;
  double core_gamma_hidden = 0.0;
  double core_gamma_in_sparse = 0.0;
  double core_gamma_temporal = 40.0;
  PaddingOption core_input_padding = false;
  PaddingOption core_hidden_padding = true;
  std::string convolution_type = "custom_separable";
  bool readout_scale = true;
  bool readout_bias = true;
  bool readout_gaussian_masks = true;
  double readout_gaussian_mean_scale = 6.0;
  double readout_gaussian_var_scale = 4.0;
  bool readout_positive = true;
  double readout_gamma = 0.4;
  double readout_gamma_masks = 0.0;
  bool readout_reg_avg = false;
  double learning_rate = 0.01;
  std::int64_t cut_first_n_frames_in_core = 0;
  double dropout_rate = 0.0;
  std::optional<std::int64_t> maxpool_every_n_layers{};
  std::optional<std::array<std::int64_t, 3>> downsample_input_kernel_size{};  ///< (t, h, w)
};

/// Builds the model in code; as make_model with a `model:` section. Losses are the defaults of the class.
std::unique_ptr<Model> make_core_readout(const CoreReadoutOptions& options,
                                         const std::vector<SessionOptions>& sessions,
                                         const Placement& placement, std::uint64_t seed = 0);

}  // namespace fovea
