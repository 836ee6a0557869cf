// One task per block of neurons, which goes through the batch; the sums over neurons are one task per image.
// Lanes are coordinates as they lie in memory, two a neuron.
#include "kernels/gaussian_grid.hpp"

#include "engine/simd_math.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t block_neurons = 128, block_floats = 2 * block_neurons;

/// a1 a0 b1 b0 ... of a0 a1 b0 b1 ...
FOVEA_INLINE F16 swapped_pairs(F16 x) {
  F8 first, second;
  deinterleave(x, first, second);
  return interleave(second, first);
}

/// Noise of a vector of coordinates, and that of the other coordinate of each neuron.
struct Noise {
  F16 own, other;
};

/// What a block of neurons draws from, sigma spread over the coordinates.
struct Block {
  std::int64_t floats;
  bool crossed;  // sigma is (2,2)
  const float *mu, *noise;
  std::int64_t noise_step;  // from image to image
  float own[block_floats], other[block_floats];

  template <class Part>
  FOVEA_INLINE Noise noise_of(std::int64_t b, std::int64_t i, Part part) const {
    const F16 e = noise ? part.load(noise + b * noise_step + i) : F16::zero();
    return {e, crossed ? swapped_pairs(e) : e};
  }

  /// mu + d, before the clamp.
  template <class Part>
  FOVEA_INLINE F16 drawn(const Noise& e, std::int64_t i, Part part) const {
    F16 d = mul(part.load(own + i), e.own);
    if (crossed) d = add(d, mul(part.load(other + i), e.other));
    return add(part.load(mu + i), d);
  }
};

void fill_block(Block& block, const float* mu, const float* sigma, const float* noise,
                const GaussianGridShape& s, std::int64_t begin, std::int64_t end) {
  block.floats = 2 * (end - begin);
  block.crossed = s.sigma_size == 4;
  block.mu = mu + 2 * begin;
  block.noise = noise ? noise + 2 * begin : nullptr;
  block.noise_step = s.noise_batch == 1 ? 0 : 2 * s.neurons;
  const float* const from = sigma + begin * s.sigma_size;
  for (std::int64_t i = 0; i < block.floats; ++i) {
    const std::int64_t n = i / 2, axis = i % 2;
    block.own[i] = from[s.sigma_size == 4 ? 4 * n + 3 * axis : s.sigma_size == 2 ? i : n];
    if (block.crossed) block.other[i] = from[4 * n + 1 + axis];
  }
}

void forward(float* g, const float* mu, const float* sigma, const float* noise, const float* shift,
             const GaussianGridShape& s, const Queue& queue) {
  for_each_chunk(
      queue, s.neurons, block_neurons, [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
        Block block;
        fill_block(block, mu, sigma, noise, s, begin, end);
        for (std::int64_t b = 0; b < s.batch; ++b) {
          float* const to = g + (b * s.neurons + begin) * 2;
          const F16 by = shift ? repeat<2>(shift + 2 * b) : F16::zero();
          for_each_vector(0, block.floats, [&](std::int64_t i, auto part) {
            const F16 value = block.drawn(block.noise_of(b, i, part), i, part);
            const F16 clamped = min(F16::broadcast(1), max(F16::broadcast(-1), value));  // keeps NaN
            part.save(to + i, add(clamped, by));
          });
        }
      });
}

/// Sums over the batch for the coordinates of a block.
struct Sums {
  Wide16 mu[block_floats / 16], own[block_floats / 16], other[block_floats / 16];
};

FOVEA_INLINE void add_product(Wide16& sum, const Wide16& a, F16 b) {
  const Wide16 wide_b = widened(b);
  sum = each_part([&](int i) { return sum.v[i] + a.v[i] * wide_b.v[i]; });
}

void sum_images(Sums& sums, const float* dg, const Block& block, const GaussianGridShape& s) {
  for (std::int64_t i = 0; i < block_floats / 16; ++i) sums.mu[i] = sums.own[i] = sums.other[i] = {};
  for (std::int64_t b = 0; b < s.batch; ++b)
    for_each_vector(0, block.floats, [&](std::int64_t i, auto part) {
      const Noise e = block.noise_of(b, i, part);
      const F16 value = block.drawn(e, i, part), zero = F16::zero();
      const F16 inside = select(less(value, F16::broadcast(1)), part.load(dg + b * 2 * s.neurons + i), zero);
      const Wide16 d = widened(select(less(F16::broadcast(-1), value), inside, zero));
      Wide16& mu = sums.mu[i / 16];
      mu = each_part([&](int k) { return mu.v[k] + d.v[k]; });
      add_product(sums.own[i / 16], d, e.own);
      if (block.crossed) add_product(sums.other[i / 16], d, e.other);
    });
}

FOVEA_INLINE void write_sum(float& to, double sum, Write mode) {
  to = static_cast<float>(mode == Write::accumulate ? static_cast<double>(to) + sum : sum);
}

/// to = or += sums, coordinate by coordinate.
void write_sums(float* to, const Wide16* sums, std::int64_t floats, Write mode) {
  for_each_vector(0, floats, [&](std::int64_t i, auto part) {
    Wide16 sum = sums[i / 16];
    if (mode == Write::accumulate) {
      const Wide16 before = widened(part.load(to + i));
      sum = each_part([&](int k) { return before.v[k] + sum.v[k]; });
    }
    part.save(to + i, narrowed(sum));
  });
}

/// dsigma of a block, of 1 or 4 values a neuron.
void write_sigma(float* dsigma, const Sums& sums, const Block& block, Write mode) {
  const auto *const own = reinterpret_cast<const double*>(sums.own), *const other =
                                                                         reinterpret_cast<const double*>(
                                                                             sums.other);
  for (std::int64_t i = 0; i < block.floats; i += 2) {
    if (!block.crossed) {
      write_sum(dsigma[i / 2], own[i] + own[i + 1], mode);
      continue;
    }
    float* const to = dsigma + 2 * i;
    write_sum(to[0], own[i], mode);
    write_sum(to[1], other[i], mode);
    write_sum(to[2], other[i + 1], mode);
    write_sum(to[3], own[i + 1], mode);
  }
}

void grad_shift(float* dshift, const float* dg, const GaussianGridShape& s, Write mode, const Queue& queue) {
  for_each_task(queue, s.batch, [&](std::int64_t b, int) {
    const float* const from = dg + b * 2 * s.neurons;
    Wide16 lanes{};
    for_each_vector(0, 2 * s.neurons, [&](std::int64_t i, auto part) {
      const Wide16 d = widened(part.load(from + i));
      lanes = each_part([&](int k) { return lanes.v[k] + d.v[k]; });
    });
    double sums[16];
    __builtin_memcpy(sums, &lanes, sizeof sums);
    for (int i = 2; i < 16; ++i) sums[i % 2] += sums[i];
    for (int i = 0; i < 2; ++i) write_sum(dshift[2 * b + i], sums[i], mode);
  });
}

void grad(float* dmu, float* dsigma, float* dshift, const float* dg, const float* mu, const float* sigma,
          const float* noise, const GaussianGridShape& s, Write mu_mode, Write sigma_mode, Write shift_mode,
          const Queue& queue) {
  if (dshift) grad_shift(dshift, dg, s, shift_mode, queue);
  if (!dmu && !dsigma) return;
  for_each_chunk(queue, s.neurons, block_neurons,
                 [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
                   Block block;
                   fill_block(block, mu, sigma, noise, s, begin, end);
                   Sums sums;
                   sum_images(sums, dg + 2 * begin, block, s);
                   if (dmu) write_sums(dmu + 2 * begin, sums.mu, block.floats, mu_mode);
                   if (!dsigma) return;
                   if (s.sigma_size == 2)
                     write_sums(dsigma + 2 * begin, sums.own, block.floats, sigma_mode);
                   else
                     write_sigma(dsigma + begin * s.sigma_size, sums, block, sigma_mode);
                 });
}

}  // namespace

void fill(GaussianGridKernels<float>& table) { table = {forward, grad}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
