// The `training:` section of a run configuration (formats.md section 3).
#pragma once
#include "fovea/training.hpp"
#include "models/parameters.hpp"

namespace fovea {

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
