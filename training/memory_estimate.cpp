#include "training/memory_estimate.hpp"

#include <algorithm>

#include "engine/bounded_memory.hpp"
#include "training/train_step.hpp"

namespace fovea {
namespace {

constexpr std::size_t most_measured = std::size_t{1} << 30;

Shape stimulus_shape(const Model& model, std::int64_t batch, std::int64_t frames) {
  const Shape in = model.in_shape();
  if (model.takes_movies()) return {batch, frames, in[2], in[3], in[0]};
  return {batch, in[1], in[2], in[0]};
}

/// What is held after two steps, when the plan is in place, with a batch of ones.
std::size_t measured(const Model& model, const TrainingOptions& options, const std::string& session,
                     std::int64_t batch, std::int64_t frames) {
  const Device device = cpu_device(model.placement().device.threads());
  bound_memory(device, most_measured);
  const auto copy = make_model(model.config(), {device, model.placement().dtype});
  ModelInput input;
  input.session = session;
  input.stimulus = Tensor::full(stimulus_shape(model, batch, frames), 1.0, model.placement().dtype, device);
  const std::int64_t neurons = model.n_neurons(session);
  const Tensor responses =
      Tensor::full(model.takes_movies() ? Shape{batch, frames, neurons} : Shape{batch, neurons}, 1.0,
                   model.placement().dtype, device);
  TrainingStep step(*copy, options);
  TrainingStep::Settings settings;
  settings.last = true;
  for (int i = 0; i < 2; ++i) step.run(input, responses, settings);
  return device.memory().bytes_in_use;
}

}  // namespace

std::optional<std::size_t> estimate_step_memory(const Model& model, const TrainingOptions& options,
                                                std::int64_t batch, std::int64_t frames) {
  std::size_t most = 0;
  try {
    for (const std::string& session : model.sessions()) {
      const std::size_t one = measured(model, options, session, 1, frames);
      const std::size_t two = measured(model, options, session, 2, frames);
      most = std::max(most, one + (two - one) * static_cast<std::size_t>(batch - 1));
    }
  } catch (const MemoryBoundError&) {
    return std::nullopt;
  }
  return most;
}

}  // namespace fovea
