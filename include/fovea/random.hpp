// Reproducible random numbers: counter-based, the same on every device and for any number of threads.
#pragma once
#include <cstdint>
#include <vector>

#include "fovea/tensor.hpp"

namespace fovea {

/// A sequence of independent draws named by (seed, stream, step); each call advances `draw`.
class Random {
 public:
  explicit Random(std::uint64_t seed, std::uint32_t stream = 0, std::uint32_t step = 0)
      : seed_(seed), stream_(stream), step_(step) {}

  /// Fills an f32 or f64 tensor; f64 gets the f32 numbers.
  void uniform(const Tensor& x, double low = 0, double high = 1);
  void normal(const Tensor& x, double mean = 0, double deviation = 1);
  /// 0 with probability p, else 1 / (1 - p): the factors of inverted dropout.
  void dropout_factors(const Tensor& x, double p);
  /// A uniformly random order of 0 .. count-1.
  std::vector<std::int64_t> permutation(std::int64_t count);

 private:
  std::uint64_t seed_;
  std::uint32_t stream_, step_;
  std::uint32_t draw_ = 0;
};

}  // namespace fovea
