// Models at the sizes of the sensorium recordings train in the memory that `describe` says beforehand. Takes
// a few GB, so it is a part of its own: tools/test scale.
#include <doctest/doctest.h>

#include <cmath>

#include "engine/system_memory.hpp"
#include "fovea/firing_rate_encoder.hpp"
#include "training/memory_estimate.hpp"
#include "training/train_step.hpp"

using namespace fovea;

namespace {

constexpr std::size_t most = 24'000'000'000;
const std::vector<SessionOptions> two_sessions{{"21067-10-18", 8372, {}, {}}, {"22846-10-16", 7344, {}, {}}};

FiringRateEncoderOptions encoder(std::int64_t height, std::int64_t width) {
  FiringRateEncoderOptions options;
  options.in_shape = {1, height, width};
  options.core.input_channels = 1;
  options.core.hidden_channels = 64;
  options.core.input_kern = 9;
  options.core.hidden_kern = 7;
  options.core.layers = 4;
  options.core.depth_separable = true;
  options.core.stack = -1;
  options.core.gamma_input = 6.3831;
  return options;
}

/// Trains a step of every session, twice, and compares what was held with the estimate made before.
void train_and_measure(const FiringRateEncoderOptions& options, const std::vector<SessionOptions>& sessions,
                       std::int64_t batch) {
  const Device device = cpu_device(2);
  const auto model = make_firing_rate_encoder(options, sessions, {device, DType::f32}, 1);
  DataOptions data;
  data.batch_size = batch;
  data.num_val_clips = data.train_chunk_size = data.clip_length = 1;  // one image a clip
  const auto estimate = estimate_training_memory(*model, {}, data, available_memory());
  REQUIRE(estimate);
  CHECK(estimate->peak() < most);

  TrainingStep step(*model, {});
  Random random(2);
  const Tensor images({batch, options.in_shape[1], options.in_shape[2], 1}, DType::f32, device);
  random.normal(images);
  for (int round = 0; round < 2; ++round)
    for (const SessionOptions& session : sessions) {
      const Tensor responses({batch, session.n_neurons}, DType::f32, device);
      random.uniform(responses, 0.0, 2.0);
      const StepLosses losses = step.run({session.key, images, {}, {}}, responses, {1e-3, &random, true});
      CHECK(losses.updated);
      CHECK(std::isfinite(losses.total));
    }
  const double held = static_cast<double>(device.memory().bytes_at_peak),
               expected = static_cast<double>(estimate->training_step());
  MESSAGE("estimate " << expected / 1e6 << " MB, held " << held / 1e6 << " MB, resident at peak "
                      << static_cast<double>(peak_resident_memory()) / 1e6 << " MB");
  CHECK(expected == doctest::Approx(held).epsilon(0.1));
  CHECK(peak_resident_memory() < most);
}

}  // namespace

TEST_CASE("FullFactorized2d at 64 x 36 x 64 -> 8372") {
  FiringRateEncoderOptions options = encoder(36, 64);
  FullFactorized2dOptions readout;
  readout.spatial_and_feature_reg_weight = 1e-9;
  options.readout = readout;
  train_and_measure(options, {two_sessions[0]}, 32);
}

TEST_CASE("FullGaussian2d at 64 x 144 x 256 -> 8372 and 7344, batches of 8") {
  FiringRateEncoderOptions options = encoder(144, 256);
  options.readout = FullGaussian2dOptions{};
  train_and_measure(options, two_sessions, 8);
}
