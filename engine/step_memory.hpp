// Memory plan of repeated steps: after the first step of a signature no tensor memory is allocated.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "fovea/device.hpp"

namespace fovea {

/// One piece of device memory from which a plan's tensors are cut; lives until the last of them is gone.
struct Slab {
  Slab(std::shared_ptr<Backend> owner, std::size_t size);
  ~Slab();
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  std::shared_ptr<Backend> backend;
  std::byte* data;
  std::size_t bytes;
};

/// Plans of the steps of one device. A step (training or evaluation) is run inside a Scope named by its
/// signature; the first step of a signature records its allocations and releases, then best fit gives every
/// allocation a place in one slab, which all later steps of that signature use. Tensors that outlive their
/// step get ordinary memory. A step that allocates or keeps tensors differently from its plan falls back to
/// ordinary memory and is recorded again; what it keeps stays valid.
class StepMemory {
 public:
  explicit StepMemory(const Device& device);
  ~StepMemory();
  StepMemory(const StepMemory&) = delete;
  StepMemory& operator=(const StepMemory&) = delete;

  /// Bytes that the plan of a signature needs, 0 when it has none yet.
  std::size_t planned_bytes(const std::string& signature) const;
  /// Bytes that the largest plan needs.
  std::size_t planned_bytes() const;

  class Scope {
   public:
    /// The calling thread's allocations on the device follow the plan until the scope ends. Scopes do not
    /// nest.
    Scope(StepMemory& memory, const std::string& signature);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    StepMemory& memory_;
  };

 private:
  friend class Storage;
  struct Allocation {
    std::size_t bytes = 0;
    std::size_t begin = 0;   // event number of the allocation
    std::size_t end = 0;     // event number of the release; 0: outlived the step
    std::size_t offset = 0;  // in the slab
  };
  struct Plan {
    std::vector<Allocation> allocations;
    std::size_t bytes = 0;
    bool ready = false;
  };

  /// Place of the next allocation in the slab, null for ordinary memory; notes it when recording.
  std::byte* take(std::size_t bytes, std::uint64_t* recording, std::size_t* ticket);
  static void give_back(std::uint64_t recording, std::size_t ticket);
  /// DeviceError with the figures of the plan where the device has no room for it.
  std::shared_ptr<Slab> make_slab(const Plan& plan, const std::string& signature) const;
  void begin(const std::string& signature);
  void finish();
  void place(Plan& plan) const;

  std::shared_ptr<Backend> backend_;
  std::unordered_map<std::string, Plan> plans_;
  Plan* active_ = nullptr;
  bool replaying_ = false;
  bool deviated_ = false;
  std::size_t event_ = 0;        // of the step: every allocation and release is one
  std::size_t next_ = 0;         // allocation of a replay
  std::uint64_t recording_ = 0;  // id of the current recording, 0 when none
  std::shared_ptr<Slab> slab_;

  static thread_local StepMemory* current_;
};

}  // namespace fovea
