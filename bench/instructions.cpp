// instructions: one training step of a small version of a workload, alone in a function that
// tests/instruction_counts_test.py has callgrind count. Counts repeat where times do not.
//   instructions W1
#include <cstdio>
#include <cstring>

#include "bench/workloads.hpp"
#include "models/json.hpp"
#include "training/train_step.hpp"

using namespace fovea;
using namespace fovea::bench;

// Its name is what callgrind is told to look for.
extern "C" [[gnu::noinline]] void counted_step(TrainingStep& training, const WorkloadBatch& batch,
                                               const TrainingStep::Settings& settings) {
  training.run(batch.input, batch.responses, settings);
}

namespace {

/// Seconds under callgrind: one item, a short clip or a small image, few neurons.
void make_small(Workload& workload) {
  Json config = Json::parse(workload.config);
  if (config["class"] == "FiringRateEncoder") {
    config["in_shape"] = {1, 18, 32};
    config["sessions"]["s"]["n_neurons"] = 60;
  }
  workload.config = config.dump();
  workload.batch = 1;
  if (workload.frames > 1) workload.frames = 40;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    for (Workload workload : workloads()) {
      if (count != 2 || workload.name != arguments[1]) continue;
      make_small(workload);
      const auto model = make_model(workload.config, {cpu_device(1), DType::f32}, 7);
      const WorkloadBatch batch = make_batch(workload, *model, workload.batch);
      TrainingStep training(*model, TrainingOptions{});
      TrainingStep::Settings settings;
      settings.learning_rate = model->learning_rate();
      Random random(3);
      settings.random = &random;
      for (int i = 0; i < 2; ++i) training.run(batch.input, batch.responses, settings);  // the plan is made
      counted_step(training, batch, settings);
      return 0;
    }
    std::fprintf(stderr, "instructions: must have the name of a workload\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "instructions: %s\n", error.what());
  }
  return 2;
}
