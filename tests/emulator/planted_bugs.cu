// Kernels with one mistake each. Every kernel is right but for the line that says what is wrong.
#include "tests/emulator/planted_bugs.hpp"

#include <map>

#include "engine/gpu.hpp"

namespace fovea::test {
namespace {

constexpr int kThreads = kPlantedThreads;
constexpr unsigned kFull = 0xffffffffu;

// ---- the block barrier
// -----------------------------------------------------------------------------------------

__global__ void divergent_barrier(float* data) {
  const int t = threadIdx.x;
  if (t < 32)  // wrong: half of the block waits in one barrier, half in another
    __syncthreads();
  else
    __syncthreads();
  data[t] = 0;
}

__global__ void deadlock(float* data) {
  const int t = threadIdx.x;
  if (t == 0) __syncwarp(3);  // wrong: lane 1 never comes
  __syncthreads();
  data[t] = 0;
}

// ---- warp operations
// -------------------------------------------------------------------------------------------

__global__ void missing_lanes(float* data) {
  const int t = threadIdx.x;
  if (t % 2) data[t] = __shfl_xor_sync(kFull, data[t], 2);  // wrong: the mask names the even lanes too
}

__global__ void lane_returns(float* data) {
  const int t = threadIdx.x;
  if (t == 5) return;  // wrong: named below
  data[t] = __shfl_xor_sync(kFull, data[t], 1);
}

__global__ void lane_outside_mask(float* data) {
  const int t = threadIdx.x;
  if (t < 4) data[t] = __shfl_sync(0x0fu, data[t], 9);  // wrong: lane 9 is not in the mask
}

__global__ void caller_outside_mask(float* data) {
  data[threadIdx.x] = __shfl_sync(0x0fu, data[threadIdx.x], 0);  // wrong: called by all lanes
}

__global__ void masks_disagree(float* data) {
  const int t = threadIdx.x;
  const unsigned mask = t % 32 < 16 ? kFull : 0xffffff00u;  // wrong: lanes 8 to 15 are named by both
  data[t] = __shfl_xor_sync(mask, data[t], 1);
}

__global__ void divergent_warp_operations(float* data) {
  const int t = threadIdx.x;
  if (t % 32 < 16)
    data[t] = __shfl_up_sync(kFull, data[t], 1);
  else
    data[t] = __shfl_down_sync(kFull, data[t], 1);  // wrong: the same lanes, another operation
}

__global__ void shuffle_width(float* data) {
  data[threadIdx.x] = __shfl_down_sync(kFull, data[threadIdx.x], 1, 12);  // wrong: not a power of two
}

__global__ void mma_in_partial_warp(float* data) {  // wrong: launched with 48 threads
  float d[4] = {}, a[4] = {}, b[2] = {};
  gpu::mma_m16n8k8_tf32(d, a, b);
  data[threadIdx.x] = d[0];
}

// ---- asynchronous copies
// ---------------------------------------------------------------------------------------

__global__ void misaligned_copy(float* data) {
  GPU_SHARED(float4, tile, [kThreads]);
  if (threadIdx.x == 0) gpu::cp_async<16>(&tile[0], data + 1);  // wrong: 4 bytes off
  gpu::cp_commit();
  gpu::cp_wait<0>();
}

template <int Keep>
__device__ void reverse_through_shared(float* data) {
  GPU_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x;
  gpu::cp_async<4>(&tile[t], &data[t]);
  gpu::cp_commit();
  if (Keep >= 0) gpu::cp_wait<(Keep < 0 ? 0 : Keep)>();
  __syncthreads();
  data[t] = tile[kThreads - 1 - t];
}

__global__ void copy_without_wait(float* data) { reverse_through_shared<-1>(data); }  // wrong: no wait at all

__global__ void copy_with_wrong_wait(float* data) {
  reverse_through_shared<1>(data);  // wrong: one group may still be on its way
  gpu::cp_wait<0>();
}

// ---- shared memory
// ---------------------------------------------------------------------------------------------

__global__ void uninitialised_shared(float* data) {
  GPU_SHARED(float, tile, [kThreads]);
  __syncthreads();
  data[threadIdx.x] += tile[threadIdx.x];  // wrong: nobody wrote it
}

__global__ void uninitialised_dynamic_shared(float* data) {
  GPU_DYN_SHARED(float, tile);
  __syncthreads();
  data[threadIdx.x] += tile[threadIdx.x];  // wrong: nobody wrote it
}

__global__ void too_much_shared(float* data) {
#if defined(__CUDACC__)
  data[0] = 0;  // nvcc itself refuses this one
#else
  GPU_SHARED(float, tile, [49 * 1024 / 4]);  // wrong: 48 kB at most
  data[threadIdx.x] = tile[0];
#endif
}

template <int Size>
__device__ void write_shared(float* data, int offset) {
  GPU_SHARED(float, tile, [Size]);
  const int t = threadIdx.x;
  float* start = tile;  // through a pointer: the compiler knows no bound
  start[t + offset] = data[t];
  __syncthreads();
  data[t] = start[t];
}

__global__ void shared_out_of_bounds(float* data) {
  write_shared<kThreads>(data, 1);  // wrong: the last thread writes behind the array
}

__global__ void dynamic_shared_out_of_bounds(float* data) {
  GPU_DYN_SHARED(float, tile);
  const int t = threadIdx.x;
  tile[t + 1] = data[t];  // wrong: the last thread writes behind the end
  __syncthreads();
  data[t] = t ? tile[t] : 0.f;
}

// ---- global memory
// ---------------------------------------------------------------------------------------------

__global__ void global_out_of_bounds(float* data) {
  data[threadIdx.x + 1] = 1.f;  // wrong: the last thread writes behind the end
}

__global__ void misaligned_vector(float* data) {
  if (threadIdx.x != 0) return;
  const float4* four = reinterpret_cast<const float4*>(data + 1);  // wrong: 4 bytes off
  data[0] = four->x + four->w;
}

__global__ void misaligned_vector_copy(float* data) {
  if (threadIdx.x != 0) return;
  const float4 four = *reinterpret_cast<const float4*>(data + 1);  // wrong: 4 bytes off
  data[0] = four.x + four.w;
}

// ---- races
// -----------------------------------------------------------------------------------------------------

__global__ void missing_barrier(float* data) {
  GPU_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x;
  tile[t] = data[t];
  data[t] = tile[(t + 1) % kThreads];  // wrong: the neighbour may not have written yet
}

__global__ void barrier_after_next_write(float* data) {
  GPU_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x;
  for (int step = 0; step < 2; ++step) {
    tile[t] = data[t] + step;  // wrong in the second step: the neighbour may still read
    __syncthreads();
    data[t] = tile[(t + 1) % kThreads];
  }
}

__global__ void shuffle_as_barrier(float* data) {
  GPU_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x, lane = t % 32;
  tile[t] = data[t];
  const float sum = __shfl_xor_sync(kFull, data[t], 1);  // wrong: a shuffle does not order memory
  data[t] = tile[t - lane + (lane + 1) % 32] + sum;
}

__global__ void copy_into_tile_in_use(float* data) {
  GPU_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x;
  tile[t] = data[t];
  __syncthreads();
  const float kept = tile[(t + 1) % kThreads];
  gpu::cp_async<4>(&tile[t], &data[t]);  // wrong: the neighbour may still read
  gpu::cp_commit();
  __syncthreads();
  gpu::cp_wait<0>();
  data[t] = kept + tile[t];
}

__global__ void race_between_blocks(float* data) {
  if (threadIdx.x == 0) data[5] = static_cast<float>(blockIdx.x);  // wrong: both blocks write it
}

__global__ void race_between_blocks_behind_barriers(float* data) {
  GPU_SHARED(float, tile, [kThreads]);
  const int t = threadIdx.x;
  tile[t] =
      static_cast<float>(t);  // ThreadSanitizer remembers few accesses to a place: leave them to the race
  __syncthreads();
  const float sum = tile[t] + tile[kThreads - 1 - t];
  __syncthreads();
  if (t == static_cast<int>(blockIdx.x)) data[7] = sum;  // wrong: both blocks write it
}

using Kernel = void (*)(float*);

struct Planted {
  Kernel kernel;
  int blocks = 1, threads = kThreads, shared_bytes = 0;
};

const std::map<std::string, Planted>& planted() {
  static const std::map<std::string, Planted> bugs = {
      {"divergent_barrier", {divergent_barrier}},
      {"deadlock", {deadlock}},
      {"missing_lanes", {missing_lanes}},
      {"lane_returns", {lane_returns}},
      {"lane_outside_mask", {lane_outside_mask}},
      {"caller_outside_mask", {caller_outside_mask}},
      {"masks_disagree", {masks_disagree}},
      {"divergent_warp_operations", {divergent_warp_operations}},
      {"shuffle_width", {shuffle_width}},
      {"mma_in_partial_warp", {mma_in_partial_warp, 1, 48}},
      {"misaligned_copy", {misaligned_copy}},
      {"copy_without_wait", {copy_without_wait}},
      {"copy_with_wrong_wait", {copy_with_wrong_wait}},
      {"uninitialised_shared", {uninitialised_shared}},
      {"uninitialised_dynamic_shared", {uninitialised_dynamic_shared, 1, kThreads, kThreads * 4}},
      {"too_much_shared", {too_much_shared}},
      {"shared_out_of_bounds", {shared_out_of_bounds}},
      {"dynamic_shared_out_of_bounds", {dynamic_shared_out_of_bounds, 1, kThreads, kThreads * 4}},
      {"global_out_of_bounds", {global_out_of_bounds}},
      {"misaligned_vector", {misaligned_vector}},
      {"misaligned_vector_copy", {misaligned_vector_copy}},
      {"missing_barrier", {missing_barrier}},
      {"barrier_after_next_write", {barrier_after_next_write}},
      {"shuffle_as_barrier", {shuffle_as_barrier}},
      {"copy_into_tile_in_use", {copy_into_tile_in_use}},
      {"race_between_blocks", {race_between_blocks, 2}},
      {"race_between_blocks_behind_barriers", {race_between_blocks_behind_barriers, 2}},
      {"no_threads", {missing_barrier, 1, 0}},
      {"too_many_threads", {missing_barrier, 1, 1025}},
      {"no_blocks", {missing_barrier, 0}},
      {"too_much_dynamic_shared", {missing_barrier, 1, kThreads, 228 * 1024}},
  };
  return bugs;
}

}  // namespace

void run_planted(const std::string& bug, float* data, void* stream) {
  const Planted& found = planted().at(bug);
  gpu::launch(found.kernel, found.blocks, found.threads, found.shared_bytes, stream, data);
}

}  // namespace fovea::test
