// Which sanitizer the kernels are built with, and what the emulator's runtime has to tell it.
//
// Under ThreadSanitizer the runtime itself is built without it (the switch of stacks must not be
// instrumented) and with FOVEA_SIMT_TSAN. Its code must then not touch memory through anything the sanitizer
// intercepts (memcpy, memset, malloc of shared containers) nor through standard templates that an
// instrumented file may also instantiate.
#pragma once
#include <cstddef>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FOVEA_SIMT_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define FOVEA_SIMT_ASAN 1
#endif

#if defined(FOVEA_SIMT_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(FOVEA_SIMT_TSAN)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif

namespace fovea::simt {

#if defined(FOVEA_SIMT_TSAN)
constexpr bool kTsan = true;
inline void tsan_acquire(void* tag) { __tsan_acquire(tag); }
inline void tsan_release(void* tag) { __tsan_release(tag); }
#else
constexpr bool kTsan = false;
inline void tsan_acquire(void*) {}
inline void tsan_release(void*) {}
#endif

#if defined(FOVEA_SIMT_ASAN)
inline void asan_poison(void* memory, std::size_t bytes) { __asan_poison_memory_region(memory, bytes); }
inline void asan_unpoison(void* memory, std::size_t bytes) { __asan_unpoison_memory_region(memory, bytes); }
#else
inline void asan_poison(void*, std::size_t) {}
inline void asan_unpoison(void*, std::size_t) {}
#endif

}  // namespace fovea::simt
