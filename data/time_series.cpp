#include "fovea/time_series.hpp"

#include <algorithm>
#include <cmath>

namespace fovea {

TimeSeries::TimeSeries(const std::vector<StoredArray>& parts) {
  for (const StoredArray& part : parts) {
    if (part.rank() != 2 && part.rank() != 4)
      throw ShapeError("TimeSeries",
                       text(part.origin(), ": 2 or 4 axes expected: ", shape_text(part.shape())));
    const bool movie = part.rank() == 4;
    const StoredArray array = part.with_rank(4);
    if (parts_.empty()) {
      movie_ = movie, channels_ = array.extent(0), height_ = array.extent(2), width_ = array.extent(3);
    } else if (movie != movie_ || array.extent(0) != channels_ || array.extent(2) != height_ ||
               array.extent(3) != width_) {
      throw ShapeError("TimeSeries",
                       text(part.origin(), " does not continue ", parts_.front().origin(), ": ",
                            shape_text(part.shape()), " after ", shape_text(parts_.front().shape())));
    }
    frames_ += array.extent(1);
    parts_.push_back(array);
  }
}

template <class T>
void TimeSeries::read(std::int64_t begin, std::int64_t end, T* out,
                      const Normalization& normalization) const {
  if (begin < 0 || end < begin || end > frames_)
    throw ShapeError("TimeSeries::read", text("frames ", begin, " .. ", end, " outside 0 .. ", frames_));
  std::int64_t start = 0;  // of the part
  for (const StoredArray& part : parts_) {
    const std::int64_t length = part.extent(1);
    const std::int64_t from = std::max(begin - start, std::int64_t{0}), to = std::min(end - start, length);
    if (from < to) {
      part.convert<T>({0, from, 0, 0}, {channels_, to - from, height_, width_}, out,
                      {1, values_per_frame(), width_ * channels_, channels_}, normalization);
      out += (to - from) * values_per_frame();
    }
    start += length;
  }
}

template void TimeSeries::read(std::int64_t, std::int64_t, float*, const Normalization&) const;
template void TimeSeries::read(std::int64_t, std::int64_t, double*, const Normalization&) const;

Tensor TimeSeries::read(std::int64_t begin, std::int64_t end, DType dtype, const Device& device,
                        const Normalization& normalization) const {
  if (dtype != DType::f32 && dtype != DType::f64)
    throw ShapeError("TimeSeries::read", text("f32 or f64 expected: ", dtype));
  if (begin < 0 || end < begin || end > frames_)
    throw ShapeError("TimeSeries::read", text("frames ", begin, " .. ", end, " outside 0 .. ", frames_));
  const Shape shape =
      movie_ ? Shape{1, end - begin, height_, width_, channels_} : Shape{1, end - begin, channels_};
  const bool host = device.on_host();
  const Tensor tensor(shape, dtype, host ? device : cpu_device(1));
  if (dtype == DType::f32)
    read(begin, end, tensor.data<float>(), normalization);
  else
    read(begin, end, tensor.data<double>(), normalization);
  return host ? tensor : tensor.to(device);
}

std::vector<double> TimeSeries::channel_means() const {
  std::vector<double> means(static_cast<std::size_t>(channels_), 0.0),
      frame(static_cast<std::size_t>(values_per_frame()));
  for (std::int64_t t = 0; t < frames_; ++t) {
    read(t, t + 1, frame.data());
    for (std::size_t i = 0; i < frame.size(); ++i) means[i % means.size()] += frame[i];
  }
  for (double& mean : means) mean /= static_cast<double>(frames_ * height_ * width_);
  return means;
}

namespace {

// Calls function(values) for all values of the arrays, some frames at a time.
template <class Function>
void for_each_block(const std::vector<StoredArray>& arrays, Function function) {
  constexpr std::int64_t block_values = 1 << 16;
  std::vector<double> block;
  for (const StoredArray& array : arrays) {
    const TimeSeries series({array});
    const std::int64_t frames =
        std::max(block_values / std::max(series.values_per_frame(), std::int64_t{1}), std::int64_t{1});
    for (std::int64_t t = 0; t < series.frames(); t += frames) {
      const std::int64_t end = std::min(t + frames, series.frames());
      block.resize(static_cast<std::size_t>((end - t) * series.values_per_frame()));
      series.read(t, end, block.data());
      function(block);
    }
  }
}

}  // namespace

Normalization mean_and_deviation(const std::vector<StoredArray>& arrays) {
  double sum = 0, count = 0;
  for_each_block(arrays, [&](const std::vector<double>& block) {
    double part = 0;
    for (const double value : block) part += value;
    sum += part, count += static_cast<double>(block.size());
  });
  if (count < 2) throw ShapeError("mean_and_deviation", text("at least 2 values expected: ", count));
  const double mean = sum / count;
  double squares = 0;
  for_each_block(arrays, [&](const std::vector<double>& block) {
    double part = 0;
    for (const double value : block) part += (value - mean) * (value - mean);
    squares += part;
  });
  return {mean, std::sqrt(squares / (count - 1))};
}

}  // namespace fovea
