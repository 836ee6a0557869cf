// Random numbers drawn one after the other, for simulations.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>

#include "engine/philox.hpp"

namespace fovea {

/// Uniform in (0, 1), exact in f64.
inline double uniform53(std::uint32_t high, std::uint32_t low) {
  return (static_cast<double>((std::uint64_t{high} << 32 | low) >> 12) + 0.5) * 0x1p-52;
}

/// The Poisson count with this mean at quantile u, by inversion: walks up the distribution until it passes u.
/// exp(-mean) must not vanish; the probability underflows to 0 at the latest.
inline std::int64_t poisson_of_uniform(double mean, double u) {
  double probability = std::exp(-mean), below = probability;
  std::int64_t k = 0;
  while (u > below && probability > 0) {
    ++k;
    probability *= mean / static_cast<double>(k);
    below += probability;
  }
  return k;
}

/// A sequence of draws named by a key; a block of Philox for each uniform one, for each four normal ones.
class RandomDraws {
 public:
  explicit RandomDraws(const RandomKey& key) : key_(key) {}

  double uniform(double low = 0, double high = 1) {
    const Philox4 words = philox_block(key_, block_++);
    return low + (high - low) * uniform53(words.x, words.y);
  }
  double normal() {
    if (next_normal_ == normals_.size()) {
      normals_from_block(philox_block(key_, block_++), normals_.data());
      next_normal_ = 0;
    }
    return static_cast<double>(normals_[next_normal_++]);
  }
  /// Of mean 1.
  double exponential() { return -std::log(uniform()); }
  /// Poisson count; exp(-mean) must not vanish.
  std::int64_t poisson(double mean) { return poisson_of_uniform(mean, uniform()); }

 private:
  RandomKey key_;
  std::uint32_t block_ = 0;
  std::array<float, 4> normals_{};
  std::size_t next_normal_ = 4;
};

}  // namespace fovea
