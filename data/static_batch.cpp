// Trials of static images as tensors.
#include <algorithm>

#include "fovea/device.hpp"
#include "fovea/static_data.hpp"

namespace fovea {
namespace {

template <class T>
void copy_row(const std::vector<double>& values, const Tensor& into, std::int64_t row) {
  if (!into) return;
  T* out = into.data<T>() + row * static_cast<std::int64_t>(values.size());
  std::transform(values.begin(), values.end(), out, [](double value) { return static_cast<T>(value); });
}

template <class T>
void copy_trial(const StaticTrial& trial, const StaticBatch& into, std::int64_t row) {
  copy_row<T>(trial.image, into.images, row);
  copy_row<T>(trial.responses, into.responses, row);
  copy_row<T>(trial.behavior, into.behavior, row);
  copy_row<T>(trial.pupil_center, into.pupil_center, row);
}

}  // namespace

void StaticSession::read(const std::vector<std::int64_t>& trials, const StaticBatch& into) const {
  StaticTrial trial;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    read(trials[i], trial);
    const auto row = static_cast<std::int64_t>(i);
    if (into.images.dtype() == DType::f32)
      copy_trial<float>(trial, into, row);
    else
      copy_trial<double>(trial, into, row);
  }
}

StaticBatch StaticSession::read(const std::vector<std::int64_t>& trials, const Placement& placement) const {
  const bool in_place = placement.device.on_host();
  const Device host = in_place ? placement.device : cpu_device(1);
  const auto count = static_cast<std::int64_t>(trials.size());
  const Shape image = image_shape();
  const auto tensor = [&](const Shape& shape) { return Tensor(shape, placement.dtype, host); };
  StaticBatch batch{tensor({count, image[1], image[2], image[0]}), tensor({count, n_neurons()}), {}, {}};
  if (has_behavior()) batch.behavior = tensor({count, 3});
  if (has_pupil_center()) batch.pupil_center = tensor({count, 2});
  read(trials, batch);
  if (in_place) return batch;
  for (Tensor* one : {&batch.images, &batch.responses, &batch.behavior, &batch.pupil_center})
    if (*one) *one = one->to(placement.device);
  return batch;
}

}  // namespace fovea
