// What a GPU can do, measured with kernels of its own: memory traffic and multiply-adds.
#pragma once
#include <cstdint>

#include "engine/queue.hpp"

namespace fovea::bench {

/// Copies `bytes`, a multiple of 16, between aligned arrays.
using CopyKernel = void (*)(void* to, const void* from, std::int64_t bytes, const Queue&);
/// Independent chains of multiply-adds in every thread of `blocks` blocks; returns the operations. `sink` has
/// room for a float.
using MaddKernel = double (*)(float* sink, int blocks, int rounds, const Queue&);

struct RoofKernels {
  CopyKernel copy;
  MaddKernel madds;
};

namespace cuda {
RoofKernels roof_kernels();
}
namespace emulated {
RoofKernels roof_kernels();
}

}  // namespace fovea::bench
