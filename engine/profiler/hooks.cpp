// Where instrumented code arrives: sorts addresses into registers and local memory (the fiber's stack),
// constants (the launch's arguments, the program's own data), shared and global memory.
#include "engine/profiler/hooks.hpp"

#include <math.h>

#include <cmath>
#include <cstring>
#include <set>

#include "engine/emulator/worker.hpp"
#include "engine/profiler/requests.hpp"

extern const char program_begin[] __asm__("__executable_start");
extern const char program_end[] __asm__("_end");

namespace fovea::simt::profile {
namespace {

/// The launch that runs now; profiled launches run on one OS thread, one at a time.
struct Running {
  const Launch* launch = nullptr;
  std::size_t argument_bytes = 0;
  Requests requests;
};

Running& running() {
  static Running* const one = new Running;
  return *one;
}

bool within(const void* address, const void* begin, std::size_t bytes) {
  return static_cast<std::size_t>(static_cast<const char*>(address) - static_cast<const char*>(begin)) <
         bytes;
}

bool is_constant(const void* address) {
  return within(address, running().launch->arguments, running().argument_bytes) ||
         within(address, program_begin, static_cast<std::size_t>(program_end - program_begin));
}

void note(const void* address, unsigned bytes, bool write, const void* at) {
  const Self* self = running_thread;
  if (!self || static_cast<const CudaThread*>(self)->fiber.owns(address)) return;
  const bool shared = current_worker->arena().owns(address);
  if (!shared && is_constant(address)) return;
  const Kind kind = shared  ? write ? Kind::shared_write : Kind::shared_read
                    : write ? Kind::global_write
                            : Kind::global_read;
  running().requests.access(self->linear, at, kind, reinterpret_cast<std::uintptr_t>(address), bytes);
}

// What is less aligned than it is large is a structure, copied word by word on a GPU.
void note_words(const void* address, std::size_t bytes, bool write, const void* at) {
  for (std::size_t done = 0; done < bytes; done += 4)
    note(static_cast<const char*>(address) + done, bytes - done < 4 ? 1 : 4, write, at);
}

template <class T>
T loaded(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

void arrive(unsigned mask) { running().requests.arrive(running_thread->linear, mask); }

void enter(void*) {
  const Launch& launch = *running().launch;
  launch.entry(launch.arguments);
  running().requests.leave_block(running_thread->linear);
}

std::vector<LaunchProfile>& launches() {
  static std::vector<LaunchProfile> all;
  return all;
}

/// Blocks spread over the grid, each once: multiples of the golden ratio, which keep no step with the powers
/// of two and the sizes of images by which grids are cut.
class SpreadBlocks {
 public:
  explicit SpreadBlocks(std::uint64_t count) : count_(count) {}
  std::uint64_t next() {
    if (run_.size() == count_ / 2 + 1) return rest();  // few are left, and the sequence finds them late
    for (;;) {
      const double turn = static_cast<double>(turns_++) * 0.6180339887498949;
      const auto block = static_cast<std::uint64_t>((turn - std::floor(turn)) * static_cast<double>(count_));
      if (block < count_ && run_.insert(block).second) return block;
    }
  }

 private:
  std::uint64_t rest() {
    while (run_.count(first_)) ++first_;
    return first_++;
  }

  std::uint64_t count_, turns_ = 0, first_ = 0;
  std::set<std::uint64_t> run_;
};

}  // namespace

bool Sampling::enough(std::uint64_t run, std::uint64_t cost, std::uint64_t of_blocks) const {
  const bool sampled = run >= blocks || (run >= fewest_blocks && cost >= expensive);
  return sampled && static_cast<double>(cost) / static_cast<double>(run) * static_cast<double>(of_blocks) >
                        static_cast<double>(whole);
}

Sampling& sampling() {
  static Sampling one;
  return one;
}

std::vector<LaunchProfile> take_launches() { return std::exchange(launches(), {}); }

void run(const Launch& launch, const Kernel& kernel) {
  static Worker* const worker = new Worker;
  LaunchProfile profile;
  profile.kernel = kernel.address;
  profile.site = launch.site;
  profile.grid = launch.grid;
  profile.block = launch.block;
  profile.dynamic_shared = launch.shared_bytes;
  profile.blocks = std::uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  Launch counted = launch;
  counted.entry = enter;
  Requests& requests = running().requests;
  running().launch = &launch;
  running().argument_bytes = kernel.argument_bytes;
  requests.begin_launch();
  SpreadBlocks blocks(profile.blocks);
  worker->begin_launch();
  std::exception_ptr error;
  while (!error && profile.sampled < profile.blocks &&
         !sampling().enough(profile.sampled, requests.cost(), profile.blocks)) {
    requests.begin_block(profile.threads());
    worker->run_block(counted, blocks.next());
    error = worker->take_error();
    ++profile.sampled;
  }
  worker->end_launch();
  if (error) std::rethrow_exception(error);
  profile.static_shared = worker->arena().static_bytes();
  requests.finish_launch(profile);
  launches().push_back(std::move(profile));
}

uint3 thread_index() { return self().thread_index; }
uint3 block_index() { return self().block_index; }
dim3 block_size() { return self().block_size; }
dim3 grid_size() { return self().grid_size; }

float fma(float a, float b, float c) {
  if (running_thread)
    running().requests.execute(running_thread->linear, __builtin_return_address(0), Kind::fma);
  return fmaf(a, b, c);
}

Bits8 read8(const void* from) {
  note(from, 8, false, __builtin_return_address(0));
  return loaded<Bits8>(from);
}

Bits16 read16(const void* from) {
  note(from, 16, false, __builtin_return_address(0));
  return loaded<Bits16>(from);
}

void write8(void* to, Bits8 bits) {
  note(to, 8, true, __builtin_return_address(0));
  std::memcpy(to, &bits, sizeof bits);
}

void write16(void* to, Bits16 bits) {
  note(to, 16, true, __builtin_return_address(0));
  std::memcpy(to, &bits, sizeof bits);
}

void copy_async(void* to, const void* from, unsigned bytes, bool ok, Site site) {
  if (ok) note(from, bytes, false, __builtin_return_address(0));
  note(to, bytes, true, __builtin_return_address(0));
  async_copy_issue(to, from, bytes, ok ? bytes : 0, site);
}

void finish_copies(unsigned keep) {
  AsyncCopy copy;
  while (async_copy_next(keep, copy)) {
    if (copy.from_bytes)
      std::memcpy(copy.to, copy.from, copy.bytes);
    else
      std::memset(copy.to, 0, copy.bytes);
  }
}

void block_barrier(Site site) {
  running().requests.execute(running_thread->linear, __builtin_return_address(0), Kind::barrier);
  arrive(~0u);
  simt::block_barrier(site);
}

void warp_barrier(unsigned mask, Site site) {
  arrive(mask);
  simt::warp_barrier(mask, site);
}

std::uint64_t warp_shuffle(WarpOp op, unsigned mask, std::uint64_t bits, int argument, int width, Site site) {
  arrive(mask);
  return simt::warp_shuffle(op, mask, bits, argument, width, site);
}

unsigned warp_ballot(WarpOp op, unsigned mask, bool predicate, Site site) {
  arrive(mask);
  return simt::warp_ballot(op, mask, predicate, site);
}

void warp_mma_m16n8k8(float (&d)[4], const float (&a)[4], const float (&b)[2], Site site) {
  running().requests.execute(running_thread->linear, __builtin_return_address(0), Kind::mma);
  arrive(~0u);
  simt::warp_mma_m16n8k8(d, a, b, site);
}

}  // namespace fovea::simt::profile

// ---- what -fsanitize=thread calls

namespace profile = fovea::simt::profile;

// NOLINTBEGIN(bugprone-reserved-identifier): the compiler chose the names.
extern "C" {

#define ACCESS(bytes)                                                                               \
  void __tsan_read##bytes(void* a) { profile::note(a, bytes, false, __builtin_return_address(0)); } \
  void __tsan_write##bytes(void* a) { profile::note(a, bytes, true, __builtin_return_address(0)); } \
  void __tsan_unaligned_read##bytes(void* a) {                                                      \
    profile::note_words(a, bytes, false, __builtin_return_address(0));                              \
  }                                                                                                 \
  void __tsan_unaligned_write##bytes(void* a) {                                                     \
    profile::note_words(a, bytes, true, __builtin_return_address(0));                               \
  }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
#undef ACCESS

void __tsan_read_range(void* a, std::size_t bytes) {
  profile::note_words(a, bytes, false, __builtin_return_address(0));
}
void __tsan_write_range(void* a, std::size_t bytes) {
  profile::note_words(a, bytes, true, __builtin_return_address(0));
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}

int __tsan_atomic32_fetch_add(volatile int* a, int value, int) {
  profile::note(const_cast<int*>(a), 4, true, __builtin_return_address(0));
  return __atomic_fetch_add(a, value, __ATOMIC_RELAXED);
}
}
// NOLINTEND(bugprone-reserved-identifier)
