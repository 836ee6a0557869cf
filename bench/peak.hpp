// What this machine can do: multiply-adds and memory traffic, measured.
#pragma once
#include <cstdint>

#include "kernels/cpu/compiled_isas.hpp"

namespace fovea {

extern volatile float peak_sink;  // keeps results alive

#define X(isa)                                                                                          \
  namespace isa {                                                                                       \
  double run_madds(std::int64_t rounds);                                 /* returns the operations */   \
  void copy_streamed(float* to, const float* from, std::int64_t floats); /* aligned, multiples of 16 */ \
  }
FOVEA_COMPILED_ISAS(X)
#undef X

}  // namespace fovea
