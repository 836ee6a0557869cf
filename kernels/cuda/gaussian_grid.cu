// Positions of point readouts. Lanes are the flat (neuron, component), so that every access is coalesced
// whatever its alignment.
#include "kernels/gaussian_grid.hpp"

#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/reduce.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kThreads = 256, kLanes = 32, kWarps = kThreads / kLanes;

struct Draws {
  std::int64_t batch;
  int values;      // 2 * neurons
  int sigma_size;  // values per neuron: 4, 2 or 1
  bool one_draw;
};

/// A component of a draw before the clamp, the noise of both components, and its own.
struct Draw {
  float value, first, second, own;
};

__device__ __forceinline__ Draw draw(const float* mu, const float* sigma, const float* noise, std::int64_t b,
                                     int at, const Draws& d) {
  Draw drawn{0.f, 0.f, 0.f, 0.f};
  if (noise) {
    const float* e = noise + (d.one_draw ? 0 : b) * d.values + at / 2 * 2;
    drawn.first = e[0];
    drawn.second = e[1];
    drawn.own = at % 2 ? drawn.second : drawn.first;
  }
  if (d.sigma_size == 4) {
    const float* row = sigma + static_cast<std::size_t>(at) * 2;
    drawn.value = mu[at] + gpu::fma(row[0], drawn.first, row[1] * drawn.second);
  } else {
    drawn.value = gpu::fma(sigma[d.sigma_size == 2 ? at : at / 2], drawn.own, mu[at]);
  }
  return drawn;
}

// g (B,N,2). Blocks: x = 256 values of (N,2), y = images in strides of the grid.
__global__ void __launch_bounds__(kThreads) forward_kernel(float* g, const float* mu, const float* sigma,
                                                           const float* noise, const float* shift, Draws d) {
  const int at = blockIdx.x * kThreads + threadIdx.x;
  if (at >= d.values) return;
  for (std::int64_t b = blockIdx.y; b < d.batch; b += gridDim.y) {
    const float value = draw(mu, sigma, noise, b, at, d).value;
    const float clamped = value < -1.f ? -1.f : value > 1.f ? 1.f : value;  // keeps NaN
    g[b * d.values + at] = clamped + (shift ? shift[2 * b + at % 2] : 0.f);
  }
}

// dmu (N,2), dsigma (N, sigma_size); either may be null. Blocks: x = 16 neurons; warps share the batch.
__global__ void __launch_bounds__(kThreads)
    grad_kernel(float* dmu, float* dsigma, const float* dg, const float* mu, const float* sigma,
                const float* noise, Draws d, bool add_mu, bool add_sigma) {
  GPU_SHARED(double, sums, [3][kWarps][kLanes]);
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int at = blockIdx.x * kLanes + lane;
  double mu_sum = 0, first_sum = 0, second_sum = 0;
  if (at < d.values)
    for (std::int64_t b = warp; b < d.batch; b += kWarps) {
      const Draw own = draw(mu, sigma, noise, b, at, d);
      if (!(own.value > -1.f && own.value < 1.f)) continue;
      const double slope = dg[b * d.values + at];
      mu_sum += slope;
      first_sum += slope * (d.sigma_size == 4 ? own.first : own.own);
      second_sum += slope * own.second;
    }
  sums[0][warp][lane] = mu_sum;
  sums[1][warp][lane] = first_sum;
  sums[2][warp][lane] = second_sum;
  __syncthreads();
  if (warp >= 3) return;
  double sum = 0;
  GPU_UNROLL
  for (int w = 0; w < kWarps; ++w) sum += sums[warp][w][lane];
  if (d.sigma_size == 1 && warp == 1) sum += __shfl_xor_sync(0xffffffffu, sum, 1);  // over both components
  if (at >= d.values) return;
  const auto write = [&](float& to, bool add) {
    to = add ? to + static_cast<float>(sum) : static_cast<float>(sum);
  };
  if (warp == 0) {
    if (dmu) write(dmu[at], add_mu);
  } else if (dsigma) {
    if (d.sigma_size == 4) write(dsigma[static_cast<std::size_t>(at) * 2 + warp - 1], add_sigma);
    if (d.sigma_size == 2 && warp == 1) write(dsigma[at], add_sigma);
    if (d.sigma_size == 1 && warp == 1 && at % 2 == 0) write(dsigma[at / 2], add_sigma);
  }
}

// dshift (B,2). Blocks: x = image.
__global__ void __launch_bounds__(kThreads)
    shift_kernel(float* dshift, const float* dg, int values, bool accumulate) {
  const float* own = dg + static_cast<std::size_t>(blockIdx.x) * values;
  double sum = 0;  // of one component: a block's width is even
  for (int i = threadIdx.x; i < values; i += kThreads) sum += own[i];
  const double x = block_sum<kThreads>(threadIdx.x % 2 == 0 ? sum : 0.0),
               y = block_sum<kThreads>(threadIdx.x % 2 == 1 ? sum : 0.0);
  if (threadIdx.x >= 2) return;
  float& to = dshift[2 * static_cast<std::size_t>(blockIdx.x) + threadIdx.x];
  const float total = static_cast<float>(threadIdx.x == 0 ? x : y);
  to = accumulate ? to + total : total;
}

// ---- launchers
// --------------------------------------------------------------------------------------------------

Draws draws_of(const GaussianGridShape& s) {
  return {s.batch, static_cast<int>(2 * s.neurons), static_cast<int>(s.sigma_size), s.noise_batch == 1};
}

void forward(float* g, const float* mu, const float* sigma, const float* noise, const float* shift,
             const GaussianGridShape& s, const Queue& queue) {
  if (s.batch * s.neurons == 0) return;
  const Draws d = draws_of(s);
  gpu::launch(forward_kernel,
              dim3(ceil_div(d.values, kThreads), static_cast<unsigned>(s.batch < 65535 ? s.batch : 65535)),
              kThreads, 0, queue.stream, g, mu, sigma, noise, shift, d);
}

void grad(float* dmu, float* dsigma, float* dshift, const float* dg, const float* mu, const float* sigma,
          const float* noise, const GaussianGridShape& s, Write mu_mode, Write sigma_mode, Write shift_mode,
          const Queue& queue) {
  const Draws d = draws_of(s);
  if ((dmu || dsigma) && s.neurons > 0)
    gpu::launch(grad_kernel, ceil_div(d.values, kLanes), kThreads, 0, queue.stream, dmu, dsigma, dg, mu,
                sigma, noise, d, mu_mode == Write::accumulate, sigma_mode == Write::accumulate);
  if (dshift && s.batch > 0)
    gpu::launch(shift_kernel, static_cast<unsigned>(s.batch), kThreads, 0, queue.stream, dshift, dg, d.values,
                shift_mode == Write::accumulate);
}

}  // namespace

void fill(GaussianGridKernels<float>& table) { table = {forward, grad}; }

}  // namespace fovea::FOVEA_GPU
