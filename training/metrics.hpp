// metrics.csv: one line an epoch.
#pragma once
#include <string>
#include <vector>

#include "fovea/training.hpp"
#include "models/json.hpp"

namespace fovea {

/// The whole file: header and one line an epoch. Numbers are the shortest that read back the same.
std::string metrics_csv(const std::vector<EpochMetrics>& epochs);

std::string shortest(double value);  ///< shortest decimal text that reads back the same; "nan", "inf", "-inf"

// Numbers in JSON that may be infinite or NaN, which JSON has no number for.
Json write_number(double value);
double read_number(const Json& value);
Json write_metrics(const EpochMetrics& metrics);
EpochMetrics read_metrics(const Json& object);

}  // namespace fovea
