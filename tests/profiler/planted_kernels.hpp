// Kernels whose counts are known.
#pragma once
#include "engine/profiler/launches.hpp"

namespace fovea::planted {

/// to[i] = from[i * stride], blocks of 128 threads.
void strided_copy(float* to, const float* from, unsigned blocks, int stride);
/// The same four values at once, stride 1.
void vector_copy(float* to, const float* from, unsigned blocks);
/// The same through shared memory by asynchronous copies of 16 bytes.
void async_copy(float* to, const float* from, unsigned blocks);
/// One warp writes a column of a shared table of `row` floats a row.
void column(float* to, int row);
/// One warp reads one word.
void broadcast(float* to);
/// One warp writes and reads float4 next to each other in shared memory.
void shared_vectors(float* to);
/// Lanes below 8 alone store.
void divergent(float* to);
/// Every thread of 64 passes `rounds` barriers and does two multiply-adds between them, lane 0 one more.
void rounds(float* to, int rounds);
/// Lane i takes i + 1 steps of a loop, with a store in each; the warp meets in every step if asked to.
void triangle(float* to, bool meeting);
/// Block b loads b % 2 + 1 times.
void uneven(float* to, const float* from, unsigned blocks);
/// One warp adds `count` products of 16 x 8 x 8.
void products(float* to, int count);

// Lines of planted_kernels.cu.
constexpr unsigned kLoadLine = 15, kFmaLine = 78;

}  // namespace fovea::planted
