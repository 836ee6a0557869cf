#include "training/memory_estimate.hpp"

#include <algorithm>
#include <cstdio>

#include "data/static_reader.hpp"
#include "engine/bounded_memory.hpp"
#include "engine/system_memory.hpp"
#include "training/train_step.hpp"
#include "training/trainability.hpp"
#include "training/validation.hpp"

namespace fovea {
namespace {

/// A batch of ones.
struct Sample {
  ModelInput input;
  Tensor responses;
};

/// Clips of so many frames, in the form that the model takes.
struct Clips {
  std::string session;
  SampleForm form;
  std::int64_t frames;
};

Sample make_sample(const Model& model, const Clips& clips, std::int64_t batch) {
  const auto ones = [&](const Shape& shape) {
    return Tensor::full(shape, 1.0, model.placement().dtype, model.placement().device);
  };
  const Shape in = model.in_shape();
  const std::int64_t samples = clips.form.samples(batch, clips.frames);
  Sample sample;
  sample.input.session = clips.session;
  sample.input.stimulus = ones(clips.form.images ? Shape{samples, in[1], in[2], in[0]}
                                                 : Shape{samples, clips.frames, in[2], in[3], in[0]});
  if (model.pupil_columns() > 0) sample.input.pupil_center = ones({samples, model.pupil_columns()});
  sample.responses = ones(clips.form.responses(batch, clips.frames, model.n_neurons(clips.session)));
  return sample;
}

/// A copy of a model on a device of its own that counts, ready to train.
class Measurement {
 public:
  Measurement(const Model& model, const TrainingOptions& training, std::size_t most)
      : device_(bounded_device(model, most)),
        copy_(make_model(model.config(), {device_, model.placement().dtype})),
        step_(freeze(*copy_, training.freeze), training) {}

  std::size_t held() const { return device_.memory().bytes_in_use; }
  std::size_t peak() const { return device_.memory().bytes_at_peak; }

  /// Workspace of a step: what its plan needs.
  std::size_t of_step(const Clips& clips, std::int64_t batch) {
    const Sample sample = make_sample(*copy_, clips, batch);
    TrainingStep::Settings settings;
    Random random(0);  // with dropout and its masks
    settings.random = &random;
    settings.last = true;
    settings.only_memory = true;  // ones may be far from what the configuration was made for
    step_.run(sample.input, sample.responses, settings);
    return step_.memory().planned_bytes();
  }

  std::size_t of_validation(const Clips& clips, std::int64_t batch) {
    const Sample sample = make_sample(*copy_, clips, batch);
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

/// Of the buffer that clips are read into.
std::size_t batch_bytes(const Model& model, const Clips& clips, std::int64_t batch) {
  const Shape in = model.in_shape();
  const auto real = [](std::int64_t count) { return static_cast<double>(count); };
  const double frame = real(in[0]) * real(in[-2]) * real(in[-1]);
  const double kept = real(batch) * real(clips.frames - clips.form.lead());
  double values = kept * (frame + real(model.n_neurons(clips.session)));
  if (!clips.form.as_stored()) values += real(clips.frames) * frame / real(clips.form.frames_per_image);
  return static_cast<std::size_t>(values * real(static_cast<std::int64_t>(size_of(model.placement().dtype))));
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

BatchShapes batch_shapes(const Model& model, const DataOptions& options) {
  BatchShapes shapes;
  shapes.form = sample_form(model, options);
  shapes.batch_size = options.batch_size;
  shapes.chunk_frames = options.train_chunk_size;
  shapes.validated = std::min(options.batch_size, options.num_val_clips);
  shapes.clip_frames = options.clip_length;
  return shapes;
}

BatchShapes batch_shapes(const Model& /*model*/, const StaticDataOptions& options) {
  BatchShapes shapes;
  shapes.form = {true, 1};
  shapes.batch_size = shapes.validated = options.batch_size;
  shapes.chunk_frames = shapes.clip_frames = 1;
  shapes.held = StaticReader::held(options);
  return shapes;
}

std::optional<TrainingMemory> estimate_training_memory(const Model& model, const TrainingOptions& training,
                                                       const BatchShapes& batches, std::size_t most) {
  const std::vector<std::string> sessions = model.sessions();
  const std::string session = *std::max_element(
      sessions.begin(), sessions.end(),
      [&](const auto& a, const auto& b) { return model.n_neurons(a) < model.n_neurons(b); });
  const Clips chunks{session, batches.form, batches.chunk_frames},
      clips{session, batches.form, batches.clip_frames};
  TrainingMemory memory;
  const auto held = static_cast<std::size_t>(batches.held);
  memory.batch = held * batch_bytes(model, chunks, batches.batch_size);
  memory.clips = held * batch_bytes(model, clips, batches.validated);
  try {
    Measurement measurement(model, training, most);
    memory.model = measurement.held();
    memory.loading = measurement.peak();
    memory.step = extrapolated(batches.batch_size, [&](std::int64_t batch) {
      return Measurement(model, training, most).of_step(chunks, batch);
    });
    memory.validation = extrapolated(
        batches.validated, [&](std::int64_t batch) { return measurement.of_validation(clips, batch); });
  } catch (const MemoryBoundError&) {
    return std::nullopt;
  }
  return memory;
}

void check_training_memory(const Model& model, const TrainingOptions& training, const BatchShapes& batches) {
  const Memory& device = *model.placement().device.backend().memory;
  const std::size_t available = device.available();
  const auto refuse = [&](const std::string& needed) {
    const std::string frames = text(batches.batch_size, " x ", batches.chunk_frames, " frames");
    const std::int64_t samples = batches.form.samples(batches.batch_size, batches.chunk_frames);
    throw DeviceError("memory", text("training with batches of ",
                                     !batches.form.images        ? frames
                                     : batches.chunk_frames == 1 ? text(samples, " images")
                                                                 : text(samples, " images (", frames, ")"),
                                     " needs ", needed, ", the ", device.on_host() ? "machine" : "device",
                                     " has ", megabytes(available)));
  };
  // Measured on the host, even where a device trains that has more than the host.
  const std::size_t measurable = std::min(available, available_memory());
  const auto memory = estimate_training_memory(model, training, batches, measurable);
  if (!memory && measurable == available) refuse("more");
  if (memory && memory->peak() > available)
    refuse(text(megabytes(memory->peak()), " (a step ", megabytes(memory->training_step()),
                ": parameters, gradients and moments ", megabytes(memory->model), ", batch ",
                megabytes(memory->batch), ", activations and workspace ", megabytes(memory->step), ")"));
}

}  // namespace fovea
