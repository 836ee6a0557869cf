// Launchers of the right kernels in sample_kernels.cu. Pointers are device memory; `stream` as for
// gpu::launch.
#pragma once

namespace fovea::test {

constexpr int kReduceThreads = 256;

/// sums[block] <- sum of the block's share of x, by shuffles, shared memory and barriers.
void block_sums(float* sums, const float* x, int count, int blocks, void* stream);

/// index[i] <- i, written by thread i in the row-major order of a 3-D grid of 3-D blocks of the given sizes.
struct Extent {
  unsigned x, y, z;
};
void write_indices(int* index, Extent grid, Extent block, void* stream);

enum class Shuffle { direct, up, down, exclusive_or };
/// One warp of `lanes` lanes: out[lane] <- the value that a shuffle of 100 + lane gives.
void shuffle_lanes(int* out, Shuffle kind, int argument, int width, int lanes, void* stream);
/// Doubles travel whole: out[lane] <- the value of the lane to the right, in a ring of 32.
void shuffle_doubles(double* out, const double* in, void* stream);

/// Even lanes vote among themselves, and so do odd ones: out[lane] <- ballot, any, all of "lane < 8".
void vote_by_parity(unsigned* ballot, int* any, int* all, void* stream);

/// out[lane] <- sum over the lanes below, passed from lane to lane through shared memory by __syncwarp alone.
void prefix_by_syncwarp(int* out, void* stream);

/// C (M,N) <- A (M,K) B (K,N) in tf32: cp.async stages, mma. M and N multiples of 64, K of 16.
void gemm_tf32(float* c, const float* a, const float* b, int m, int n, int k, void* stream);

/// out[i] <- x[i] where i < valid, else 0, by cp.async of `Bytes` (4, 8 or 16); count a multiple of 256.
template <int Bytes>
void copy_through_shared(float* out, const float* x, int valid, int count, void* stream);

/// order[k] <- which thread of the one block came k-th; not the same for every order of threads.
void arrival_order(int* order, int threads, void* stream);

#if !defined(__CUDACC__)
/// `threads` threads, each of which holds an object that counts itself in `alive`, wait at a barrier while
/// the last one throws std::runtime_error("thrown by a kernel").
void throw_beside_waiting_threads(int* alive, int threads, void* stream);
#endif

}  // namespace fovea::test
