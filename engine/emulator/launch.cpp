// A launch: its configuration checked, its blocks spread over OS threads, its first error thrown.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <numeric>
#include <system_error>
#include <thread>
#include <vector>

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

/// The blocks of a launch in the order in which workers take them: a permutation when there is a seed.
class Blocks {
 public:
  explicit Blocks(const Launch& launch)
      : count_(std::uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z) {
    if (!launch.options.seed) return;
    OrderRandom random{launch.options.seed};
    offset_ = random.next() % count_;
    do {
      stride_ = 1 + random.next() % std::min<std::uint64_t>(count_, 1u << 31);
    } while (std::gcd(stride_, count_) != 1);
  }
  std::uint64_t count() const { return count_; }
  // Relaxed: taking a block must not order the blocks for ThreadSanitizer.
  bool take(std::uint64_t& block) {
    const std::uint64_t turn = next_.fetch_add(1, std::memory_order_relaxed);
    if (turn >= count_) return false;
    block = static_cast<std::uint64_t>((static_cast<unsigned __int128>(turn) * stride_ + offset_) % count_);
    return true;
  }
  void stop() { next_.store(count_, std::memory_order_relaxed); }

 private:
  std::uint64_t count_, stride_ = 1, offset_ = 0;
  std::atomic<std::uint64_t> next_{0};
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

void run_blocks(const Launch& launch, Blocks& blocks, FirstError& first) {
  std::uint64_t block = 0;
  try {
    std::unique_ptr<Worker> worker = worker_pool().borrow();
    worker->begin_launch();
    while (blocks.take(block)) {
      worker->run_block(launch, block);
      if (std::exception_ptr error = worker->take_error()) {
        blocks.stop();
        first.offer(error, block);
      }
    }
    worker->end_launch();
    worker_pool().give_back(std::move(worker));
  } catch (...) {  // no memory for stacks
    blocks.stop();
    first.offer(std::current_exception(), block);
  }
}

}  // namespace

void run(const Launch& launch) {
  check(launch);
  Blocks blocks(launch);
  FirstError first;
  const std::uint64_t wanted = std::clamp<std::uint64_t>(launch.options.workers, 1, 16);
  std::vector<std::thread> others;
  try {
    for (std::uint64_t i = 1; i < std::min(wanted, blocks.count()); ++i)
      others.emplace_back([&] { run_blocks(launch, blocks, first); });
  } catch (const std::system_error&) {  // no more threads: those there are do the work
  }
  run_blocks(launch, blocks, first);
  for (std::thread& other : others) other.join();
  if (first.error) std::rethrow_exception(first.error);
}

}  // namespace fovea::simt
