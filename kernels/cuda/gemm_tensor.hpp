// The same tile by tensor cores: every operand is a tf32 number plus a rest in tf32, and three products of
// those make one of f32 (what is left out is below 2^-22 of a product: 3xTF32). Tensor cores cut off where
// they add, so each slice starts from zero and its result is added by a rounded addition.
//
// An infinity in an operand gives NaN. The rounding of tensor cores is their own: only the emulator and GPUs
// of one architecture agree in every bit.
#pragma once
#include "kernels/cuda/gemm_tile.hpp"

namespace fovea::FOVEA_GPU {

/// A warp's 32 x (8 * ThreadColumns) results as fragments of 16 x 8.
template <class Tile>
struct TensorSums {
  static constexpr int Rows = 2, Columns = Tile::ThreadColumns;
  float at[Rows][Columns][4];
};

template <int N>
struct TwoParts {
  float big[N], small[N];

  __device__ __forceinline__ void set(int i, float value) {
    big[i] = gpu::to_tf32(value);
    small[i] = gpu::to_tf32(value - big[i]);
  }
};

/// Blocks on a multiprocessor: the fragments take more registers than the sums of multiply_tile.
template <class Tile>
constexpr int kTensorBlocks = Tile::Threads == 256       ? 1
                              : Tile::ThreadColumns == 8 ? 2
                                                         : 4;

/// As multiply_tile. Which term of the sum a lane holds is free as long as both operands agree: with terms
/// 2 * (lane % 4) and the next one, the padded rows put the 32 loads of a fragment into different banks.
template <class Tile, class StageSlice>
__device__ __forceinline__ void multiply_tile(TensorSums<Tile>& sums, int steps, const StageSlice& stage) {
  using Sums = TensorSums<Tile>;
  const int lane = threadIdx.x % 32, group = lane / 4, term = lane % 4 * 2;
  GPU_UNROLL
  for (int j = 0; j < Sums::Columns; ++j) {
    GPU_UNROLL
    for (int r = 0; r < 4; ++r) sums.at[0][j][r] = sums.at[1][j][r] = 0.f;
  }
  for_slices<Tile>(steps, stage, [&](const float* a, const float* b) {
    a += term * Tile::ARow + Tile::warp_row() + group;
    b += term * Tile::BRow + Tile::warp_column() + group;
    TwoParts<4> rows[Sums::Rows];
    GPU_UNROLL
    for (int i = 0; i < Sums::Rows; ++i) {
      GPU_UNROLL
      for (int r = 0; r < 4; ++r) rows[i].set(r, a[r / 2 * Tile::ARow + i * 16 + r % 2 * 8]);
    }
    GPU_UNROLL
    for (int j = 0; j < Sums::Columns; ++j) {
      TwoParts<2> columns;
      columns.set(0, b[j * 8]);
      columns.set(1, b[Tile::BRow + j * 8]);
      GPU_UNROLL
      for (int i = 0; i < Sums::Rows; ++i) {
        float slice[4] = {};
        gpu::mma_m16n8k8_tf32(slice, rows[i].small, columns.big);
        gpu::mma_m16n8k8_tf32(slice, rows[i].big, columns.small);
        gpu::mma_m16n8k8_tf32(slice, rows[i].big, columns.big);
        GPU_UNROLL
        for (int r = 0; r < 4; ++r) sums.at[i][j][r] += slice[r];
      }
    }
  });
}

/// As above: a thread writes pairs of columns, four of them a sector.
template <class Tile>
__device__ __forceinline__ void write_tile(const GemmOutput& out, float* c, const float* bias,
                                           const TensorSums<Tile>& sums, int rows, int columns) {
  using Sums = TensorSums<Tile>;
  const int lane = threadIdx.x % 32;
  GPU_UNROLL
  for (int i = 0; i < Sums::Rows * 2; ++i) {
    const int row = Tile::warp_row() + i * 8 + lane / 4;
    if (row >= rows) continue;
    GPU_UNROLL
    for (int j = 0; j < Sums::Columns; ++j) {
      const int column = Tile::warp_column() + j * 8 + lane % 4 * 2;
      float* to = c + row * out.stride + column;
      float pair[2] = {sums.at[i / 2][j][i % 2 * 2], sums.at[i / 2][j][i % 2 * 2 + 1]};
      GPU_UNROLL
      for (int l = 0; l < 2; ++l) {
        if (column + l >= columns) continue;
        if (bias) pair[l] += bias[column + l];
        if (out.accumulate) pair[l] = to[l] + pair[l];
      }
      if (out.vector && column < columns)
        *reinterpret_cast<float2*>(to) = make_float2(pair[0], pair[1]);
      else {
        GPU_UNROLL
        for (int l = 0; l < 2; ++l)
          if (column + l < columns) to[l] = pair[l];
      }
    }
  }
}

}  // namespace fovea::FOVEA_GPU
