// A launch: its configuration checked, its blocks spread over OS threads, its first error thrown.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <numeric>
#include <system_error>
#include <thread>
#include <vector>

#include "engine/emulator/sanitizers.hpp"
#include "engine/emulator/worker.hpp"

namespace fovea::simt {
namespace {

void check(const Launch& launch) {
  const dim3 g = launch.grid, b = launch.block;
  const auto refuse = [&](const auto&... what) {
    throw DeviceError("emulator", text("bad launch configuration at ", launch.site.file, ':',
                                       launch.site.line, ": ", what...));
  };
  const std::uint64_t threads = std::uint64_t{b.x} * b.y * b.z;
  if (threads == 0 || threads > kMaxThreads || b.x > 1024 || b.y > 1024 || b.z > 64)
    refuse("block (", b.x, ',', b.y, ',', b.z, ") must have 1 to 1024 threads, at most 64 in z");
  if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535)
    refuse("grid (", g.x, ',', g.y, ',', g.z,
           ") must have at least 1 block and at most (2147483647,65535,65535)");
  if (launch.shared_bytes > kSharedLimit)
    refuse(launch.shared_bytes, " bytes of dynamic shared memory exceed ", kSharedLimit);
}

/// Workers hold a thousand stacks each: they are kept from launch to launch and lent to one launch at a time.
class WorkerPool {
 public:
  std::unique_ptr<Worker> borrow() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<Worker>();
    std::unique_ptr<Worker> worker = std::move(idle_.back());
    idle_.pop_back();
    return worker;
  }
  void give_back(std::unique_ptr<Worker> worker) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(worker));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> idle_;
};

WorkerPool& worker_pool() {
  static WorkerPool pool;
  return pool;
}

/// The blocks of a launch in the order in which they are begun: a permutation when there is a seed.
class Blocks {
 public:
  Blocks(const Launch& launch, unsigned workers)
      : workers_(workers), count_(std::uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z) {
    if (!launch.options.seed || count_ >> 32) return;  // larger grids would overflow the permutation
    OrderRandom random{launch.options.seed};
    offset_ = random.next() % count_;
    do {
      stride_ = 1 + random.next() % count_;
    } while (std::gcd(stride_, count_) != 1);
  }

  /// The next block of a worker that has begun `begun` blocks; false when there is none. Neighbours go to
  /// different workers, always the same ones: for ThreadSanitizer blocks are unordered if their workers
  /// differ.
  bool next(unsigned worker, std::uint64_t begun, std::uint64_t& block) const {
    const std::uint64_t turn = begun * workers_ + worker;
    if (turn >= count_ || stopped_.load(std::memory_order_relaxed)) return false;
    block = (turn * stride_ + offset_) % count_;
    return true;
  }
  void stop() { stopped_.store(true, std::memory_order_relaxed); }

 private:
  std::uint64_t workers_, count_, stride_ = 1, offset_ = 0;
  std::atomic<bool> stopped_{false};
};

/// The error of the lowest block that failed.
struct FirstError {
  std::mutex mutex;
  std::exception_ptr error;
  std::uint64_t block = 0;

  void offer(std::exception_ptr candidate, std::uint64_t at) {
    const std::lock_guard lock(mutex);
    if (error && block <= at) return;
    error = candidate;
    block = at;
  }
};

void run_blocks(const Launch& launch, Worker& worker, unsigned index, Blocks& blocks, FirstError& first) {
  std::uint64_t block = 0;
  try {
    worker.begin_launch();
    for (std::uint64_t begun = 0; blocks.next(index, begun, block); ++begun) {
      worker.run_block(launch, block);
      if (std::exception_ptr error = worker.take_error()) {
        blocks.stop();
        first.offer(error, block);
      }
    }
  } catch (...) {  // no memory for stacks
    blocks.stop();
    first.offer(std::current_exception(), block);
  }
  worker.end_launch();
}

// Two at least under ThreadSanitizer, which finds races between blocks only across workers.
unsigned worker_count(const Launch& launch) {
  const std::uint64_t blocks = std::uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  const std::uint64_t wanted = std::clamp<std::uint64_t>(launch.options.workers, kTsan ? 2 : 1, 16);
  return static_cast<unsigned>(std::min(wanted, blocks));
}

}  // namespace

void run(const Launch& launch) {
  check(launch);
  const OpenMemory open(launch.options.guard);
  const unsigned count = worker_count(launch);
  std::vector<std::unique_ptr<Worker>> workers(count);
  for (std::unique_ptr<Worker>& worker : workers) worker = worker_pool().borrow();
  Blocks blocks(launch, count);
  FirstError first;
  std::vector<std::thread> others;
  for (unsigned index = 1; index < count; ++index) {
    try {
      others.emplace_back([&, index] { run_blocks(launch, *workers[index], index, blocks, first); });
    } catch (const std::system_error&) {  // no more OS threads: this one does that worker's blocks too
      run_blocks(launch, *workers[index], index, blocks, first);
    }
  }
  run_blocks(launch, *workers[0], 0, blocks, first);
  for (std::thread& other : others) other.join();
  for (std::unique_ptr<Worker>& worker : workers) worker_pool().give_back(std::move(worker));
  if (first.error) std::rethrow_exception(first.error);
}

}  // namespace fovea::simt
