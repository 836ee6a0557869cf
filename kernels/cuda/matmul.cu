// Matrix products: with the exactly rounded multiply-adds of f32, or, from a size on that is worth it, by
// tensor cores with an error of the same class. Which of them, which tile, and into how many chunks the sum
// is cut, depends on the shape (and on whether the GPU has such cores) only.
#include "kernels/cuda/gemm_tensor.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/matmul.hpp"
#include "kernels/cuda/scratch.hpp"

namespace fovea::FOVEA_GPU {
namespace {

/// How an operand lies in memory: along the sum, or across it.
enum class Along { terms, rows };

struct Operand {
  const float* data;
  std::int64_t stride;
  bool vector;  // float4 are possible across the sum
};

struct Product {
  Operand a, b;
  std::int64_t m, n, k, chunk;
  int column_tiles;
};

enum class Arithmetic { exact, tensor };

template <class Tile, Arithmetic How>
constexpr int kBlocks = How == Arithmetic::exact ? Tile::Blocks : kTensorBlocks<Tile>;

template <class Tile, int Extent, Along A>
__device__ __forceinline__ void stage_operand(float* to, const Operand& operand, std::int64_t first, int rows,
                                              std::int64_t k, int terms) {
  if constexpr (A == Along::terms)
    stage_transposed<Tile::Threads, Extent>(to, operand.data + first * operand.stride + k, operand.stride,
                                            rows, terms);
  else
    stage_straight<Tile::Threads, Extent>(to, operand.data + k * operand.stride + first, operand.stride, rows,
                                          terms, operand.vector);
}

// c (chunks, M, N) <- the products of the chunks of the sum. Blocks: x = tile, columns fastest; y = chunk.
template <class Tile, Along A, Along B, Arithmetic How>
__global__ void __launch_bounds__(Tile::Threads, (kBlocks<Tile, How>)) multiply(GemmOutput out, Product p) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) / p.column_tiles * Tile::Rows;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) % p.column_tiles * Tile::Columns;
  const std::int64_t begin = blockIdx.y * p.chunk, terms = min(p.chunk, p.k - begin);
  const int rows = static_cast<int>(min(p.m - row, static_cast<std::int64_t>(Tile::Rows)));
  const int columns = static_cast<int>(min(p.n - column, static_cast<std::int64_t>(Tile::Columns)));
  std::conditional_t<How == Arithmetic::exact, TileSums<Tile>, TensorSums<Tile>> sums;
  multiply_tile<Tile>(
      sums, static_cast<int>((terms + kDepth - 1) / kDepth), [&](int step, float* a, float* b) {
        const std::int64_t done = static_cast<std::int64_t>(step) * kDepth;
        const int left = static_cast<int>(min(terms - done, static_cast<std::int64_t>(kDepth)));
        stage_operand<Tile, Tile::Rows, A>(a, p.a, row, rows, begin + done, left);
        stage_operand<Tile, Tile::Columns, B>(b, p.b, column, columns, begin + done, left);
      });
  write_tile<Tile>(out, out.c + (blockIdx.y * p.m + row) * out.stride + column,
                   out.bias ? out.bias + column : nullptr, sums, rows, columns);
}

// ---- launchers
// -------------------------------------------------------------------------------------------------

/// Narrow and short products fill no fragments, small ones are a matter of latency.
Arithmetic choose_arithmetic(const MatmulShape& s) {
  constexpr std::int64_t enough = 1 << 21;
  const bool worth = s.m >= 64 && s.n > 32 && s.k >= 32 && s.m * s.n >= (enough + s.k - 1) / s.k;
  return worth && gpu::has_tensor_cores() ? Arithmetic::tensor : Arithmetic::exact;
}

template <Along A, Along B, Arithmetic How>
void product(float* c, const float* a, const float* b, const float* bias, const MatmulShape& s, Write mode,
             const Queue& queue) {
  const auto operand = [&](const float* data, Along along, std::int64_t rows) {
    return Operand{data, along == Along::terms ? s.k : rows, allows_vectors(data, rows)};
  };
  with_tile(choose_tile(s.m, s.n), [&]<class Tile>(Tile) {
    const std::int64_t tiles = tile_count(s.m, s.n, Tile::Rows, Tile::Columns);
    const GemmSplit split(tiles, s.k, s.m * s.n);
    const Product p{operand(a, A, s.m),
                    operand(b, B, s.n),
                    s.m,
                    s.n,
                    s.k,
                    split.chunk,
                    static_cast<int>((s.n + Tile::Columns - 1) / Tile::Columns)};
    const dim3 grid(static_cast<unsigned>(tiles), split.splits);
    const GemmOutput out{c, bias, s.n, mode == Write::accumulate, allows_vectors(c, s.n)};
    if (split.splits == 1) {
      gpu::launch(multiply<Tile, A, B, How>, grid, Tile::Threads, 0, queue.stream, out, p);
      return;
    }
    const Scratch<float> partials(queue, static_cast<std::size_t>(split.splits * s.m * s.n));
    gpu::launch(multiply<Tile, A, B, How>, grid, Tile::Threads, 0, queue.stream,
                GemmOutput{partials.data(), nullptr, s.n, false, s.n % 4 == 0}, p);
    gpu::launch(sum_splits, finish_blocks(s.m * s.n), kFinishThreads, 0, queue.stream, out,
                static_cast<const float*>(partials.data()), split.splits, s.m, static_cast<int>(s.n));
  });
}

template <Along A, Along B>
void product(float* c, const float* a, const float* b, const float* bias, const MatmulShape& s, Write mode,
             const Queue& queue) {
  if (choose_arithmetic(s) == Arithmetic::tensor)
    product<A, B, Arithmetic::tensor>(c, a, b, bias, s, mode, queue);
  else
    product<A, B, Arithmetic::exact>(c, a, b, bias, s, mode, queue);
}

template <ProductForm Form>
void entry(float* c, const float* a, const float* b, const MatmulShape& shape, Write mode,
           const Queue& queue) {
  multiply(Form, c, a, b, nullptr, shape, mode, queue);
}

}  // namespace

void multiply(ProductForm form, float* c, const float* a, const float* b, const float* bias,
              const MatmulShape& shape, Write mode, const Queue& queue) {
  if (shape.m == 0 || shape.n == 0) return;
  switch (form) {
    case ProductForm::nn:
      return product<Along::terms, Along::rows>(c, a, b, bias, shape, mode, queue);
    case ProductForm::tn:
      return product<Along::rows, Along::rows>(c, a, b, bias, shape, mode, queue);
    case ProductForm::nt:
      return product<Along::terms, Along::terms>(c, a, b, bias, shape, mode, queue);
  }
}

void fill(MatmulKernels<float>& table) {
  table = {entry<ProductForm::nn>, entry<ProductForm::tn>, entry<ProductForm::nt>};
}

}  // namespace fovea::FOVEA_GPU
