// Draws of the counter-based generator, 16 Philox blocks at once: plain loops over them, which the compiler
// turns into vectors. The same bits as the reference, whatever the vectors.
#include "kernels/random.hpp"

#include "engine/simd.hpp"
#include "kernels/cpu/isa.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr int blocks_at_once = 16, values_at_once = 4 * blocks_at_once, task_values = 64 * values_at_once;

/// The words of 16 consecutive blocks, [word][block].
struct Words {
  alignas(64) std::uint32_t x[blocks_at_once], y[blocks_at_once], z[blocks_at_once], w[blocks_at_once];
};

FOVEA_INLINE void fill_words(Words& words, const RandomKey& key, std::uint32_t first) {
  for (int b = 0; b < blocks_at_once; ++b) {
    words.x[b] = first + static_cast<std::uint32_t>(b);
    words.y[b] = key.draw;
    words.z[b] = key.step;
    words.w[b] = key.stream;
  }
  auto key0 = static_cast<std::uint32_t>(key.seed), key1 = static_cast<std::uint32_t>(key.seed >> 32);
  for (int round = 0; round < philox_rounds; ++round) {
    std::uint32_t p[blocks_at_once], q[blocks_at_once], low_p[blocks_at_once], low_q[blocks_at_once];
    multiply_wide(p, low_p, words.x, philox_factor0);
    multiply_wide(q, low_q, words.z, philox_factor1);
    for (int b = 0; b < blocks_at_once; ++b) {
      words.x[b] = q[b] ^ words.y[b] ^ key0;
      words.z[b] = p[b] ^ words.w[b] ^ key1;
      words.y[b] = low_q[b];
      words.w[b] = low_p[b];
    }
    key0 += philox_key_step0;
    key1 += philox_key_step1;
  }
}

/// x[i] <- what `values` makes of the words of block i / 4: it fills to[i % 4][block].
template <class MakeValues>
FOVEA_INLINE void draw(float* x, std::int64_t count, const RandomKey& key, const Queue& queue,
                       const MakeValues& make_values) {
  for_each_task(queue, (count + task_values - 1) / task_values, [&](std::int64_t task, int) {
    const std::int64_t end =
        task * task_values + task_values < count ? task * task_values + task_values : count;
    // Parameters in registers: stores could change those behind a pointer.
    const MakeValues make = make_values;
    for (std::int64_t i = task * task_values; i < end; i += values_at_once) {
      Words words;
      fill_words(words, key, static_cast<std::uint32_t>(i / 4));
      alignas(64) float values[4][blocks_at_once];
      make(words, values);
      float* const to = x + i;
      if (end - i >= values_at_once) {
        for (int b = 0; b < blocks_at_once; b += 4) {
          float* const blocks[4] = {to + 4 * b, to + 4 * b + 4, to + 4 * b + 8, to + 4 * b + 12};
          const float* const words_of[4] = {values[0] + b, values[1] + b, values[2] + b, values[3] + b};
          transpose4(blocks, words_of);
        }
      } else {
        for (int n = 0; n < end - i; ++n) to[n] = values[n % 4][n / 4];
      }
    }
  });
}

/// A value from every word by itself.
template <class ValueOf>
FOVEA_INLINE auto each_word(const ValueOf& value_of) {
  return [value_of](const Words& words, float(&values)[4][blocks_at_once]) __attribute__((always_inline)) {
    for (int b = 0; b < blocks_at_once; ++b) {
      values[0][b] = value_of(words.x[b]);
      values[1][b] = value_of(words.y[b]);
      values[2][b] = value_of(words.z[b]);
      values[3][b] = value_of(words.w[b]);
    }
  };
}

void uniform(float* x, std::int64_t count, double low, double high, const RandomKey& key,
             const Queue& queue) {
  const float span = static_cast<float>(high - low), offset = static_cast<float>(low);
  draw(x, count, key, queue, each_word([=](std::uint32_t word) __attribute__((always_inline)) {
         return fmaf(uniform_from_bits(word), span, offset);
       }));
}

void dropout_factors(float* x, std::int64_t count, double p, const RandomKey& key, const Queue& queue) {
  const float dropped = static_cast<float>(p), kept = static_cast<float>(1 / (1 - p));
  draw(x, count, key, queue, each_word([=](std::uint32_t word) __attribute__((always_inline)) {
         return uniform_from_bits(word) <= dropped ? 0.0f : kept;
       }));
}

void normal(float* x, std::int64_t count, double mean, double deviation, const RandomKey& key,
            const Queue& queue) {
  const float factor = static_cast<float>(deviation), offset = static_cast<float>(mean);
  const auto pairs = [=](const std::uint32_t* first, const std::uint32_t* second, float* normal0,
                         float* normal1) __attribute__((always_inline)) {
    for (int b = 0; b < blocks_at_once; ++b) {
      float a, c;
      normal_pair(first[b], second[b], &a, &c);
      normal0[b] = fmaf(a, factor, offset);
      normal1[b] = fmaf(c, factor, offset);
    }
  };
  draw(
      x, count, key,
      queue, [pairs](const Words& words, float(&values)[4][blocks_at_once]) __attribute__((always_inline)) {
        pairs(words.x, words.y, values[0], values[1]);
        pairs(words.z, words.w, values[2], values[3]);
      });
}

}  // namespace

void fill(RandomKernels<float>& table) { table = {uniform, normal, dropout_factors}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
