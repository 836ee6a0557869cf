// After numpy/random/src/mt19937/mt19937.c and numpy/random/mtrand.pyx, whose streams numpy has frozen (NEP
// 19).
#include "data/legacy_random.hpp"

#include <algorithm>
#include <bit>
#include <numeric>

#include "fovea/error.hpp"

namespace fovea {

LegacyRandom::LegacyRandom(std::uint32_t seed) { seed_words(seed); }

LegacyRandom::LegacyRandom(const std::vector<std::uint32_t>& words) {
  if (words.empty()) throw ConfigError("LegacyRandom", "a seed needs at least one word");
  seed_words(19650218u);
  std::size_t i = 1, j = 0;
  for (std::size_t k = std::max(state_.size(), words.size()); k > 0; --k) {
    state_[i] = (state_[i] ^ (state_[i - 1] ^ state_[i - 1] >> 30) * 1664525u) + words[j] +
                static_cast<std::uint32_t>(j);
    if (++i == state_.size()) state_[0] = state_.back(), i = 1;
    if (++j == words.size()) j = 0;
  }
  for (std::size_t k = state_.size() - 1; k > 0; --k) {
    state_[i] =
        (state_[i] ^ (state_[i - 1] ^ state_[i - 1] >> 30) * 1566083941u) - static_cast<std::uint32_t>(i);
    if (++i == state_.size()) state_[0] = state_.back(), i = 1;
  }
  state_[0] = 0x80000000u;
}

void LegacyRandom::seed_words(std::uint32_t seed) {
  for (std::uint32_t i = 0; i < state_.size(); ++i) {
    state_[i] = seed;
    seed = 1812433253u * (seed ^ seed >> 30) + i + 1;
  }
}

void LegacyRandom::refill() {
  constexpr std::size_t n = 624, m = 397;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t y = (state_[i] & 0x80000000u) | (state_[(i + 1) % n] & 0x7fffffffu);
    state_[i] = state_[(i + m) % n] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0u);
  }
  position_ = 0;
}

std::uint32_t LegacyRandom::next32() {
  if (position_ == static_cast<int>(state_.size())) refill();
  std::uint32_t y = state_[static_cast<std::size_t>(position_++)];
  y ^= y >> 11;
  y ^= y << 7 & 0x9d2c5680u;
  y ^= y << 15 & 0xefc60000u;
  return y ^ y >> 18;
}

double LegacyRandom::uniform() {
  const std::uint32_t a = next32() >> 5, b = next32() >> 6;
  return (a * 67108864.0 + b) / 9007199254740992.0;
}

std::uint64_t LegacyRandom::interval(std::uint64_t max) {
  if (max == 0) return 0;
  const std::uint64_t mask = ~std::uint64_t{0} >> std::countl_zero(max);
  for (;;) {
    std::uint64_t value = next32();
    if (max > 0xffffffffu) value = value << 32 | next32();  // the high word comes first
    if ((value & mask) <= max) return value & mask;
  }
}

std::int64_t LegacyRandom::randint(std::int64_t low, std::int64_t high) {
  if (low >= high) throw ConfigError("LegacyRandom", text("randint needs low < high: ", low, ", ", high));
  return low + static_cast<std::int64_t>(
                   interval(static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low) - 1));
}

std::vector<std::int64_t> LegacyRandom::permutation(std::int64_t count) {
  if (count < 0) throw ConfigError("LegacyRandom", text("permutation of a negative number: ", count));
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  shuffle(order);
  return order;
}

std::vector<std::int64_t> LegacyRandom::choice(std::int64_t count, std::int64_t size, bool replace) {
  if (count < 1 || size < 0 || (!replace && size > count))
    throw ConfigError("LegacyRandom",
                      text("cannot choose ", size, " of ", count, replace ? "" : " without replacement"));
  std::vector<std::int64_t> chosen;
  if (replace) {
    for (std::int64_t i = 0; i < size; ++i) chosen.push_back(randint(0, count));
  } else {
    chosen = permutation(count);
    chosen.resize(static_cast<std::size_t>(size));
  }
  return chosen;
}

}  // namespace fovea
