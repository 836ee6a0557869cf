// A device from the inside: pool, memory, kernel tables.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/queue.hpp"
#include "engine/thread_pool.hpp"
#include "fovea/device.hpp"

namespace fovea {

struct Tables;  // kernels/tables.hpp
class Storage;  // engine/storage.hpp

/// Raw memory of a device. Host memory by default; CUDA overrides.
class Memory {
 public:
  virtual ~Memory() = default;
  /// Whether the host may read and write it where it lies; elsewhere only the copies below and kernels may.
  virtual bool on_host() const { return true; }
  /// 64-byte aligned, uninitialised (0xFF in debug builds, so that a read before a write shows as NaN).
  virtual void* allocate(std::size_t bytes);
  virtual void release(void* memory, std::size_t bytes);
  virtual void copy_to_host(void* host, const void* device, std::size_t bytes);
  virtual void copy_from_host(void* device, const void* host, std::size_t bytes);
  virtual void copy(void* to, const void* from, std::size_t bytes);
  /// Bytes that can still be allocated; more may be refused.
  virtual std::size_t available() const;
  MemoryStatistics statistics() const;

 protected:
  void count_allocation(std::size_t bytes);
  void count_release(std::size_t bytes);

 private:
  mutable std::mutex mutex_;
  MemoryStatistics statistics_;
};

struct Backend : std::enable_shared_from_this<Backend> {
  DeviceKind kind = DeviceKind::cpu;
  Isa isa = Isa::reference;
  std::string description;
  std::unique_ptr<ThreadPool> pool;
  std::shared_ptr<Memory> memory;
  std::shared_ptr<const Tables> tables;
  void* stream = nullptr;
  std::mutex scratch_mutex;
  std::vector<std::unique_ptr<Storage>> scratch;  // scratch memory of the kernels that run now
  std::shared_ptr<void> stream_owner;             // keeps what stream points to

  Backend();
  ~Backend();
  Queue queue() { return {this, stream}; }
};

/// Host memory is where tensors of this backend can be read directly.
inline bool is_host(const Backend& backend) { return backend.memory->on_host(); }

}  // namespace fovea
