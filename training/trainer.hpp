// The training of a model on a data set, from the first step to the best model file.
#pragma once
#include <atomic>
#include <memory>
#include <string>

#include "fovea/evaluation.hpp"
#include "fovea/training.hpp"
#include "training/checkpoint.hpp"
#include "training/train_step.hpp"
#include "training/training_data.hpp"

namespace fovea {

/// Creates <output>/<experiment>/<Y-m-d_H-M-S>/ (local time) and returns its path; a name that is taken gets
/// a suffix.
std::string create_run_folder(const std::string& output, const std::string& experiment);

/// Epochs alternate sessions batch by batch; after each the model is validated, the scheduler and early
/// stopping decide and files are written: model.safetensors when the epoch is the best, metrics.csv,
/// last.ckpt.safetensors, each whole or not at all, in an order that makes a run killed at any moment resume
/// to the same bits.
class Trainer {
 public:
  /// Applies training.freeze to the model (ConfigError for a prefix that names nothing). Model and data must
  /// outlive it.
  Trainer(Model& model, const TrainingData& data, const RunOptions& options, TrainingHooks hooks = {});
  /// On movies, with options.data.
  Trainer(Model& model, const DataSet& data, const RunOptions& options, TrainingHooks hooks = {});

  /// Goes on where a checkpoint of the same seed and data stands; the model must have come from it
  /// (make_model).
  void resume(const Checkpoint& checkpoint);

  /// Takes a run folder that was made only after the trainer had accepted everything else, and saves the
  /// initial values there: a run killed from now on can be resumed.
  void begin(const std::string& folder);

  /// Trains until max_epochs, early stopping or `stop`. When `stop` is raised the optimizer step or
  /// validation under way is finished and the checkpoint saved. A loss, gradient, parameter, statistic or
  /// moment that is not finite is an Error naming epoch, step, session and tensor; the files of the last good
  /// epoch stay.
  TrainingResult run(const std::atomic<bool>* stop = nullptr);

  const TrainingState& state() const { return state_; }

 private:
  enum class EpochEnd { done, interrupted };
  Trainer(Model& model, std::unique_ptr<TrainingData> data, const RunOptions& options, TrainingHooks hooks);
  EpochEnd run_epoch(const std::atomic<bool>* stop);
  bool train_batches(const std::atomic<bool>* stop);
  void count(const StepLosses& losses, std::int64_t samples);
  void finish_epoch(const ValidationScores& scores);
  double learning_rate() const;
  void check_finite() const;
  std::string place() const;
  void save();
  void save_best() const;
  std::string provenance() const;
  void log(const std::string& line) const;

  std::unique_ptr<TrainingData> own_data_;  // where the caller has none of this kind
  Model& model_;
  const TrainingData& data_;
  RunOptions options_;
  TrainingHooks hooks_;
  TrainingStep step_;
  std::unique_ptr<TrainingBatches> batches_;
  std::unique_ptr<Validation> validation_;
  std::optional<ReduceLROnPlateau> scheduler_;
  std::optional<EarlyStopping> stopping_;
  TrainingState state_;
  std::string session_;  // of the last batch
  bool saved_ = false;   // the run folder holds a checkpoint of this run
};

/// Adds test scores per neuron to the provenance of a model file.
void record_scores(const std::string& model_path, const std::vector<SessionScores>& scores);

/// What a model's provenance says was frozen when it was trained (training.freeze).
std::vector<std::string> frozen_of(const std::string& provenance);

/// The normalisation of a session's stimulus in a model's provenance, which may be one for all sessions;
/// empty when there is none.
std::optional<Normalization> normalization_of(const std::string& provenance, const std::string& session = {});

}  // namespace fovea
