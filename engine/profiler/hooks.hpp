// What profiled kernels call instead of the emulator's runtime. Included by engine/emulator/simt.hpp and
// engine/gpu.hpp where FOVEA_PROFILE is defined: such files are compiled with -fsanitize=thread and linked
// without its runtime, so that every plain load and store calls a __tsan_ function of hooks.cpp. What the
// compiler would not show there as it is on a GPU (float4 as one access, multiply-adds, asynchronous copies)
// is written as calls of these functions. The return address says which line called.
#pragma once
#include "engine/emulator/runtime.hpp"

namespace fovea::simt::profile {

// Const and pure are not true to the letter, since these functions count: they let the compiler share and
// move calls just as far as it may move the instructions they stand for.
#define FOVEA_AS_ARITHMETIC __attribute__((const))
#define FOVEA_AS_LOAD __attribute__((pure))

FOVEA_AS_ARITHMETIC uint3 thread_index();
FOVEA_AS_ARITHMETIC uint3 block_index();
FOVEA_AS_ARITHMETIC dim3 block_size();
FOVEA_AS_ARITHMETIC dim3 grid_size();
FOVEA_AS_ARITHMETIC float fma(float a, float b, float c);

/// The values of float2, float4, .. as they travel in one register.
template <class T, int count>
using Lanes __attribute__((vector_size(sizeof(T) * count))) = T;
using Bits8 = Lanes<float, 2>;
using Bits16 = Lanes<float, 4>;

FOVEA_AS_LOAD Bits8 read8(const void* from);
FOVEA_AS_LOAD Bits16 read16(const void* from);
void write8(void* to, Bits8 bits);
void write16(void* to, Bits16 bits);

template <class L>
__attribute__((always_inline)) inline L read_lanes(const void* from) {
  if constexpr (sizeof(L) == 8)
    return (L)read8(from);
  else
    return (L)read16(from);
}

template <class L>
__attribute__((always_inline)) inline void write_lanes(void* to, L lanes) {
  if constexpr (sizeof(L) == 8)
    write8(to, (Bits8)lanes);
  else
    write16(to, (Bits16)lanes);
}

/// Counted where it is issued: a load of `bytes` if ok, and a store of them to shared memory.
void copy_async(void* to, const void* from, unsigned bytes, bool ok, Site site);
void finish_copies(unsigned keep);

// As in the runtime, and lanes that have met begin to count their requests anew.
void block_barrier(Site site);
void warp_barrier(unsigned mask, Site site);
std::uint64_t warp_shuffle(WarpOp op, unsigned mask, std::uint64_t bits, int argument, int width, Site site);
unsigned warp_ballot(WarpOp op, unsigned mask, bool predicate, Site site);
void warp_mma_m16n8k8(float (&d)[4], const float (&a)[4], const float (&b)[2], Site site);

/// What a launch has besides its Launch: the kernel's address, by which it is known, and the size of its
/// arguments, which are constants on a GPU.
struct Kernel {
  const void* address;
  std::size_t argument_bytes;
};

/// Runs a sample of the launch's blocks and notes what they did (launches.hpp).
void run(const Launch& launch, const Kernel& kernel);

}  // namespace fovea::simt::profile

// NOLINTBEGIN(bugprone-macro-parentheses): types take none.
// CUDA's vector types: copies are accesses of all their values at once, wherever the copy lies.
#define FOVEA_PROFILED_VECTOR2(V, T)                                        \
  struct alignas(2 * sizeof(T)) V {                                         \
    using Lanes = fovea::simt::profile::Lanes<T, 2>;                        \
    T x, y;                                                                 \
    V() = default;                                                          \
    V(T x_, T y_) : x(x_), y(y_) {}                                         \
    V(const V& from) : V(fovea::simt::profile::read_lanes<Lanes>(&from)) {} \
    explicit V(Lanes v) : x(v[0]), y(v[1]) {}                               \
    V& operator=(const V& from) {                                           \
      const Lanes v = fovea::simt::profile::read_lanes<Lanes>(&from);       \
      fovea::simt::profile::write_lanes(this, v);                           \
      return *this;                                                         \
    }                                                                       \
  }
#define FOVEA_PROFILED_VECTOR4(V, T)                                        \
  struct alignas(4 * sizeof(T)) V {                                         \
    using Lanes = fovea::simt::profile::Lanes<T, 4>;                        \
    T x, y, z, w;                                                           \
    V() = default;                                                          \
    V(T x_, T y_, T z_, T w_) : x(x_), y(y_), z(z_), w(w_) {}               \
    V(const V& from) : V(fovea::simt::profile::read_lanes<Lanes>(&from)) {} \
    explicit V(Lanes v) : x(v[0]), y(v[1]), z(v[2]), w(v[3]) {}             \
    V& operator=(const V& from) {                                           \
      const Lanes v = fovea::simt::profile::read_lanes<Lanes>(&from);       \
      fovea::simt::profile::write_lanes(this, v);                           \
      return *this;                                                         \
    }                                                                       \
  }
// NOLINTEND(bugprone-macro-parentheses)
