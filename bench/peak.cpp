// Multiply-add rate of one instruction set: as many independent chains as the registers hold; and copies past
// the caches. Built once per instruction set like the CPU kernels.
#include "bench/peak.hpp"

#include "engine/simd.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {

double run_madds(std::int64_t rounds) {
  constexpr int chains = accumulators16 < 12 ? 6 : 24;
  float lanes[16 + chains];  // all different: equal halves of a vector would be computed once
  for (int i = 0; i < 16 + chains; ++i) lanes[i] = static_cast<float>(i);
  F16 sums[chains];
  FOVEA_UNROLL
  for (int i = 0; i < chains; ++i) sums[i] = F16::load(lanes + i);
  const F16 factor = F16::broadcast(1.0000001f), term = F16::broadcast(1e-9f);
  for (std::int64_t round = 0; round < rounds; ++round) {
    FOVEA_UNROLL
    for (int i = 0; i < chains; ++i) sums[i] = madd(sums[i], factor, term);
  }
  float result = 0;
  FOVEA_UNROLL
  for (int i = 0; i < chains; ++i) result += sum(sums[i]);
  peak_sink = result;
  return 2.0 * 16 * chains * static_cast<double>(rounds);
}

void copy_streamed(float* to, const float* from, std::int64_t floats) {
  for (std::int64_t i = 0; i < floats; i += 16) stream(to + i, F16::load(from + i));
  finish_streams();
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
