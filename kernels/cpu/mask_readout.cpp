// The parts of the mask readout around its matrix product. Neurons are the lanes; masks that come as
// (N, pixels) are turned by blocks of pixels.
#include "kernels/mask_readout.hpp"

#include "engine/simd_math.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t block_pixels = 8;
constexpr std::int64_t block_rows = 32;

struct Pixels {
  std::int64_t begin, end;
};

/// lines[pixel - begin][n] <- mask.
void load_mask(float* lines, const float* mask, const MaskReadoutShape& s, Pixels pixels) {
  for (std::int64_t n = 0; n < s.neurons; ++n)
    for (std::int64_t p = pixels.begin; p < pixels.end; ++p)
      lines[(p - pixels.begin) * s.neurons + n] =
          mask[s.mask_neurons_last ? p * s.neurons + n : n * s.pixels + p];
}

/// dmask = or += lines[pixel - begin][n].
void write_mask(float* dmask, const float* lines, const MaskReadoutShape& s, Pixels pixels, Write mode) {
  for (std::int64_t n = 0; n < s.neurons; ++n)
    for (std::int64_t p = pixels.begin; p < pixels.end; ++p) {
      float& to = dmask[s.mask_neurons_last ? p * s.neurons + n : n * s.pixels + p];
      const float value = lines[(p - pixels.begin) * s.neurons + n];
      to = mode == Write::accumulate ? to + value : value;
    }
}

void weight(float* weight, const float* mask, const float* features, const MaskReadoutShape& s,
            const Queue& queue) {
  const std::int64_t line_floats = block_pixels * s.neurons;
  const Scratch memory(queue, line_floats * worker_count(queue));
  for_each_chunk(queue, s.pixels, block_pixels,
                 [&](std::int64_t begin, std::int64_t end, std::int64_t, int worker) {
                   float* lines = memory.data + worker * line_floats;
                   load_mask(lines, mask, s, {begin, end});
                   for (std::int64_t p = begin; p < end; ++p)
                     for (std::int64_t c = 0; c < s.channels; ++c)
                       for_each_vector(0, s.neurons, [&](std::int64_t n, auto part) {
                         const F16 m = part.load(lines + (p - begin) * s.neurons + n);
                         part.save(weight + (p * s.channels + c) * s.neurons + n,
                                   mul(m, part.load(features + c * s.neurons + n)));
                       });
                 });
}

/// Sums of one block: dmask of its pixels as lines, dfeatures (C, N) over its pixels.
void grad_block(float* dmask_lines, float* dfeatures, const float* dweight, const float* mask_lines,
                const float* features, const MaskReadoutShape& s, Pixels pixels) {
  for (std::int64_t i = 0; i < s.channels * s.neurons; ++i) dfeatures[i] = 0;
  for (std::int64_t p = pixels.begin; p < pixels.end; ++p) {
    const std::int64_t line = (p - pixels.begin) * s.neurons;
    for_each_vector(0, s.neurons, [&](std::int64_t n, auto part) {
      const F16 m = part.load(mask_lines + line + n);
      F16 sum = F16::zero();
      for (std::int64_t c = 0; c < s.channels; ++c) {
        const std::int64_t at = c * s.neurons + n;
        const F16 d = part.load(dweight + p * s.channels * s.neurons + at);
        sum = madd(d, part.load(features + at), sum);
        part.save(dfeatures + at, madd(d, m, part.load(dfeatures + at)));
      }
      part.save(dmask_lines + line + n, sum);
    });
  }
}

void grad_weight(float* dmask, float* dfeatures, const float* dweight, const float* mask,
                 const float* features, const MaskReadoutShape& s, Write mask_mode, Write features_mode,
                 const Queue& queue) {
  const std::int64_t line_floats = block_pixels * s.neurons, feature_floats = s.channels * s.neurons;
  const std::int64_t blocks = (s.pixels + block_pixels - 1) / block_pixels;
  const Scratch memory(queue, 2 * line_floats * worker_count(queue)), partial(queue, blocks * feature_floats);
  for_each_chunk(
      queue, s.pixels, block_pixels,
      [&](std::int64_t begin, std::int64_t end, std::int64_t block, int worker) {
        float *lines = memory.data + 2 * worker * line_floats, *dlines = lines + line_floats;
        load_mask(lines, mask, s, {begin, end});
        grad_block(dlines, partial.data + block * feature_floats, dweight, lines, features, s, {begin, end});
        if (dmask) write_mask(dmask, dlines, s, {begin, end}, mask_mode);
      });
  if (!dfeatures) return;
  for_each_chunk(queue, feature_floats, 1024, [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
    for_each_vector(begin, end, [&](std::int64_t i, auto part) {
      F16 sum = F16::zero();
      for (std::int64_t block = 0; block < blocks; ++block)
        sum = add(sum, part.load(partial.data + block * feature_floats + i));
      part.save(dfeatures + i, features_mode == Write::accumulate ? add(part.load(dfeatures + i), sum) : sum);
    });
  });
}

/// A vector of per-neuron values, or one for all of them where there are none.
template <class Part>
FOVEA_INLINE F16 load_or(const float* values, std::int64_t n, float otherwise, Part part) {
  return values ? part.load(values + n) : F16::broadcast(otherwise);
}

void activate(float* y, const float* z, const float* scale, const float* bias, const MaskReadoutShape& s,
              const Queue& queue) {
  for_each_chunk(queue, s.rows, block_rows, [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
    with_activation(s.activation, [&](auto activation) {
      for (std::int64_t row = begin; row < end; ++row)
        for_each_vector(0, s.neurons, [&](std::int64_t n, auto part) {
          const std::int64_t at = row * s.neurons + n;
          const F16 u = madd(part.load(z + at), load_or(scale, n, 1, part), load_or(bias, n, 0, part));
          part.save(y + at, activation.value(u));
        });
    });
  });
}

/// sum = or += the partial sums of all blocks; `partial` is [block][vector][2][16].
void finish_sums(float* to, const Wide16* partial, std::int64_t blocks, std::int64_t neurons, Write mode) {
  const std::int64_t vectors = (neurons + 15) / 16;
  for (std::int64_t n = 0; n < neurons; ++n) {
    double sum = mode == Write::accumulate ? static_cast<double>(to[n]) : 0;
    for (std::int64_t block = 0; block < blocks; ++block)
      sum += partial[2 * (block * vectors + n / 16)].v[n % 16];
    to[n] = static_cast<float>(sum);
  }
}

/// Per-neuron sums are taken in double precision: slopes of a correlation loss nearly cancel in them.
void grad_activate(float* dz, float* dscale, float* dbias, const float* dy, const float* z,
                   const float* scale, const float* bias, const MaskReadoutShape& s, Write scale_mode,
                   Write bias_mode, const Queue& queue) {
  const std::int64_t blocks = (s.rows + block_rows - 1) / block_rows, vectors = (s.neurons + 15) / 16;
  const Scratch memory(queue,
                       2 * blocks * vectors * static_cast<std::int64_t>(sizeof(Wide16) / sizeof(float)));
  auto* const sums = reinterpret_cast<Wide16*>(memory.data);
  for_each_chunk(
      queue, s.rows, block_rows, [&](std::int64_t begin, std::int64_t end, std::int64_t block, int) {
        with_activation(s.activation, [&](auto activation) {
          for_each_vector(0, s.neurons, [&](std::int64_t n, auto part) {
            const F16 factor = load_or(scale, n, 1, part), offset = load_or(bias, n, 0, part);
            const Wide16 wide_factor = widened(factor);
            Wide16 scale_sum{}, bias_sum{};
            for (std::int64_t row = begin; row < end; ++row) {
              const std::int64_t at = row * s.neurons + n;
              const F16 input = part.load(z + at);
              const Wide16 x = widened(input), d = widened(part.load(dy + at)),
                           a = wide_slope(activation, madd(input, factor, offset));
              const Wide16 slope = each_lane([&](int i) { return d.v[i] * a.v[i]; });
              part.save(dz + at, narrowed(each_lane([&](int i) { return slope.v[i] * wide_factor.v[i]; })));
              for (int i = 0; i < 16; ++i) {
                scale_sum.v[i] += slope.v[i] * x.v[i];
                bias_sum.v[i] += slope.v[i];
              }
            }
            Wide16* const to = sums + 2 * (block * vectors + n / 16);
            to[0] = scale_sum;
            to[1] = bias_sum;
          });
        });
      });
  if (dscale) finish_sums(dscale, sums, blocks, s.neurons, scale_mode);
  if (dbias) finish_sums(dbias, sums + 1, blocks, s.neurons, bias_mode);
}

}  // namespace

void fill(MaskReadoutKernels<float>& table) { table = {weight, grad_weight, activate, grad_activate}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
