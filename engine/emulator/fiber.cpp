#include "engine/emulator/fiber.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#include "engine/emulator/sanitizers.hpp"

#if !defined(FOVEA_SIMT_UCONTEXT)
// x86-64 System V: keep the callee-saved registers on the old stack, take those of the new one.
// (The control words of the FPU are left alone: no kernel changes them.)
asm(R"(
  .pushsection .text
  .globl fovea_simt_switch
  .hidden fovea_simt_switch
  .type fovea_simt_switch, @function
fovea_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size fovea_simt_switch, . - fovea_simt_switch
  .popsection
)");
extern "C" void fovea_simt_switch(void** save, void* load);
#endif

namespace fovea::simt {
namespace {

// Untouched pages cost nothing, and sanitizers and -O0 make frames large.
constexpr std::size_t kStackBytes = 256 * 1024;
// What an ended fiber may leave poisoned: the frames of its body, which never return.
constexpr std::size_t kOuterFrames = 8 * 1024;

std::size_t guard_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

}  // namespace

Fiber::~Fiber() {
#if defined(FOVEA_SIMT_TSAN)
  if (stack_) __tsan_destroy_fiber(tsan_);
#endif
  if (stack_) munmap(stack_ - guard_bytes(), guard_bytes() + kStackBytes);
}

void Fiber::adopt_os_thread() {
#if defined(FOVEA_SIMT_TSAN)
  tsan_ = __tsan_get_current_fiber();
#endif
}

void Fiber::ensure_stack() {
  if (stack_) return;
  void* memory = mmap(nullptr, guard_bytes() + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  if (mprotect(memory, guard_bytes(), PROT_NONE) != 0) {
    munmap(memory, guard_bytes() + kStackBytes);
    throw std::bad_alloc();
  }
  stack_ = static_cast<char*>(memory) + guard_bytes();
  bottom_ = stack_;
  size_ = kStackBytes;
#if defined(FOVEA_SIMT_TSAN)
  tsan_ = __tsan_create_fiber(0);
#endif
}

void Fiber::restart(void (*body)(), unsigned color) {
  char* top = stack_ + kStackBytes;
  asan_unpoison(top - kOuterFrames, kOuterFrames);
#if defined(FOVEA_SIMT_UCONTEXT)
  (void)color;
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, body, 0);
#else
  void** frame = reinterpret_cast<void**>(top - (color % 31) * 128);
  *--frame =
      nullptr;  // where the caller's address would be: aligned as after a call, and the end of backtraces
  *--frame = reinterpret_cast<void*>(body);
  for (int saved = 0; saved < 6; ++saved) *--frame = nullptr;
  pointer_ = frame;
#endif
}

void Fiber::entered(Fiber& fiber) {
  (void)fiber;
#if defined(FOVEA_SIMT_ASAN)
  const void* bottom = nullptr;
  std::size_t size = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  if (!fiber.came_from_->stack_) {
    fiber.came_from_->bottom_ = bottom;
    fiber.came_from_->size_ = size;
  }
#endif
}

void Fiber::finish(Fiber& from, Fiber& to) {
  jump(from, to, true);
  __builtin_unreachable();
}

void Fiber::jump(Fiber& from, Fiber& to, bool from_ends) {
#if defined(FOVEA_SIMT_TSAN)
  __tsan_switch_to_fiber(to.tsan_, 1);  // 1: the switch itself orders nothing
#endif
#if defined(FOVEA_SIMT_ASAN)
  to.came_from_ = &from;
  __sanitizer_start_switch_fiber(from_ends ? nullptr : &from.fake_stack_, to.bottom_, to.size_);
#endif
  (void)from_ends;
#if defined(FOVEA_SIMT_UCONTEXT)
  swapcontext(&from.context_, &to.context_);
#else
  fovea_simt_switch(&from.pointer_, to.pointer_);
#endif
#if defined(FOVEA_SIMT_ASAN)
  __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
}

}  // namespace fovea::simt
