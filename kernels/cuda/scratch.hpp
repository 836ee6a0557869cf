// Scratch memory of a launcher, given back at the end of its scope.
#pragma once
#include "engine/gpu.hpp"
#include "engine/queue.hpp"

namespace fovea::FOVEA_GPU {

template <class T>
class Scratch {
 public:
  Scratch(const Queue& queue, std::size_t count)
      : queue_(queue), memory_(static_cast<T*>(scratch_acquire(queue, count * sizeof(T)))) {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { scratch_release(queue_, memory_); }
  T* data() const { return memory_; }

 private:
  const Queue& queue_;
  T* memory_;
};

}  // namespace fovea::FOVEA_GPU
