// Model: what training, evaluation, prediction and the model file need of a neural-encoding model.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fovea/module.hpp"

namespace fovea {

/// What a model knows of one recording session.
struct SessionOptions {
  std::string key;
  std::int64_t n_neurons = 0;
  std::optional<std::vector<double>> mean_activity;  ///< initial bias, spikes per frame
  std::string readout{};  ///< JSON text of what overrides the general `readout` section; empty: nothing
};

/// Input of one forward pass, all of one session.
struct ModelInput {
  std::string session;  ///< may be empty where the model has one session
  Tensor stimulus;      ///< channels-last: movies (B,T,H,W,C), images (B,H,W,C)
  Tensor pupil_center;  ///< (B,2) or (B,3) for models with a shifter, else undefined
  Tensor noise;         ///< standard normal draws of noise_shape in training; undefined: drawn by the pass
};

/// One line of `describe`: a layer with its output for an input of in_shape.
struct LayerDescription {
  std::string name;
  std::string what;  ///< "custom_separable 2 -> 16, kernel 21 x 11 x 11"
  Shape output;      ///< PyTorch's order without the batch: (C,T,H,W), (T,N) ..
  std::int64_t parameters = 0;
};

struct ModelDescription {
  std::vector<LayerDescription> layers;
  std::string tree;                         ///< nested print of the modules, one readout a line
  std::int64_t receptive_field_frames = 1;  ///< stimulus frames that one output frame sees
  std::int64_t receptive_field_height = 1, receptive_field_width = 1;
};

/// A core shared by sessions and one readout per session.
class Model : public Module {
 public:
  virtual std::string class_name() const = 0;
  /// The `model:` section with every default and the sessions, as JSON text.
  virtual std::string config() const = 0;
  virtual const Placement& placement() const = 0;
  virtual std::vector<std::string> sessions() const = 0;
  virtual std::int64_t n_neurons(const std::string& session) const = 0;
  virtual double learning_rate() const = 0;
  /// One sample in PyTorch's order: (C,T,H,W) or (C,H,W).
  virtual Shape in_shape() const = 0;
  /// Whether stimuli are movies (B,T,H,W,C) with predictions (B,T,N), else images with (B,N).
  virtual bool takes_movies() const = 0;
  /// Columns of the pupil centre that every forward pass needs, 2 or 3; 0: the model has no shifter.
  virtual std::int64_t pupil_columns() const { return 0; }
  /// Whether a model of this class may have a shifter; without one a pupil centre is ignored, as the class's
  /// reference does.
  virtual bool may_shift() const { return false; }
  /// Shape of the standard normal draws of a training pass over so many samples, (B,N,2) or (1,N,2) where
  /// they share one draw; rank 0: nothing samples.
  virtual Shape noise_shape(std::int64_t /*batch*/, const std::string& /*session*/) const { return {}; }
  /// Shape of the prediction (T_out,N) or (N) for one sample of the given shape, without running data. Errors
  /// as in forward.
  virtual Shape output_shape(const Shape& sample, const std::string& session) const = 0;

  /// Prediction (B,T_out,N) or (B,N) in spikes per frame or the unit of the responses. A training pass
  /// updates the statistics. An unknown session is an error that lists the known ones.
  virtual Tensor forward(const ModelInput& input, const Pass& pass) const = 0;
  /// Constraints on parameters that training applies in place before every forward pass, others once.
  virtual void apply_constraints(const std::string& session) const = 0;
  virtual Tensor loss(const Tensor& output, const Tensor& responses) const = 0;
  /// The validation metric, larger is better.
  virtual Tensor metric(const Tensor& output, const Tensor& responses) const = 0;
  /// Scalars to be added to the loss; undefined where there are none.
  virtual Tensor core_regularizer() const = 0;
  virtual Tensor readout_regularizer(const std::string& session) const = 0;

  /// Layers and shapes for a sample of the given shape.
  virtual ModelDescription describe(const Shape& sample) const = 0;
  /// A copy with its own tensors.
  std::unique_ptr<Model> clone() const;
};

/// Builds a model from a `model:` section as JSON text, with `sessions` in it. Fresh parameters come from
/// `seed`. Unknown keys, missing and impossible values are ConfigErrors that name the key, the values and the
/// nearest name.
std::unique_ptr<Model> make_model(const std::string& config, const Placement& placement,
                                  std::uint64_t seed = 0);

struct LoadedModel {
  std::unique_ptr<Model> model;
  std::string provenance;  ///< JSON text, "{}" when there is none
};

/// Reads and writes a model file (formats.md section 1). Missing, extra and misshapen tensors are one
/// FormatError that lists them all. F32 and F64 are accepted and converted to the placement's dtype.
LoadedModel load_model(const std::string& path, const Placement& placement);
void save_model(const std::string& path, const Model& model, const std::string& provenance = "{}");

/// Copies values by name; every tensor of the model must be there with its shape, and nothing else but the
/// references' constant `*.laplace.filter` buffers. `where` names the source in the error.
void load_tensors(const Model& model, const std::vector<std::pair<std::string, Tensor>>& tensors,
                  const std::string& where);

}  // namespace fovea
