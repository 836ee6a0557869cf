// Trains a CoreReadout on a recording (openretina's HDF5 directory) and predicts its first test movie.
//   train_core_readout FOLDER TEST_NAME EPOCHS
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "fovea/core_readout.hpp"
#include "fovea/data.hpp"
#include "fovea/evaluation.hpp"
#include "fovea/training.hpp"

namespace {

void run(const char* folder, const char* test_name, long epochs) {
  using namespace fovea;
  const DataOptions recording{.path = folder, .test_names = {test_name}, .batch_size = 8};
  const DataSet data = load_openretina(recording);

  const CoreReadoutOptions architecture{.in_shape = {data.channels, 50, data.height, data.width},
                                        .hidden_channels = {8},
                                        .temporal_kernel_sizes = {21},
                                        .spatial_kernel_sizes = {11},
                                        .core_gamma_temporal = 1.0,
                                        .learning_rate = 0.003};
  const Placement cpu{cpu_device(), DType::f32};
  const auto model = make_core_readout(architecture, data.session_options(), cpu, /*seed=*/42);
  std::printf("%s\n", model->describe(model->in_shape()).tree.c_str());

  TrainingHooks hooks;
  hooks.on_epoch = [](const EpochMetrics& epoch, bool best) {
    std::printf("epoch %ld: validation correlation %.3f%s\n", long(epoch.epoch), epoch.val_evaluation_loss,
                best ? ", best" : "");
  };
  RunOptions options;
  options.training.max_epochs = epochs;
  options.data = recording;
  train(*model, data, options, hooks);

  std::printf("test correlation %.3f\n", summarize(evaluate_tests(*model, data)).mean_correlation);

  const Session& session = data.sessions.front();
  const TimeSeries& movie = session.tests.front().stimulus;
  const FrameTable rates = predict(*model, session.key, movie, data.checked_normalization());
  std::printf("%ld frames of %ld neurons predicted, at most %.2f spikes in a frame\n", long(rates.frames),
              long(rates.neurons), *std::max_element(rates.values.begin(), rates.values.end()));
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) return std::puts("usage: train_core_readout FOLDER TEST_NAME EPOCHS"), 2;
  try {
    run(arguments[1], arguments[2], std::atol(arguments[3]));
  } catch (const fovea::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
