// Right kernels that between them use all of the language that the emulator offers.
#include "tests/emulator/sample_kernels.hpp"

#include <stdexcept>

#include "engine/gpu.hpp"

namespace fovea::test {
namespace {

__device__ __forceinline__ float warp_sum(float value) {
  GPU_UNROLL
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  return value;
}

template <int Threads>
__device__ __forceinline__ float block_sum(float value) {
  GPU_SHARED(float, partial, [Threads / 32]);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  value = warp_sum(value);
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  value = warp_sum(lane < Threads / 32 ? partial[lane] : 0.f);
  __syncthreads();
  return value;
}

template <int Threads>
__global__ void __launch_bounds__(Threads) block_sums_kernel(float* sums, const float* x, int count) {
  float sum = 0;
  for (int i = blockIdx.x * Threads + threadIdx.x; i < count; i += gridDim.x * Threads) sum += x[i];
  sum = block_sum<Threads>(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void write_indices_kernel(int* index) {
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned i = block * blockDim.x * blockDim.y * blockDim.z + thread;
  index[i] = static_cast<int>(i);
}

__global__ void shuffle_lanes_kernel(int* out, Shuffle kind, int argument, int width) {
  const unsigned full = 0xffffffffu;
  const int value = 100 + static_cast<int>(threadIdx.x);
  int result = 0;
  if (kind == Shuffle::direct) result = __shfl_sync(full, value, argument, width);
  if (kind == Shuffle::up) result = __shfl_up_sync(full, value, argument, width);
  if (kind == Shuffle::down) result = __shfl_down_sync(full, value, argument, width);
  if (kind == Shuffle::exclusive_or) result = __shfl_xor_sync(full, value, argument, width);
  out[threadIdx.x] = result;
}

__global__ void shuffle_doubles_kernel(double* out, const double* in) {
  out[threadIdx.x] = __shfl_sync(0xffffffffu, in[threadIdx.x], (threadIdx.x + 1) % 32);
}

__global__ void vote_by_parity_kernel(unsigned* ballot, int* any, int* all) {
  const int lane = threadIdx.x;
  const unsigned mask = lane % 2 ? 0xaaaaaaaau : 0x55555555u;
  ballot[lane] = __ballot_sync(mask, lane < 8);
  if (lane % 2) {  // the two halves are in different operations at the same time
    any[lane] = __any_sync(mask, lane < 8);
    all[lane] = __all_sync(mask, lane < 8);
  } else {
    all[lane] = __all_sync(mask, lane < 32);
    any[lane] = __any_sync(mask, lane >= 32);
  }
}

__global__ void prefix_by_syncwarp_kernel(int* out) {
  GPU_SHARED(int, sum, );
  if (threadIdx.x == 0) sum = 0;
  for (int lane = 0; lane < 32; ++lane) {
    __syncwarp();
    if (static_cast<int>(threadIdx.x) == lane) {
      out[lane] = sum;
      sum += lane;
    }
  }
}

template <int Stages>
__global__ void __launch_bounds__(128)
    gemm_tf32_kernel(float* c, const float* a, const float* b, int n, int k) {
  constexpr int kTileM = 64, kTileN = 64, kTileK = 16, kRowA = kTileK + 4, kRowB = kTileN + 8;
  GPU_DYN_SHARED(float, shared);
  float* tiles_a = shared;
  float* tiles_b = shared + Stages * kTileM * kRowA;
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int row = warp % 2 * 32, column = warp / 2 * 32, group = lane / 4, member = lane % 4;
  const int m0 = blockIdx.y * kTileM, n0 = blockIdx.x * kTileN;
  const int steps = k / kTileK;

  const auto load = [&](int step) {
    if (step < steps) {
      float* tile_a = tiles_a + step % Stages * kTileM * kRowA;
      float* tile_b = tiles_b + step % Stages * kTileK * kRowB;
      for (int i = thread; i < kTileM * kTileK / 4; i += 128) {
        const int r = i / 4, q = i % 4 * 4;
        gpu::cp_async<16>(&tile_a[r * kRowA + q], &a[static_cast<size_t>(m0 + r) * k + step * kTileK + q]);
      }
      for (int i = thread; i < kTileK * kTileN / 4; i += 128) {
        const int r = i / 16, q = i % 16 * 4;
        gpu::cp_async<16>(&tile_b[r * kRowB + q], &b[static_cast<size_t>(step * kTileK + r) * n + n0 + q]);
      }
    }
    gpu::cp_commit();
  };

  float sums[2][4][4] = {};
  for (int step = 0; step < Stages - 1; ++step) load(step);
  for (int step = 0; step < steps; ++step) {
    load(step + Stages - 1);
    gpu::cp_wait<Stages - 1>();
    __syncthreads();
    const float* tile_a = tiles_a + step % Stages * kTileM * kRowA;
    const float* tile_b = tiles_b + step % Stages * kTileK * kRowB;
    for (int kk = 0; kk < kTileK; kk += 8) {
      float fragment_a[2][4], fragment_b[4][2];
      for (int i = 0; i < 2; ++i) {
        const float* p = tile_a + (row + i * 16 + group) * kRowA + kk + member;
        fragment_a[i][0] = gpu::to_tf32(p[0]);
        fragment_a[i][1] = gpu::to_tf32(p[8 * kRowA]);
        fragment_a[i][2] = gpu::to_tf32(p[4]);
        fragment_a[i][3] = gpu::to_tf32(p[8 * kRowA + 4]);
      }
      for (int j = 0; j < 4; ++j) {
        const float* p = tile_b + (kk + member) * kRowB + column + j * 8 + group;
        fragment_b[j][0] = gpu::to_tf32(p[0]);
        fragment_b[j][1] = gpu::to_tf32(p[4 * kRowB]);
      }
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j) gpu::mma_m16n8k8_tf32(sums[i][j], fragment_a[i], fragment_b[j]);
    }
    __syncthreads();
  }
  gpu::cp_wait<0>();
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 4; ++j) {
      float* p = c + static_cast<size_t>(m0 + row + i * 16 + group) * n + n0 + column + j * 8 + 2 * member;
      *reinterpret_cast<float2*>(p) = make_float2(sums[i][j][0], sums[i][j][1]);
      *reinterpret_cast<float2*>(p + static_cast<size_t>(8) * n) = make_float2(sums[i][j][2], sums[i][j][3]);
    }
}

template <int Bytes>
__global__ void copy_through_shared_kernel(float* out, const float* x, int valid) {
  constexpr int kPerCopy = Bytes / 4, kTile = 256;
  GPU_SHARED(float4, tile_storage, [kTile / 4]);  // float4: aligned for every width
  float* tile = &tile_storage[0].x;
  const int first = blockIdx.x * kTile;
  for (int i = threadIdx.x * kPerCopy; i < kTile; i += blockDim.x * kPerCopy)
    gpu::cp_async<Bytes>(&tile[i], first + i < valid ? x + first + i : x, first + i < valid);
  gpu::cp_commit();
  gpu::cp_wait<0>();
  __syncthreads();
  for (int i = threadIdx.x; i < kTile; i += blockDim.x) out[first + i] = tile[kTile - 1 - i];
}

__global__ void arrival_order_kernel(int* order, int* arrived) {
  __syncthreads();
  order[atomicAdd(arrived, 1)] = static_cast<int>(threadIdx.x);
}

#if !defined(__CUDACC__)
struct Counted {
  int* alive;
  explicit Counted(int* alive_) : alive(alive_) { atomicAdd(alive, 1); }
  ~Counted() { atomicAdd(alive, -1); }
};

void throw_beside_waiting_threads_kernel(int* alive, int throws) {
  const Counted counted(alive);
  if (static_cast<int>(threadIdx.x) == throws) throw std::runtime_error("thrown by a kernel");
  __syncthreads();
}
#endif

}  // namespace

void block_sums(float* sums, const float* x, int count, int blocks, void* stream) {
  gpu::launch(block_sums_kernel<kReduceThreads>, blocks, kReduceThreads, 0, stream, sums, x, count);
}

void write_indices(int* index, Extent grid, Extent block, void* stream) {
  gpu::launch(write_indices_kernel, dim3(grid.x, grid.y, grid.z), dim3(block.x, block.y, block.z), 0, stream,
              index);
}

void shuffle_lanes(int* out, Shuffle kind, int argument, int width, int lanes, void* stream) {
  gpu::launch(shuffle_lanes_kernel, 1, lanes, 0, stream, out, kind, argument, width);
}

void shuffle_doubles(double* out, const double* in, void* stream) {
  gpu::launch(shuffle_doubles_kernel, 1, 32, 0, stream, out, in);
}

void vote_by_parity(unsigned* ballot, int* any, int* all, void* stream) {
  gpu::launch(vote_by_parity_kernel, 1, 32, 0, stream, ballot, any, all);
}

void prefix_by_syncwarp(int* out, void* stream) {
  gpu::launch(prefix_by_syncwarp_kernel, 1, 32, 0, stream, out);
}

void gemm_tf32(float* c, const float* a, const float* b, int m, int n, int k, void* stream) {
  constexpr int kStages = 3;
  const size_t shared_bytes = kStages * (64 * 20 + 16 * 72) * sizeof(float);
  gpu::launch(gemm_tf32_kernel<kStages>, dim3(n / 64, m / 64), 128, shared_bytes, stream, c, a, b, n, k);
}

template <int Bytes>
void copy_through_shared(float* out, const float* x, int valid, int count, void* stream) {
  gpu::launch(copy_through_shared_kernel<Bytes>, count / 256, 64, 0, stream, out, x, valid);
}
template void copy_through_shared<4>(float*, const float*, int, int, void*);
template void copy_through_shared<8>(float*, const float*, int, int, void*);
template void copy_through_shared<16>(float*, const float*, int, int, void*);

void arrival_order(int* order, int threads, void* stream) {
  gpu::launch(arrival_order_kernel, 1, threads, 0, stream, order, order + threads);
}

#if !defined(__CUDACC__)
void throw_beside_waiting_threads(int* alive, int threads, void* stream) {
  gpu::launch(throw_beside_waiting_threads_kernel, 1, threads, 0, stream, alive, threads - 1);
}
#endif

}  // namespace fovea::test
