// The separable convolution with any kernel size: its geometry, and kernels without tiles or windows. They
// are for the sizes that no shipped model has, and what the tiled kernels are compared with.
#pragma once
#include "kernels/cuda/reduce.hpp"
#include "kernels/sepconv3d.hpp"

namespace fovea::FOVEA_GPU {

constexpr int kPlainThreads = 128;

/// A separable convolution from `in` to `out`: the forward one, or its transpose with mirrored kernels.
struct Convolution {
  int batch, in_channels, out_channels;
  int in_t, in_h, in_w, out_t, out_h, out_w;
  int kernel_t, kernel_h, kernel_w;
  int pad_t, pad_h, pad_w;

  __host__ __device__ int kernel_row() const { return ceil_div(kernel_w, 4) * 4; }
  /// Floats of a channel pair's packed weights: rows padded to float4, then the temporal kernel, also padded.
  __host__ __device__ int packed_pair() const { return kernel_h * kernel_row() + ceil_div(kernel_t, 4) * 4; }
};

// ------------------------------------------------------------------------------------

// One thread per output, channels fastest: neighbouring threads read the same pixels.
static __global__ void __launch_bounds__(kPlainThreads)
    convolve_plain(float* y, const float* x, const float* packed, Convolution c, bool accumulate) {
  const std::int64_t count =
      static_cast<std::int64_t>(c.batch) * c.out_t * c.out_h * c.out_w * c.out_channels;
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * kPlainThreads + threadIdx.x;
  if (e >= count) return;
  const int o = static_cast<int>(e % c.out_channels);
  std::int64_t rest = e / c.out_channels;
  const int w = static_cast<int>(rest % c.out_w), h = static_cast<int>(rest / c.out_w % c.out_h);
  rest = rest / c.out_w / c.out_h;
  const int t = static_cast<int>(rest % c.out_t), item = static_cast<int>(rest / c.out_t);
  float sum = 0.f;
  for (int i = 0; i < c.in_channels; ++i) {
    const float* taps = packed + (static_cast<std::size_t>(o) * c.in_channels + i) * c.packed_pair();
    for (int k = max(0, c.pad_t - t); k < min(c.kernel_t, c.in_t + c.pad_t - t); ++k) {
      const float* image =
          x + (static_cast<std::size_t>(item) * c.in_t + t + k - c.pad_t) * c.in_h * c.in_w * c.in_channels +
          i;
      float spatial = 0.f;
      for (int kh = max(0, c.pad_h - h); kh < min(c.kernel_h, c.in_h + c.pad_h - h); ++kh)
        for (int kw = max(0, c.pad_w - w); kw < min(c.kernel_w, c.in_w + c.pad_w - w); ++kw)
          spatial = gpu::fma(image[((h + kh - c.pad_h) * c.in_w + w + kw - c.pad_w) * c.in_channels],
                             taps[kh * c.kernel_row() + kw], spatial);
      sum = gpu::fma(taps[c.kernel_h * c.kernel_row() + k], spatial, sum);
    }
  }
  y[e] = accumulate ? y[e] + sum : sum;
}

// ------------------------------------------------------------------------------

/// The product of the pair's spatial kernel with the input around (t, h, w); zero where frame t is outside.
__device__ inline float spatial_result(const float* x, const float* taps, const Convolution& c, int item,
                                       int i, int t, int h, int w) {
  if (t < 0 || t >= c.in_t) return 0.f;
  const float* image =
      x + (static_cast<std::size_t>(item) * c.in_t + t) * c.in_h * c.in_w * c.in_channels + i;
  float sum = 0.f;
  for (int kh = max(0, c.pad_h - h); kh < min(c.kernel_h, c.in_h + c.pad_h - h); ++kh)
    for (int kw = max(0, c.pad_w - w); kw < min(c.kernel_w, c.in_w + c.pad_w - w); ++kw)
      sum = gpu::fma(image[((h + kh - c.pad_h) * c.in_w + w + kw - c.pad_w) * c.in_channels],
                     taps[kh * c.kernel_row() + kw], sum);
  return sum;
}

/// The product of the pair's temporal kernel with pixel (h, w) of the input from frame t on; zero outside the
/// image.
__device__ inline float temporal_result(const float* x, const float* taps, const Convolution& c, int item,
                                        int i, int t, int h, int w) {
  if (h < 0 || h >= c.in_h || w < 0 || w >= c.in_w) return 0.f;
  float sum = 0.f;
  for (int k = max(0, -t); k < min(c.kernel_t, c.in_t - t); ++k)
    sum = gpu::fma(
        x[(((static_cast<std::size_t>(item) * c.in_t + t + k) * c.in_h + h) * c.in_w + w) * c.in_channels +
          i],
        taps[c.kernel_h * c.kernel_row() + k], sum);
  return sum;
}

// One block per weight, which sums over all outputs.
static __global__ void __launch_bounds__(kPlainThreads)
    weight_plain(float* dspatial, float* dtemporal, const float* dy, const float* x, const float* packed,
                 Convolution c) {
  const int spatial = c.kernel_h * c.kernel_w, size = spatial + c.kernel_t;
  const int pair = blockIdx.x / size, r = blockIdx.x % size, o = pair / c.in_channels,
            i = pair % c.in_channels;
  const float* taps = packed + static_cast<std::size_t>(pair) * c.packed_pair();
  const std::int64_t count = static_cast<std::int64_t>(c.batch) * c.out_t * c.out_h * c.out_w;
  double sum = 0;
  for (std::int64_t e = threadIdx.x; e < count; e += kPlainThreads) {
    const int w = static_cast<int>(e % c.out_w), h = static_cast<int>(e / c.out_w % c.out_h);
    const std::int64_t rest = e / c.out_w / c.out_h;
    const int t = static_cast<int>(rest % c.out_t), item = static_cast<int>(rest / c.out_t);
    const float other = r < spatial
                            ? temporal_result(x, taps, c, item, i, t - c.pad_t, h + r / c.kernel_w - c.pad_h,
                                              w + r % c.kernel_w - c.pad_w)
                            : spatial_result(x, taps, c, item, i, t + r - spatial - c.pad_t, h, w);
    sum += static_cast<double>(dy[e * c.out_channels + o]) * other;
  }
  sum = block_sum<kPlainThreads>(sum);
  if (threadIdx.x == 0)
    (r < spatial ? dspatial[pair * spatial + r] : dtemporal[pair * c.kernel_t + r - spatial]) =
        static_cast<float>(sum);
}

}  // namespace fovea::FOVEA_GPU
