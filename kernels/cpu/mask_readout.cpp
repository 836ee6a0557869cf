// The parts of the mask readout around its matrix product. Neurons are the lanes; masks that come as
// (N, pixels) are turned tile by tile.
#include "kernels/mask_readout.hpp"

#include "engine/simd_math.hpp"
#include "kernels/cpu/turn.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t tile_side = 64;  // pixels and neurons of a task
constexpr std::int64_t block_rows = 32;

struct Tile {
  std::int64_t pixel, pixels, neuron, neurons;
};

std::int64_t tiles_of(std::int64_t count) { return (count + tile_side - 1) / tile_side; }

/// body(tile, the number of its pixels' block, worker).
template <class Body>
FOVEA_INLINE void for_each_tile(const Queue& queue, const MaskReadoutShape& s, const Body& body) {
  const std::int64_t across = tiles_of(s.neurons);
  for_each_task(queue, tiles_of(s.pixels) * across, [&](std::int64_t task, int worker) {
    const std::int64_t block = task / across, pixel = block * tile_side, neuron = task % across * tile_side;
    const std::int64_t pixels = s.pixels - pixel, neurons = s.neurons - neuron;
    body(Tile{pixel, pixels < tile_side ? pixels : tile_side, neuron,
              neurons < tile_side ? neurons : tile_side},
         block, worker);
  });
}

/// Lines of neurons, one a pixel.
template <class Float>
struct Lines {
  Float* data;
  std::int64_t step;
};

/// The mask of a tile where it lies, or turned into `memory`.
Lines<const float> mask_lines(float* memory, const float* mask, const MaskReadoutShape& s, const Tile& tile) {
  if (s.mask_neurons_last) return {mask + tile.pixel * s.neurons + tile.neuron, s.neurons};
  turn(memory, tile_side, mask + tile.neuron * s.pixels + tile.pixel, s.pixels, tile.neurons, tile.pixels,
       Write::overwrite);
  return {memory, tile_side};
}

void weight(float* weight, const float* mask, const float* features, const MaskReadoutShape& s,
            const Queue& queue) {
  const Scratch memory(queue, tile_side * tile_side * worker_count(queue));
  for_each_tile(queue, s, [&](const Tile& tile, std::int64_t, int worker) {
    const Lines<const float> lines = mask_lines(memory.data + worker * tile_side * tile_side, mask, s, tile);
    for (std::int64_t p = 0; p < tile.pixels; ++p)
      for (std::int64_t c = 0; c < s.channels; ++c) {
        float* const to = weight + ((tile.pixel + p) * s.channels + c) * s.neurons + tile.neuron;
        const float *const m = lines.data + p * lines.step, *const f = features + c * s.neurons + tile.neuron;
        for_each_vector(0, tile.neurons, [=](std::int64_t n, auto part) {
          part.save(to + n, mul(part.load(m + n), part.load(f + n)));
        });
      }
  });
}

/// dmask of a few pixels = or += their sums over channels, dfeatures (C, N) += theirs, pixel by pixel.
template <int pixels>
FOVEA_INLINE void grad_pixels(const Lines<float> dmask, Write mask_mode, float* dfeatures,
                              const float* dweight, const Lines<const float> mask, const float* features,
                              const MaskReadoutShape& s, std::int64_t count) {
  const std::int64_t neurons = s.neurons, channels = s.channels;
  for_each_vector(0, count, [=](std::int64_t n, auto part) {
    F16 m[pixels], sum[pixels];
    FOVEA_UNROLL
    for (int i = 0; i < pixels; ++i) {
      m[i] = part.load(mask.data + i * mask.step + n);
      sum[i] = F16::zero();
    }
    for (std::int64_t c = 0; c < channels; ++c) {
      const std::int64_t at = c * neurons + n;
      const F16 f = part.load(features + at);
      F16 df = part.load(dfeatures + at);
      FOVEA_UNROLL
      for (int i = 0; i < pixels; ++i) {
        const F16 d = part.load(dweight + i * channels * neurons + at);
        sum[i] = madd(d, f, sum[i]);
        df = madd(d, m[i], df);
      }
      part.save(dfeatures + at, df);
    }
    FOVEA_UNROLL
    for (int i = 0; i < pixels; ++i) {
      float* const to = dmask.data + i * dmask.step + n;
      part.save(to, mask_mode == Write::accumulate ? add(part.load(to), sum[i]) : sum[i]);
    }
  });
}

template <int count>
struct Number {
  static constexpr int pixels = count;
};

void grad_tile(const Lines<float> dmask, Write mask_mode, float* dfeatures, const float* dweight,
               const Lines<const float> mask, const float* features, const MaskReadoutShape& s,
               const Tile& tile) {
  constexpr int some = accumulators16 >= 16 ? 4 : 2;  // the sums are the same whatever their number
  const std::int64_t pixel_floats = s.channels * s.neurons;
  for (std::int64_t c = 0; c < s.channels; ++c)
    for_each_vector(0, tile.neurons, [&](std::int64_t n, auto part) {
      part.save(dfeatures + c * s.neurons + n, F16::zero());
    });
  const auto add_pixels = [&](std::int64_t p, auto number) {
    grad_pixels<decltype(number)::pixels>({dmask.data + p * dmask.step, dmask.step}, mask_mode, dfeatures,
                                          dweight + p * pixel_floats, {mask.data + p * mask.step, mask.step},
                                          features, s, tile.neurons);
  };
  std::int64_t p = 0;
  for (; p + some <= tile.pixels; p += some) add_pixels(p, Number<some>{});
  for (; p < tile.pixels; ++p) add_pixels(p, Number<1>{});
}

/// dmask (N, pixels) = or += lines, which become lines of pixels in `memory`.
void write_turned(float* dmask, float* memory, const Lines<const float> lines, const MaskReadoutShape& s,
                  const Tile& tile, Write mode) {
  turn(memory, tile_side, lines.data, lines.step, tile.pixels, tile.neurons, Write::overwrite);
  for (std::int64_t n = 0; n < tile.neurons; ++n) {
    float* const to = dmask + (tile.neuron + n) * s.pixels + tile.pixel;
    const float* const from = memory + n * tile_side;
    for_each_vector(0, tile.pixels, [=](std::int64_t p, auto part) {
      const F16 value = part.load(from + p);
      part.save(to + p, mode == Write::accumulate ? add(part.load(to + p), value) : value);
    });
  }
}

void grad_weight(float* dmask, float* dfeatures, const float* dweight, const float* mask,
                 const float* features, const MaskReadoutShape& s, Write mask_mode, Write features_mode,
                 const Queue& queue) {
  constexpr std::int64_t tile_floats = tile_side * tile_side;
  const std::int64_t feature_floats = s.channels * s.neurons, blocks = tiles_of(s.pixels),
                     own_floats = 2 * tile_floats * worker_count(queue);
  const bool in_place = dmask && s.mask_neurons_last;
  const Scratch memory(queue, own_floats + blocks * feature_floats);
  float* const partial = memory.data + own_floats;
  for_each_tile(queue, s, [&](const Tile& tile, std::int64_t block, int worker) {
    float *const turned = memory.data + worker * 2 * tile_floats, *const own = turned + tile_floats;
    const Lines<const float> lines = mask_lines(turned, mask, s, tile);
    const Lines<float> dlines = in_place
                                    ? Lines<float>{dmask + tile.pixel * s.neurons + tile.neuron, s.neurons}
                                    : Lines<float>{own, tile_side};
    grad_tile(dlines, in_place ? mask_mode : Write::overwrite, partial + block * feature_floats + tile.neuron,
              dweight + tile.pixel * feature_floats + tile.neuron, lines, features + tile.neuron, s, tile);
    if (dmask && !in_place) write_turned(dmask, turned, {own, tile_side}, s, tile, mask_mode);
  });
  if (!dfeatures) return;
  for_each_chunk(queue, feature_floats, 1024, [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
    for_each_vector(begin, end, [&](std::int64_t i, auto part) {
      F16 sum = F16::zero();
      for (std::int64_t block = 0; block < blocks; ++block)
        sum = add(sum, part.load(partial + block * feature_floats + i));
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

/// Sums of a vector of neurons over the rows of a block.
struct RowSums {
  Wide16 scale, bias;
};

/// to = or += the sums of all blocks, `sums` being [block][vector].
template <class Sum>
void finish_sums(float* to, const RowSums* sums, const Sum& sum_of, std::int64_t blocks, std::int64_t neurons,
                 Write mode, const Queue& queue) {
  const std::int64_t vectors = (neurons + 15) / 16;
  for_each_chunk(queue, neurons, 256, [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
    for_each_vector(begin, end, [&](std::int64_t n, auto part) {
      Wide16 sum{};
      if (mode == Write::accumulate) sum = widened(part.load(to + n));
      for (std::int64_t block = 0; block < blocks; ++block) {
        const Wide16 own = sum_of(sums[block * vectors + n / 16]);
        sum = each_part([&](int i) { return sum.v[i] + own.v[i]; });
      }
      part.save(to + n, narrowed(sum));
    });
  });
}

/// Per-neuron sums are taken in double precision: slopes of a correlation loss nearly cancel in them.
void grad_activate(float* dz, float* dscale, float* dbias, const float* dy, const float* z,
                   const float* scale, const float* bias, const MaskReadoutShape& s, Write scale_mode,
                   Write bias_mode, const Queue& queue) {
  const std::int64_t blocks = (s.rows + block_rows - 1) / block_rows, vectors = (s.neurons + 15) / 16;
  const Scratch memory(queue, blocks * vectors * static_cast<std::int64_t>(sizeof(RowSums) / sizeof(float)));
  auto* const sums = reinterpret_cast<RowSums*>(memory.data);
  for_each_chunk(
      queue, s.rows, block_rows, [&](std::int64_t begin, std::int64_t end, std::int64_t block, int) {
        RowSums* const own = sums + block * vectors;
        for (std::int64_t i = 0; i < vectors; ++i) own[i] = {};
        with_activation(s.activation, [&](auto activation) {
          for (std::int64_t row = begin; row < end; ++row)
            for_each_vector(0, s.neurons, [&](std::int64_t n, auto part) {
              const F16 factor = load_or(scale, n, 1, part), offset = load_or(bias, n, 0, part);
              const std::int64_t at = row * s.neurons + n;
              const F16 input = part.load(z + at);
              const Wide16 x = widened(input), d = widened(part.load(dy + at)), wide_factor = widened(factor),
                           a = wide_slope(activation, madd(input, factor, offset));
              const Wide16 slope = each_part([&](int i) { return d.v[i] * a.v[i]; });
              part.save(dz + at, narrowed(each_part([&](int i) { return slope.v[i] * wide_factor.v[i]; })));
              RowSums& to = own[n / 16];
              to.scale = each_part([&](int i) { return to.scale.v[i] + slope.v[i] * x.v[i]; });
              to.bias = each_part([&](int i) { return to.bias.v[i] + slope.v[i]; });
            });
        });
      });
  const auto scale_of = [](const RowSums& own) { return own.scale; };
  const auto bias_of = [](const RowSums& own) { return own.bias; };
  if (dscale) finish_sums(dscale, sums, scale_of, blocks, s.neurons, scale_mode, queue);
  if (dbias) finish_sums(dbias, sums, bias_of, blocks, s.neurons, bias_mode, queue);
}

}  // namespace

void fill(MaskReadoutKernels<float>& table) { table = {weight, grad_weight, activate, grad_activate}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
