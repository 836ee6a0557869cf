// Loads and stores of up to four neighbouring values at once, where pointers permit; what they hold is the
// same either way.
#pragma once
#include "engine/gpu.hpp"

namespace fovea::FOVEA_GPU {

struct Vector {
  float at[4];
};

inline bool vector_aligned(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address) % sizeof(float4) == 0;
}

/// The first `values` values from `from` on, zeros behind them.
template <bool vectors>
__device__ __forceinline__ Vector load(const float* from, int values) {
  if (vectors && values >= 4) {
    const float4 v = *reinterpret_cast<const float4*>(from);
    return {{v.x, v.y, v.z, v.w}};
  }
  Vector v;
  GPU_UNROLL
  for (int j = 0; j < 4; ++j) v.at[j] = j < values ? from[j] : 0.0f;
  return v;
}

template <bool vectors>
__device__ __forceinline__ void store(float* to, const Vector& v, int values) {
  if (vectors && values >= 4) {
    *reinterpret_cast<float4*>(to) = make_float4(v.at[0], v.at[1], v.at[2], v.at[3]);
    return;
  }
  GPU_UNROLL
  for (int j = 0; j < 4; ++j)
    if (j < values) to[j] = v.at[j];
}

}  // namespace fovea::FOVEA_GPU
