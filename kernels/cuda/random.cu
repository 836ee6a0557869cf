// Draws of the counter-based generator: a thread makes the four values of a Philox block.
#include "kernels/cuda/kernels.hpp"

#include "kernels/cuda/map.hpp"

namespace fovea::FOVEA_GPU {
namespace {

struct Uniform {
  float span, offset;
  __device__ __forceinline__ Values<4> operator()(const Philox4& block) const {
    return {{value(block.x), value(block.y), value(block.z), value(block.w)}};
  }
  __device__ __forceinline__ float value(std::uint32_t word) const {
    return gpu::fma(uniform_from_bits(word), span, offset);
  }
};

struct Normal {
  float factor, offset;
  __device__ __forceinline__ Values<4> operator()(const Philox4& block) const {
    Values<4> four;
    normals_from_block(block, four.at);
    GPU_UNROLL
    for (int k = 0; k < 4; ++k) four.at[k] = gpu::fma(four.at[k], factor, offset);
    return four;
  }
};

struct DropoutFactor {
  float dropped, kept;
  __device__ __forceinline__ Values<4> operator()(const Philox4& block) const {
    return {{value(block.x), value(block.y), value(block.z), value(block.w)}};
  }
  __device__ __forceinline__ float value(std::uint32_t word) const {
    return uniform_from_bits(word) <= dropped ? 0.f : kept;
  }
};

template <bool vectors, class Draw>
__global__ void __launch_bounds__(kMapThreads)
    draw_kernel(float* x, std::int64_t count, RandomKey key, Draw draw) {
  const std::int64_t block = static_cast<std::int64_t>(blockIdx.x) * kMapThreads + threadIdx.x, i = 4 * block;
  if (i >= count) return;
  const Values<4> four = draw(philox_block(key, static_cast<std::uint32_t>(block)));
  if (vectors && i + 4 <= count) return store<4>(x + i, four);
  GPU_UNROLL
  for (int k = 0; k < 4; ++k)
    if (i + k < count) x[i + k] = four.at[k];
}

// ---- launchers
// -------------------------------------------------------------------------------------------------

template <class Draw>
void launch_draw(float* x, std::int64_t count, const RandomKey& key, const Draw& draw, const Queue& queue) {
  if (count <= 0) return;
  gpu::launch(aligned(x) ? draw_kernel<true, Draw> : draw_kernel<false, Draw>, blocks_for((count + 3) / 4),
              kMapThreads, 0, queue.stream, x, count, key, draw);
}

void uniform(float* x, std::int64_t count, double low, double high, const RandomKey& key,
             const Queue& queue) {
  launch_draw(x, count, key, Uniform{static_cast<float>(high - low), static_cast<float>(low)}, queue);
}

void normal(float* x, std::int64_t count, double mean, double deviation, const RandomKey& key,
            const Queue& queue) {
  launch_draw(x, count, key, Normal{static_cast<float>(deviation), static_cast<float>(mean)}, queue);
}

void dropout_factors(float* x, std::int64_t count, double p, const RandomKey& key, const Queue& queue) {
  launch_draw(x, count, key, DropoutFactor{static_cast<float>(p), static_cast<float>(1 / (1 - p))}, queue);
}

}  // namespace

void fill(RandomKernels<float>& table) { table = {uniform, normal, dropout_factors}; }

}  // namespace fovea::FOVEA_GPU
