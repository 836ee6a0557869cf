#include "engine/emulator/guarded_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "fovea/error.hpp"

namespace fovea::simt {
namespace {

constexpr std::size_t reserved = std::size_t{1} << 34;  // addresses, not memory
constexpr std::size_t page = 1 << 16;                   // a multiple of any machine's
constexpr std::size_t boundary = 64;

std::size_t rounded_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }
std::size_t size_of_block(std::size_t bytes) { return rounded_up(std::max<std::size_t>(bytes, 1), boundary); }

}  // namespace

GuardedMemory::GuardedMemory() : free_{{0, reserved}} {
  void* range = ::mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) throw DeviceError("memory", text("no range of ", reserved, " addresses"));
  base_ = static_cast<std::byte*>(range);
}

GuardedMemory::~GuardedMemory() { ::munmap(base_, reserved); }

void* GuardedMemory::allocate(std::size_t bytes) {
  const std::size_t size = size_of_block(bytes);
  std::byte* memory = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto found =
        std::find_if(free_.begin(), free_.end(), [&](const auto& gap) { return gap.second >= size; });
    if (found == free_.end()) throw DeviceError("memory", text("out of guarded memory: ", bytes, " bytes"));
    const auto [offset, room] = *found;
    free_.erase(found);
    if (room > size) free_[offset + size] = room - size;
    const std::size_t end = rounded_up(offset + size, page);
    if (end > used_ && opened_ > 0) protect(used_, end, true);
    used_ = std::max(used_, end);
    memory = base_ + offset;
  }
  const OpenMemory open(this);
  std::memset(memory, 0xff, bytes);
  count_allocation(bytes);
  return memory;
}

void GuardedMemory::release(void* memory, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  auto gap = free_.emplace(static_cast<std::byte*>(memory) - base_, size_of_block(bytes)).first;
  const auto joins = [&](auto first, auto second) { return first->first + first->second == second->first; };
  if (const auto next = std::next(gap); next != free_.end() && joins(gap, next)) {
    gap->second += next->second;
    free_.erase(next);
  }
  if (gap != free_.begin() && joins(std::prev(gap), gap)) {
    std::prev(gap)->second += gap->second;
    free_.erase(gap);
  }
  count_release(bytes);
}

void GuardedMemory::copy(void* to, const void* from, std::size_t bytes) {
  const OpenMemory open(this);
  Memory::copy(to, from, bytes);
}

void GuardedMemory::open() {
  const std::lock_guard lock(mutex_);
  if (opened_++ == 0) protect(0, used_, true);
}

void GuardedMemory::close() {
  const std::lock_guard lock(mutex_);
  if (--opened_ == 0) protect(0, used_, false);
}

void GuardedMemory::protect(std::size_t begin, std::size_t end, bool reachable) const {
  if (begin == end) return;
  if (::mprotect(base_ + begin, end - begin, reachable ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
    throw DeviceError("memory", "the guard of emulated memory cannot be moved");
}

}  // namespace fovea::simt
