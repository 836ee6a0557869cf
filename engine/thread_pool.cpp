#include "engine/thread_pool.hpp"

#include <system_error>

#include "fovea/error.hpp"

namespace fovea {
namespace {

thread_local bool inside_task = false;

// Steps come microseconds apart: a short spin saves the sleep and wake-up of every op.
constexpr int spins_before_sleep = 4000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

template <class T>
void wait_while_equal(const std::atomic<T>& value, T old) {
  for (int i = 0; i < spins_before_sleep; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

}  // namespace

// Returns when all workers wait: one that is starting may hold a lock of the memory allocator, which a fork
// (data/hdf5_file.cpp) would leave locked in the child for ever.
ThreadPool::ThreadPool(int threads) : pending_(threads - 1) {
  try {
    for (int worker = 1; worker < threads; ++worker) workers_.emplace_back([this, worker] { work(worker); });
  } catch (const std::system_error& error) {
    stop();  // those that did start
    throw DeviceError("threads", text("the system does not start ", threads, ": ", error.what()));
  }
  wait_for_workers();
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  stopping_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void ThreadPool::share(int worker) const {
  const std::int64_t begin = count_ * worker / size(), end = count_ * (worker + 1) / size();
  inside_task = true;
  for (std::int64_t index = begin; index < end; ++index) task_(context_, index, worker);
  inside_task = false;
}

void ThreadPool::finish() {
  if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) pending_.notify_all();
}

void ThreadPool::wait_for_workers() const {
  for (int left; (left = pending_.load(std::memory_order_acquire)) != 0;) wait_while_equal(pending_, left);
}

void ThreadPool::work(int worker) {
  std::uint64_t seen = 0;
  finish();
  while (true) {
    wait_while_equal(generation_, seen);
    ++seen;
    if (stopping_.load(std::memory_order_relaxed)) return;
    share(worker);
    finish();
  }
}

void ThreadPool::run(std::int64_t count, Task task, void* context) {
  if (inside_task || workers_.empty() || count < 2) {
    const bool outer = inside_task;
    inside_task = true;
    for (std::int64_t index = 0; index < count; ++index) task(context, index, 0);
    inside_task = outer;
    return;
  }
  const std::lock_guard turn(turn_);
  count_ = count;
  task_ = task;
  context_ = context;
  pending_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  share(0);
  wait_for_workers();
}

}  // namespace fovea
