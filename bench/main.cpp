// fovea-bench: kernels and whole workloads against this machine's own limits (Google Benchmark).
//   fovea-bench [--threads N] [--benchmark_filter=.. --benchmark_format=json ..]
// kernel/<op>/<pass>/<implementation>/<shape>, inference/<W>, step/<W>, frame/L1
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstring>

#include "bench/kernels.hpp"
#include "bench/machine.hpp"
#include "bench/workloads.hpp"
#include "engine/step_memory.hpp"
#include "fovea/autograd.hpp"
#include "training/train_step.hpp"

namespace {

using namespace fovea;
using namespace fovea::bench;

int threads_argument(int& count, char** arguments) {
  int threads = 0, kept = 1;
  for (int i = 1; i < count; ++i) {
    if (std::strncmp(arguments[i], "--threads=", 10) == 0) {
      threads = std::atoi(arguments[i] + 10);
    } else if (std::strcmp(arguments[i], "--threads") == 0 && i + 1 < count) {
      threads = std::atoi(arguments[++i]);
    } else {
      arguments[kept++] = arguments[i];
    }
  }
  count = kept;
  return threads;
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

void step(benchmark::State& state, const Workload& workload, const Device& device) {
  run(state, workload, device, [&](benchmark::State& timed) {
    const auto model = make_model(workload.config, {device, DType::f32}, 7);
    const WorkloadBatch batch = make_batch(workload, *model, workload.batch);
    TrainingStep training(*model, TrainingOptions{});
    TrainingStep::Settings settings;
    settings.learning_rate = model->learning_rate();
    Random random(3);
    settings.random = &random;
    for (int i = 0; i < 2; ++i) training.run(batch.input, batch.responses, settings);
    for (auto _ : timed) benchmark::DoNotOptimize(training.run(batch.input, batch.responses, settings).total);
    timed.counters["tensor_MB"] = static_cast<double>(device.memory().bytes_at_peak) / 1e6;
  });
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
  const int threads = threads_argument(count, arguments);
  try {
    const Device device = cpu_device(threads);
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
