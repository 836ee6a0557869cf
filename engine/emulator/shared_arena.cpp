#include "engine/emulator/shared_arena.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#include "engine/emulator/sanitizers.hpp"

namespace fovea::simt {
namespace {

constexpr std::size_t kTagBytes = 8 * SharedArena::kTags;

// Not memset: the compiler must not see one either, since ThreadSanitizer would take it for the write of a
// thread.
void fill_with_nan(char* memory, std::size_t bytes) {
  auto* words = reinterpret_cast<std::uint64_t*>(memory);
  for (std::size_t i = 0; i < (bytes + 7) / 8; ++i) {
    words[i] = ~std::uint64_t{0};
    asm volatile("" ::: "memory");
  }
}

}  // namespace

SharedArena::~SharedArena() {
  if (memory_) munmap(memory_, kBytes + kTagBytes);
}

void SharedArena::begin_block(std::size_t dynamic_bytes) {
  if (!memory_) {
    void* memory = mmap(nullptr, kBytes + kTagBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<char*>(memory);
    tags_ = memory_ + kBytes;
  }
  asan_poison(memory_, kBytes);
  used_ = count_ = 0;
  static_bytes_ = 0;
  dynamic_bytes_ = dynamic_bytes;
  dynamic_ = carve(dynamic_bytes);
}

void* SharedArena::variable(const void* key, std::size_t bytes) {
  for (unsigned i = 0; i < count_; ++i)
    if (variables_[i].key == key) return variables_[i].memory;
  static_bytes_ += bytes;
  if (count_ == kMaxVariables || static_bytes_ > kStaticSharedLimit ||
      static_bytes_ + dynamic_bytes_ > kSharedLimit)
    return nullptr;
  variables_[count_] = {key, carve(bytes)};
  return variables_[count_++].memory;
}

void* SharedArena::carve(std::size_t bytes) {
  char* memory = memory_ + used_;
  const std::size_t rounded = (bytes + kFence - 1) / kFence * kFence;
  used_ += rounded + kFence;
  asan_unpoison(memory, rounded);
  fill_with_nan(memory, bytes);
  asan_poison(memory + bytes, rounded - bytes);
  return memory;
}

}  // namespace fovea::simt
