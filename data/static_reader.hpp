// Batches of static images, read ahead by threads of their own.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "data/batches.hpp"
#include "fovea/static_data.hpp"

namespace fovea {

/// A batch that is to be read.
struct PlannedBatch {
  std::size_t session = 0;
  std::vector<std::int64_t> trials;
};

/// Reads batches in the order that they are planned in, up to options.readers + 1 ahead of the one in use:
/// the same values whatever the number of threads. An error is thrown where its batch is asked for.
class StaticReader {
 public:
  /// Copies of the sessions are kept. Memory for `readers + 1` batches of `batch_size` images.
  StaticReader(const StaticDataSet& data, DType dtype, const Device& device);
  ~StaticReader();
  StaticReader(const StaticReader&) = delete;
  StaticReader& operator=(const StaticReader&) = delete;

  /// Drops what is under way and starts with the first of these.
  void start(std::vector<PlannedBatch> plan);
  /// The next planned batch, null after the last. The earlier one is overwritten.
  const Batch* next();

  /// Batches that are held at a time.
  static std::int64_t held(const StaticDataOptions& options) { return options.readers + 1; }

 private:
  struct Slot {
    Tensor images, pupil_center;    // on the host, of a whole batch
    std::vector<Tensor> responses;  // per session
    std::size_t ready = 0;          // one more than the planned batch that it holds
    std::exception_ptr error;
  };

  void work();
  void stop();
  Tensor on_device(const Tensor& values, std::int64_t rows, Tensor& copy) const;

  StaticDataSet data_;
  Device device_;
  std::vector<Slot> slots_;
  Slot device_copy_;  // where the device does not compute in host memory
  Batch batch_;

  std::vector<PlannedBatch> plan_;
  std::mutex mutex_;  // of everything below, and of ready and error of the slots
  std::condition_variable changed_;
  std::size_t claimed_ = 0;   // planned batches that a thread has begun to read
  std::size_t consumed_ = 0;  // planned batches that `next` has given out
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace fovea
