// metrics.csv: one line an epoch.
#pragma once
#include <string>
#include <vector>

#include "models/json.hpp"

namespace fovea {

/// One epoch. Training columns are means over its batches as they were trained on.
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

/// The whole file: header and one line an epoch. Numbers are the shortest that read back the same.
std::string metrics_csv(const std::vector<EpochMetrics>& epochs);

std::string shortest(double value);  ///< shortest decimal text that reads back the same; "nan", "inf", "-inf"

// Numbers in JSON that may be infinite or NaN, which JSON has no number for.
Json write_number(double value);
double read_number(const Json& value);
Json write_metrics(const EpochMetrics& metrics);
EpochMetrics read_metrics(const Json& object);

}  // namespace fovea
