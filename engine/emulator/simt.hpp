// The CUDA language for g++ and clang++, on top of the SIMT emulator. Included by engine/gpu.hpp only.
// What is missing here is missing on purpose until a kernel needs it: textures, clusters, TMA, cooperative
// groups.
#pragma once
#include <math.h>

#include <atomic>
#include <cstring>
#include <type_traits>

#include "engine/emulator/runtime.hpp"

// A program may hold kernels for the emulator and for the profiler (engine/profiler): what they call must not
// have the same names.
#if defined(FOVEA_PROFILE)
#include "engine/profiler/hooks.hpp"
#define FOVEA_DIALECT profiled_cuda
#define FOVEA_RUNTIME fovea::simt::profile
#else
#define FOVEA_DIALECT emulated_cuda
#define FOVEA_RUNTIME fovea::simt
#endif

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)

// ---- built-in variables and vector types
// ---------------------------------------------------------------------

#if defined(FOVEA_PROFILE)
#define threadIdx (fovea::simt::profile::thread_index())
#define blockIdx (fovea::simt::profile::block_index())
#define blockDim (fovea::simt::profile::block_size())
#define gridDim (fovea::simt::profile::grid_size())
#else
#define threadIdx (fovea::simt::self().thread_index)
#define blockIdx (fovea::simt::self().block_index)
#define blockDim (fovea::simt::self().block_size)
#define gridDim (fovea::simt::self().grid_size)
#endif

inline namespace FOVEA_DIALECT {

constexpr int warpSize = 32;

#if defined(FOVEA_PROFILE)
FOVEA_PROFILED_VECTOR2(float2, float);
FOVEA_PROFILED_VECTOR4(float4, float);
FOVEA_PROFILED_VECTOR2(double2, double);
FOVEA_PROFILED_VECTOR2(int2, int);
FOVEA_PROFILED_VECTOR4(int4, int);
FOVEA_PROFILED_VECTOR2(uint2, unsigned);
FOVEA_PROFILED_VECTOR4(uint4, unsigned);
#else
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
#endif
struct float3 {
  float x, y, z;
};

inline float2 make_float2(float x, float y) { return {x, y}; }
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// ---- barriers and warp operations
// ----------------------------------------------------------------------------

using FoveaSite = fovea::simt::Site;

inline void __syncthreads(FoveaSite site = FoveaSite::here()) { FOVEA_RUNTIME::block_barrier(site); }

inline void __syncwarp(unsigned mask = ~0u, FoveaSite site = FoveaSite::here()) {
  FOVEA_RUNTIME::warp_barrier(mask, site);
}

}  // namespace FOVEA_DIALECT

namespace fovea::simt {
inline namespace FOVEA_DIALECT {

// What copies move. Not memcpy and memset: compilers expand small ones where ThreadSanitizer does not see
// them.
using Word __attribute__((may_alias)) = std::uint32_t;

template <class T>
T shuffle(WarpOp op, unsigned mask, T value, int argument, int width, Site site) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "a 32-bit or 64-bit number");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = FOVEA_RUNTIME::warp_shuffle(op, mask, bits, argument, width, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace FOVEA_DIALECT
}  // namespace fovea::simt

inline namespace FOVEA_DIALECT {

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, FoveaSite site = FoveaSite::here()) {
  return fovea::simt::shuffle(fovea::simt::WarpOp::shuffle, mask, value, lane, width, site);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, FoveaSite site = FoveaSite::here()) {
  return fovea::simt::shuffle(fovea::simt::WarpOp::shuffle_up, mask, value, static_cast<int>(delta), width,
                              site);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   FoveaSite site = FoveaSite::here()) {
  return fovea::simt::shuffle(fovea::simt::WarpOp::shuffle_down, mask, value, static_cast<int>(delta), width,
                              site);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, FoveaSite site = FoveaSite::here()) {
  return fovea::simt::shuffle(fovea::simt::WarpOp::shuffle_xor, mask, value, lanes, width, site);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, FoveaSite site = FoveaSite::here()) {
  return FOVEA_RUNTIME::warp_ballot(fovea::simt::WarpOp::ballot, mask, predicate != 0, site);
}

inline int __any_sync(unsigned mask, int predicate, FoveaSite site = FoveaSite::here()) {
  return FOVEA_RUNTIME::warp_ballot(fovea::simt::WarpOp::any, mask, predicate != 0, site) != 0;
}

inline int __all_sync(unsigned mask, int predicate, FoveaSite site = FoveaSite::here()) {
  return FOVEA_RUNTIME::warp_ballot(fovea::simt::WarpOp::all, mask, predicate == 0, site) == 0;
}

// ---- atomics and memory
// --------------------------------------------------------------------------------------

template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}

template <class T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).exchange(value, std::memory_order_relaxed);
}

template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  std::atomic_ref<T>(*address).compare_exchange_strong(expected, value, std::memory_order_relaxed);
  return expected;
}

template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  std::atomic_ref<T> target(*address);
  T old = target.load(std::memory_order_relaxed);
  while (old < value && !target.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
  return old;
}

template <class T>
T __ldg(const T* address) {
  return *address;
}

// ---- arithmetic: only what rounds alike on the host and on the device
// -------------------------------------------

inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }

inline float __int_as_float(int bits) { return __builtin_bit_cast(float, bits); }
inline int __float_as_int(float value) { return __builtin_bit_cast(int, value); }
inline float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }
inline unsigned __float_as_uint(float value) { return __builtin_bit_cast(unsigned, value); }
inline double __longlong_as_double(long long bits) { return __builtin_bit_cast(double, bits); }
inline long long __double_as_longlong(double value) { return __builtin_bit_cast(long long, value); }

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(std::uint64_t{a} * b >> 32); }

template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}

template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}

}  // namespace FOVEA_DIALECT
