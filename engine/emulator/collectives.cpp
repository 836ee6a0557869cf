// Operations in which threads meet: barriers and warp operations. And those on shared memory.
#include <sys/mman.h>

#include <new>

#include "engine/emulator/sanitizers.hpp"
#include "engine/emulator/worker.hpp"

namespace fovea::simt {
namespace {

void complete_nothing(CudaThread*, unsigned) {}

void complete_shuffle(CudaThread* warp, unsigned mask) {
  std::uint64_t bits[kWarpSize];
  for (unsigned lane = 0; lane < kWarpSize; ++lane)
    if (mask >> lane & 1) bits[lane] = warp[lane].data.bits;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if (!(mask >> lane & 1)) continue;
    LaneData& data = warp[lane].data;
    data.valid = mask >> data.source & 1;
    if (data.valid) data.bits = bits[data.source];
  }
}

void complete_ballot(CudaThread* warp, unsigned mask) {
  std::uint64_t votes = 0;
  for (unsigned lane = 0; lane < kWarpSize; ++lane)
    if (mask >> lane & 1) votes |= warp[lane].data.bits << lane;
  for (unsigned lane = 0; lane < kWarpSize; ++lane)
    if (mask >> lane & 1) warp[lane].data.bits = votes;
}

// Fragment layout of mma.m16n8k8 (PTX ISA): group = lane / 4 is a row of A and D and a column of B.
void complete_mma(CudaThread* warp, unsigned) {
  float a[16][8], b[8][8];
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    const LaneData& data = warp[lane].data;
    const unsigned group = lane / 4, member = lane % 4;
    a[group][member] = data.a[0];
    a[group + 8][member] = data.a[1];
    a[group][member + 4] = data.a[2];
    a[group + 8][member + 4] = data.a[3];
    b[member][group] = data.b[0];
    b[member + 4][group] = data.b[1];
  }
  for (unsigned lane = 0; lane < kWarpSize; ++lane)
    for (unsigned r = 0; r < 4; ++r) {
      const unsigned row = lane / 4 + (r >= 2 ? 8 : 0), column = lane % 4 * 2 + r % 2;
      float& sum = warp[lane].data.d[r];
      for (unsigned k = 0; k < 8; ++k) sum += a[row][k] * b[k][column];
    }
}

// The lane that a shuffle reads, as PTX defines it for a warp cut into segments of `width` lanes.
unsigned source_lane(WarpOp op, unsigned lane, int argument, unsigned width) {
  const int first = static_cast<int>(lane & ~(width - 1)), last = first + static_cast<int>(width) - 1;
  const int self = static_cast<int>(lane);
  int source = self;
  switch (op) {
    case WarpOp::shuffle:
      return static_cast<unsigned>(first | (argument & static_cast<int>(width - 1)));
    case WarpOp::shuffle_up:
      source = self - argument;
      return static_cast<unsigned>(source < first ? self : source);
    case WarpOp::shuffle_down:
      source = self + argument;
      return static_cast<unsigned>(source > last ? self : source);
    default:
      source = self ^ argument;
      return static_cast<unsigned>(source > last ? self : source);
  }
}

}  // namespace

const char* name(WarpOp op) {
  switch (op) {
    case WarpOp::none:
      return "no operation";
    case WarpOp::sync:
      return "__syncwarp";
    case WarpOp::shuffle:
      return "__shfl_sync";
    case WarpOp::shuffle_up:
      return "__shfl_up_sync";
    case WarpOp::shuffle_down:
      return "__shfl_down_sync";
    case WarpOp::shuffle_xor:
      return "__shfl_xor_sync";
    case WarpOp::ballot:
      return "__ballot_sync";
    case WarpOp::any:
      return "__any_sync";
    case WarpOp::all:
      return "__all_sync";
    case WarpOp::mma:
      return "mma";
  }
  return "unknown operation";
}

std::string hex(unsigned mask) {
  const char* digits = "0123456789abcdef";
  std::string written = "0x";
  for (int shift = 28; shift >= 0; shift -= 4) written += digits[mask >> shift & 15];
  return written;
}

// Which of the warp's meetings the thread waits in: the open one of the same mask, else a new one.
unsigned Worker::join_meeting(Warp& warp, CudaThread& thread, unsigned mask, WarpOp op, Site site) {
  for (unsigned rest = warp.open; rest; rest &= rest - 1) {
    const unsigned index = static_cast<unsigned>(__builtin_ctz(rest));
    const Meeting& meeting = warp.meetings[index];
    if (meeting.mask == mask) {
      if (meeting.op != op)
        fail("divergent warp operations", site, name(op), ", while lanes ", hex(meeting.here),
             " of the same mask ", hex(mask), " wait in ", name(meeting.op));
      return index;
    }
    if ((meeting.mask >> thread.lane & 1) && (meeting.here & mask))
      fail("warp masks that disagree", site, name(op), " with mask ", hex(mask), ", while lanes ",
           hex(meeting.here), " wait for this one in ", name(meeting.op), " with mask ", hex(meeting.mask));
  }
  const unsigned index =
      static_cast<unsigned>(__builtin_ctz(~warp.open));  // this lane waits in none, so one is free
  warp.open |= 1u << index;
  warp.meetings[index].mask = mask;
  warp.meetings[index].here = 0;
  warp.meetings[index].op = op;
  return index;
}

void Worker::meet(unsigned mask, WarpOp op, Site site, void (*complete)(CudaThread* warp, unsigned mask)) {
  CudaThread& self = *running_;
  const unsigned first = self.linear - self.lane, bit = 1u << self.lane;
  Warp& warp = warps_[first / kWarpSize];
  if (lanes_in_warp() < kWarpSize) mask &= (1u << lanes_in_warp()) - 1;  // lanes past the block do not exist
  if (!(mask & bit)) fail("warp mask without its caller", site, name(op), " with mask ", hex(mask));
  if (mask & warp.exited)
    fail("warp operation on an exited lane", site, name(op), " with mask ", hex(mask), ", lanes ",
         hex(mask & warp.exited), " have returned");
  const unsigned index = join_meeting(warp, self, mask, op, site);
  Meeting& meeting = warp.meetings[index];
  meeting.here |= bit;
  // Only __syncwarp orders memory. Two tags in turn, as for the block barrier.
  void* tag = arena_.tag(2 + 2 * (first + index) + meeting.round % 2);
  if (op == WarpOp::sync) tsan_release(tag);
  self.site = site;
  self.mask = mask;
  self.op = op;
  if (meeting.here == mask) {
    complete(&threads_[first], mask);
    warp.open &= ~(1u << index);
    ++meeting.round;
    for (unsigned rest = mask & ~bit; rest; rest &= rest - 1)
      wake(first + static_cast<unsigned>(__builtin_ctz(rest)));
  } else {
    self.state = State::in_warp_op;
    suspend();
  }
  if (op == WarpOp::sync) tsan_acquire(tag);
}

CopyQueue::~CopyQueue() {
  if (ring_) munmap(ring_, capacity_ * sizeof(AsyncCopy));
}

void CopyQueue::push(const AsyncCopy& copy) {
  if (count_ == capacity_) grow();
  ring_[(head_ + count_++) % capacity_] = copy;
}

void CopyQueue::pop() {
  head_ = (head_ + 1) % capacity_;
  --count_;
}

void CopyQueue::grow() {
  const unsigned capacity = capacity_ ? 2 * capacity_ : 4096 / sizeof(AsyncCopy);
  void* memory =
      mmap(nullptr, capacity * sizeof(AsyncCopy), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  auto* ring = static_cast<AsyncCopy*>(memory);
  for (unsigned i = 0; i < count_; ++i) {
    ring[i] = ring_[(head_ + i) % capacity_];
    asm volatile("" ::: "memory");  // or the compiler calls memcpy
  }
  if (ring_) munmap(ring_, capacity_ * sizeof(AsyncCopy));
  ring_ = ring;
  capacity_ = capacity;
  head_ = 0;
}

void block_barrier(Site site) { current_worker->barrier(site); }

void warp_barrier(unsigned mask, Site site) {
  current_worker->meet(mask, WarpOp::sync, site, complete_nothing);
}

std::uint64_t warp_shuffle(WarpOp op, unsigned mask, std::uint64_t bits, int argument, int width, Site site) {
  Worker& worker = *current_worker;
  CudaThread& self = worker.running();
  if (width < 1 || width > 32 || (width & (width - 1)))
    worker.fail("bad shuffle width", site, width, " is not a power of two up to 32");
  self.data.bits = bits;
  self.data.source = source_lane(op, self.lane, argument, static_cast<unsigned>(width));
  worker.meet(mask, op, site, complete_shuffle);
  if (!self.data.valid)
    worker.fail("shuffle from a lane outside its mask", site, name(op), " with mask ", hex(mask),
                " reads lane ", self.data.source);
  return self.data.bits;
}

unsigned warp_ballot(WarpOp op, unsigned mask, bool predicate, Site site) {
  Worker& worker = *current_worker;
  worker.running().data.bits = predicate;
  worker.meet(mask, op, site, complete_ballot);
  return static_cast<unsigned>(worker.running().data.bits);
}

void warp_mma_m16n8k8(float (&d)[4], const float (&a)[4], const float (&b)[2], Site site) {
  Worker& worker = *current_worker;
  LaneData& data = worker.running().data;
  if (worker.lanes_in_warp() < kWarpSize)
    worker.fail("mma in a partial warp", site, worker.lanes_in_warp(), " lanes");
  for (unsigned i = 0; i < 4; ++i) data.a[i] = a[i], data.d[i] = d[i];
  for (unsigned i = 0; i < 2; ++i) data.b[i] = b[i];
  worker.meet(~0u, WarpOp::mma, site, complete_mma);
  for (unsigned i = 0; i < 4; ++i) d[i] = data.d[i];
}

void* dynamic_shared() { return current_worker->arena().dynamic(); }

void* shared_variable(const void* key, std::size_t bytes, Site site) {
  void* memory = current_worker->arena().variable(key, bytes);
  if (!memory)
    current_worker->fail("out of shared memory", site, bytes, " more bytes exceed ", kStaticSharedLimit,
                         " static or ", kSharedLimit, " bytes in all");
  return memory;
}

void async_copy_issue(void* to, const void* from, unsigned bytes, unsigned from_bytes, Site site) {
  CudaThread& self = current_worker->running();
  if ((reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from)) % bytes)
    current_worker->fail("misaligned cp.async", site, bytes, " bytes to ", to, " from ", from);
  self.copies.push({to, from, bytes, from_bytes, self.group});
}

void async_copy_commit() { ++current_worker->running().group; }

bool async_copy_next(unsigned keep, AsyncCopy& copy) {
  CudaThread& self = current_worker->running();
  if (self.copies.empty() || self.copies.front().group + keep >= self.group) return false;
  copy = self.copies.front();
  self.copies.pop();
  return true;
}

}  // namespace fovea::simt
