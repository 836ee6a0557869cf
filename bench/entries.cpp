// fovea-entry-bench: every kernel entry of a device at the shapes of the workloads, beside the limits of the
// device measured in the same run, and whole steps. Needs libfovea alone.
//   fovea-entry-bench [--device cuda|emulator|cpu] [--workloads W1,W3] [--batch 8]
// A training step of each workload runs on tables that time every call where it happens, with its arguments.
// Entries that are still empty do nothing there, so that the others can be timed.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include "bench/gpu_roofs.hpp"
#include "bench/gpu_work.hpp"
#include "bench/machine.hpp"
#include "bench/step.hpp"
#include "bench/workloads.hpp"
#include "engine/backend.hpp"
#include "fovea/autograd.hpp"
#include "fovea/ops.hpp"
#include "kernels/backends.hpp"
#include "kernels/wrapped_tables.hpp"
#include "training/train_step.hpp"

namespace fovea::bench {
namespace {

/// Blocks come back as they were given: timing loops ask for scratch memory again and again.
class PooledMemory final : public Memory {
 public:
  explicit PooledMemory(std::shared_ptr<Memory> inner) : inner_(std::move(inner)) {}
  ~PooledMemory() override { trim(); }
  bool on_host() const override { return inner_->on_host(); }
  void* allocate(std::size_t bytes) override {
    std::vector<void*>& free = free_[bytes];
    void* block = nullptr;
    if (free.empty()) {
      block = inner_->allocate(bytes);
    } else {
      block = free.back();
      free.pop_back();
    }
    sizes_[block] = bytes;
    return block;
  }
  void release(void* memory, std::size_t bytes) override {
    sizes_.erase(memory);
    free_[bytes].push_back(memory);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    inner_->copy_to_host(host, device, bytes);
  }
  void copy_from_host(void* device, const void* host, std::size_t bytes) override {
    inner_->copy_from_host(device, host, bytes);
  }
  void copy(void* to, const void* from, std::size_t bytes) override { inner_->copy(to, from, bytes); }

  double size_of(const void* memory) const {
    const auto found = sizes_.find(memory);
    return found == sizes_.end() ? 0 : static_cast<double>(found->second);
  }
  void trim() {
    for (auto& [bytes, blocks] : free_)
      for (void* block : blocks) inner_->release(block, bytes);
    free_.clear();
  }

 private:
  std::shared_ptr<Memory> inner_;
  std::map<std::size_t, std::vector<void*>> free_;
  std::map<const void*, std::size_t> sizes_;
};

/// Waits for what was launched on a device.
class Synchronisation {
 public:
  explicit Synchronisation(const Device& device) : word_(Tensor::zeros({1}, DType::f32, device)) {}
  void operator()() const { (void)word_.item(); }

 private:
  Tensor word_;
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Effort {
  int rounds;
  double seconds;  // of a round
  int most_calls;
};

/// Median seconds of a call: many launches, one synchronisation.
template <class Call>
double seconds_of(const Synchronisation& wait, const Effort& effort, const Call& call) {
  const auto timed = [&](int calls) {
    const double begin = now();
    for (int i = 0; i < calls; ++i) call();
    wait();
    return now() - begin;
  };
  call();
  wait();
  const double once = timed(1);
  const int calls = static_cast<int>(std::clamp(effort.seconds / once, 1.0, double(effort.most_calls)));
  std::vector<double> rounds;
  for (int i = 0; i < effort.rounds; ++i) rounds.push_back(timed(calls) / calls);
  return median(rounds);
}

struct Roofs {
  double flops = 0, bytes_per_second = 0;
};

Roofs measure_roofs(const Device& device, const Effort& effort) {
  if (device.kind() == DeviceKind::cpu) {
    const Machine machine = measure(device);
    return {machine.flops, machine.bytes_per_second};
  }
#if FOVEA_CUDA && FOVEA_EMULATOR
  const RoofKernels kernels =
      device.kind() == DeviceKind::cuda ? cuda::roof_kernels() : emulated::roof_kernels();
#elif FOVEA_CUDA
  const RoofKernels kernels = cuda::roof_kernels();
#else
  const RoofKernels kernels = emulated::roof_kernels();
#endif
  const bool real = device.kind() == DeviceKind::cuda;
  const std::int64_t values = real ? std::int64_t{1} << 28 : 1 << 16;
  const Synchronisation wait(device);
  const Queue queue = device.backend().queue();
  Roofs roofs;
  {
    const Tensor from = Tensor::zeros({values}, DType::f32, device), to = empty_like(from);
    const auto bytes = static_cast<std::int64_t>(from.bytes());
    const double seconds =
        seconds_of(wait, effort, [&] { kernels.copy(to.raw(), from.raw(), bytes, queue); });
    roofs.bytes_per_second = 2.0 * static_cast<double>(bytes) / seconds;
  }
  const Tensor sink = Tensor::zeros({1}, DType::f32, device);
  double operations = 0;
  const double seconds = seconds_of(wait, effort, [&] {
    operations = kernels.madds(sink.data<float>(), real ? 4224 : 4, real ? 1000 : 10, queue);
  });
  roofs.flops = operations / seconds;
  return roofs;
}

// ---- timing where calls happen

struct Timing {
  Work work;
  double seconds = 0;
  int calls = 0, inference_calls = 0;
};

/// What the timed tables need to know; they are plain functions.
struct Recorder {
  std::shared_ptr<PooledMemory> memory;
  const Synchronisation* wait = nullptr;
  Effort effort{};
  std::map<std::pair<std::string, std::string>, Timing> timings;  // by entry and sizes
  std::set<std::string> used, empty;
};

Recorder& recorder() {
  static Recorder one;
  return one;
}

struct Timed {
  template <KernelEntry entry, class Kernel, class... Args>
  static void call(Kernel kernel, Args... args) {
    Recorder& all = recorder();
    const std::string name = entry_name(entry);
    all.used.insert(name);
    if (!kernel) {
      all.empty.insert(name);
      return;
    }
    if (!all.wait) return kernel(args...);
    const Work work =
        work_of_call<entry>([&](const void* memory) { return all.memory->size_of(memory); }, args...);
    Timing& timing = all.timings[{name, text(work.sizes, work.bytes)}];
    if (timing.calls++ == 0) {
      timing.work = work;
      timing.seconds = seconds_of(*all.wait, all.effort, [&] { kernel(args...); });
    } else {
      kernel(args...);
    }
  }
};

/// Useful operations and every operand once, whichever takes longer.
double floor_of(const Work& work, const Roofs& roofs) {
  return std::max(work.flops / roofs.flops, work.bytes / roofs.bytes_per_second);
}

// ---- report

void print_timings(const Roofs& roofs) {
  double step_total = 0, inference_total = 0, inference_floor = 0, step_floor = 0;
  int calls = 0;
  std::vector<std::pair<std::string, Timing>> lines;
  for (const auto& [key, timing] : recorder().timings) {
    lines.emplace_back(key.first, timing);
    inference_total += timing.seconds * timing.inference_calls;
    step_total += timing.seconds * (timing.calls - timing.inference_calls);
    calls += timing.calls - timing.inference_calls;
    inference_floor += floor_of(timing.work, roofs) * timing.inference_calls;
    step_floor += floor_of(timing.work, roofs) * (timing.calls - timing.inference_calls);
  }
  std::stable_sort(lines.begin(), lines.end(), [](const auto& a, const auto& b) {
    return a.second.seconds * a.second.calls > b.second.seconds * b.second.calls;
  });
  std::printf("  %-36s %-34s %5s %10s %8s %9s %6s\n", "entry", "sizes", "calls", "us", "GB/s", "GFLOP/s",
              "roof");
  for (const auto& [name, t] : lines) {
    const std::string gflops = t.work.flops > 0 ? std::to_string(int(t.work.flops / t.seconds / 1e9)) : "";
    std::printf("  %-36s %-34s %5d %10.2f %8.1f %9s %5.1f%%\n", name.c_str(), t.work.sizes.c_str(), t.calls,
                1e6 * t.seconds, t.work.bytes / t.seconds / 1e9, gflops.c_str(),
                100 * floor_of(t.work, roofs) / t.seconds);
  }
  std::printf("  sum of the calls: inference %.3f ms, training step %.3f ms (%d calls)\n",
              1e3 * inference_total, 1e3 * step_total, calls);
  std::printf("  floors of the calls: inference %.3f ms, training step %.3f ms\n", 1e3 * inference_floor,
              1e3 * step_floor);
}

void time_whole(const Device& device, const Workload& workload, const Model& initial,
                const WorkloadBatch& batch, const Effort& effort) {
  const auto model = model_on(device, workload, initial);
  const Synchronisation wait(device);
  const ModelInput input = moved(batch.input, device);
  const Tensor responses = batch.responses.to(device);
  const Effort runs{effort.rounds, 0, 1};
  StepMemory memory(device);
  const double inference = seconds_of(wait, runs, [&] {
    const NoGrad guard;
    const StepMemory::Scope scope(memory, "inference");
    (void)model->forward(input, {});
  });
  TrainingStep training(*model, TrainingOptions{});
  Random random(3);
  const TrainingStep::Settings settings{model->learning_rate(), &random, false, true};
  training.run(input, responses, settings);
  const double step = seconds_of(wait, runs, [&] { training.run(input, responses, settings); });
  std::printf("  inference %.3f ms, training step %.3f ms\n", 1e3 * inference, 1e3 * step);
}

/// For emulated kernels, and to try the program: seconds, not hours.
std::vector<Workload> tiny_workloads() {
  std::vector<Workload> tiny;
  for (Workload one : workloads()) {
    if (one.name != "W1" && one.name != "W2") continue;
    one.batch = 1;
    one.frames = one.frames > 1 ? 31 : 1;
    tiny.push_back(one);
  }
  return tiny;
}

struct Arguments {
  DeviceKind device = DeviceKind::cuda;
  std::string workloads;
  std::int64_t batch = 0;  // that of the workload
};

Arguments parse(int count, char** arguments) {
  Arguments parsed;
  for (int i = 1; i < count; i += 2) {
    const std::string option = arguments[i];
    const std::string value = i + 1 < count ? arguments[i + 1] : "";
    if (option == "--device" && value == "cuda")
      parsed.device = DeviceKind::cuda;
    else if (option == "--device" && value == "emulator")
      parsed.device = DeviceKind::emulator;
    else if (option == "--device" && value == "cpu")
      parsed.device = DeviceKind::cpu;
    else if (option == "--workloads" && !value.empty())
      parsed.workloads = "," + value + ",";
    else if (option == "--batch" && std::atoll(value.c_str()) > 0)
      parsed.batch = std::atoll(value.c_str());
    else
      throw ConfigError("arguments",
                        "fovea-entry-bench [--device cuda|emulator|cpu] [--workloads W1,W3] [--batch 8]");
  }
  return parsed;
}

int run(const Arguments& arguments) {
  const bool emulator = arguments.device == DeviceKind::emulator, cpu = arguments.device == DeviceKind::cpu;
  const Device device = cpu ? cpu_device() : emulator ? emulator_device(0) : cuda_device();
  const Effort effort = emulator ? Effort{1, 0, 1} : Effort{5, 3e-3, 300};
  const Roofs roofs = measure_roofs(device, effort);
  const std::string named = cpu ? text("cpu ", to_string(device.isa()), ", ", device.threads(), " threads")
                            : emulator ? "emulator"
                                       : device.backend().description;
  std::printf("device %s, copy %.0f GB/s (read and written), multiply-adds %.0f GFLOP/s\n", named.c_str(),
              roofs.bytes_per_second / 1e9, roofs.flops / 1e9);
  const KernelTables<float> kernels = [&] {
    if (cpu) return tables<float>(device);
#if FOVEA_EMULATOR
    if (emulator) return emulator_tables();
#endif
#if FOVEA_CUDA
    return cuda_tables();
#else
    return KernelTables<float>{};
#endif
  }();
  for (Workload workload : emulator ? tiny_workloads() : workloads()) {
    if (arguments.batch) workload.batch = arguments.batch;
    if (!arguments.workloads.empty() &&
        arguments.workloads.find("," + workload.name + ",") == std::string::npos)
      continue;
    std::printf("\n%s, batch %lld\n", workload.name.c_str(), static_cast<long long>(workload.batch));
    const auto initial = make_model(workload.config, {cpu_device(), DType::f32}, 7);
    const WorkloadBatch batch = make_batch(workload, *initial, workload.batch);
    Recorder& all = recorder();
    const std::set<std::string> empty_before = std::exchange(all.empty, {});
    {
      const Device timed = device_with_tables(device, wrapped_tables<Timed>(kernels));
      all.memory = std::make_shared<PooledMemory>(device.backend().memory);
      timed.backend().memory = all.memory;
      all.effort = effort;
      all.timings.clear();
      const Synchronisation wait(timed);
      const auto model = model_on(timed, workload, *initial);
      const ModelInput input = moved(batch.input, timed);
      const Tensor responses = batch.responses.to(timed);
      all.wait = &wait;
      run_inference(*model, input);
      for (auto& [key, timing] : all.timings) timing.inference_calls = timing.calls;
      run_step(*model, input, responses);
      all.wait = nullptr;
    }
    all.memory.reset();
    print_timings(roofs);
    if (all.empty.empty()) {
      time_whole(device, workload, *initial, batch, effort);
    } else {
      std::printf("  no whole step, entries are empty:");
      for (const std::string& name : all.empty) std::printf(" %s", name.c_str());
      std::printf("\n");
    }
    all.empty.insert(empty_before.begin(), empty_before.end());
    std::fflush(stdout);
  }
  std::printf("\nempty entries:");
  for (const EntryStatus& entry : kernel_status(device))
    if (entry.origin == EntryOrigin::empty) std::printf(" %s", entry.name.c_str());
  std::printf("\nentries that no workload uses:");
  for (const EntryStatus& entry : kernel_status(device))
    if (!recorder().used.count(entry.name)) std::printf(" %s", entry.name.c_str());
  std::printf("\n");
  return 0;
}

}  // namespace
}  // namespace fovea::bench

int main(int count, char** arguments) {
  try {
    return fovea::bench::run(fovea::bench::parse(count, arguments));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fovea-entry-bench: %s\n", error.what());
    return 1;
  }
}
