// The one header that kernels include: CUDA under nvcc, the SIMT emulator under g++ and clang++.
//
// Rules that make one source serve both: launch through gpu::launch, declare shared memory by GPU_SHARED and
// GPU_DYN_SHARED, and keep inline PTX in this file, in small functions with a body for new architectures, one
// in plain CUDA for sm_75, and an emulated one. Multiply-adds that must be one rounding are written gpu::fma;
// everything is compiled without contraction, so that emulator and GPU agree bit for bit (except for mma).
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

#include "fovea/error.hpp"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include "engine/emulator/simt.hpp"
#endif

// Unrolls the loop that follows, when its count is known. GPU_UNROLL_LARGE: where that makes so much code
// that g++ would take minutes over it, and only the GPU gains registers.
#if defined(__CUDACC__)
#define GPU_UNROLL _Pragma("unroll")
#define GPU_UNROLL_LARGE _Pragma("unroll")
#define GPU_NO_UNROLL _Pragma("unroll 1")
#elif defined(__clang__)
#define GPU_UNROLL
#define GPU_UNROLL_LARGE
#define GPU_NO_UNROLL
#else
#define GPU_UNROLL_LARGE
#define GPU_UNROLL _Pragma("GCC unroll 32")
#define GPU_NO_UNROLL
#endif

// GPU_SHARED(float, tile, [8][33]); declares a shared array, GPU_DYN_SHARED(float, buffer); a pointer to the
// launch's dynamic shared memory. In the emulator both are NaN until written, and fenced against accesses out
// of bounds.
#if defined(__CUDACC__)
#define GPU_SHARED(T, name, ...) __shared__ T name __VA_ARGS__
#define GPU_DYN_SHARED(T, name)                                       \
  extern __shared__ __align__(16) unsigned char gpu_dynamic_shared[]; \
  T* name = reinterpret_cast<T*>(gpu_dynamic_shared)
#else
#define GPU_SHARED(T, name, ...)                      \
  typedef T name##_shared __VA_ARGS__;                \
  static char name##_key;                             \
  name##_shared& name = *static_cast<name##_shared*>( \
      fovea::simt::shared_variable(&name##_key, sizeof(name##_shared), FoveaSite::here()))
#define GPU_DYN_SHARED(T, name) T* name = static_cast<T*>(fovea::simt::dynamic_shared())
#endif

// A program may hold the same kernels for the GPU, for the emulator and for the profiler: what is compiled
// for one must not have the names of another. Kernels live in namespace fovea::FOVEA_GPU.
#if defined(__CUDACC__)
#define FOVEA_GPU cuda
#elif defined(FOVEA_PROFILE)
#define FOVEA_GPU profiled
#else
#define FOVEA_GPU emulated
#endif

namespace fovea::gpu {
inline namespace FOVEA_GPU {

// ---- launches
// ------------------------------------------------------------------------------------------------

#if defined(__CUDACC__)

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the error must not surface again at the next launch
  throw DeviceError("cuda", text(what, ": ", cudaGetErrorString(status)));
}

/// The grid of a launch, which remembers where in the source the launch is.
struct Grid {
  dim3 blocks;
  const char* file;
  unsigned line;
  template <class T>
  Grid(T blocks_, const char* file_ = __builtin_FILE(), unsigned line_ = __builtin_LINE())
      : blocks(blocks_), file(file_), line(line_) {}
};

/// Launches kernel<<<grid, block, shared_bytes, stream>>>(arguments...) and throws DeviceError if that is
/// refused. Errors while it runs show at the next synchronisation, as always in CUDA.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), Grid grid, dim3 block, std::size_t shared_bytes, void* stream,
            Arguments&&... arguments) {
  check(cudaPeekAtLastError(), "an earlier kernel or copy");
  if (shared_bytes > 0) {
    // Static and dynamic shared memory together need leave to pass 48 KiB.
    cudaFuncAttributes attributes{};
    check(cudaFuncGetAttributes(&attributes, kernel), "a kernel's attributes");
    if (attributes.sharedSizeBytes + shared_bytes > 48 * 1024)
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes)),
            "dynamic shared memory refused");
  }
  kernel<<<grid.blocks, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(
      std::forward<Arguments>(arguments)...);
  if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess)
    throw DeviceError(
        "cuda", text("launch refused at ", grid.file, ':', grid.line, ": ", cudaGetErrorString(status)));
}

#else

struct Grid {
  dim3 blocks;
  simt::Site site;
  template <class T>
  Grid(T blocks_, simt::Site site_ = simt::Site::here()) : blocks(blocks_), site(site_) {}
};

/// As above. `stream` points to the emulated device's simt::Options (null: the defaults); returns when the
/// kernel is done and throws what the emulator found wrong.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), Grid grid, dim3 block, std::size_t shared_bytes, void* stream,
            Arguments&&... arguments) {
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  } call{kernel, std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)};
  const auto entry = [](void* context) {
    const Call& made = *static_cast<const Call*>(context);
    std::apply(made.kernel, made.arguments);
  };
  const simt::Options options = stream ? *static_cast<const simt::Options*>(stream) : simt::Options{};
  const simt::Launch launched{grid.blocks, block, shared_bytes, options, entry, &call, grid.site};
#if defined(FOVEA_PROFILE)
  simt::profile::run(launched, {reinterpret_cast<const void*>(kernel), sizeof(call)});
#else
  simt::run(launched);
#endif
}

#endif

// ---- asynchronous copies from global to shared memory
// ---------------------------------------------------------- 4, 8 or 16 bytes, both ends aligned to that; ok
// = false writes zeros and does not read. The data are there for the thread after cp_wait, for the block
// after a barrier behind it. Copies are counted in groups closed by cp_commit.

#if defined(__CUDACC__)

template <int N>
__device__ __forceinline__ void cp_async(void* to, const void* from, bool ok = true) {
  static_assert(N == 4 || N == 8 || N == 16);
#if __CUDA_ARCH__ >= 800
  const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(to));
  const unsigned bytes = ok ? N : 0;
  if constexpr (N == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from), "r"(bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared), "l"(from), "n"(N), "r"(bytes)
                 : "memory");
#else
  if constexpr (N == 16)
    *static_cast<uint4*>(to) = ok ? *static_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
  else if constexpr (N == 8)
    *static_cast<uint2*>(to) = ok ? *static_cast<const uint2*>(from) : uint2{0, 0};
  else
    *static_cast<unsigned*>(to) = ok ? *static_cast<const unsigned*>(from) : 0u;
#endif
}

__device__ __forceinline__ void cp_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits until at most Keep of the thread's latest groups are pending.
template <int Keep>
__device__ __forceinline__ void cp_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(Keep) : "memory");
#endif
}

#elif defined(FOVEA_PROFILE)

template <int N>
__forceinline__ void cp_async(void* to, const void* from, bool ok = true,
                              simt::Site site = simt::Site::here()) {
  static_assert(N == 4 || N == 8 || N == 16);
  simt::profile::copy_async(to, from, N, ok, site);
}

inline void cp_commit() { simt::async_copy_commit(); }

template <int Keep>
inline void cp_wait() {
  simt::profile::finish_copies(Keep);
}

#else

// The copy is carried out by the wait, here in instrumented code, so that a missing wait shows. When it is
// issued its target turns to NaN and its source is read: races and accesses out of bounds show in the line
// that issues it.
template <int N>
inline void cp_async(void* to, const void* from, bool ok = true, simt::Site site = simt::Site::here()) {
  static_assert(N == 4 || N == 8 || N == 16);
  simt::async_copy_issue(to, from, N, ok ? N : 0, site);
  for (int i = 0; i < N / 4; ++i) {
    if (ok) (void)static_cast<const volatile simt::Word*>(from)[i];
    static_cast<simt::Word*>(to)[i] = ~0u;
  }
}

inline void cp_commit() { simt::async_copy_commit(); }

template <int Keep>
inline void cp_wait() {
  simt::AsyncCopy copy;
  while (simt::async_copy_next(Keep, copy))
    for (unsigned i = 0; i < copy.bytes / 4; ++i)
      static_cast<simt::Word*>(copy.to)[i] =
          copy.from_bytes ? static_cast<const simt::Word*>(copy.from)[i] : 0u;
}

#endif

// ---- arithmetic
// ------------------------------------------------------------------------------------------------

/// a * b + c, rounded once.
#if defined(FOVEA_PROFILE)
__forceinline__ float fma(float a, float b, float c) { return simt::profile::fma(a, b, c); }
#else
__host__ __device__ __forceinline__ float fma(float a, float b, float c) { return fmaf(a, b, c); }
#endif

/// Whether the device multiplies tf32 (mma_m16n8k8_tf32).
inline bool has_tensor_cores() {
#if defined(__CUDACC__)
  static const bool found = [] {
    int major = 0;
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "architecture of device 0");
    return major >= 8;
  }();
  return found;
#else
  return true;
#endif
}

/// Rounds to tf32 (10 bits of mantissa, ties away from zero); the value stays in a float.
__device__ __forceinline__ float to_tf32(float value) {
#if defined(__CUDACC__) && __CUDA_ARCH__ >= 800
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return __uint_as_float(bits);
#else
  const unsigned bits = __float_as_uint(value);
  if ((bits & 0x7f800000u) == 0x7f800000u) return value;  // infinite or NaN
  return __uint_as_float((bits + 0x1000u) & 0xffffe000u);
#endif
}

/// d (16x8) += a (16x8, rows) * b (8x8, columns) by a whole warp: operands rounded to tf32, sums in f32.
/// Fragments as in the PTX ISA for mma.m16n8k8. sm_75 has no such instruction: kernels take another way
/// there.
#if defined(__CUDACC__)
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
        "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
#else
  (void)d, (void)a, (void)b;
  __trap();
#endif
}
#else
__forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const float (&a)[4], const float (&b)[2],
                                      simt::Site site = simt::Site::here()) {
  float ra[4], rb[2];
  for (int i = 0; i < 4; ++i) ra[i] = to_tf32(a[i]);
  for (int i = 0; i < 2; ++i) rb[i] = to_tf32(b[i]);
  FOVEA_RUNTIME::warp_mma_m16n8k8(d, ra, rb, site);
}
#endif

}  // namespace FOVEA_GPU
}  // namespace fovea::gpu
