// numpy's legacy generator, bit for bit.
#pragma once
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

namespace fovea {

/// numpy.random.RandomState(seed): MT19937 (Matsumoto and Nishimura 1998) with numpy's ways of drawing from
/// it.
class LegacyRandom {
 public:
  explicit LegacyRandom(std::uint32_t seed);
  /// RandomState([word, word, ..]); a seed of 2^32 or more goes here as its words, lowest first. ConfigError
  /// when empty.
  explicit LegacyRandom(const std::vector<std::uint32_t>& words);

  std::uint32_t next32();
  /// random_sample(): uniform in [0, 1) with 53 bits.
  double uniform();
  /// Uniform in 0 .. max, by masking and rejection as `shuffle` draws it (32 bits a try up to 2^32 - 1).
  std::uint64_t interval(std::uint64_t max);
  /// randint(low, high) for the default dtype (64 bits); ConfigError unless low < high.
  std::int64_t randint(std::int64_t low, std::int64_t high);

  template <class T>
  void shuffle(std::vector<T>& values) {
    for (std::uint64_t i = values.size(); i-- > 1;) std::swap(values[i], values[interval(i)]);
  }
  std::vector<std::int64_t> permutation(std::int64_t count);
  /// choice(count, size, replace): ConfigError where there are not that many.
  std::vector<std::int64_t> choice(std::int64_t count, std::int64_t size, bool replace);

 private:
  void seed_words(std::uint32_t seed);
  void refill();

  std::array<std::uint32_t, 624> state_;
  int position_ = 624;
};

}  // namespace fovea
