#include "kernels/random.hpp"

#include <cmath>

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

std::uint32_t word(const Philox4& block, std::int64_t lane) {
  const std::uint32_t words[4] = {block.x, block.y, block.z, block.w};
  return words[lane];
}

/// Philox block of element i, which is its lane i % 4.
Philox4 block_of(const RandomKey& key, std::int64_t i) {
  return philox_block(key, static_cast<std::uint32_t>(i / 4));
}

// Draws are made in f32 with explicit multiply-adds, also for T = double: the same numbers for every scalar
// and device.

template <class T>
void uniform(T* x, std::int64_t count, double low, double high, const RandomKey& key, const Queue&) {
  const float span = static_cast<float>(high - low), offset = static_cast<float>(low);
  for (std::int64_t i = 0; i < count; ++i)
    x[i] = std::fma(uniform_from_bits(word(block_of(key, i), i % 4)), span, offset);
}

template <class T>
void normal(T* x, std::int64_t count, double mean, double deviation, const RandomKey& key, const Queue&) {
  const float factor = static_cast<float>(deviation), offset = static_cast<float>(mean);
  for (std::int64_t i = 0; i < count; ++i) {
    float normals[4];
    normals_from_block(block_of(key, i), normals);
    x[i] = std::fma(normals[i % 4], factor, offset);
  }
}

template <class T>
void dropout_factors(T* x, std::int64_t count, double p, const RandomKey& key, const Queue&) {
  const float dropped = static_cast<float>(p);
  const T kept = static_cast<T>(1 / (1 - p));
  for (std::int64_t i = 0; i < count; ++i)  // the uniform number is in (0, 1): p = 0 keeps all
    x[i] = uniform_from_bits(word(block_of(key, i), i % 4)) <= dropped ? T(0) : kept;
}

}  // namespace

template <class T>
void fill(RandomKernels<T>& table) {
  table = {uniform<T>, normal<T>, dropout_factors<T>};
}
template void fill(RandomKernels<float>&);
template void fill(RandomKernels<double>&);

}  // namespace fovea::reference
