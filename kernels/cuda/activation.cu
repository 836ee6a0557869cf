// Activations and their gradients, elementwise; the sums of a parametric ReLU's slopes in two stages.
#include "kernels/cuda/kernels.hpp"

#include "kernels/cuda/map.hpp"
#include "kernels/cuda/math.hpp"
#include "kernels/cuda/scratch.hpp"
#include "kernels/cuda/sums.hpp"

namespace fovea::FOVEA_GPU {
namespace {

template <class A>
struct Value {
  A activation;
  __device__ __forceinline__ float operator()(float x) const { return activation.value(x); }
};

template <class A>
struct Gradient {
  A activation;
  __device__ __forceinline__ float operator()(float dy, float x) const { return dy * activation.slope(x); }
};

// ---- parametric ReLU

struct ReluValues {
  float thresh, neg_slope, pos_slope;
  explicit __device__ __forceinline__ ReluValues(const ParametricRelu<float>& p)
      : thresh(*p.thresh), neg_slope(*p.neg_slope), pos_slope(*p.pos_slope) {}
};

struct ReluParameters {
  ParametricRelu<float> p;
};

struct Relu {
  ReluValues p;
  __device__ __forceinline__ float operator()(float x) const {
    const float u = x - p.thresh;
    return (u < 0.f ? p.neg_slope : p.pos_slope) * u;
  }
};

__device__ __forceinline__ Relu ready(const ReluParameters& parameters) { return {ReluValues(parameters.p)}; }

/// Sums of a block over the values below the threshold and above it.
struct SlopeSums {
  double negative, positive;
};

// partials (blocks, 2) <- sums of dy (x - thresh) below the threshold and above; dx unless null. A thread
// takes fours, whether or not they are accessed as one.
template <bool vectors>
__global__ void __launch_bounds__(kSumThreads)
    relu_grad_kernel(SlopeSums* partials, float* dx, const float* dy, const float* x,
                     ParametricRelu<float> parameters, std::int64_t count, bool accumulate) {
  const ReluValues p(parameters);
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kSumThreads * 4;
  double negative = 0, positive = 0;
  for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kSumThreads + threadIdx.x) * 4; i < count;
       i += stride) {
    const Values<4> four = load_first<vectors>(x + i, count - i), up = load_first<vectors>(dy + i, count - i);
    Values<4> result;
    GPU_UNROLL
    for (int k = 0; k < 4; ++k) {
      const float u = four.at[k] - p.thresh;
      const bool below = u < 0.f;
      const double term = static_cast<double>(up.at[k]) * static_cast<double>(u);
      if (i + k < count) (below ? negative : positive) += term;
      result.at[k] = up.at[k] * (below ? p.neg_slope : p.pos_slope);
    }
    if (!dx) continue;
    if (accumulate) result = added(load_first<vectors>(dx + i, count - i), result);
    store_first<vectors>(dx + i, result, count - i);
  }
  negative = block_sum<kSumThreads>(negative);
  positive = block_sum<kSumThreads>(positive);
  if (threadIdx.x == 0) partials[blockIdx.x] = {negative, positive};
}

__global__ void __launch_bounds__(kSumThreads)
    finish_slopes(float* dneg, float* dpos, const SlopeSums* partials, int count) {
  SlopeSums sums{0, 0};
  for (int i = threadIdx.x; i < count; i += kSumThreads) {
    sums.negative += partials[i].negative;
    sums.positive += partials[i].positive;
  }
  sums.negative = block_sum<kSumThreads>(sums.negative);
  sums.positive = block_sum<kSumThreads>(sums.positive);
  if (threadIdx.x != 0) return;
  *dneg = static_cast<float>(sums.negative);
  *dpos = static_cast<float>(sums.positive);
}

// ---- parametric softplus

struct SoftplusValues {
  float alpha, beta, gamma, least;
  __device__ __forceinline__ SoftplusValues(const ParametricSoftplus<float>& p)
      : alpha(*p.alpha), beta(*p.beta), gamma(*p.gamma), least(static_cast<float>(p.least)) {}
};

struct SoftplusParameters {
  ParametricSoftplus<float> p;
};

struct SoftplusGradientParameters {
  ParametricSoftplus<float> p;
};

struct Softplus {
  SoftplusValues p;
  __device__ __forceinline__ float operator()(float x) const {
    const float value = p.alpha * math::softplus(gpu::fma(p.beta, x, p.gamma));
    return value < p.least ? p.least : value;
  }
};

struct SoftplusGradient {
  SoftplusValues p;
  __device__ __forceinline__ float operator()(float dy, float x) const {
    const math::Softplus s = math::wide_softplus(gpu::fma(p.beta, x, p.gamma));
    const bool inside = p.alpha * static_cast<float>(s.value) > p.least;
    return inside ? dy * (p.alpha * static_cast<float>(s.slope) * p.beta) : 0.f;
  }
};

__device__ __forceinline__ Softplus ready(const SoftplusParameters& parameters) { return {parameters.p}; }
__device__ __forceinline__ SoftplusGradient ready(const SoftplusGradientParameters& parameters) {
  return {parameters.p};
}

// ---- launchers
// -------------------------------------------------------------------------------------------------

void forward(float* y, const float* x, const Activation& activation, std::int64_t count, const Queue& queue) {
  with_activation(activation, [&]<class A>(const A& chosen) {
    map(y, count, Write::overwrite, queue, Value<A>{chosen}, x);
  });
}

void grad(float* dx, const float* dy, const float* x, const Activation& activation, std::int64_t count,
          Write mode, const Queue& queue) {
  with_activation(activation,
                  [&]<class A>(const A& chosen) { map(dx, count, mode, queue, Gradient<A>{chosen}, dy, x); });
}

void parametric_relu(float* y, const float* x, const ParametricRelu<float>& p, std::int64_t count,
                     const Queue& queue) {
  map(y, count, Write::overwrite, queue, ReluParameters{p}, x);
}

void parametric_relu_grad(float* dx, float* dneg, float* dpos, const float* dy, const float* x,
                          const ParametricRelu<float>& p, std::int64_t count, Write mode,
                          const Queue& queue) {
  const int blocks = sum_blocks(count);
  const Scratch<SlopeSums> partials(queue, static_cast<std::size_t>(blocks > 0 ? blocks : 1));
  if (blocks > 0)
    gpu::launch(aligned(dx, dy, x) ? relu_grad_kernel<true> : relu_grad_kernel<false>, blocks, kSumThreads, 0,
                queue.stream, partials.data(), dx, dy, x, p, count, mode == Write::accumulate);
  gpu::launch(finish_slopes, 1, kSumThreads, 0, queue.stream, dneg, dpos,
              static_cast<const SlopeSums*>(partials.data()), blocks);
}

void parametric_softplus(float* y, const float* x, const ParametricSoftplus<float>& p, std::int64_t count,
                         const Queue& queue) {
  map(y, count, Write::overwrite, queue, SoftplusParameters{p}, x);
}

void parametric_softplus_grad(float* dx, const float* dy, const float* x, const ParametricSoftplus<float>& p,
                              std::int64_t count, Write mode, const Queue& queue) {
  map(dx, count, mode, queue, SoftplusGradientParameters{p}, dy, x);
}

}  // namespace

void fill(ActivationKernels<float>& table) {
  table = {
      forward, grad, parametric_relu, parametric_relu_grad, parametric_softplus, parametric_softplus_grad};
}

}  // namespace fovea::FOVEA_GPU
