// The four inner loops of the separable convolution. A vector holds 16 / group output channels of `group`
// independent tiles: lane = channel * group + tile. Each sum runs in one fixed order, whatever the number N
// of accumulators that an instruction set has registers for.
#pragma once
#include "engine/simd.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

/// Kernel taps that fall inside the image at one output row and column.
struct TapRange {
  int row_begin, row_end, column_begin, column_end;
};

/// Where taps lie in the staged input, in floats.
struct TapStrides {
  std::int64_t row, column;
};

/// out[n] = sum over taps of weight[tap] * x[tap][n].
template <int group, int N>
[[gnu::noinline]] void spatial_taps(float* out, const float* x, const float* weight, TapRange taps,
                                    TapStrides strides, int kernel_w) {
  F16 sum[N];
  FOVEA_UNROLL
  for (int n = 0; n < N; ++n) sum[n] = F16::zero();
  for (int kh = taps.row_begin; kh < taps.row_end; ++kh) {
    const float* from = x + kh * strides.row + taps.column_begin * strides.column;
    const float* w = weight + (kh * kernel_w + taps.column_begin) * 16;
    for (int kw = taps.column_begin; kw < taps.column_end; ++kw, from += strides.column, w += 16) {
      const F16 tap = F16::load(w);
      FOVEA_UNROLL
      for (int n = 0; n < N; ++n) sum[n] = madd(repeat<group>(from + n * group), tap, sum[n]);
    }
  }
  FOVEA_UNROLL
  for (int n = 0; n < N; ++n) store(out + n * 16, sum[n]);
}

/// out[n] (+)= sum over k of weight[k] * in[n + k], k in [begin, end).
template <int N>
[[gnu::noinline]] void temporal_taps(float* out, const float* in, const float* weight, int begin, int end,
                                     bool accumulate) {
  F16 sum[N];
  FOVEA_UNROLL
  for (int n = 0; n < N; ++n) sum[n] = accumulate ? F16::load(out + n * 16) : F16::zero();
  for (int k = begin; k < end; ++k) {
    const F16 tap = F16::load(weight + k * 16);
    FOVEA_UNROLL
    for (int n = 0; n < N; ++n) sum[n] = madd(F16::load(in + (n + k) * 16), tap, sum[n]);
  }
  FOVEA_UNROLL
  for (int n = 0; n < N; ++n) store(out + n * 16, sum[n]);
}

/// grad[n] += sum over t of factor[t] * in[t + n], t in [begin, end): gradient of N temporal taps.
template <int N>
[[gnu::noinline]] void temporal_tap_gradients(float* grad, const float* in, const float* factor, int begin,
                                              int end) {
  F16 sum[N];
  FOVEA_UNROLL
  for (int n = 0; n < N; ++n) sum[n] = F16::zero();
  for (int t = begin; t < end; ++t) {
    const F16 f = F16::load(factor + t * 16);
    FOVEA_UNROLL
    for (int n = 0; n < N; ++n) sum[n] = madd(F16::load(in + (t + n) * 16), f, sum[n]);
  }
  FOVEA_UNROLL
  for (int n = 0; n < N; ++n) store(grad + n * 16, add(F16::load(grad + n * 16), sum[n]));
}

/// grad[tap[n]] += sum over q of factor[q] * x[offset[n]][q]: gradient of N spatial taps.
template <int group, int N>
[[gnu::noinline]] void spatial_tap_gradients(float* grad, const int* tap, const float* x,
                                             const std::int64_t* offset, const float* factor, int count) {
  const float* from[N];
  F16 sum[N];
  FOVEA_UNROLL
  for (int n = 0; n < N; ++n) {
    from[n] = x + offset[n];
    sum[n] = F16::zero();
  }
  // Blocks of q, so that an address is fetched once for several products.
  constexpr int block = 4;
  int q = 0;
  for (; q + block <= count; q += block) {
    F16 f[block];
    FOVEA_UNROLL
    for (int r = 0; r < block; ++r) f[r] = F16::load(factor + (q + r) * 16);
    FOVEA_UNROLL
    for (int n = 0; n < N; ++n) {
      FOVEA_UNROLL
      for (int r = 0; r < block; ++r) sum[n] = madd(repeat<group>(from[n] + (q + r) * group), f[r], sum[n]);
    }
  }
  for (; q < count; ++q) {
    const F16 f = F16::load(factor + q * 16);
    FOVEA_UNROLL
    for (int n = 0; n < N; ++n) sum[n] = madd(repeat<group>(from[n] + q * group), f, sum[n]);
  }
  FOVEA_UNROLL
  for (int n = 0; n < N; ++n) {
    float* to = grad + tap[n] * 16;
    store(to, add(F16::load(to), sum[n]));
  }
}

// Loops above an inner loop: `count` is cut into nearly equal pieces of at most accumulators16.

/// Calls piece(constant, begin) for consecutive pieces of [0, count); `constant` carries the size as a type.
template <int N>
struct Size {
  static constexpr int value = N;
};
template <int N, class Piece>
FOVEA_INLINE void call_sized(int size, int begin, const Piece& piece) {
  if constexpr (N > 1) {
    if (size < N) return call_sized<N - 1>(size, begin, piece);
  }
  piece(Size<N>{}, begin);
}
template <class Piece>
FOVEA_INLINE void for_each_piece(int count, const Piece& piece) {
  const int pieces = (count + accumulators16 - 1) / accumulators16;
  for (int p = 0, begin = 0; p < pieces; ++p) {
    const int end = static_cast<int>(static_cast<std::int64_t>(count) * (p + 1) / pieces);
    call_sized<accumulators16>(end - begin, begin, piece);
    begin = end;
  }
}

/// S[q] for q in [0, count): the spatial convolution at one output pixel (or row), all times.
template <int group>
void spatial_pass(float* out, const float* x, const float* weight, TapRange taps, TapStrides strides,
                  int kernel_w, int count) {
  for_each_piece(count, [&](auto size, int q) {
    spatial_taps<group, decltype(size)::value>(out + q * 16, x + q * group, weight, taps, strides, kernel_w);
  });
}

/// out[t] (+)= sum over k of weight[k] * in[t + k + shift] for t in [0, count), k in [0, kernel), where `in`
/// has `length` vectors and zeros around them, as many as a piece is long; without `zeros`, pieces are of
/// one.
FOVEA_INLINE void temporal_pass(float* out, const float* in, const float* weight, int kernel, int shift,
                                int length, int count, bool accumulate, bool zeros) {
  const auto piece = [&](auto size, int t) {
    constexpr int N = decltype(size)::value;
    const int first = -(t + N - 1 + shift), last = length - t - shift;
    temporal_taps<N>(out + t * 16, in + static_cast<std::int64_t>(t + shift) * 16, weight,
                     first > 0 ? first : 0, last < kernel ? last : kernel, accumulate);
  };
  if (zeros) return for_each_piece(count, piece);
  for (int t = 0; t < count; ++t) piece(Size<1>{}, t);
}

/// grad[k] += sum over t in [0, count) of factor[t] * in[t + k + shift]; `in` as in temporal_pass.
FOVEA_INLINE void temporal_gradient_pass(float* grad, const float* in, const float* factor, int kernel,
                                         int shift, int length, int count, bool zeros) {
  const auto piece = [&](auto size, int k) {
    constexpr int N = decltype(size)::value;
    const int first = -(k + N - 1 + shift), last = length - k - shift;
    temporal_tap_gradients<N>(grad + k * 16, in + static_cast<std::int64_t>(k + shift) * 16, factor,
                              first > 0 ? first : 0, last < count ? last : count);
  };
  if (zeros) return for_each_piece(kernel, piece);
  for (int k = 0; k < kernel; ++k) piece(Size<1>{}, k);
}

/// grad[tap] += sum over q of factor[q] * x[tap][q] for the taps in range.
template <int group>
void spatial_gradient_pass(float* grad, const float* x, const float* factor, TapRange taps,
                           TapStrides strides, int kernel_w, int count) {
  const int columns = taps.column_end - taps.column_begin;
  int tap[accumulators16];
  std::int64_t offset[accumulators16];
  for_each_piece((taps.row_end - taps.row_begin) * columns, [&](auto size, int first) {
    constexpr int N = decltype(size)::value;
    int kh = taps.row_begin + first / columns, kw = taps.column_begin + first % columns;
    for (int n = 0; n < N; ++n) {
      tap[n] = kh * kernel_w + kw;
      offset[n] = kh * strides.row + kw * strides.column;
      if (++kw == taps.column_end) {
        kw = taps.column_begin;
        ++kh;
      }
    }
    spatial_tap_gradients<group, N>(grad, tap, x, offset, factor, count);
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
