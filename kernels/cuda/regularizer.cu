// Regularizers: values and slopes. Terms, sums and slopes before their last rounding are in double precision:
// a regularizer of a large readout has tens of millions of terms, and a slope can be the difference of nearly
// equal numbers. Blocks leave partial sums, which one block adds in order.
#include "kernels/regularizer.hpp"

#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/math.hpp"
#include "kernels/cuda/scratch.hpp"
#include "kernels/cuda/sums.hpp"
#include "kernels/cuda/vectors.hpp"

namespace fovea::FOVEA_GPU {
namespace {

constexpr int kThreads = 256, kVectors = 4, kChunk = 4 * kThreads * kVectors, kWarps = kThreads / 32;

unsigned chunks_of(std::int64_t count, std::int64_t chunk) {
  return static_cast<unsigned>((count + chunk - 1) / chunk);
}

// ---- sums over elements
// ----------------------------------------------------------------------------------------

/// A term and its slope.
struct Term {
  double value;
  float slope;
};

/// |w|, the slope times `factor`.
struct Absolute {
  double factor;
  __device__ Term operator()(float w, std::int64_t) const {
    const float scale = static_cast<float>(factor);
    return {fabsf(w), w > 0.0f ? scale : w < 0.0f ? -scale : 0.0f};
  }
};

struct Square {
  double factor;
  __device__ Term operator()(float w, std::int64_t) const {
    const double wide = w;
    return {wide * wide, static_cast<float>(2.0 * factor * wide)};
  }
};

/// (w * scale)^2
struct ScaledSquare {
  double scale, factor;
  __device__ Term operator()(float w, std::int64_t) const {
    const double distance = w * scale;
    return {distance * distance, static_cast<float>(factor * 2.0 * distance * scale)};
  }
};

/// exp(w * scale)
struct Exponential {
  double scale, factor;
  __device__ Term operator()(float w, std::int64_t) const {
    // exp of a product that is rounded to float, times what rounding took from it.
    const double exponent = w * scale;
    const float rounded = static_cast<float>(exponent);
    const double e = math::logistic(rounded).e, power = rounded > 0.0f ? 1.0 / e : e;
    const double value = power * (1.0 + (exponent - rounded));
    return {value, static_cast<float>(factor * scale * value)};
  }
};

/// (r_k w)^2, k = position % harmonics, r = linspace(0.1, 0.9, harmonics), 0.1 if there is one.
struct Ramped {
  std::int64_t harmonics;
  double channels;
  __device__ Term operator()(float w, std::int64_t position) const {
    const double at = static_cast<double>(position % harmonics);
    const double r = harmonics == 1 ? 0.1 : 0.1 + 0.8 * at / static_cast<double>(harmonics - 1), a = r * w;
    return {a * a, static_cast<float>(2.0 * r * a / channels)};
  }
};

// partials (blocks) <- sums of scale * term(w); slope (count) unless null
template <bool vectors, class Of>
__global__ void __launch_bounds__(kThreads)
    sum_terms(double* partials, float* slope, const float* w, std::int64_t count, double scale, Of term) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kChunk + 4 * threadIdx.x;
  Values<4> v[kVectors];
  int values[kVectors];
  GPU_UNROLL
  for (int k = 0; k < kVectors; ++k) {
    const std::int64_t at = first + 4 * k * kThreads;
    values[k] = static_cast<int>(max(min(count - at, std::int64_t{4}), std::int64_t{0}));
    v[k] = load_first<vectors>(w + at, values[k]);
  }
  double sum = 0;
  GPU_UNROLL
  for (int k = 0; k < kVectors; ++k) {
    const std::int64_t at = first + 4 * k * kThreads;
    GPU_UNROLL
    for (int j = 0; j < 4; ++j) {
      const Term t = term(v[k].at[j], at + j);
      if (j < values[k]) sum += t.value;
      v[k].at[j] = t.slope;
    }
    if (slope) store_first<vectors>(slope + at, v[k], values[k]);
  }
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = scale * sum;
}

/// One sum over elements: partials of `chunks_of(count, kChunk)` blocks.
template <class Of>
void launch_terms(double* partials, float* slope, const float* w, std::int64_t count, double scale,
                  const Of& term, const Queue& queue) {
  if (count == 0) return;
  const auto kernel = aligned(w, slope) ? sum_terms<true, Of> : sum_terms<false, Of>;
  gpu::launch(kernel, chunks_of(count, kChunk), kThreads, 0, queue.stream, partials, slope, w, count, scale,
              term);
}

template <class Of>
void sum_of_terms(float* value, float* slope, const float* w, std::int64_t count, double factor,
                  const Of& term, const Queue& queue) {
  const unsigned blocks = chunks_of(count, kChunk);
  const Scratch<double> partials(queue, blocks);
  launch_terms(partials.data(), slope, w, count, 1, term, queue);
  sum_all(value, partials.data(), blocks, factor, queue);
}

void absolute_sum(float* value, float* slope, const float* w, std::int64_t count, double factor,
                  const Queue& queue) {
  sum_of_terms(value, slope, w, count, factor, Absolute{factor}, queue);
}

void square_sum(float* value, float* slope, const float* w, std::int64_t count, double factor,
                const Queue& queue) {
  sum_of_terms(value, slope, w, count, factor, Square{factor}, queue);
}

void gaussian_extent(float* value, float* slope_mean, float* slope_log_var, const float* mean,
                     const float* log_var, std::int64_t neurons, double mean_scale, double var_scale,
                     double factor_mean, double factor_var, const Queue& queue) {
  const unsigned variances = chunks_of(neurons, kChunk), distances = chunks_of(2 * neurons, kChunk);
  const Scratch<double> partials(queue, variances + distances);
  launch_terms(partials.data(), slope_log_var, log_var, neurons, factor_var,
               Exponential{var_scale, factor_var}, queue);
  launch_terms(partials.data() + variances, slope_mean, mean, 2 * neurons, factor_mean,
               ScaledSquare{mean_scale, factor_mean}, queue);
  sum_all(value, partials.data(), variances + distances, 1, queue);
}

void temporal_smoothing(float* value, float* slope_sin, float* slope_cos, const float* sin_weights,
                        const float* cos_weights, const TemporalSmoothingShape& s, const Queue& queue) {
  const std::int64_t count = s.out_channels * s.in_channels * s.harmonics;
  const unsigned blocks = chunks_of(count, kChunk);
  const double channels = static_cast<double>(s.out_channels);
  const Scratch<double> partials(queue, 2 * blocks);
  const Ramped term{s.harmonics, channels};
  launch_terms(partials.data(), slope_sin, sin_weights, count, 1, term, queue);
  launch_terms(partials.data() + blocks, slope_cos, cos_weights, count, 1, term, queue);
  sum_all(value, partials.data(), 2 * blocks, 1 / channels, queue);
}

// ---- norms of filters
// -------------------------------------------------------------------------------------------

/// The squared norm of `taps` values, by `Lanes` neighbouring lanes; the same in all of them.
template <int Lanes>
__device__ __forceinline__ double squared_norm(const float* w, std::int64_t taps, int lane) {
  double sum = 0;
  for (std::int64_t k = lane; k < taps; k += Lanes) sum += static_cast<double>(w[k]) * w[k];
  return warp_sum<Lanes>(sum);
}

// `Lanes` threads a row. The slope of a norm at zero is taken as zero.
template <int Lanes>
__global__ void __launch_bounds__(kThreads)
    filter_norms_kernel(double* partials, float* slope, const float* w, std::int64_t rows, std::int64_t taps,
                        double factor) {
  const int lane = threadIdx.x % Lanes;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / Lanes) + static_cast<int>(threadIdx.x) / Lanes;
  const std::int64_t own = row < rows ? taps : 0;
  const float* filter = w + (own ? row * taps : 0);
  const double norm = sqrt(squared_norm<Lanes>(filter, own, lane));
  const double by = norm == 0.0 ? 0.0 : factor / norm;
  if (slope)
    for (std::int64_t k = lane; k < own; k += Lanes)
      slope[row * taps + k] = static_cast<float>(by * static_cast<double>(filter[k]));
  const double sum = block_sum<kThreads>(lane == 0 ? norm : 0.0);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

void filter_norms(float* value, float* slope, const float* w, std::int64_t rows, std::int64_t taps,
                  double factor, const Queue& queue) {
  constexpr int few = 4;
  const bool short_rows = taps <= 2 * few;
  const unsigned blocks = chunks_of(rows, kThreads / (short_rows ? few : 32));
  const Scratch<double> partials(queue, blocks);
  if (blocks)
    gpu::launch(short_rows ? filter_norms_kernel<few> : filter_norms_kernel<32>, blocks, kThreads, 0,
                queue.stream, partials.data(), slope, w, rows, taps, factor);
  sum_all(value, partials.data(), blocks, factor, queue);
}

// A block an output channel, its warps a filter at a time. norms (out channels, in channels) is scratch;
// terms (out channels) is the ratio of the sum of the norms to the norm of the group.
__global__ void __launch_bounds__(kThreads)
    group_sparsity_kernel(double* terms, double* norms, float* slope, const float* w, GroupSparsityShape s) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t o = blockIdx.x;
  const float* group = w + o * s.in_channels * s.taps;
  double* own = norms + o * s.in_channels;
  double sum = 0, squares = 0;
  for (std::int64_t i = warp; i < s.in_channels; i += kWarps) {
    const double square = squared_norm<32>(group + i * s.taps, s.taps, lane), norm = sqrt(square);
    sum += norm;
    squares += square;
    if (lane == 0) own[i] = norm;
  }
  sum = block_sum<kThreads>(lane == 0 ? sum : 0.0);
  const double root = sqrt(1e-8 + block_sum<kThreads>(lane == 0 ? squares : 0.0));
  if (threadIdx.x == 0) terms[o] = sum / root;
  if (!slope) return;
  const double shared = sum / (root * root * root);
  for (std::int64_t i = warp; i < s.in_channels; i += kWarps) {
    const double norm = own[i], by = (norm == 0.0 ? 0.0 : 1.0 / (norm * root)) - shared;
    for (std::int64_t k = lane; k < s.taps; k += 32)
      slope[(o * s.in_channels + i) * s.taps + k] =
          static_cast<float>(static_cast<double>(group[i * s.taps + k]) * by);
  }
}

void group_sparsity(float* value, float* slope, const float* w, const GroupSparsityShape& s,
                    const Queue& queue) {
  const auto groups = static_cast<std::size_t>(s.out_channels);
  const Scratch<double> terms(queue, groups), norms(queue, groups * static_cast<std::size_t>(s.in_channels));
  if (groups)
    gpu::launch(group_sparsity_kernel, static_cast<unsigned>(groups), kThreads, 0, queue.stream, terms.data(),
                norms.data(), slope, w, s);
  sum_all(value, terms.data(), s.out_channels, 1, queue);
}

}  // namespace

void fill_regularizers(RegularizerKernels<float>& table) {
  table.group_sparsity = group_sparsity;
  table.temporal_smoothing = temporal_smoothing;
  table.filter_norms = filter_norms;
  table.square_sum = square_sum;
  table.absolute_sum = absolute_sum;
  table.gaussian_extent = gaussian_extent;
}

}  // namespace fovea::FOVEA_GPU
