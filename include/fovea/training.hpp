// Training a model on a recording: options by the names of the `training:` section of a run configuration
// (formats.md section 3) and one function.
#pragma once
#include <array>
#include <atomic>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "fovea/data.hpp"
#include "fovea/static_data.hpp"

namespace fovea {

/// torch.optim.AdamW; the learning rate is the model's.
struct OptimizerOptions {
  std::string class_name = "AdamW";
  std::array<double, 2> betas{0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0.01;
};

/// torch.optim.lr_scheduler.ReduceLROnPlateau.
struct SchedulerOptions {
  std::string class_name = "ReduceLROnPlateau";
  std::string monitor = "val_evaluation_loss";  ///< a column of EpochMetrics
  std::string mode = "max";
  double factor = 0.3;
  std::int64_t patience = 5;
  double threshold = 5e-4;
  std::string threshold_mode = "abs";
  std::optional<double> min_lr{};  ///< none: initial learning rate * factor^3
};

/// Lightning's EarlyStopping.
struct EarlyStoppingOptions {
  std::string monitor = "val_evaluation_loss";  ///< a column of EpochMetrics
  std::string mode = "max";
  std::int64_t patience = 10;
  double min_delta = 1e-3;
};

struct TrainingOptions {
  std::int64_t max_epochs = 100;
  std::optional<double> gradient_clip{};  ///< largest global L2 norm of the gradient
  std::int64_t accumulate_grad_batches = 1;
  OptimizerOptions optimizer{};
  std::optional<SchedulerOptions> scheduler{SchedulerOptions{}};  ///< none: constant learning rate
  std::vector<std::string> freeze{};  ///< names, or their parts before a dot: "core"
  std::optional<EarlyStoppingOptions> early_stopping{EarlyStoppingOptions{}};  ///< none: runs to max_epochs
};

/// Losses of one batch.
struct StepLosses {
  double loss = 0;
  double core_regularizer = 0;
  double readout_regularizer = 0;
  double total = 0;          ///< the sum of the three: what is minimised
  double metric = 0;         ///< the model's metric on this batch, before the update
  double gradient_norm = 0;  ///< global L2 norm before clipping; 0 without an update
  bool updated = false;      ///< whether the optimizer made its step (accumulate_grad_batches)
};

/// One epoch, a line of metrics.csv. Training columns are means over its batches as they were trained on.
struct EpochMetrics {
  std::int64_t epoch = 0;  ///< from 0
  std::int64_t step = 0;   ///< optimizer steps taken so far
  double lr = 0;           ///< that this epoch was trained with
  double train_loss = 0;
  double train_total_loss = 0;
  double regularization_loss_core = 0;
  double regularization_loss_readout = 0;
  double train_evaluation_loss = 0;
  double val_loss = 0;
  double val_evaluation_loss = 0;
  double seconds = 0;  ///< wall time, training and validation

  /// Value of a column by its name; ConfigError when there is none.
  double value(const std::string& column) const;
};

/// The first epoch with the largest validation metric.
struct BestEpoch {
  double metric = -std::numeric_limits<double>::infinity();
  std::int64_t epoch = -1;  ///< -1: none yet

  /// Whether this epoch is the best so far.
  bool step(std::int64_t at, double value) {
    if (!(value > metric)) return false;
    metric = value;
    epoch = at;
    return true;
  }
};

/// What a run needs besides model and data.
struct RunOptions {
  TrainingOptions training{};
  DataOptions
      data{};  ///< of movies: batches, chunks and validation clips; for the provenance, where data came from
  std::uint64_t seed = 42;  ///< of the order of samples and of dropout
  /// Existing folder for metrics.csv, model.safetensors and last.ckpt.safetensors; empty: no files.
  std::string folder{};
};

/// Called on the training thread; empty ones are skipped. The library itself never prints.
struct TrainingHooks {
  std::function<void(std::int64_t epoch, std::int64_t batch, std::int64_t batches, const StepLosses& losses)>
      on_batch{};
  std::function<void(const EpochMetrics& metrics, bool best)> on_epoch{};
  std::function<void(const std::string& line)> log{};
};

enum class TrainingEnd { max_epochs, early_stopping, interrupted };

struct TrainingResult {
  TrainingEnd end = TrainingEnd::max_epochs;
  std::int64_t epochs = 0;  ///< finished
  BestEpoch best{};
};

/// Trains until max_epochs, early stopping or `stop`; afterwards the model has the values of the best epoch
/// (of the last one where none could be compared). When `stop` is raised the step under way is finished. A
/// loss or gradient that is not finite is an Error naming epoch, step, session and tensor. ConfigError or
/// ShapeError, before anything is written, where model, data and options do not fit each other.
TrainingResult train(Model& model, const DataSet& data, const RunOptions& options,
                     const TrainingHooks& hooks = {}, const std::atomic<bool>* stop = nullptr);
/// The same on static images, whose options are with the data: options.data is of movies.
TrainingResult train(Model& model, const StaticDataSet& data, const RunOptions& options,
                     const TrainingHooks& hooks = {}, const std::atomic<bool>* stop = nullptr);

}  // namespace fovea
