// Movies and responses: stored arrays that run along time.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "fovea/stored_array.hpp"

namespace fovea {

/// Stored arrays [C, T, H, W] (a movie) or [N, T] (responses: N channels of 1 x 1) one after the other on
/// time, in their stored types. Reading converts, normalises and lays out channels-last in one pass.
class TimeSeries {
 public:
  TimeSeries() = default;
  /// Arrays of rank 2 or 4 that agree in all axes but time; ShapeError otherwise.
  explicit TimeSeries(const std::vector<StoredArray>& parts);

  std::int64_t frames() const { return frames_; }
  std::int64_t channels() const { return channels_; }
  std::int64_t height() const { return height_; }
  std::int64_t width() const { return width_; }
  std::int64_t values_per_frame() const { return channels_ * height_ * width_; }
  const std::vector<StoredArray>& parts() const { return parts_; }

  /// Frames [begin, end) as (end - begin, H, W, C), f32 or f64, to `out`. ShapeError outside the series.
  template <class T>
  void read(std::int64_t begin, std::int64_t end, T* out, const Normalization& normalization = {}) const;

  /// Frames [begin, end) as one sample: (1, T, H, W, C), or (1, T, N) of responses.
  Tensor read(std::int64_t begin, std::int64_t end, DType dtype, const Device& device,
              const Normalization& normalization = {}) const;
  Tensor read(DType dtype, const Device& device, const Normalization& normalization = {}) const {
    return read(0, frames_, dtype, device, normalization);
  }

  /// Mean over time of every channel, in f64.
  std::vector<double> channel_means() const;

 private:
  std::vector<StoredArray> parts_;  // rank 4
  std::int64_t frames_ = 0, channels_ = 0, height_ = 0, width_ = 0;
  bool movie_ = false;
};

/// Mean and unbiased standard deviation over all values of some arrays, in f64.
Normalization mean_and_deviation(const std::vector<StoredArray>& arrays);

}  // namespace fovea
