// FiringRateEncoder: Stacked2dCore, one readout per session and optionally a shifter per session, then
// elu(x + elu_offset) + 1. Source: neuralpredictors, layers/encoders/firing_rate.py.
#pragma once
#include <memory>
#include <variant>

#include "fovea/device.hpp"
#include "fovea/model.hpp"
#include "fovea/readouts.hpp"
#include "fovea/stacked2d_core.hpp"

namespace fovea {

struct FiringRateEncoderOptions {
  std::array<std::int64_t, 3> in_shape{};  ///< (channels, height, width)
  Stacked2dCoreOptions core{};
  std::variant<FullGaussian2dOptions, FullFactorized2dOptions> readout{};
  bool clone_readout = false;  ///< later sessions: alpha * first(x) + beta
  std::optional<MLPShifterOptions> shifter{};
  double elu_offset = 0.0;
  double learning_rate = 0.01;
};

/// Builds the model in code; as make_model with a `model:` section. Losses are the defaults of the class.
std::unique_ptr<Model> make_firing_rate_encoder(const FiringRateEncoderOptions& options,
                                                const std::vector<SessionOptions>& sessions,
                                                const Placement& placement, std::uint64_t seed = 0);

/// The encoder as a value: what takes a Model takes it.
class FiringRateEncoder {
 public:
  FiringRateEncoder(const FiringRateEncoderOptions& options, const std::vector<SessionOptions>& sessions,
                    std::uint64_t seed = 0, const Placement& placement = {cpu_device(), DType::f32});
  operator Model&() { return *model_; }
  operator const Model&() const { return *model_; }
  Model* operator->() { return model_.get(); }
  const Model* operator->() const { return model_.get(); }

 private:
  std::unique_ptr<Model> model_;
};

/// Positions (1,N,1,2) of a session's FullGaussian2d in -1 .. 1, x (along the width) first: parameters,
/// shared or predicted ones. ConfigError for other readouts and models.
Tensor readout_positions(const Model& model, const std::string& session);

/// ConfigError where start_readout_at has nothing to set: other models, cloned readouts, shared and predicted
/// positions.
void check_startable(const Model& model, const std::string& session);
/// Starts the readout of a session at pixels (N,2) of the image, f32 or f64, x first, (0,0) the centre of the
/// first pixel, by way of where the core's map lies on the image; at the map's border where it does not reach
/// them. FullGaussian2d: its positions; FullFactorized2d: a Gaussian of norm 1 and a deviation of
/// 2 pixels of the map, added to the initial mask. Neurons with a NaN or infinity keep what they have.
/// Returns how many were started. ShapeError for another number of neurons; ConfigError as check_startable
/// and for a session that the model does not know.
std::int64_t start_readout_at(Model& model, const std::string& session, const Tensor& pixels);

/// Shape (N,C,H,W) of the weights of a session's FullFactorized2d: what factorized_weight would allocate.
Shape factorized_weight_shape(const Model& model, const std::string& session);
/// masks * features of the neurons from `first` on (count, C,H,W), all of them by default: `weight` of the
/// reference. `positive_weights` clamps the features at 0 in place. DeviceError with the size where the
/// machine has less memory, ConfigError for other readouts and models.
Tensor factorized_weight(const Model& model, const std::string& session, std::int64_t first = 0,
                         std::optional<std::int64_t> count = {});

}  // namespace fovea
