// Neurons are the lanes. Both kernels stream the maps once, in runs of a block of neurons, while the block's
// part of the features (and of their gradient) stays in the cache.
#include "kernels/feature_sum.hpp"

#include "engine/simd_math.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t block_neurons = 256, block_rows = 16, block_channels = 16;

struct Range {
  std::int64_t begin, end;
};

FOVEA_INLINE std::int64_t block_count(std::int64_t count, std::int64_t block) {
  return (count + block - 1) / block;
}

FOVEA_INLINE Range block_at(std::int64_t index, std::int64_t block, std::int64_t count) {
  const std::int64_t begin = index * block;
  return {begin, begin + block < count ? begin + block : count};
}

void forward(float* u, const float* z, const float* features, const FeatureSumShape& s, const Queue& queue) {
  const std::int64_t across = block_count(s.neurons, block_neurons);
  for_each_task(queue, block_count(s.rows, block_rows) * across, [&](std::int64_t task, int) {
    const Range rows = block_at(task / across, block_rows, s.rows),
                neurons = block_at(task % across, block_neurons, s.neurons);
    for (std::int64_t m = rows.begin; m < rows.end; ++m) {
      float* const sums = u + m * s.neurons;
      for_each_vector(neurons.begin, neurons.end,
                      [&](std::int64_t n, auto part) { part.save(sums + n, F16::zero()); });
      for (std::int64_t c = 0; c < s.channels; ++c) {
        const float* const map = z + (m * s.channels + c) * s.neurons;
        for_each_vector(neurons.begin, neurons.end, [&](std::int64_t n, auto part) {
          const F16 f = part.load(features + c * s.neurons + n);
          part.save(sums + n, madd(part.load(map + n), f, part.load(sums + n)));
        });
      }
    }
  });
}

/// The rows of one channel and some neurons after another: dz of the row, and dfeatures + du * z.
FOVEA_INLINE void grad_line(float* dz, float* dfeatures, const float* du, const float* z,
                            const float* features, const Range& neurons) {
  for_each_vector(neurons.begin, neurons.end, [&](std::int64_t n, auto part) {
    const F16 d = part.load(du + n);
    if (dz) part.save(dz + n, mul(d, part.load(features + n)));
    if (dfeatures) part.save(dfeatures + n, madd(d, part.load(z + n), part.load(dfeatures + n)));
  });
}

void grad(float* dz, float* dfeatures, const float* du, const float* z, const float* features,
          const FeatureSumShape& s, Write features_mode, const Queue& queue) {
  const std::int64_t across = block_count(s.neurons, block_neurons);
  for_each_task(queue, block_count(s.channels, block_channels) * across, [&](std::int64_t task, int) {
    const Range channels = block_at(task / across, block_channels, s.channels),
                neurons = block_at(task % across, block_neurons, s.neurons);
    for (std::int64_t c = channels.begin; dfeatures && c < channels.end; ++c)
      if (features_mode == Write::overwrite)
        for_each_vector(neurons.begin, neurons.end, [&](std::int64_t n, auto part) {
          part.save(dfeatures + c * s.neurons + n, F16::zero());
        });
    for (std::int64_t m = 0; m < s.rows; ++m)
      for (std::int64_t c = channels.begin; c < channels.end; ++c) {
        const std::int64_t map = (m * s.channels + c) * s.neurons, own = c * s.neurons;
        grad_line(dz ? dz + map : nullptr, dfeatures ? dfeatures + own : nullptr, du + m * s.neurons, z + map,
                  features + own, neurons);
      }
  });
}

}  // namespace

void fill(FeatureSumKernels<float>& table) { table = {forward, grad}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
