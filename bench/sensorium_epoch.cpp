// An epoch of W3's model on static images read from a folder or zip, beside the same steps on batches that
// are in memory already: what reading costs.
//   sensorium-epoch SESSION [READERS [BATCHES]]
// bench/sensorium_epoch.py makes sessions of 4000 images and runs it on each kind of storage, cold.
#include <chrono>
#include <cstdlib>
#include <iomanip>
#include <iostream>

#include "bench/workloads.hpp"
#include "fovea/static_data.hpp"
#include "models/json.hpp"
#include "training/train_step.hpp"
#include "training/training_data.hpp"

using namespace fovea;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// W3 of the workloads with the session of the data.
std::unique_ptr<Model> make_w3(const StaticDataSet& data) {
  for (const bench::Workload& workload : bench::workloads()) {
    if (workload.name != "W3") continue;
    Json config = Json::parse(workload.config);
    config["sessions"] = {{data.sessions[0].key(), {{"n_neurons", data.sessions[0].n_neurons()}}}};
    return make_model(config.dump(), {cpu_device(), DType::f32}, 1);
  }
  throw Error("bench", "there is no workload W3");
}

void train_on(TrainingStep& step, const Batch& batch) {
  TrainingStep::Settings settings;
  settings.learning_rate = 1e-3;
  step.run({batch.session, batch.stimulus, batch.pupil_center, {}}, batch.responses, settings);
}

void run(const std::string& path, std::int64_t readers, std::int64_t batches) {
  const Clock::time_point opening = Clock::now();
  StaticDataOptions options;
  options.paths = {path};
  options.batch_size = 32;
  options.include_eye_position = false;
  options.readers = readers;
  const StaticDataSet data = open_sensorium(options);
  const auto training = training_data(data);
  const auto model = make_w3(data);
  const double opened = seconds_since(opening);
  TrainingStep step(*model, TrainingOptions{});
  const auto source = training->training_batches(*model, 1);
  batches = std::min(batches, source->batches_per_epoch());

  source->seek(1, 0);
  train_on(step, *source->next());  // the memory plan of the step
  source->seek(0, 0);
  const Clock::time_point reading = Clock::now();
  for (std::int64_t i = 0; i < batches; ++i) train_on(step, *source->next());
  const double read = seconds_since(reading);

  std::vector<Batch> held;
  source->seek(0, 0);
  for (std::int64_t i = 0; i < batches; ++i) {
    held.push_back(*source->next());
    held.back().stimulus = held.back().stimulus.clone();
    held.back().responses = held.back().responses.clone();
  }
  const Clock::time_point from_memory = Clock::now();
  for (const Batch& batch : held) train_on(step, batch);
  const double memory = seconds_since(from_memory);
  std::cout << std::fixed << std::setprecision(2) << "opened in " << opened << " s; " << batches
            << " batches read and trained " << read << " s, from memory " << memory << " s: " << std::showpos
            << 100 * (read / memory - 1) << " %\n";
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2 || count > 4) {
    std::cerr << "usage: sensorium-epoch SESSION [READERS [BATCHES]]\n";
    return 2;
  }
  try {
    run(arguments[1], count > 2 ? std::atoll(arguments[2]) : 1,
        count > 3 ? std::atoll(arguments[3]) : 1 << 20);
  } catch (const std::exception& error) {
    std::cerr << "sensorium-epoch: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
