#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "engine/backend.hpp"
#include "engine/storage.hpp"

namespace fovea {

void* Memory::allocate(std::size_t bytes) {
  const std::size_t size = (std::max<std::size_t>(bytes, 1) + 63) / 64 * 64;
  void* memory = std::aligned_alloc(64, size);
  if (!memory) throw DeviceError("memory", text("out of host memory: ", bytes, " bytes"));
#ifndef NDEBUG
  std::memset(memory, 0xff, size);
#endif
  count_allocation(bytes);
  return memory;
}

void Memory::release(void* memory, std::size_t bytes) {
  std::free(memory);
  count_release(bytes);
}

void Memory::copy_to_host(void* host, const void* device, std::size_t bytes) { copy(host, device, bytes); }

void Memory::copy_from_host(void* device, const void* host, std::size_t bytes) { copy(device, host, bytes); }

void Memory::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes) std::memmove(to, from, bytes);
}

MemoryStatistics Memory::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

void Memory::count_allocation(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  ++statistics_.allocations;
  statistics_.bytes_in_use += bytes;
  statistics_.bytes_at_peak = std::max(statistics_.bytes_at_peak, statistics_.bytes_in_use);
}

void Memory::count_release(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  statistics_.bytes_in_use -= bytes;
}

Backend::Backend() = default;
Backend::~Backend() = default;

DeviceKind Device::kind() const { return backend_->kind; }
int Device::threads() const { return backend_->pool->size(); }
Isa Device::isa() const { return backend_->isa; }
MemoryStatistics Device::memory() const { return backend_->memory->statistics(); }

std::string to_string(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::cpu:
      return "cpu";
    case DeviceKind::cuda:
      return "cuda";
    case DeviceKind::emulator:
      return "emulator";
  }
  return "unknown";
}

std::string to_string(Isa isa) {
  switch (isa) {
    case Isa::reference:
      return "reference";
    case Isa::baseline:
      return "baseline";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
  }
  return "unknown";
}

void run_tasks(const Queue& queue, std::int64_t count, Task task, void* context) {
  queue.backend->pool->run(count, task, context);
}

int worker_count(const Queue& queue) { return queue.backend->pool->size(); }

// Scratch is a Storage, so that a step's plan covers it.
void* scratch_acquire(const Queue& queue, std::size_t bytes) {
  auto storage = std::make_unique<Storage>(queue.backend->shared_from_this(), bytes);
  void* memory = storage->data();
  const std::lock_guard lock(queue.backend->scratch_mutex);
  queue.backend->scratch.push_back(std::move(storage));
  return memory;
}

void scratch_release(const Queue& queue, void* memory) {
  const std::lock_guard lock(queue.backend->scratch_mutex);
  auto& scratch = queue.backend->scratch;
  const auto found = std::find_if(scratch.rbegin(), scratch.rend(),
                                  [&](const auto& storage) { return storage->data() == memory; });
  if (found != scratch.rend()) scratch.erase(std::next(found).base());
}

}  // namespace fovea
