// Shared memory of one block: variables and the dynamic part, fenced for AddressSanitizer, NaN until written.
#pragma once
#include <cstddef>

#include "engine/emulator/runtime.hpp"

namespace fovea::simt {

// Limits of an H100: what a block may use in all, and what it may declare statically.
constexpr std::size_t kSharedLimit = 227 * 1024;
constexpr std::size_t kStaticSharedLimit = 48 * 1024;

class SharedArena {
 public:
  SharedArena() = default;
  SharedArena(const SharedArena&) = delete;
  SharedArena& operator=(const SharedArena&) = delete;
  ~SharedArena();

  /// Empties it for the next block. Under ThreadSanitizer the memory is fresh, so that blocks that run one
  /// after the other on one OS thread are not taken for ordered.
  void begin_block(std::size_t dynamic_bytes);
  void* dynamic() const { return dynamic_; }
  /// Null: the block's variables exceed the limits.
  void* variable(const void* key, std::size_t bytes);
  bool owns(const void* address) const {
    return static_cast<std::size_t>(static_cast<const char*>(address) - memory_) < kBytes;
  }
  /// Of the variables made so far.
  std::size_t static_bytes() const { return static_bytes_; }
  /// Eight bytes: what ThreadSanitizer knows a meeting point by.
  void* tag(unsigned index) { return tags_ + 8 * index; }

  // The block barrier and every meeting of every warp, two each.
  static constexpr unsigned kTags = 2 + 2 * kMaxThreads;

 private:
  struct Variable {
    const void* key;
    void* memory;
  };
  static constexpr std::size_t kFence = 128;
  static constexpr unsigned kMaxVariables = 64;
  static constexpr std::size_t kBytes = kSharedLimit + (kMaxVariables + 1) * 2 * kFence;

  void* carve(std::size_t bytes);

  char* memory_ = nullptr;
  char* tags_ = nullptr;
  void* dynamic_ = nullptr;
  std::size_t used_ = 0, dynamic_bytes_ = 0, static_bytes_ = 0;
  Variable variables_[kMaxVariables];
  unsigned count_ = 0;
};

}  // namespace fovea::simt
