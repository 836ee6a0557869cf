// Fork-join thread pool with static division of work.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/queue.hpp"

namespace fovea {

/// `threads` workers, the calling thread being worker 0. Index i of a run goes to worker i * threads / count:
/// which worker runs what depends on the two numbers only. Tasks must not throw. A run inside a task is
/// executed inline.
class ThreadPool {
 public:
  /// DeviceError where the system does not give that many threads.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }
  void run(std::int64_t count, Task task, void* context);

 private:
  void stop();
  void work(int worker);
  void share(int worker) const;  // this worker's part of the current run
  void finish();
  void wait_for_workers() const;

  std::mutex turn_;
  std::vector<std::thread> workers_;
  std::atomic<std::uint64_t> generation_{0};  // bumped to start a run
  std::atomic<int> pending_;                  // workers that have not started, or finished the current run
  std::atomic<bool> stopping_{false};
  std::int64_t count_ = 0;
  Task task_ = nullptr;
  void* context_ = nullptr;
};

}  // namespace fovea
