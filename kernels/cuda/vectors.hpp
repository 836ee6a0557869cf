// Loads and stores of neighbouring floats, four to an access where pointers permit; what they hold is the
// same either way.
#pragma once
#include "engine/gpu.hpp"

namespace fovea::FOVEA_GPU {

template <int N>
struct Values {
  float at[N];
};

template <int N>
__device__ __forceinline__ Values<N> load(const float* from) {
  static_assert(N == 1 || N == 4);
  if constexpr (N == 4) {
    const float4 v = *reinterpret_cast<const float4*>(from);
    return {{v.x, v.y, v.z, v.w}};
  } else {
    return {{*from}};
  }
}

template <int N>
__device__ __forceinline__ void store(float* to, const Values<N>& values) {
  if constexpr (N == 4)
    *reinterpret_cast<float4*>(to) = make_float4(values.at[0], values.at[1], values.at[2], values.at[3]);
  else
    *to = values.at[0];
}

/// The first `count` of four values, zeros behind them.
template <bool vectors, class Count>
__device__ __forceinline__ Values<4> load_first(const float* from, Count count) {
  if (vectors && count >= 4) return load<4>(from);
  Values<4> four;
  GPU_UNROLL
  for (int k = 0; k < 4; ++k) four.at[k] = k < count ? from[k] : 0.f;
  return four;
}

template <bool vectors, class Count>
__device__ __forceinline__ void store_first(float* to, const Values<4>& four, Count count) {
  if (vectors && count >= 4) return store<4>(to, four);
  GPU_UNROLL
  for (int k = 0; k < 4; ++k)
    if (k < count) to[k] = four.at[k];
}

template <int N>
__device__ __forceinline__ Values<N> added(Values<N> a, const Values<N>& b) {
  GPU_UNROLL
  for (int k = 0; k < N; ++k) a.at[k] += b.at[k];
  return a;
}

/// Whether float4 accesses are aligned at every pointer; null pointers are.
template <class... Pointers>
bool aligned(const Pointers*... pointers) {
  return ((reinterpret_cast<std::uintptr_t>(pointers) | ...) & 15) == 0;
}

/// Whether rows of `length` floats there can be moved by four.
template <class... Pointers>
bool by_four(std::int64_t length, const Pointers*... pointers) {
  return length % 4 == 0 && aligned(pointers...);
}

}  // namespace fovea::FOVEA_GPU
