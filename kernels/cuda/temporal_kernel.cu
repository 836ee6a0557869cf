// Sines and cosines do not depend on the pair: they are tabulated once, and the rest is sums over them.
// Angles grow with the speed and the harmonic, so that they are made in double precision, in turns, where
// taking off the whole ones is exact.
#include "kernels/temporal_kernel.hpp"

#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/cuda/scratch.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kThreads = 256;

/// exp(x); beyond +-700 as there.
__device__ __forceinline__ double wide_exp(double x) {
  if (!(x == x)) return x;
  x = x < -700.0 ? -700.0 : x > 700.0 ? 700.0 : x;
  const double whole = floor(x * 1.4426950408889634 + 0.5);
  const double r = (x - whole * 0x1.62e42feep-1) - whole * 0x1.a39ef35793c76p-33;  // ln 2 in two parts
  double p = 1.0;
  GPU_UNROLL
  for (int i = 14; i > 0; --i) p = p * r * (1.0 / i) + 1.0;
  return p * __longlong_as_double((static_cast<long long>(whole) + 1023) << 52);
}

struct SineCosine {
  double sine, cosine;
};

/// Of 2 pi turns.
__device__ __forceinline__ SineCosine sine_cosine(double turns) {
  if (!(turns - turns == 0.0)) return {turns - turns, turns - turns};  // infinite or NaN
  const double rest = turns - floor(turns + 0.5), quarters = floor(4.0 * rest + 0.5);
  const double a = (rest - 0.25 * quarters) * 6.283185307179586, square = a * a;
  double sine = 1.0, cosine = 1.0;
  GPU_UNROLL
  for (int i = 16; i > 0; i -= 2) {
    cosine = 1.0 - cosine * square * (1.0 / (i * (i - 1)));
    sine = 1.0 - sine * square * (1.0 / (i * (i + 1)));
  }
  sine = sine * a;
  const int quarter = static_cast<int>(quarters) & 3;
  const double s = quarter % 2 ? cosine : sine, c = quarter % 2 ? sine : cosine;
  return {quarter >= 2 ? -s : s, quarter == 1 || quarter == 2 ? -c : c};
}

struct Taps {
  int harmonics, length;
  double onset;
  std::int64_t pairs;
};

// table (2, K, L), or (2, L, K) when taps_first: mask_t sin(k phase_t), then mask_t cos(k phase_t)
__global__ void __launch_bounds__(kThreads)
    tabulate(float* table, const float* log_speed, Taps taps, bool taps_first) {
  const int size = taps.harmonics * taps.length, e = blockIdx.x * kThreads + threadIdx.x;
  if (e >= size) return;
  const int k = taps_first ? e % taps.harmonics : e / taps.length;
  const int t = taps_first ? e / taps.harmonics : e % taps.length;
  const double speed = wide_exp(static_cast<double>(*log_speed)), time = t - taps.length;
  const double mask = 1.0 / (1.0 + wide_exp(-(time + taps.onset / speed)));
  const SineCosine of = sine_cosine(k * (speed * time / taps.length));
  table[e] = static_cast<float>(mask * of.sine);
  table[size + e] = static_cast<float>(mask * of.cosine);
}

// temporal (pairs, L) <- weights (pairs, K), table (2, K, L)
__global__ void __launch_bounds__(kThreads)
    sum_harmonics(float* temporal, const float* sin_weights, const float* cos_weights, const float* table,
                  Taps taps) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= taps.pairs * taps.length) return;
  const std::int64_t weight = i / taps.length * taps.harmonics;
  const float *sine = table + i % taps.length, *cosine = sine + taps.harmonics * taps.length;
  float sum = 0.f;
  for (int k = 0; k < taps.harmonics; ++k) {
    sum = gpu::fma(sin_weights[weight + k], sine[k * taps.length], sum);
    sum = gpu::fma(cos_weights[weight + k], cosine[k * taps.length], sum);
  }
  temporal[i] = sum;
}

// dweights (pairs, K) = or += sums over dtemporal (pairs, L) times table (L, K)
__global__ void __launch_bounds__(kThreads)
    sum_taps(float* dweights, const float* dtemporal, const float* table, Taps taps, bool accumulate) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= taps.pairs * taps.harmonics) return;
  const float* upstream = dtemporal + i / taps.harmonics * taps.length;
  const int k = static_cast<int>(i % taps.harmonics);
  float sum = 0.f;
  for (int t = 0; t < taps.length; ++t) sum = gpu::fma(upstream[t], table[t * taps.harmonics + k], sum);
  dweights[i] = accumulate ? dweights[i] + sum : sum;
}

// ---- launchers
// --------------------------------------------------------------------------------------------------

Taps taps_of(const TemporalKernelShape& s) {
  return {static_cast<int>(s.harmonics), static_cast<int>(s.length),
          static_cast<double>(static_cast<std::int64_t>(0.95 * static_cast<double>(s.length))), s.pairs};
}

unsigned blocks_of(std::int64_t count) { return static_cast<unsigned>((count + kThreads - 1) / kThreads); }

void make_table(float* table, const float* log_speed, const Taps& taps, bool taps_first, const Queue& queue) {
  if (taps.harmonics * taps.length > 0)
    gpu::launch(tabulate, ceil_div(taps.harmonics * taps.length, kThreads), kThreads, 0, queue.stream, table,
                log_speed, taps, taps_first);
}

void forward(float* temporal, const float* sin_weights, const float* cos_weights, const float* log_speed,
             const TemporalKernelShape& s, const Queue& queue) {
  if (s.pairs * s.length == 0) return;
  const Taps taps = taps_of(s);
  const Scratch<float> table(queue, static_cast<std::size_t>(2 * s.harmonics * s.length));
  make_table(table.data(), log_speed, taps, false, queue);
  gpu::launch(sum_harmonics, blocks_of(s.pairs * s.length), kThreads, 0, queue.stream, temporal, sin_weights,
              cos_weights, table.data(), taps);
}

void grad_weights(float* dsin, float* dcos, const float* dtemporal, const float* log_speed,
                  const TemporalKernelShape& s, Write sin_mode, Write cos_mode, const Queue& queue) {
  if (s.pairs * s.harmonics == 0) return;
  const Taps taps = taps_of(s);
  const Scratch<float> table(queue, static_cast<std::size_t>(2 * s.harmonics * s.length));
  make_table(table.data(), log_speed, taps, true, queue);
  const unsigned blocks = blocks_of(s.pairs * s.harmonics);
  if (dsin)
    gpu::launch(sum_taps, blocks, kThreads, 0, queue.stream, dsin, dtemporal, table.data(), taps,
                sin_mode == Write::accumulate);
  if (dcos)
    gpu::launch(sum_taps, blocks, kThreads, 0, queue.stream, dcos, dtemporal,
                table.data() + s.harmonics * s.length, taps, cos_mode == Write::accumulate);
}

}  // namespace

void fill(TemporalKernelKernels<float>& table) { table = {forward, grad_weights}; }

}  // namespace fovea::FOVEA_GPU
