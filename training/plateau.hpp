// Decisions that are taken once an epoch from one number: learning rate, best epoch, end of training.
#pragma once
#include "fovea/training.hpp"

namespace fovea {

/// torch.optim.lr_scheduler.ReduceLROnPlateau without cooldown. A NaN is never better.
class ReduceLROnPlateau {
 public:
  struct State {
    double learning_rate;
    double best;
    std::int64_t bad_epochs = 0;
  };

  ReduceLROnPlateau(const SchedulerOptions& options, double learning_rate);

  /// Takes the metric of one epoch and returns the learning rate of the next.
  double step(double metric);

  const State& state() const { return state_; }
  void restore(const State& state) { state_ = state; }

 private:
  bool better(double metric) const;

  SchedulerOptions options_;
  double min_lr_;
  State state_;
};

/// Lightning's EarlyStopping with check_finite = false.
class EarlyStopping {
 public:
  struct State {
    double best;
    std::int64_t wait_count = 0;
  };

  explicit EarlyStopping(const EarlyStoppingOptions& options);

  /// Takes the metric of one epoch; whether training ends with it.
  bool step(double metric);

  const State& state() const { return state_; }
  void restore(const State& state) { state_ = state; }

 private:
  EarlyStoppingOptions options_;
  State state_;
};

}  // namespace fovea
