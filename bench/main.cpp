// fovea-bench: kernels and whole workloads against this machine's own limits (Google Benchmark).
//   fovea-bench [--threads N] [--benchmark_filter=.. --benchmark_format=json ..]
//   fovea-bench [--threads N] --memory W1    peak resident memory of the process after three steps, in MB
// kernel/<op>/<pass>/<implementation>/<shape>, inference/<W>, step/<W>, frame/L1
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>

#include "bench/kernels.hpp"
#include "bench/machine.hpp"
#include "bench/workloads.hpp"
#include "engine/step_memory.hpp"
#include "engine/system_memory.hpp"
#include "fovea/autograd.hpp"
#include "training/train_step.hpp"

namespace {

using namespace fovea;
using namespace fovea::bench;

/// Takes `--name=value` or `--name value` out of the arguments.
std::string take_argument(const std::string& name, int& count, char** arguments) {
  std::string value;
  int kept = 1;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument.rfind(name + "=", 0) == 0)
      value = argument.substr(name.size() + 1);
    else if (argument == name && i + 1 < count)
      value = arguments[++i];
    else
      arguments[kept++] = arguments[i];
  }
  count = kept;
  return value;
}

bool failed = false;

/// Runs `body` once per iteration, or reports why not. A workload is checked against the reference before it
/// is timed.
template <class Body>
void run(benchmark::State& state, const Workload& workload, const Device& device, Body body) {
  try {
    check_against_reference(workload, device);
    body(state);
  } catch (const std::exception& error) {
    failed = true;
    state.SkipWithError(error.what());
  }
}

void inference(benchmark::State& state, const Workload& workload, const Device& device) {
  run(state, workload, device, [&](benchmark::State& timed) {
    const auto model = make_model(workload.config, {device, DType::f32}, 7);
    const WorkloadBatch batch = make_batch(workload, *model, workload.batch);
    StepMemory memory(device);
    const NoGrad guard;
    const auto once = [&] {
      const StepMemory::Scope scope(memory, "inference");
      benchmark::DoNotOptimize(model->forward(batch.input, {}).raw());
    };
    once();
    once();
    for (auto _ : timed) once();
  });
}

/// A model in training.
class Trained {
 public:
  Trained(const Workload& workload, const Device& device)
      : model_(make_model(workload.config, {device, DType::f32}, 7)),
        batch_(make_batch(workload, *model_, workload.batch)),
        step_(*model_, TrainingOptions{}) {
    settings_.learning_rate = model_->learning_rate();
    settings_.random = &random_;
  }
  void step() { benchmark::DoNotOptimize(step_.run(batch_.input, batch_.responses, settings_).total); }

 private:
  std::unique_ptr<Model> model_;
  WorkloadBatch batch_;
  TrainingStep step_;
  Random random_{3};
  TrainingStep::Settings settings_;
};

void step(benchmark::State& state, const Workload& workload, const Device& device) {
  run(state, workload, device, [&](benchmark::State& timed) {
    Trained trained(workload, device);
    for (int i = 0; i < 2; ++i) trained.step();
    for (auto _ : timed) trained.step();
    timed.counters["tensor_MB"] = static_cast<double>(device.memory().bytes_at_peak) / 1e6;
  });
}

int print_memory(const std::string& name, const Device& device) {
  for (const Workload& workload : workloads()) {
    if (workload.name != name) continue;
    Trained trained(workload, device);
    for (int i = 0; i < 3; ++i) trained.step();
    std::printf("peak %.0f MB\n", static_cast<double>(peak_resident_memory()) / 1e6);
    return 0;
  }
  throw ConfigError("--memory", text("unknown workload: ", name));
}

void add(const std::string& name, void (*function)(benchmark::State&, const Workload&, const Device&),
         const Workload& workload, const Device& device) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) { function(state, workload, device); })
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

}  // namespace

int main(int count, char** arguments) {
  const std::string threads = take_argument("--threads", count, arguments),
                    memory = take_argument("--memory", count, arguments);
  try {
    const Device device = cpu_device(std::atoi(threads.c_str()));
    if (!memory.empty()) return print_memory(memory, device);
    const Machine machine = measure(device);
    benchmark::AddCustomContext("threads", std::to_string(device.threads()));
    benchmark::AddCustomContext("instruction_set", to_string(device.isa()));
    benchmark::AddCustomContext("peak_GFLOP/s", std::to_string(machine.flops / 1e9));
    benchmark::AddCustomContext("copy_GB/s", std::to_string(machine.bytes_per_second / 1e9));
    for (const Workload& workload : workloads()) {
      add("inference/" + workload.name, inference, workload, device);
      add("step/" + workload.name, step, workload, device);
    }
    add("frame/L1", inference, one_frame(), device);
    register_kernels(device, machine);
    benchmark::Initialize(&count, arguments);
    if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 2;
    benchmark::RunSpecifiedBenchmarks();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fovea-bench: %s\n", error.what());
    return 1;
  }
  return failed ? 1 : 0;
}
