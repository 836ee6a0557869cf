// The progress bar of `fovea train`, on a terminal only, and its log lines. A stderr that is closed, full or
// a terminal that went away is no reason to end a training: what cannot be shown is dropped.
#pragma once
#include <chrono>
#include <string>

#include "training/trainer.hpp"

namespace fovea::cli {

class Progress {
 public:
  /// `visible`: stderr is a terminal.
  Progress(std::int64_t max_epochs, std::int64_t first_epoch, bool visible);

  /// `batch` batches of the epoch are done.
  void batch(std::int64_t epoch, std::int64_t batch, std::int64_t batches, const StepLosses& losses);
  /// Shows the line of an epoch and returns it.
  std::string epoch(const EpochMetrics& metrics, bool best);
  /// The line of an epoch, not shown.
  static std::string epoch_line(const EpochMetrics& metrics, bool best);
  /// A line of the log, above the bar.
  void line(const std::string& text);

 private:
  void print(const std::string& text);
  void clear();
  double seconds() const;

  std::int64_t max_epochs_, first_epoch_;
  bool visible_, drawn_ = false;
  double validation_ = 0;
  bool validated_ = false;
  std::chrono::steady_clock::time_point start_, last_drawn_;
};

}  // namespace fovea::cli
