// The `training:` section of a run configuration (formats.md section 3).
#pragma once
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "models/parameters.hpp"

namespace fovea {

struct OptimizerOptions {
  std::string class_name = "AdamW";
  std::array<double, 2> betas{0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0.01;
};

struct SchedulerOptions {
  std::string class_name = "ReduceLROnPlateau";
  std::string monitor = "val_evaluation_loss";
  std::string mode = "max";
  double factor = 0.3;
  std::int64_t patience = 5;
  double threshold = 5e-4;
  std::string threshold_mode = "abs";
  std::optional<double> min_lr;  ///< none: initial learning rate * factor^3
};

struct EarlyStoppingOptions {
  std::string monitor = "val_evaluation_loss";
  std::string mode = "max";
  std::int64_t patience = 10;
  double min_delta = 1e-3;
};

struct TrainingOptions {
  std::int64_t max_epochs = 100;
  std::optional<double> gradient_clip;  ///< largest global L2 norm of the gradient
  std::int64_t accumulate_grad_batches = 1;
  OptimizerOptions optimizer;
  std::optional<SchedulerOptions> scheduler{SchedulerOptions{}};  ///< null: constant learning rate
  std::vector<std::string> freeze;                                ///< name prefixes that end at a dot
  std::optional<EarlyStoppingOptions> early_stopping{EarlyStoppingOptions{}};  ///< null: runs to max_epochs
};

const ParameterTable<OptimizerOptions>& optimizer_table();
const ParameterTable<SchedulerOptions>& scheduler_table();
const ParameterTable<EarlyStoppingOptions>& early_stopping_table();
const ParameterTable<TrainingOptions>& training_table();

/// Reads a `training:` section (a map, or null for all defaults). Unknown keys, wrong types and impossible
/// values are ConfigErrors that name the key and the nearest known one.
TrainingOptions parse_training_options(const Json& section);
/// The section with every default written out.
Json write_training_options(const TrainingOptions& options);

}  // namespace fovea
