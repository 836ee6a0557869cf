// What the SIMT emulator offers to emulated kernels: the running thread, barriers, warp operations, shared
// memory and asynchronous copies. simt.hpp dresses this up as the CUDA language; kernels include neither,
// only engine/gpu.hpp.
//
// One fiber per CUDA thread, one block at a time per OS thread. A mistake that the emulator itself sees (a
// divergent barrier, a wrong shuffle mask, a deadlock, ...) ends the launch with a DeviceError; races,
// accesses out of bounds and misaligned accesses are left to the sanitizers, which are told about fibers and
// shared memory.
#pragma once
#include <cstddef>
#include <cstdint>
#if !defined(__clang__)
#include <source_location>
#endif

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace fovea::simt {

/// A place in the source. The column tells apart two barriers on one line.
struct Site {
  const char* file = "";
  unsigned line = 0, column = 0;

  // As a default argument this is the place of the call. clang 14 lacks what libstdc++'s source_location
  // needs.
#if defined(__clang__)
  static constexpr Site here(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE(),
                             unsigned column = __builtin_COLUMN()) {
    return {file, line, column};
  }
#else
  static constexpr Site here(std::source_location at = std::source_location::current()) {
    return {at.file_name(), at.line(), at.column()};
  }
#endif
};

/// The built-in variables of one CUDA thread.
struct Self {
  uint3 thread_index{}, block_index{};
  dim3 block_size, grid_size;
  unsigned linear = 0;  // rank in the block
  unsigned lane = 0;    // rank in the warp
};

// Kernels read this pointer at every threadIdx; the scheduler moves it at every switch of fibers.
extern constinit thread_local Self* running_thread;

#define FOVEA_SIMT_UNCHECKED __attribute__((no_sanitize("thread")))
FOVEA_SIMT_UNCHECKED inline const Self& self() { return *running_thread; }

constexpr unsigned kWarpSize = 32;
constexpr unsigned kMaxThreads = 1024;

/// Memory that can be reached between open and close only; they nest.
class MemoryGuard {
 public:
  virtual void open() = 0;
  virtual void close() = 0;

 protected:
  ~MemoryGuard() = default;
};

class OpenMemory {
 public:
  explicit OpenMemory(MemoryGuard* guard) : guard_(guard) {
    if (guard_) guard_->open();
  }
  OpenMemory(const OpenMemory&) = delete;
  OpenMemory& operator=(const OpenMemory&) = delete;
  ~OpenMemory() {
    if (guard_) guard_->close();
  }

 private:
  MemoryGuard* guard_;
};

/// How an emulated device runs its launches: what the stream argument of gpu::launch points to (null: the
/// defaults). A seed other than 0 runs threads and blocks in a shuffled order that depends on the seed only.
struct Options {
  unsigned workers = 1;  // OS threads over which the blocks are spread
  std::uint64_t seed = 0;
  MemoryGuard* guard = nullptr;  // of the memory that kernels may touch and the host may not
};

// ---- block
// ---------------------------------------------------------------------------------------------------

void block_barrier(Site site);

/// Start of the launch's dynamic shared memory, 128-byte aligned, 0xFF (NaN) until written.
void* dynamic_shared();
/// The block's shared variable known by `key`; the first thread that asks makes it, 0xFF (NaN) until written.
void* shared_variable(const void* key, std::size_t bytes, Site site);

// ---- warp
// ----------------------------------------------------------------------------------------------------

enum class WarpOp { none, sync, shuffle, shuffle_up, shuffle_down, shuffle_xor, ballot, any, all, mma };

void warp_barrier(unsigned mask, Site site);
/// `argument` is the source lane, the distance or the lane mask, by operation; returns the source lane's
/// bits.
std::uint64_t warp_shuffle(WarpOp op, unsigned mask, std::uint64_t bits, int argument, int width, Site site);
/// The predicates of the lanes in mask, one bit each.
unsigned warp_ballot(WarpOp op, unsigned mask, bool predicate, Site site);
/// d (16x8) += a (16x8) * b (8x8) over the whole warp, each operand rounded to tf32 by the caller.
void warp_mma_m16n8k8(float (&d)[4], const float (&a)[4], const float (&b)[2], Site site);

// ---- asynchronous copies
// -------------------------------------------------------------------------------------

struct AsyncCopy {
  void* to;
  const void* from;
  unsigned bytes;       // 4, 8 or 16
  unsigned from_bytes;  // bytes, or 0 to fill with zeros
  unsigned group;
};

/// Remembers a copy; nothing moves before the thread waits for it.
void async_copy_issue(void* to, const void* from, unsigned bytes, unsigned from_bytes, Site site);
void async_copy_commit();
/// The oldest copy that must be carried out so that at most `keep` committed groups are pending; false: none.
bool async_copy_next(unsigned keep, AsyncCopy& copy);

// ---- launches
// ------------------------------------------------------------------------------------------------

struct Launch {
  dim3 grid, block;
  std::size_t shared_bytes;
  Options options;
  void (*entry)(void* arguments);  // runs the kernel as the running thread
  void* arguments;
  Site site;
};

/// Runs all blocks; returns when they are done. A kernel error is thrown as DeviceError once all fibers are
/// unwound.
void run(const Launch& launch);

}  // namespace fovea::simt
