#include "bench/machine.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "bench/peak.hpp"
#include "engine/backend.hpp"

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
  for (int repetition = 0; repetition < 5; ++repetition) {
    const double seconds = seconds_of(device, task, &context);
    double operations = 0;
    for (const double one : context.operations) operations += one;
    best = std::max(best, operations / seconds);
  }
  return best;
}

double copy_rate(const Device& device) {
  struct Context {
    std::vector<char> from, to;
    std::int64_t parts;
  };
  constexpr std::size_t bytes = std::size_t{128} << 20;
  Context context{std::vector<char>(bytes, 1), std::vector<char>(bytes, 2), device.threads()};
  const Task task = [](void* raw, std::int64_t index, int) {
    auto& c = *static_cast<Context*>(raw);
    const std::size_t part = c.from.size() / static_cast<std::size_t>(c.parts);
    std::memcpy(c.to.data() + static_cast<std::size_t>(index) * part,
                c.from.data() + static_cast<std::size_t>(index) * part, part);
  };
  double best = 0;
  for (int repetition = 0; repetition < 5; ++repetition)
    best = std::max(best, 2.0 * static_cast<double>(bytes) / seconds_of(device, task, &context));
  return best;
}

}  // namespace

Machine measure(const Device& device) { return {peak_flops(device), copy_rate(device)}; }

}  // namespace fovea::bench
