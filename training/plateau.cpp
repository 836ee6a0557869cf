#include "training/plateau.hpp"

#include <algorithm>
#include <cmath>

namespace fovea {
namespace {

// Reductions smaller than this are not made: ReduceLROnPlateau's `eps`.
constexpr double least_reduction = 1e-8;

double worst(const std::string& mode) {
  const double infinity = std::numeric_limits<double>::infinity();
  return mode == "max" ? -infinity : infinity;
}

}  // namespace

ReduceLROnPlateau::ReduceLROnPlateau(const SchedulerOptions& options, double learning_rate)
    : options_(options),
      min_lr_(options.min_lr.value_or(learning_rate * std::pow(options.factor, 3))),
      state_{learning_rate, worst(options.mode)} {}

bool ReduceLROnPlateau::better(double metric) const {
  const bool relative = options_.threshold_mode == "rel";
  const double best = state_.best, threshold = options_.threshold;
  if (options_.mode == "max") return metric > (relative ? best * (1 + threshold) : best + threshold);
  return metric < (relative ? best * (1 - threshold) : best - threshold);
}

double ReduceLROnPlateau::step(double metric) {
  if (better(metric)) {
    state_.best = metric;
    state_.bad_epochs = 0;
  } else {
    ++state_.bad_epochs;
  }
  if (state_.bad_epochs > options_.patience) {
    const double reduced = std::max(state_.learning_rate * options_.factor, min_lr_);
    if (state_.learning_rate - reduced > least_reduction) state_.learning_rate = reduced;
    state_.bad_epochs = 0;
  }
  return state_.learning_rate;
}

EarlyStopping::EarlyStopping(const EarlyStoppingOptions& options)
    : options_(options), state_{worst(options.mode)} {}

bool EarlyStopping::step(double metric) {
  const bool better = options_.mode == "max" ? metric - options_.min_delta > state_.best
                                             : metric + options_.min_delta < state_.best;
  if (better) {
    state_.best = metric;
    state_.wait_count = 0;
    return false;
  }
  return ++state_.wait_count >= options_.patience;
}

}  // namespace fovea
