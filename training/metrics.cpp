#include "training/metrics.hpp"

#include <charconv>
#include <cmath>
#include <limits>

#include "models/parameters.hpp"

namespace fovea {
namespace {

struct Column {
  const char* name;
  double EpochMetrics::*value;
};

// After `epoch` and `step`, which are whole numbers.
constexpr Column columns[] = {
    {"lr", &EpochMetrics::lr},
    {"train_loss", &EpochMetrics::train_loss},
    {"train_total_loss", &EpochMetrics::train_total_loss},
    {"regularization_loss_core", &EpochMetrics::regularization_loss_core},
    {"regularization_loss_readout", &EpochMetrics::regularization_loss_readout},
    {"train_evaluation_loss", &EpochMetrics::train_evaluation_loss},
    {"val_loss", &EpochMetrics::val_loss},
    {"val_evaluation_loss", &EpochMetrics::val_evaluation_loss},
    {"seconds", &EpochMetrics::seconds},
};

}  // namespace

double EpochMetrics::value(const std::string& column) const {
  for (const Column& one : columns)
    if (column == one.name) return this->*one.value;
  throw ConfigError("metrics", text("no such column: '", column, "'"));
}

std::string shortest(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return {buffer, end};
}

std::string metrics_csv(const std::vector<EpochMetrics>& epochs) {
  std::string out = "epoch,step";
  for (const Column& column : columns) out += std::string(",") + column.name;
  out += '\n';
  for (const EpochMetrics& epoch : epochs) {
    out += text(epoch.epoch, ',', epoch.step);
    for (const Column& column : columns) out += ',' + shortest(epoch.*column.value);
    out += '\n';
  }
  return out;
}

Json write_number(double value) { return std::isfinite(value) ? Json(value) : Json(shortest(value)); }

double read_number(const Json& value) {
  if (value.is_number()) return value.get<double>();
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (value == "inf") return infinity;
  if (value == "-inf") return -infinity;
  if (value == "nan") return std::numeric_limits<double>::quiet_NaN();
  throw FormatError("metrics",
                    text("not a number: ", value.dump(-1, ' ', false, Json::error_handler_t::replace)));
}

Json write_metrics(const EpochMetrics& metrics) {
  Json object{{"epoch", metrics.epoch}, {"step", metrics.step}};
  for (const Column& column : columns) object[column.name] = write_number(metrics.*column.value);
  return object;
}

EpochMetrics read_metrics(const Json& object) {
  EpochMetrics metrics;
  read_json("metrics", "epoch", object.at("epoch"), metrics.epoch);
  read_json("metrics", "step", object.at("step"), metrics.step);
  for (const Column& column : columns) metrics.*column.value = read_number(object.at(column.name));
  return metrics;
}

}  // namespace fovea
