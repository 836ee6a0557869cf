// Options of the readouts of images and of the shifter. Source: neuralpredictors,
// layers/readouts/factorized.py, gaussian.py and multi_readout.py, layers/shifters/mlp.py (Klindt et al.
// 2017, Lurz et al. 2021).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace fovea {

/// Neurons with equal ids share one vector of features (or one position).
struct SharedByMatch {
  std::vector<std::int64_t> match_ids{};  ///< one per neuron
};

/// One spatial mask and one feature vector per neuron.
struct FullFactorized2dOptions {
  bool bias = true;
  bool normalize = true;  ///< masks are divided by their norm
  double init_noise = 1e-3;
  bool constrain_pos = false;     ///< masks and features are kept at or above 0
  bool positive_weights = false;  ///< features are clamped where `weight` is read
  bool positive_spatial = false;  ///< absolute values of the masks
  std::optional<SharedByMatch> shared_features{};
  double spatial_and_feature_reg_weight = 1.0;
};

/// Predicts positions from those of the neurons in cortex.
struct GridMeanPredictor {
  std::int64_t hidden_layers = 0;
  std::int64_t hidden_features = 20;
  bool final_tanh = false;
};

/// One position, drawn from a Gaussian in training, and one feature vector per neuron.
struct FullGaussian2dOptions {
  bool bias = true;
  double init_mu_range = 0.1;
  double init_sigma = 1.0;
  bool batch_sample = true;  ///< a draw per image, not per batch
  bool align_corners = true;
  std::string gauss_type = "full";  ///< uncorrelated, isotropic
  std::optional<GridMeanPredictor> grid_mean_predictor{};
  std::optional<SharedByMatch> shared_features{};
  std::optional<SharedByMatch> shared_grid{};
  std::optional<std::vector<std::vector<double>>> source_grid{};  ///< (N,d), for the predictor
  double feature_reg_weight = 1.0;
};

/// Moves the positions of a Gaussian readout with the pupil.
struct MLPShifterOptions {
  std::int64_t input_channels = 2;  ///< 3: with a trial index
  std::int64_t hidden_channels_shifter = 2;
  std::int64_t shift_layers = 1;
  double gamma_shifter = 0.0;  ///< without effect, as in the reference
  bool bias = true;
};

}  // namespace fovea
