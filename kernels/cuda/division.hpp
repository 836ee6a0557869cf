// Division by a number known at launch, by multiplication (Granlund & Montgomery 1994): what index
// arithmetic of elementwise kernels would otherwise cost more than their memory accesses.
#pragma once
#include "engine/gpu.hpp"

namespace fovea::FOVEA_GPU {
namespace {

struct Division {
  std::int64_t quotient;
  std::int64_t remainder;
};

class Divisor {
 public:
  /// Below 1 it counts as 1: launchers that then have nothing to launch need no order of their checks.
  explicit Divisor(std::int64_t given) : divisor_(given < 1 ? 1 : given) {
    const std::int64_t divisor = divisor_;
    while (shift_ < 31 && (std::int64_t{1} << shift_) < divisor) ++shift_;
    const std::uint64_t power = std::uint64_t{1} << shift_;
    if (divisor <= small)
      multiplier_ = static_cast<unsigned>(
          ((power - static_cast<std::uint64_t>(divisor)) << 32) / static_cast<std::uint64_t>(divisor) + 1);
  }

  /// n >= 0; the quick way below 2^31.
  __device__ __forceinline__ Division operator()(std::int64_t n) const {
    if (n > small || divisor_ > small) return {n / divisor_, n % divisor_};
    const unsigned small_n = static_cast<unsigned>(n);
    const unsigned quotient = (__umulhi(small_n, multiplier_) + small_n) >> shift_;
    return {quotient, small_n - quotient * static_cast<unsigned>(divisor_)};
  }

 private:
  static constexpr std::int64_t small = 0x7fffffff;

  std::int64_t divisor_;
  unsigned multiplier_ = 0, shift_ = 0;
};

}  // namespace
}  // namespace fovea::FOVEA_GPU
