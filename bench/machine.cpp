#include "bench/machine.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "bench/peak.hpp"
#include "engine/backend.hpp"
#include "fovea/tensor.hpp"

namespace fovea {
volatile float peak_sink;
}

namespace fovea::bench {
namespace {

double seconds_of(const Device& device, Task task, void* context) {
  const auto start = std::chrono::steady_clock::now();
  run_tasks(device.backend().queue(), device.threads(), task, context);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double (*madds_of(Isa isa))(std::int64_t) {
#define X(name) \
  if (isa == Isa::name) return name::run_madds;
  FOVEA_COMPILED_ISAS(X)
#undef X
  return nullptr;
}

double peak_flops(const Device& device) {
  struct Context {
    double (*run)(std::int64_t);
    std::vector<double> operations;
  } context{madds_of(device.isa()), std::vector<double>(static_cast<std::size_t>(device.threads()))};
  if (!context.run) return 0;
  const Task task = [](void* raw, std::int64_t index, int) {
    auto& c = *static_cast<Context*>(raw);
    c.operations[static_cast<std::size_t>(index)] = c.run(4'000'000);
  };
  double best = 0;
  // Neighbours on a shared machine take a while to go: one try of many sees the processor alone.
  for (int repetition = 0; repetition < 25; ++repetition) {
    const double seconds = seconds_of(device, task, &context);
    double operations = 0;
    for (const double one : context.operations) operations += one;
    best = std::max(best, operations / seconds);
  }
  return best;
}

using Copy = void (*)(float*, const float*, std::int64_t);

Copy copy_of(Isa isa) {
#define X(name) \
  if (isa == Isa::name) return name::copy_streamed;
  FOVEA_COMPILED_ISAS(X)
#undef X
  return [](float* to, const float* from, std::int64_t floats) {
    std::memcpy(to, from, static_cast<std::size_t>(floats) * sizeof(float));
  };
}

double copy_rate(const Device& device) {
  struct Context {
    Copy copy;
    float* to;
    const float* from;
    std::int64_t part;  // of a thread
  };
  const std::int64_t part = (std::int64_t{1} << 25) / device.threads() / 16 * 16;
  const Tensor from = Tensor::zeros({part * device.threads()}, DType::f32, device), to = empty_like(from);
  Context context{copy_of(device.isa()), to.data<float>(), from.data<float>(), part};
  const Task task = [](void* raw, std::int64_t index, int) {
    const auto& c = *static_cast<Context*>(raw);
    c.copy(c.to + index * c.part, c.from + index * c.part, c.part);
  };
  double best = 0;
  for (int repetition = 0; repetition < 8; ++repetition)
    best = std::max(best, 2.0 * static_cast<double>(from.bytes()) / seconds_of(device, task, &context));
  return best;
}

}  // namespace

Machine measure(const Device& device) { return {peak_flops(device), copy_rate(device)}; }

}  // namespace fovea::bench
