// Devices: which tables, pool and memory make a backend.
#include "kernels/backends.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "engine/backend.hpp"
#include "engine/emulator/guarded_memory.hpp"
#include "fovea/error.hpp"

namespace fovea {
namespace {

bool machine_has(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("fma");
#endif
  return isa == Isa::reference || isa == Isa::baseline;
}

Isa chosen_isa() {
  const std::vector<Isa> available = available_isas();
  const char* forced = std::getenv("FOVEA_ISA");
  if (!forced || !*forced) return available.back();
  std::string names;
  for (const Isa isa : available) {
    if (to_string(isa) == forced) return isa;
    names += (names.empty() ? "" : ", ") + to_string(isa);
  }
  throw ConfigError("FOVEA_ISA", text("must be one of ", names, ": ", forced));
}

std::shared_ptr<Backend> host_backend(DeviceKind kind, int threads) {
  constexpr int most_threads = 1024;
  if (threads < 0 || threads > most_threads)
    throw ConfigError("device", text("threads must be 0 (all) to ", most_threads, ": ", threads));
  if (threads == 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  auto backend = std::make_shared<Backend>();
  backend->kind = kind;
  backend->pool = std::make_unique<ThreadPool>(threads);
  backend->memory = std::make_unique<Memory>();
  return backend;
}

}  // namespace

std::vector<Isa> available_isas() {
  std::vector<Isa> isas = compiled_isas();
  isas.erase(std::remove_if(isas.begin(), isas.end(), [](Isa isa) { return !machine_has(isa); }), isas.end());
  return isas;
}

Device cpu_device(int threads) { return cpu_device(threads, chosen_isa()); }

Device cpu_device(int threads, Isa isa) {
  const std::vector<Isa> available = available_isas();
  if (std::find(available.begin(), available.end(), isa) == available.end())
    throw DeviceError("device", text("this build or machine has no ", to_string(isa), " kernels"));
  auto backend = host_backend(DeviceKind::cpu, threads);
  backend->isa = isa;
  backend->tables = complete_tables(cpu_tables(isa), reference_tables<double>());
  return Device(backend);
}

Device device_with_tables(const Device& device, const KernelTables<float>& f32) {
  const Backend& other = device.backend();
  auto backend = host_backend(device.kind(), device.threads());
  backend->isa = device.isa();
  backend->memory = other.memory;
  backend->stream = other.stream;
  backend->stream_owner = other.stream_owner;
  backend->tables = complete_tables(f32, other.tables->f64);
  return Device(backend);
}

#if FOVEA_EMULATOR
namespace {

/// As tight and as dirty as it gets: the end is exact for AddressSanitizer, and everything is NaN until
/// written.
class EmulatorMemory : public Memory {
 public:
  void* allocate(std::size_t bytes) override {
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, std::max<std::size_t>(bytes, 1)) != 0)
      throw DeviceError("memory", text("out of host memory: ", bytes, " bytes"));
    std::memset(memory, 0xff, bytes);
    count_allocation(bytes);
    return memory;
  }
  void release(void* memory, std::size_t bytes) override {
    std::free(memory);
    count_release(bytes);
  }
};

}  // namespace

static Device emulator_device(int threads, unsigned order_seed, std::shared_ptr<Memory> memory,
                              simt::MemoryGuard* guard) {
  auto backend = host_backend(DeviceKind::emulator, threads);
  backend->memory = std::move(memory);
  auto options = std::make_shared<simt::Options>();
  options->guard = guard;
  options->workers = static_cast<unsigned>(backend->pool->size());
  options->seed = order_seed;
  backend->stream = options.get();
  backend->stream_owner = options;
  backend->tables = complete_tables(emulator_tables(), {});
  return Device(backend);
}

Device emulator_device(int threads, unsigned order_seed) {
  return emulator_device(threads, order_seed, std::make_shared<EmulatorMemory>(), nullptr);
}

Device guarded_emulator_device(int threads, unsigned order_seed) {
  const auto memory = std::make_shared<simt::GuardedMemory>();
  return emulator_device(threads, order_seed, memory, memory.get());
}
#else
Device emulator_device(int, unsigned) {
  throw DeviceError("device", "this build has no emulator: configure with -Demulator=enabled");
}
Device guarded_emulator_device(int, unsigned) { return emulator_device(); }
#endif

#if !FOVEA_CUDA
Device cuda_device() { throw DeviceError("device", "this build has no CUDA: configure with -Dcuda=enabled"); }
#endif

}  // namespace fovea
