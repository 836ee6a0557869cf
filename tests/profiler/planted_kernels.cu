#include "tests/profiler/planted_kernels.hpp"

#include "engine/gpu.hpp"
#include "kernels/cuda/vectors.hpp"

namespace fovea::planted {
namespace {

using fovea::FOVEA_GPU::load;
using fovea::FOVEA_GPU::store;

// The lines of a load and of a multiply-add stand in the header.
__global__ void strided_copy_kernel(float* to, const float* from, int stride) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const float value = from[i * stride];
  to[i] = value;
}

__global__ void vector_copy_kernel(float* to, const float* from) {
  const unsigned i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  store(to + i, load<4>(from + i));
}

__global__ void async_copy_kernel(float* to, const float* from) {
  GPU_SHARED(float, tile, [512]);
  const unsigned i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  gpu::cp_async<16>(&tile[4 * threadIdx.x], from + i);
  gpu::cp_commit();
  gpu::cp_wait<0>();
  __syncthreads();
  store(to + i, load<4>(&tile[4 * threadIdx.x]));
}

__global__ void column_kernel(float* to, int row) {
  GPU_SHARED(float, table, [32 * 33]);
  table[static_cast<int>(threadIdx.x) * row] = 1.0f;
  __syncwarp();
  to[threadIdx.x] = table[threadIdx.x];
}

__global__ void broadcast_kernel(float* to) {
  GPU_SHARED(float, word, [1]);
  if (threadIdx.x == 0) word[0] = 2.0f;
  __syncwarp();
  to[threadIdx.x] = word[0];
}

__global__ void shared_vectors_kernel(float* to) {
  GPU_SHARED(float4, table, [32]);
  table[threadIdx.x] = make_float4(1.0f, 2.0f, 3.0f, 4.0f);
  __syncwarp();
  const float4 v = table[threadIdx.x];
  to[threadIdx.x] = v.x + v.y + v.z + v.w;
}

__global__ void divergent_kernel(float* to) {
  if (threadIdx.x % 32 < 8) to[threadIdx.x] = 1.0f;
}

__global__ void triangle_kernel(float* to, bool meeting) {
  const int lane = static_cast<int>(threadIdx.x);
  for (int step = 0; step < 32; ++step) {
    // Without meetings the steps of the lanes are numbered from the first that each of them takes.
    if (step >= 31 - lane) to[32 * step + lane] = 1.0f;
    if (meeting) __syncwarp();
  }
}

__global__ void uneven_kernel(float* to, const float* from) {
  float sum = from[threadIdx.x];
  if (blockIdx.x % 2 == 1) sum += from[32 + threadIdx.x];
  to[32 * blockIdx.x + threadIdx.x] = sum;
}

__global__ void rounds_kernel(float* to, int rounds) {
  float value = static_cast<float>(threadIdx.x);
  for (int round = 0; round < rounds; ++round) {
    value = gpu::fma(value, 0.5f, 1.0f);
    value = gpu::fma(value, 0.25f, 2.0f);
    if (threadIdx.x % 32 == 0) value = gpu::fma(value, 2.0f, 3.0f);
    __syncthreads();
  }
  to[threadIdx.x] = value;
}

__global__ void products_kernel(float* to, int count) {
  float sums[4] = {};
  for (int i = 0; i < count; ++i) gpu::mma_m16n8k8_tf32(sums, {1.f, 1.f, 1.f, 1.f}, {2.f, 2.f});
  to[threadIdx.x] = sums[0];
}

}  // namespace

void strided_copy(float* to, const float* from, unsigned blocks, int stride) {
  gpu::launch(strided_copy_kernel, blocks, 128, 0, nullptr, to, from, stride);
}
void vector_copy(float* to, const float* from, unsigned blocks) {
  gpu::launch(vector_copy_kernel, blocks, 128, 0, nullptr, to, from);
}
void async_copy(float* to, const float* from, unsigned blocks) {
  gpu::launch(async_copy_kernel, blocks, 128, 0, nullptr, to, from);
}
void column(float* to, int row) { gpu::launch(column_kernel, 1, 32, 0, nullptr, to, row); }
void broadcast(float* to) { gpu::launch(broadcast_kernel, 1, 32, 0, nullptr, to); }
void shared_vectors(float* to) { gpu::launch(shared_vectors_kernel, 1, 32, 0, nullptr, to); }
void divergent(float* to) { gpu::launch(divergent_kernel, 1, 64, 0, nullptr, to); }
void rounds(float* to, int rounds) { gpu::launch(rounds_kernel, 1, 64, 0, nullptr, to, rounds); }
void triangle(float* to, bool meeting) { gpu::launch(triangle_kernel, 1, 32, 0, nullptr, to, meeting); }
void uneven(float* to, const float* from, unsigned blocks) {
  gpu::launch(uneven_kernel, blocks, 32, 0, nullptr, to, from);
}
void products(float* to, int count) { gpu::launch(products_kernel, 1, 32, 0, nullptr, to, count); }

}  // namespace fovea::planted
