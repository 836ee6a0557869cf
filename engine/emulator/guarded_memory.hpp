// Memory of an emulated device that the host cannot reach, as that of a GPU.
#pragma once
#include <map>

#include "engine/backend.hpp"
#include "engine/emulator/runtime.hpp"

namespace fovea::simt {

/// One range of addresses, closed by the MMU unless somebody has opened it. NaN until written.
class GuardedMemory final : public Memory, public MemoryGuard {
 public:
  GuardedMemory();
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;
  ~GuardedMemory() override;

  bool on_host() const override { return false; }
  void* allocate(std::size_t bytes) override;
  void release(void* memory, std::size_t bytes) override;
  void copy(void* to, const void* from, std::size_t bytes) override;

  void open() override;
  void close() override;

 private:
  void protect(std::size_t begin, std::size_t end, bool reachable) const;

  std::byte* base_;
  std::mutex mutex_;
  int opened_ = 0;
  std::size_t used_ = 0;  // bytes from the start that have ever been handed out, whole pages
  std::map<std::size_t, std::size_t> free_;  // offset and size of what lies between
};

}  // namespace fovea::simt
