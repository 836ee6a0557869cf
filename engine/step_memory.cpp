#include "engine/step_memory.hpp"

#include <algorithm>
#include <atomic>

#include "engine/backend.hpp"
#include "engine/storage.hpp"

namespace fovea {
namespace {

constexpr std::size_t alignment = 64;

std::size_t rounded(std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

std::uint64_t next_recording_id() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

}  // namespace

thread_local StepMemory* StepMemory::current_ = nullptr;

Slab::Slab(std::shared_ptr<Backend> owner, std::size_t size)
    : backend(std::move(owner)),
      data(static_cast<std::byte*>(backend->memory->allocate(size))),
      bytes(size) {}

Slab::~Slab() { backend->memory->release(data, bytes); }

StepMemory::StepMemory(const Device& device) : backend_(device.shared()) {}

StepMemory::~StepMemory() = default;

std::size_t StepMemory::planned_bytes(const std::string& signature) const {
  const auto plan = plans_.find(signature);
  return plan == plans_.end() || !plan->second.ready ? 0 : plan->second.bytes;
}

std::size_t StepMemory::planned_bytes() const {
  std::size_t most = 0;
  for (const auto& [signature, plan] : plans_)
    if (plan.ready) most = std::max(most, plan.bytes);
  return most;
}

StepMemory::Scope::Scope(StepMemory& memory, const std::string& signature) : memory_(memory) {
  if (current_) throw Error("step_memory", text("scopes do not nest: ", signature));
  memory_.begin(signature);
  current_ = &memory_;
}

StepMemory::Scope::~Scope() {
  current_ = nullptr;
  memory_.finish();
}

std::shared_ptr<Slab> StepMemory::make_slab(const Plan& plan, const std::string& signature) const {
  try {
    return std::make_shared<Slab>(backend_, plan.bytes);
  } catch (const DeviceError& error) {
    throw DeviceError("memory", text("the plan of ", signature, " has ", plan.allocations.size(),
                                     " tensors in ", plan.bytes, " bytes: ", error.what()));
  }
}

void StepMemory::begin(const std::string& signature) {
  active_ = &plans_[signature];
  replaying_ = active_->ready;
  deviated_ = false;
  event_ = next_ = 0;
  recording_ = next_recording_id();
  if (!replaying_) {
    active_->allocations.clear();
    slab_.reset();  // what a recording takes must not come on top of it
  } else if (!slab_ || slab_->bytes < active_->bytes) {
    slab_.reset();  // never two
    slab_ = make_slab(*active_, signature);
  }
}

void StepMemory::finish() {
  if (!replaying_) {
    place(*active_);
    active_->ready = true;
  } else if (deviated_ || next_ != active_->allocations.size() || slab_.use_count() > 1) {
    // Someone kept a tensor of this step or took another path: leave them the slab and plan anew.
    if (slab_.use_count() > 1) slab_.reset();
    active_->ready = false;
  }
  recording_ = 0;
  active_ = nullptr;
}

std::byte* StepMemory::take(std::size_t bytes, std::uint64_t* recording, std::size_t* ticket) {
  *recording = recording_;
  if (!replaying_) {
    *ticket = active_->allocations.size();
    active_->allocations.push_back({bytes, event_++, 0, 0});
    return nullptr;
  }
  // Places are free only as long as everything happens in the order of the plan.
  *ticket = next_;
  if (deviated_ || next_ >= active_->allocations.size() || active_->allocations[next_].bytes != bytes ||
      active_->allocations[next_].begin != event_) {
    deviated_ = true;
    *recording = 0;
    return nullptr;
  }
  ++event_;
  const Allocation& allocation = active_->allocations[next_++];
  return allocation.end ? slab_->data + allocation.offset : nullptr;
}

void StepMemory::give_back(std::uint64_t recording, std::size_t ticket) {
  StepMemory* plan = current_;
  if (!plan || plan->recording_ != recording || plan->deviated_) return;
  Allocation& allocation = plan->active_->allocations[ticket];
  if (!plan->replaying_) {
    allocation.end = plan->event_++;
  } else if (allocation.end == plan->event_) {
    ++plan->event_;
  } else {
    plan->deviated_ = true;
  }
}

void StepMemory::place(Plan& plan) const {
  std::vector<Allocation*> order;
  for (Allocation& allocation : plan.allocations)
    if (allocation.end) order.push_back(&allocation);
  std::stable_sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->bytes > b->bytes; });
  std::vector<const Allocation*> placed;  // by offset
  plan.bytes = 0;
  for (Allocation* one : order) {
    std::size_t best = 0, best_gap = 0, free_from = 0;
    bool found = false;
    for (const Allocation* other : placed) {
      if (other->end < one->begin || one->end < other->begin) continue;
      const std::size_t gap = other->offset > free_from ? other->offset - free_from : 0;
      if (gap >= rounded(one->bytes) && (!found || gap < best_gap)) {
        best = free_from;
        best_gap = gap;
        found = true;
      }
      free_from = std::max(free_from, other->offset + rounded(other->bytes));
    }
    one->offset = found ? best : free_from;
    plan.bytes = std::max(plan.bytes, one->offset + rounded(one->bytes));
    placed.insert(std::upper_bound(placed.begin(), placed.end(), one,
                                   [](auto* a, auto* b) { return a->offset < b->offset; }),
                  one);
  }
}

Storage::Storage(std::shared_ptr<Backend> backend, std::size_t bytes)
    : backend_(std::move(backend)), bytes_(std::max<std::size_t>(bytes, 1)) {
  StepMemory* plan = StepMemory::current_;
  if (plan && plan->backend_ == backend_) {
    data_ = plan->take(bytes_, &recording_, &ticket_);
    if (data_) slab_ = plan->slab_;
  }
  if (!data_) data_ = static_cast<std::byte*>(backend_->memory->allocate(bytes_));
}

Storage::~Storage() {
  if (recording_) StepMemory::give_back(recording_, ticket_);
  if (!slab_) backend_->memory->release(data_, bytes_);
}

}  // namespace fovea
