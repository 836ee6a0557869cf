#include "cli/progress.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>

namespace fovea::cli {
namespace {

std::string duration(double seconds) {
  const auto whole = static_cast<long>(seconds + 0.5);
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

}  // namespace

Progress::Progress(std::int64_t max_epochs, std::int64_t first_epoch, bool visible)
    : max_epochs_(max_epochs),
      first_epoch_(first_epoch),
      visible_(visible),
      start_(std::chrono::steady_clock::now()) {}

double Progress::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void Progress::print(const std::string& text) {
  std::fputs(text.c_str(), stderr);
  std::fflush(stderr);
}

void Progress::clear() {
  if (drawn_) print("\r\033[K");
  drawn_ = false;
}

void Progress::line(const std::string& text) {
  clear();
  print(text + '\n');
}

void Progress::batch(std::int64_t epoch, std::int64_t batch, std::int64_t batches, const StepLosses& losses) {
  if (!visible_) return;
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && now - last_drawn_ < std::chrono::milliseconds(100) && batch < batches) return;
  last_drawn_ = now;
  constexpr int width = 24;
  const double done = static_cast<double>(epoch) + static_cast<double>(batch) / static_cast<double>(batches);
  const double worked = done - static_cast<double>(first_epoch_);
  const double left = seconds() / std::max(worked, 1e-9) * (static_cast<double>(max_epochs_) - done);
  const int filled = std::clamp(static_cast<int>(static_cast<double>(width) * static_cast<double>(batch) /
                                                 static_cast<double>(batches)),
                                0, width);
  clear();
  print(fmt::format("epoch {}/{} [{:=<{}}{: <{}}] {}/{}  loss {:.4g}{}  at most {} left", epoch + 1,
                    max_epochs_, "", filled, "", width - filled, batch, batches, losses.total,
                    validated_ ? fmt::format("  validation correlation {:.4f}", validation_) : "",
                    duration(left)));
  drawn_ = true;
}

std::string Progress::epoch(const EpochMetrics& metrics, bool best) {
  validation_ = metrics.val_evaluation_loss;
  validated_ = true;
  const std::string text = epoch_line(metrics, best);
  line(text);
  return text;
}

std::string Progress::epoch_line(const EpochMetrics& metrics, bool best) {
  return fmt::format(
      "epoch {:3}  loss {:.5g}  training correlation {:.4f}  validation correlation {:.4f}  lr {:.3g}  "
      "{:.1f} s{}",
      metrics.epoch, metrics.train_total_loss, metrics.train_evaluation_loss, metrics.val_evaluation_loss,
      metrics.lr, metrics.seconds, best ? "  best" : "");
}

}  // namespace fovea::cli
