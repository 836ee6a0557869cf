// Scheduling the threads of one block: fibers that run until they wait, a queue of ready ones, the block
// barrier.
#include "engine/emulator/worker.hpp"

#include "engine/emulator/sanitizers.hpp"

namespace fovea::simt {

constinit thread_local Self* running_thread = nullptr;
constinit thread_local Worker* current_worker = nullptr;

std::uint64_t OrderRandom::next() {
  std::uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

Worker::Worker() : threads_(new CudaThread[kMaxThreads]) {}

void Worker::begin_launch() {
  current_worker = this;
  host_.adopt_os_thread();
}

void Worker::end_launch() {
  current_worker = nullptr;
  running_thread = nullptr;
}

std::exception_ptr Worker::take_error() {
  std::exception_ptr error = error_;
  error_ = nullptr;
  return error;
}

void Worker::run_block(const Launch& launch, std::uint64_t block) {
  const dim3 grid = launch.grid, shape = launch.block;
  launch_ = &launch;
  size_ = shape.x * shape.y * shape.z;
  waiting_ = exited_ = ready_head_ = ready_count_ = 0;
  cancelled_ = false;
  random_.state = launch.options.seed + 0x51ed27 * (block + 1);
  for (unsigned i = 0; i * kWarpSize < size_; ++i) warps_[i].open = warps_[i].exited = 0;
  arena_.begin_block(launch.shared_bytes);

  const uint3 block_index{static_cast<unsigned>(block % grid.x),
                          static_cast<unsigned>(block / grid.x % grid.y),
                          static_cast<unsigned>(block / grid.x / grid.y)};
  for (unsigned i = 0; i < size_; ++i) {
    CudaThread& thread = threads_[i];
    thread.thread_index = {i % shape.x, i / shape.x % shape.y, i / shape.x / shape.y};
    thread.block_index = block_index;
    thread.block_size = shape;
    thread.grid_size = grid;
    thread.linear = i;
    thread.lane = i % kWarpSize;
    thread.copies.clear();
    thread.group = 0;
    thread.fiber.ensure_stack();
    thread.fiber.restart(&Worker::thread_main, i);
    order_[i] = static_cast<std::uint16_t>(i);
  }
  shuffle_order();
  for (unsigned i = 0; i < size_; ++i) wake(order_[i]);

  tsan_release(start_tag_);
  Fiber::switch_to(host_, next_fiber());
  tsan_acquire(done_tag_);
}

void Worker::thread_main() {
  Worker& worker = *current_worker;
  CudaThread& thread = worker.running();
  Fiber::entered(thread.fiber);
  worker.run_thread(thread);
  Fiber::finish(thread.fiber, worker.next_fiber());
}

void Worker::run_thread(CudaThread& thread) {
  tsan_acquire(start_tag_);
  try {
    if (!cancelled_) {
      launch_->entry(launch_->arguments);
      leave_block(thread);
    }
  } catch (const Cancelled&) {
  } catch (...) {
    cancel(std::current_exception());
  }
  tsan_release(done_tag_);
  thread.state = State::exited;
  ++exited_;
  warps_[thread.linear / kWarpSize].exited |= 1u << thread.lane;
  if (waiting_ && waiting_ + exited_ == size_)
    release_barrier();  // a thread that has returned counts as arrived
}

void Worker::leave_block(CudaThread& thread) {
  if (!thread.copies.empty())
    fail("cp.async without wait in the kernel launched", launch_->site,
         "a thread returned with copies that it never waited for");
  const unsigned warp = thread.linear / kWarpSize;
  for (unsigned rest = warps_[warp].open; rest; rest &= rest - 1) {
    const unsigned mask = warps_[warp].meetings[__builtin_ctz(rest)].mask;
    if (!(mask >> thread.lane & 1)) continue;
    const unsigned waits =
        static_cast<unsigned>(__builtin_ctz(warps_[warp].meetings[__builtin_ctz(rest)].here));
    const CudaThread& waiting = threads_[warp * kWarpSize + waits];
    fail("warp operation on an exited lane", waiting.site, name(waiting.op), " with mask ", hex(mask),
         " waits for a lane that returns");
  }
}

void Worker::wake(unsigned thread) {
  threads_[thread].state = State::ready;
  ready_[(ready_head_ + ready_count_++) % kMaxThreads] = static_cast<std::uint16_t>(thread);
}

Fiber& Worker::next_fiber() {
  if (ready_count_ == 0 && exited_ < size_)
    cancel(std::make_exception_ptr(DeviceError("emulator", describe_waiting())));
  if (ready_count_ == 0) return host_;
  running_ = &threads_[ready_[ready_head_]];
  running_thread = running_;
  ready_head_ = (ready_head_ + 1) % kMaxThreads;
  --ready_count_;
  return running_->fiber;
}

// Gives the processor to the next ready thread; returns when somebody has woken this one.
void Worker::suspend() {
  CudaThread& self = *running_;
  Fiber& next = next_fiber();
  if (&next != &self.fiber) Fiber::switch_to(self.fiber, next);
  if (cancelled_) throw Cancelled{};
}

// The first error ends the block: every thread that waits is woken to unwind, those that have not begun do
// not.
void Worker::cancel(std::exception_ptr error) {
  if (!error_) error_ = error;
  cancelled_ = true;
  waiting_ = 0;
  for (unsigned i = 0; i < size_; ++i)
    if (threads_[i].state == State::at_barrier || threads_[i].state == State::in_warp_op) wake(i);
}

void Worker::barrier(Site site) {
  CudaThread& self = *running_;
  if (waiting_ && (site.line != barrier_site_.line || site.column != barrier_site_.column ||
                   __builtin_strcmp(site.file, barrier_site_.file) != 0))
    fail("divergent __syncthreads", site, "other threads wait at ", barrier_site_.file, ':',
         barrier_site_.line);
  // Two tags in turn, so that a thread on its way out of this barrier does not see who is already at the
  // next.
  void* tag = arena_.tag(barrier_round_ % 2);
  tsan_release(tag);
  barrier_site_ = self.site = site;
  self.state = State::at_barrier;
  if (++waiting_ + exited_ == size_) release_barrier();
  suspend();
  tsan_acquire(tag);
}

void Worker::release_barrier() {
  waiting_ = 0;
  ++barrier_round_;
  shuffle_order();
  for (unsigned i = 0; i < size_; ++i)
    if (threads_[order_[i]].state == State::at_barrier) wake(order_[i]);
}

void Worker::shuffle_order() {
  if (!launch_->options.seed) return;
  for (unsigned i = size_; i > 1; --i) {
    const unsigned other = static_cast<unsigned>(random_.next() % i);
    const std::uint16_t kept = order_[i - 1];
    order_[i - 1] = order_[other];
    order_[other] = kept;
  }
}

unsigned Worker::lanes_in_warp() const {
  const unsigned rest = size_ - running_->linear / kWarpSize * kWarpSize;
  return rest < kWarpSize ? rest : kWarpSize;
}

std::string Worker::where() {
  const CudaThread& t = *running_;
  return text(" [block (", t.block_index.x, ',', t.block_index.y, ',', t.block_index.z, ") thread (",
              t.thread_index.x, ',', t.thread_index.y, ',', t.thread_index.z, ")]");
}

// Who waits where: runs of threads that are in the same place.
std::string Worker::describe_waiting() {
  const CudaThread* threads = threads_.get();
  const auto together = [threads](unsigned i, unsigned j) {
    return threads[i].state == threads[j].state &&
           (threads[i].state == State::exited ||
            (threads[i].site.line == threads[j].site.line && threads[i].mask == threads[j].mask));
  };
  std::string report = text("deadlock in block (", threads[0].block_index.x, ',', threads[0].block_index.y,
                            ',', threads[0].block_index.z, "):");
  for (unsigned first = 0, end; first < size_; first = end) {
    for (end = first + 1; end < size_ && together(first, end);) ++end;
    const CudaThread& thread = threads[first];
    report += text(first ? ";" : "", " threads ", first, "..", end - 1, ' ');
    if (thread.state == State::exited) {
      report += "have returned";
      continue;
    }
    if (thread.state == State::at_barrier)
      report += "wait in __syncthreads";
    else
      report += text("wait in ", name(thread.op), " with mask ", hex(thread.mask));
    report += text(" at ", thread.site.file, ':', thread.site.line);
  }
  return report;
}

}  // namespace fovea::simt
