// Fibers: stacks of their own between which one OS thread switches by hand, known to the sanitizers.
#pragma once
#include <cstddef>

#if !defined(__x86_64__) && !defined(FOVEA_SIMT_UCONTEXT)
#define FOVEA_SIMT_UCONTEXT 1
#endif
#if defined(FOVEA_SIMT_UCONTEXT)
#include <ucontext.h>
#endif

namespace fovea::simt {

class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  /// Makes this the OS thread's own stack: a place to leave and to come back to.
  void adopt_os_thread();
  /// Gives it a stack, once, above a guard page. Throws std::bad_alloc.
  void ensure_stack();
  /// The next switch to this fiber calls body, which must begin with entered() and end with finish().
  /// `color` spreads the tops of the stacks over the cache sets.
  void restart(void (*body)(), unsigned color);
  static void entered(Fiber& fiber);
  static void switch_to(Fiber& from, Fiber& to) { jump(from, to, false); }
  [[noreturn]] static void finish(Fiber& from, Fiber& to);
  /// Whether an address lies on its stack.
  bool owns(const void* address) const {
    return static_cast<std::size_t>(static_cast<const char*>(address) - static_cast<const char*>(bottom_)) <
           size_;
  }

 private:
  static void jump(Fiber& from, Fiber& to, bool from_ends);

  char* stack_ = nullptr;  // lowest usable byte; null for an OS thread's stack
  void* pointer_ = nullptr;
  [[maybe_unused]] void* tsan_ = nullptr;
  // AddressSanitizer: the frames it keeps elsewhere, the stack's bounds, and where the switch came from.
  [[maybe_unused]] void* fake_stack_ = nullptr;
  const void* bottom_ = nullptr;
  std::size_t size_ = 0;
  [[maybe_unused]] Fiber* came_from_ = nullptr;
#if defined(FOVEA_SIMT_UCONTEXT)
  ucontext_t context_;
#endif
};

}  // namespace fovea::simt
