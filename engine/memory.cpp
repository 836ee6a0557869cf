#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "engine/backend.hpp"
#include "engine/sanitized.hpp"
#include "engine/storage.hpp"
#include "engine/system_memory.hpp"

namespace fovea {

namespace {

constexpr std::size_t huge_page = std::size_t{1} << 21;

std::size_t rounded_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

/// Blocks of this size and more are mapped; none where sanitizers watch the bounds of what malloc gives.
constexpr std::size_t mapped_from = sanitized ? SIZE_MAX : huge_page;

/// Large blocks come from the system and go back to it whole: what one step has freed is not kept beside the
/// slab of the next. Aligned to huge pages, which spare most page faults.
void* map(std::size_t bytes) {
  const std::size_t size = rounded_up(bytes, huge_page), wide = size + huge_page;
  if (wide < bytes) return nullptr;
  void* mapped = ::mmap(nullptr, wide, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(mapped);
  const std::size_t past = reinterpret_cast<std::uintptr_t>(mapped) % huge_page;
  const std::size_t before = past ? huge_page - past : 0;
  std::byte* const block = begin + before;
  if (before > 0) ::munmap(begin, before);
  ::munmap(block + size, wide - size - before);
  ::madvise(block, bytes / huge_page * huge_page, MADV_HUGEPAGE);
  return block;
}

}  // namespace

void* Memory::allocate(std::size_t bytes) {
  const std::size_t size = rounded_up(std::max<std::size_t>(bytes, 1), 64);
  void* memory = size >= mapped_from ? map(size) : std::aligned_alloc(64, size);
  if (!memory) throw DeviceError("memory", text("out of host memory: ", bytes, " bytes"));
#ifndef NDEBUG
  std::memset(memory, 0xff, size);
#endif
  count_allocation(bytes);
  return memory;
}

std::size_t Memory::available() const { return available_memory(); }

void Memory::release(void* memory, std::size_t bytes) {
  const std::size_t size = rounded_up(std::max<std::size_t>(bytes, 1), 64);
  if (size >= mapped_from)
    ::munmap(memory, rounded_up(size, huge_page));
  else
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
bool Device::on_host() const { return is_host(*backend_); }
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
