#include "data/static_reader.hpp"

#include <algorithm>

namespace fovea {

StaticReader::StaticReader(const StaticDataSet& data, DType dtype, const Device& device)
    : data_(data), device_(device) {
  const Device host = device.on_host() ? device : cpu_device(1);
  const Shape image = data.sessions.at(0).image_shape();
  const std::int64_t batch = data.options.batch_size;
  slots_.resize(static_cast<std::size_t>(held(data.options)));
  for (Slot& slot : slots_) {
    slot.images = Tensor({batch, image[1], image[2], image[0]}, dtype, host);
    if (data.options.include_eye_position) slot.pupil_center = Tensor({batch, 2}, dtype, host);
    for (const StaticSession& session : data.sessions)
      slot.responses.emplace_back(Shape{batch, session.n_neurons()}, dtype, host);
  }
  device_copy_.responses.resize(data.sessions.size());
}

StaticReader::~StaticReader() { stop(); }

void StaticReader::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  stopping_ = false;
}

void StaticReader::start(std::vector<PlannedBatch> plan) {
  stop();
  plan_ = std::move(plan);
  claimed_ = consumed_ = 0;
  for (Slot& slot : slots_) slot.ready = 0, slot.error = nullptr;
  for (std::int64_t i = 0; i < data_.options.readers; ++i) threads_.emplace_back([this] { work(); });
}

void StaticReader::work() {
  while (true) {
    std::size_t mine = 0;
    {
      std::unique_lock lock(mutex_);
      // The slot of the batch in use stays untouched: it is the one given out last.
      changed_.wait(lock, [&] {
        return stopping_ || claimed_ == plan_.size() ||
               claimed_ + 1 < std::max<std::size_t>(consumed_, 1) + slots_.size();
      });
      if (stopping_ || claimed_ == plan_.size()) return;
      mine = claimed_++;
    }
    Slot& slot = slots_[mine % slots_.size()];
    std::exception_ptr error;
    try {
      const PlannedBatch& batch = plan_[mine];
      data_.sessions[batch.session].read(
          batch.trials, StaticBatch{slot.images, slot.responses[batch.session], {}, slot.pupil_center});
    } catch (...) {
      error = std::current_exception();
    }
    {
      const std::lock_guard lock(mutex_);
      slot.error = error;
      slot.ready = mine + 1;
    }
    changed_.notify_all();
  }
}

Tensor StaticReader::on_device(const Tensor& values, std::int64_t rows, Tensor& copy) const {
  Tensor part = rows == values.shape()[0] ? values : values.rows(0, rows);
  if (device_.on_host()) return part;
  if (!copy) copy = Tensor(values.shape(), values.dtype(), device_);
  Tensor there = copy.rows(0, rows);
  there.copy_from(part);
  return there;
}

const Batch* StaticReader::next() {
  if (consumed_ == plan_.size()) return nullptr;
  const std::size_t index = consumed_;
  Slot& slot = slots_[index % slots_.size()];
  {
    std::unique_lock lock(mutex_);
    ++consumed_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return slot.ready == index + 1; });
    if (slot.error) std::rethrow_exception(slot.error);
  }
  const PlannedBatch& planned = plan_[index];
  const auto rows = static_cast<std::int64_t>(planned.trials.size());
  batch_.session_index = planned.session;
  batch_.session = data_.sessions[planned.session].key();
  batch_.stimulus = on_device(slot.images, rows, device_copy_.images);
  batch_.responses =
      on_device(slot.responses[planned.session], rows, device_copy_.responses[planned.session]);
  if (slot.pupil_center) batch_.pupil_center = on_device(slot.pupil_center, rows, device_copy_.pupil_center);
  return &batch_;
}

}  // namespace fovea
