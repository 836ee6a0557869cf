// The inside of the emulator: one worker per OS thread, which runs whole blocks, one after the other.
#pragma once
#include <cstdint>
#include <exception>
#include <memory>
#include <string>

#include "engine/emulator/fiber.hpp"
#include "engine/emulator/runtime.hpp"
#include "engine/emulator/shared_arena.hpp"
#include "fovea/error.hpp"

namespace fovea::simt {

enum class State : unsigned char { ready, at_barrier, in_warp_op, exited };

std::string hex(unsigned mask);
const char* name(WarpOp op);

/// What a lane brings to a warp operation and takes away from it.
struct LaneData {
  std::uint64_t bits = 0;
  unsigned source = 0;  // shuffles: the lane to read
  bool valid = true;    // shuffles: that lane takes part
  float a[4], b[2], d[4];
};

/// Copies that were issued and not carried out yet. Its memory comes from mmap and is moved by hand, for the
/// reason given in sanitizers.hpp.
class CopyQueue {
 public:
  CopyQueue() = default;
  CopyQueue(const CopyQueue&) = delete;
  CopyQueue& operator=(const CopyQueue&) = delete;
  ~CopyQueue();

  void clear() { count_ = 0; }
  bool empty() const { return count_ == 0; }
  const AsyncCopy& front() const { return ring_[head_]; }
  void push(const AsyncCopy& copy);
  void pop();

 private:
  void grow();

  AsyncCopy* ring_ = nullptr;
  unsigned capacity_ = 0, head_ = 0, count_ = 0;
};

struct CudaThread : Self {
  Fiber fiber;
  State state = State::ready;
  Site site;          // where it waits
  unsigned mask = 0;  // with whom, in a warp operation
  WarpOp op = WarpOp::none;
  LaneData data;
  CopyQueue copies;
  unsigned group = 0;  // groups of copies committed so far
};

/// Lanes that wait for each other in a warp operation.
struct Meeting {
  unsigned mask = 0, here = 0;
  WarpOp op = WarpOp::none;
  unsigned round = 0;
};

struct Warp {
  unsigned exited = 0;
  unsigned open = 0;            // which of the meetings have somebody waiting
  Meeting meetings[kWarpSize];  // every lane may wait in one of its own
};

/// splitmix64: the order of threads and blocks.
struct OrderRandom {
  std::uint64_t state = 0;
  std::uint64_t next();
};

/// Thrown through the fibers of a block that another thread has ended by an error.
struct Cancelled {};

class Worker {
 public:
  Worker();

  /// Runs blocks until the launch has none left or has failed.
  void run_block(const Launch& launch, std::uint64_t block);
  std::exception_ptr take_error();
  void begin_launch();
  void end_launch();

  // Called by the running thread.
  CudaThread& running() { return *running_; }
  void barrier(Site site);
  void meet(unsigned mask, WarpOp op, Site site, void (*complete)(CudaThread* warp, unsigned mask));
  SharedArena& arena() { return arena_; }
  unsigned lanes_in_warp() const;
  /// Throws a DeviceError that names the rule, the place, the values and the thread.
  template <class... Args>
  [[noreturn]] void fail(const char* rule, Site site, const Args&... values) {
    throw DeviceError("emulator", text(rule, " at ", site.file, ':', site.line, ": ", values..., where()));
  }

 private:
  static void thread_main();
  void run_thread(CudaThread& thread);
  void leave_block(CudaThread& thread);
  void suspend();
  Fiber& next_fiber();
  void wake(unsigned thread);
  void release_barrier();
  void cancel(std::exception_ptr error);
  void shuffle_order();
  std::string where();
  std::string describe_waiting();
  unsigned join_meeting(Warp& warp, CudaThread& thread, unsigned mask, WarpOp op, Site site);

  std::unique_ptr<CudaThread[]> threads_;
  Warp warps_[kMaxThreads / kWarpSize];
  SharedArena arena_;
  Fiber host_;
  CudaThread* running_ = nullptr;
  const Launch* launch_ = nullptr;
  unsigned size_ = 0, waiting_ = 0, exited_ = 0;
  Site barrier_site_;
  unsigned barrier_round_ = 0;
  // Ready threads, a ring: a thread is in it at most once.
  std::uint16_t ready_[kMaxThreads], order_[kMaxThreads];
  unsigned ready_head_ = 0, ready_count_ = 0;
  OrderRandom random_;
  bool cancelled_ = false;
  std::exception_ptr error_;
  // ThreadSanitizer: the block's threads come after what the worker did before it, and before what it does
  // next.
  alignas(8) char start_tag_[8];
  alignas(8) char done_tag_[8];
};

/// The worker of this OS thread while it runs a launch.
extern constinit thread_local Worker* current_worker;

}  // namespace fovea::simt
