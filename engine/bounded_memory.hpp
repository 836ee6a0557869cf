// Host memory with an end, for sizes that nobody has vouched for yet.
#pragma once
#include "engine/backend.hpp"
#include "fovea/error.hpp"

namespace fovea {

/// More was asked of a BoundedMemory than it has.
class MemoryBoundError : public Error {
 public:
  using Error::Error;
};

class BoundedMemory : public Memory {
 public:
  explicit BoundedMemory(std::size_t most) : most_(most) {}
  void* allocate(std::size_t bytes) override {
    if (bytes > most_ || statistics().bytes_in_use > most_ - bytes)
      throw MemoryBoundError("memory", text("more than ", most_, " bytes are needed"));
    return Memory::allocate(bytes);
  }
  std::size_t available() const override { return most_ - statistics().bytes_in_use; }

 private:
  std::size_t most_;
};

/// Bounds what a host device that nobody uses yet may hold at once.
inline void bound_memory(const Device& device, std::size_t most) {
  device.backend().memory = std::make_unique<BoundedMemory>(most);
}

}  // namespace fovea
