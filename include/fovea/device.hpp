// Where tensors live and kernels run.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace fovea {

struct Backend;  // engine/backend.hpp

enum class DeviceKind { cpu, cuda, emulator };
std::string to_string(DeviceKind kind);

/// Counters of a device's tensor memory, for tests and for `describe`.
struct MemoryStatistics {
  std::uint64_t allocations = 0;  ///< calls to the system allocator so far
  std::size_t bytes_in_use = 0;   ///< bytes held from the system allocator now
  std::size_t bytes_at_peak = 0;  ///< largest value of bytes_in_use
};

/// Instruction set of the CPU kernels, in rising order.
enum class Isa { reference, baseline, avx2, avx512 };
std::string to_string(Isa isa);

/// A handle to a backend (thread pool, memory, kernel tables); copies share it. Destroyed with its last user.
/// Several threads may use one device; its kernels then take turns on the pool.
class Device {
 public:
  Device() = default;
  explicit Device(std::shared_ptr<Backend> backend) : backend_(std::move(backend)) {}

  DeviceKind kind() const;
  int threads() const;
  Isa isa() const;
  MemoryStatistics memory() const;
  /// Whether the values of its tensors can be read and written where they lie.
  bool on_host() const;

  Backend& backend() const { return *backend_; }
  const std::shared_ptr<Backend>& shared() const { return backend_; }
  explicit operator bool() const { return backend_ != nullptr; }
  friend bool operator==(const Device& a, const Device& b) { return a.backend_ == b.backend_; }

 private:
  std::shared_ptr<Backend> backend_;
};

/// The CPU with `threads` threads (0: all cores) and the best instruction set both the machine and the build
/// have. The environment variable FOVEA_ISA (reference | baseline | avx2 | avx512) forces one; an unknown or
/// unsupported value throws ConfigError.
Device cpu_device(int threads = 0);
/// The CPU with one given instruction set; DeviceError where machine or build lack it.
Device cpu_device(int threads, Isa isa);
/// Instruction sets that both this build and this machine have.
std::vector<Isa> available_isas();

/// The CUDA kernels run by the SIMT emulator in host memory; DeviceError where it was not built.
/// `order_seed` != 0 runs threads and blocks in a shuffled order.
Device emulator_device(int threads = 1, unsigned order_seed = 0);
/// The first CUDA device; DeviceError where there is none or CUDA was not built.
Device cuda_device();

}  // namespace fovea
