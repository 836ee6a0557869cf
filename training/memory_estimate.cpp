#include "training/memory_estimate.hpp"

#include <algorithm>
#include <cstdio>

#include "engine/bounded_memory.hpp"
#include "engine/system_memory.hpp"
#include "training/train_step.hpp"
#include "training/validation.hpp"

namespace fovea {
namespace {

/// A batch of ones.
struct Sample {
  ModelInput input;
  Tensor responses;

  std::size_t bytes() const { return input.stimulus.bytes() + responses.bytes(); }
};

Sample make_sample(const Model& model, const std::string& session, std::int64_t batch, std::int64_t frames) {
  const auto& [device, dtype] = model.placement();
  const Shape in = model.in_shape();
  const std::int64_t neurons = model.n_neurons(session);
  Sample sample;
  sample.input.session = session;
  if (model.takes_movies()) {
    sample.input.stimulus = Tensor::full({batch, frames, in[2], in[3], in[0]}, 1.0, dtype, device);
    sample.responses = Tensor::full({batch, frames, neurons}, 1.0, dtype, device);
  } else {
    sample.input.stimulus = Tensor::full({batch, in[1], in[2], in[0]}, 1.0, dtype, device);
    sample.responses = Tensor::full({batch, neurons}, 1.0, dtype, device);
  }
  return sample;
}

/// A copy of a model on a device of its own that counts, ready to train.
class Measurement {
 public:
  Measurement(const Model& model, const TrainingOptions& training, std::size_t most)
      : device_(bounded_device(model, most)),
        copy_(make_model(model.config(), {device_, model.placement().dtype})),
        step_(*copy_, training) {}

  std::size_t held() const { return device_.memory().bytes_in_use; }
  std::size_t peak() const { return device_.memory().bytes_at_peak; }

  /// Workspace of a step: what its plan needs.
  std::size_t of_step(const std::string& session, std::int64_t batch, std::int64_t frames) {
    const Sample sample = make_sample(*copy_, session, batch, frames);
    TrainingStep::Settings settings;
    Random random(0);  // with dropout and its masks
    settings.random = &random;
    settings.last = true;
    step_.run(sample.input, sample.responses, settings);
    return step_.memory().planned_bytes();
  }

  std::size_t of_validation(const std::string& session, std::int64_t batch, std::int64_t frames) {
    const Sample sample = make_sample(*copy_, session, batch, frames);
    StepMemory memory(device_);
    validate_batch(*copy_, memory, sample.input, sample.responses);
    return memory.planned_bytes();
  }

 private:
  static Device bounded_device(const Model& model, std::size_t most) {
    Device device = cpu_device(model.placement().device.threads());
    bound_memory(device, most);
    return device;
  }

  Device device_;
  std::unique_ptr<Model> copy_;
  TrainingStep step_;
};

/// Workspace for `batch` samples from that of at most eight.
template <class Measure>
std::size_t extrapolated(std::int64_t batch, const Measure& measure) {
  const std::int64_t few = std::min<std::int64_t>(batch, 4), more = std::min<std::int64_t>(batch, 8);
  const auto at_more = static_cast<double>(measure(more));
  if (batch == more) return static_cast<std::size_t>(at_more);
  const double per_sample = (at_more - static_cast<double>(measure(few))) / static_cast<double>(more - few);
  return static_cast<std::size_t>(at_more + per_sample * static_cast<double>(batch - more));
}

std::size_t batch_bytes(const Model& model, const std::string& session, std::int64_t batch,
                        std::int64_t frames) {
  const Shape in = model.in_shape();
  const double images = model.takes_movies() ? static_cast<double>(frames) : 1.0;
  const double pixels =
      static_cast<double>(in[0]) * static_cast<double>(in[-2]) * static_cast<double>(in[-1]);
  const double values = images * (pixels + static_cast<double>(model.n_neurons(session)));
  return static_cast<std::size_t>(values * static_cast<double>(batch) *
                                  static_cast<double>(size_of(model.placement().dtype)));
}

std::string megabytes(std::size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

}  // namespace

std::size_t TrainingMemory::peak() const {
  return std::max(loading, model + batch + clips + std::max(step, validation));
}

std::optional<TrainingMemory> estimate_training_memory(const Model& model, const TrainingOptions& training,
                                                       const DataOptions& data, std::size_t most) {
  const std::vector<std::string> sessions = model.sessions();
  const std::string session = *std::max_element(
      sessions.begin(), sessions.end(),
      [&](const auto& a, const auto& b) { return model.n_neurons(a) < model.n_neurons(b); });
  const std::int64_t clips = std::min(data.batch_size, data.num_val_clips);
  TrainingMemory memory;
  memory.batch = batch_bytes(model, session, data.batch_size, data.train_chunk_size);
  memory.clips = batch_bytes(model, session, clips, data.clip_length);
  try {
    Measurement measurement(model, training, most);
    memory.model = measurement.held();
    memory.loading = measurement.peak();
    memory.step = extrapolated(data.batch_size, [&](std::int64_t batch) {
      return Measurement(model, training, most).of_step(session, batch, data.train_chunk_size);
    });
    memory.validation = extrapolated(clips, [&](std::int64_t batch) {
      return measurement.of_validation(session, batch, data.clip_length);
    });
  } catch (const MemoryBoundError&) {
    return std::nullopt;
  }
  return memory;
}

void check_training_memory(const Model& model, const TrainingOptions& training, const DataOptions& data) {
  const std::size_t available = available_memory();
  const auto refuse = [&](const std::string& needed) {
    throw DeviceError("memory",
                      text("training with batches of ", data.batch_size, " x ", data.train_chunk_size,
                           " frames needs ", needed, ", the machine has ", megabytes(available)));
  };
  const auto memory = estimate_training_memory(model, training, data, available);
  if (!memory) refuse("more");
  if (memory->peak() > available)
    refuse(text(megabytes(memory->peak()), " (a step ", megabytes(memory->training_step()), ")"));
}

}  // namespace fovea
