// Gaussian masks and the gradients of their parameters: a warp per neuron, pixels are the lanes.
#include "kernels/gaussian_mask.hpp"

#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/math.hpp"
#include "kernels/cuda/reduce.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kLanes = 32, kWarps = 4, kThreads = kLanes * kWarps;
constexpr float kLogVarBound = 20.f, kDistanceBound = 20.f;

struct Masks {
  int neurons, pixels;
  float mean_scale, var_scale;
};

struct Position {
  float row, column;
};

/// The Gaussian of one neuron. Pairs: the grid can be read by pairs.
template <bool kPairs>
struct Gaussian {
  const float* grid;  // (pixels, 2)
  float row, column, exponential, variance;
  bool clamped;

  __device__ __forceinline__ Gaussian(int n, const float* mask_mean, const float* mask_log_var,
                                      const float* grids, const Masks& m)
      : grid(grids + static_cast<std::size_t>(n) * m.pixels * 2),
        row(mask_mean[2 * n] * m.mean_scale),
        column(mask_mean[2 * n + 1] * m.mean_scale) {
    float log_var = mask_log_var[n] * m.var_scale;
    clamped = log_var <= -kLogVarBound || log_var >= kLogVarBound;
    if (clamped) log_var = log_var < 0.f ? -kLogVarBound : kLogVarBound;
    exponential = math::exp(log_var);
    variance = exponential + 1e-8f;
  }

  /// From the mean.
  __device__ __forceinline__ Position position(int p) const {
    if constexpr (kPairs) {
      const float2 at = reinterpret_cast<const float2*>(grid)[p];
      return {at.x - row, at.y - column};
    } else {
      return {grid[2 * p] - row, grid[2 * p + 1] - column};
    }
  }
  /// Squared, in variances.
  __device__ __forceinline__ float distance(const Position& at) const {
    return gpu::fma(at.row, at.row, at.column * at.column) / variance;
  }
  __device__ __forceinline__ static float density(float distance) {
    return math::exp_of_negative(-0.5f *
                                 (distance > kDistanceBound ? kDistanceBound : distance));  // keeps NaN
  }
};

template <bool kPairs>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(float* mask, const float* mask_mean, const float* mask_log_var, const float* grid,
                   Masks m) {
  const int lane = threadIdx.x % kLanes, n = blockIdx.x * kWarps + threadIdx.x / kLanes;
  if (n >= m.neurons) return;
  const Gaussian<kPairs> g(n, mask_mean, mask_log_var, grid, m);
  float* own = mask + static_cast<std::size_t>(n) * m.pixels;
  float sum = 0.f;
  for (int p = lane; p < m.pixels; p += kLanes) {
    const float density = g.density(g.distance(g.position(p)));
    own[p] = density;
    sum += density;
  }
  sum = warp_sum<kLanes>(sum);
  for (int p = lane; p < m.pixels; p += kLanes) own[p] = sum == sum ? own[p] / sum : 0.f;
}

template <bool kPairs>
__global__ void __launch_bounds__(kThreads)
    grad_kernel(float* dmean, float* dlog_var, const float* dmask, const float* mask_mean,
                const float* mask_log_var, const float* grid, Masks m) {
  const int lane = threadIdx.x % kLanes, n = blockIdx.x * kWarps + threadIdx.x / kLanes;
  if (n >= m.neurons) return;
  const Gaussian<kPairs> g(n, mask_mean, mask_log_var, grid, m);
  const float* upstream = dmask + static_cast<std::size_t>(n) * m.pixels;
  float sum = 0.f, mean = 0.f;
  for (int p = lane; p < m.pixels; p += kLanes) {
    const float density = g.density(g.distance(g.position(p)));
    sum += density;
    mean = gpu::fma(upstream[p], density, mean);
  }
  sum = warp_sum<kLanes>(sum);
  mean = warp_sum<kLanes>(mean) / sum;
  // Sums of d(mask . upstream) / d(squared distance) times a coordinate, or the distance itself.
  const bool defined = sum == sum;  // else the mask is the constant 0
  float row = 0.f, column = 0.f, distance = 0.f;
  for (int p = lane; defined && p < m.pixels; p += kLanes) {
    const Position at = g.position(p);
    const float d2 = g.distance(at);
    if (!(d2 < kDistanceBound)) continue;
    const float pull = -0.5f * g.density(d2) * (upstream[p] - mean) / sum;
    row = gpu::fma(pull, at.row, row);
    column = gpu::fma(pull, at.column, column);
    distance = gpu::fma(pull, d2, distance);
  }
  row = warp_sum<kLanes>(row);
  column = warp_sum<kLanes>(column);
  distance = warp_sum<kLanes>(distance);
  if (lane != 0) return;
  const float per_mean = -2.f / g.variance * m.mean_scale;
  dmean[2 * n] = defined ? row * per_mean : 0.f;
  dmean[2 * n + 1] = defined ? column * per_mean : 0.f;
  dlog_var[n] = g.clamped || !defined ? 0.f : distance * (-g.exponential / g.variance * m.var_scale);
}

Masks masks_of(const GaussianMaskShape& s) {
  return {static_cast<int>(s.neurons), static_cast<int>(s.pixels), static_cast<float>(s.mean_scale),
          static_cast<float>(s.var_scale)};
}

bool by_pairs(const float* grid) { return reinterpret_cast<std::uintptr_t>(grid) % sizeof(float2) == 0; }

void forward(float* mask, const float* mask_mean, const float* mask_log_var, const float* grid,
             const GaussianMaskShape& s, const Queue& queue) {
  if (s.neurons * s.pixels == 0) return;
  const Masks m = masks_of(s);
  gpu::launch(by_pairs(grid) ? forward_kernel<true> : forward_kernel<false>, ceil_div(m.neurons, kWarps),
              kThreads, 0, queue.stream, mask, mask_mean, mask_log_var, grid, m);
}

void grad_parameters(float* dmean, float* dlog_var, const float* dmask, const float* mask_mean,
                     const float* mask_log_var, const float* grid, const GaussianMaskShape& s,
                     const Queue& queue) {
  if (s.neurons == 0) return;
  const Masks m = masks_of(s);
  gpu::launch(by_pairs(grid) ? grad_kernel<true> : grad_kernel<false>, ceil_div(m.neurons, kWarps), kThreads,
              0, queue.stream, dmean, dlog_var, dmask, mask_mean, mask_log_var, grid, m);
}

}  // namespace

void fill(GaussianMaskKernels<float>& table) { table = {forward, grad_parameters}; }

}  // namespace fovea::FOVEA_GPU
