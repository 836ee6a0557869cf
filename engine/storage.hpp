// What a Tensor points to: storage on a device, and the place where autograd hangs its state.
#pragma once
#include "fovea/tensor.hpp"

namespace fovea {

struct Slab;

/// Memory of one or several tensors; goes back to where it came from (system allocator or step plan) when the
/// last tensor goes.
class Storage {
 public:
  Storage(std::shared_ptr<Backend> backend, std::size_t bytes);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  const std::shared_ptr<Backend>& backend() const { return backend_; }

 private:
  std::shared_ptr<Backend> backend_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::shared_ptr<Slab> slab_;   // set when the memory is part of a step plan's slab
  std::uint64_t recording_ = 0;  // id of the recording that noted this allocation, 0 when none did
  std::size_t ticket_ = 0;       // index of the allocation in that recording
};

struct Tensor::Body {
  Shape shape;
  DType dtype = DType::f32;
  std::shared_ptr<Storage> storage;
  std::size_t offset = 0;                   // bytes from the start of the storage
  std::shared_ptr<AutogradState> autograd;  // null: never part of a differentiated computation
};

}  // namespace fovea
