// A data set as training sees it, whatever its format.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/batches.hpp"
#include "fovea/evaluation.hpp"
#include "fovea/static_data.hpp"
#include "models/json.hpp"
#include "training/memory_estimate.hpp"
#include "training/validation.hpp"

namespace fovea {

/// Data, and the options that they are trained with. Safe to share: what moves through the data are the
/// objects that it makes.
class TrainingData {
 public:
  virtual ~TrainingData() = default;

  /// What a model is told of the sessions; `source_grid`: with the positions that a grid_mean_predictor
  /// needs, an error where the data have none.
  virtual std::vector<SessionOptions> session_options(bool source_grid) const = 0;
  virtual std::string content_hash() const = 0;
  virtual std::vector<std::string> warnings() const { return {}; }

  /// ConfigError where the model does not take these stimuli, ShapeError for other numbers of neurons.
  virtual void check_fits(const Model& model) const = 0;
  /// ConfigError or ShapeError where the model cannot be trained on these data, or the data do not have the
  /// samples that the options ask for. Takes no memory.
  virtual void check_trainable(const Model& model) const = 0;
  virtual BatchShapes batch_shapes(const Model& model) const = 0;

  virtual std::unique_ptr<TrainingBatches> training_batches(const Model& model, std::uint64_t seed) const = 0;
  virtual std::unique_ptr<Validation> validation(const Model& model) const = 0;

  /// Sets the positions of readouts to where neurons respond, and returns how many; ConfigError where
  /// positions are not free, or where the data are movies.
  virtual std::int64_t start_at_receptive_fields(Model& model,
                                                 const std::vector<std::string>& sessions) const = 0;

  virtual bool has_tests() const = 0;
  /// Scores on the test part of every session that the model knows. Error where there is none.
  virtual std::vector<SessionScores> evaluate(const Model& model) const = 0;

  /// What a model file keeps of the data: `data`, `data_hash`, `split`, `normalization`.
  virtual Json provenance() const = 0;
};

/// The data must outlive it.
std::unique_ptr<TrainingData> training_data(const DataSet& data, const DataOptions& options);
std::unique_ptr<TrainingData> training_data(const StaticDataSet& data);

}  // namespace fovea
