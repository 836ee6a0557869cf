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

/// One of the taps inside the image: its place in the kernel and in the staged input.
struct Tap {
  int number, offset;
};

/// out[n] = sum over taps of weight[tap] * x[tap][n].
template <int group, int N>
[[gnu::noinline]] void spatial_taps(float* out, const float* x, const float* weight, const TapRange& taps,
                                    const TapStrides& strides, int kernel_w) {
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

// Along time one loaded vector serves several products, so these two need fewer loads than products: `block`
// factors stay in registers. On AVX2 they run on half vectors, which leaves registers for that.
#if defined(__AVX512F__)
using TimeVector = F16;
constexpr int time_lanes = 16, most_time_sums = 15;  // g++ 12 puts some of 17 and more on the stack
// A product with a broadcast from memory needs no register for it; gradients keep four factors besides the
// sums.
constexpr int most_spatial_sums = 30, most_gradient_sums = 25;
#else
using TimeVector = F8;
constexpr int time_lanes = 8, most_time_sums = 8;
constexpr int most_spatial_sums = accumulators16, most_gradient_sums = accumulators16;
#endif

/// Which vectors of a run exist, seen from where a loop begins: [low, high).
struct Extent {
  int low, high;

  FOVEA_INLINE bool has(int at) const {
    return static_cast<unsigned>(at - low) < static_cast<unsigned>(high - low);
  }
};

/// sum[n] += sum over r of in[n + r] * factor[r], r rising; with `ends` those left out that do not exist.
template <int N, int block, bool ends>
FOVEA_INLINE void slide(TimeVector (&sum)[N], const float* in, const float* factor, int k, Extent extent) {
  in += k * 16;
  factor += k * 16;
  TimeVector f[block];
  FOVEA_UNROLL
  for (int r = 0; r < block; ++r) f[r] = TimeVector::load(factor + r * 16);
  FOVEA_UNROLL
  for (int m = 0; m < N + block - 1; ++m) {
    if (ends && !extent.has(m + k)) continue;
    const TimeVector v = TimeVector::load(in + m * 16);
    FOVEA_UNROLL
    for (int r = 0; r < block; ++r)
      if (m - r >= 0 && m - r < N) sum[m - r] = madd(v, f[r], sum[m - r]);
  }
}
template <int N, bool ends>
FOVEA_INLINE void slide_all(TimeVector (&sum)[N], const float* in, const float* factor, int begin, int end,
                            Extent extent) {
  constexpr int block = 4;
  int k = begin;
  for (; k + block <= end; k += block) slide<N, block, ends>(sum, in, factor, k, extent);
  if (end - k == 3) return slide<N, 3, ends>(sum, in, factor, k, extent);
  if (end - k == 2) return slide<N, 2, ends>(sum, in, factor, k, extent);
  if (end - k == 1) slide<N, 1, ends>(sum, in, factor, k, extent);
}

/// Channels that are summed in one go: how many, and the distances of their runs and weights in floats.
struct Channels {
  int count;
  std::int64_t run, weight;
};

/// out[n] (+)= sum over channels and k of weight[k] * in[n + k], k in [begin, end).
template <int N, bool ends>
[[gnu::noinline]] void temporal_taps(float* out, const float* in, const float* weight,
                                     const Channels& channels, int begin, int end, Extent extent,
                                     bool accumulate) {
  for (int lane = 0; lane < 16; lane += time_lanes) {
    TimeVector sum[N];
    FOVEA_UNROLL
    for (int n = 0; n < N; ++n)
      sum[n] = accumulate ? TimeVector::load(out + n * 16 + lane) : TimeVector::zero();
    for (int i = 0; i < channels.count; ++i)
      slide_all<N, ends>(sum, in + i * channels.run + lane, weight + i * channels.weight + lane, begin, end,
                         extent);
    FOVEA_UNROLL
    for (int n = 0; n < N; ++n) store(out + n * 16 + lane, sum[n]);
  }
}

/// grad[n] += sum over t of factor[t] * in[t + n], t in [begin, end): gradient of N temporal taps.
template <int N, bool ends>
[[gnu::noinline]] void temporal_tap_gradients(float* grad, const float* in, const float* factor, int begin,
                                              int end, Extent extent) {
  for (int lane = 0; lane < 16; lane += time_lanes) {
    TimeVector sum[N];
    FOVEA_UNROLL
    for (int n = 0; n < N; ++n) sum[n] = TimeVector::zero();
    slide_all<N, ends>(sum, in + lane, factor + lane, begin, end, extent);
    FOVEA_UNROLL
    for (int n = 0; n < N; ++n) {
      float* to = grad + n * 16 + lane;
      store(to, add(TimeVector::load(to), sum[n]));
    }
  }
}

/// grad[tap n] += sum over q of factor[q] * x[tap n][q]: gradient of N spatial taps.
template <int group, int N>
[[gnu::noinline]] void spatial_tap_gradients(float* grad, const Tap* taps, const float* x,
                                             const float* factor, int count) {
  const float* from[N];
  F16 sum[N];
  FOVEA_UNROLL
  for (int n = 0; n < N; ++n) {
    from[n] = x + taps[n].offset;
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
    float* to = grad + taps[n].number * 16;
    store(to, add(F16::load(to), sum[n]));
  }
}

// Loops above an inner loop: `count` is cut into nearly equal pieces of at most `most`.

/// Calls piece(constant, begin) for consecutive pieces of [0, count); `constant` carries the size as a type.
template <int N>
struct Size {
  static constexpr int value = N;
};
template <int most, class Piece>
FOVEA_INLINE void call_sized(int size, int begin, const Piece& piece) {
  switch (size) {
#define FOVEA_SIZE(n) \
  case n:             \
    if constexpr (n <= most) return piece(Size<n>{}, begin);
    FOVEA_SIZE(1) break;
    FOVEA_SIZE(2) break;
    FOVEA_SIZE(3) break;
    FOVEA_SIZE(4) break;
    FOVEA_SIZE(5) break;
    FOVEA_SIZE(6) break;
    FOVEA_SIZE(7) break;
    FOVEA_SIZE(8) break;
    FOVEA_SIZE(9) break;
    FOVEA_SIZE(10) break;
    FOVEA_SIZE(11) break;
    FOVEA_SIZE(12) break;
    FOVEA_SIZE(13) break;
    FOVEA_SIZE(14) break;
    FOVEA_SIZE(15) break;
    FOVEA_SIZE(16) break;
    FOVEA_SIZE(17) break;
    FOVEA_SIZE(18) break;
    FOVEA_SIZE(19) break;
    FOVEA_SIZE(20) break;
    FOVEA_SIZE(21) break;
    FOVEA_SIZE(22) break;
    FOVEA_SIZE(23) break;
    FOVEA_SIZE(24) break;
    FOVEA_SIZE(25) break;
    FOVEA_SIZE(26) break;
    FOVEA_SIZE(27) break;
    FOVEA_SIZE(28) break;
    FOVEA_SIZE(29) break;
    FOVEA_SIZE(30) break;
#undef FOVEA_SIZE
  }
}
template <int most, class Piece>
FOVEA_INLINE void for_each_piece(int count, const Piece& piece) {
  const int pieces = (count + most - 1) / most;
  const int size = pieces > 1 ? count / pieces : count, longer = count - size * pieces;
  for (int p = 0, begin = 0; p < pieces; ++p) {
    const int length = size + (p < longer);
    call_sized<most>(length, begin, piece);
    begin += length;
  }
}

/// S[q] for q in [0, count): the spatial convolution at one output pixel (or row), all times.
template <int group>
FOVEA_INLINE void spatial_pass(float* out, const float* x, const float* weight, const TapRange& taps,
                               const TapStrides& strides, int kernel_w, int count) {
  for_each_piece<most_spatial_sums>(count, [&](auto size, int q) {
    spatial_taps<group, decltype(size)::value>(out + q * 16, x + q * group, weight, taps, strides, kernel_w);
  });
}

/// Where a piece of N results n = first, first + 1 .. meets a run of `length` vectors: result n and step k
/// meet vector n + k + shift, for k in [begin, end) if one of the N does.
struct Meeting {
  int begin, end;
  Extent extent;  // from n = first, k = 0 on

  FOVEA_INLINE Meeting(int first, int N, int shift, int length, int steps)
      : begin(0), end(steps), extent{-(first + shift), length - (first + shift)} {
    if (extent.low - (N - 1) > 0) begin = extent.low - (N - 1);
    if (extent.high < end) end = extent.high;
  }
  FOVEA_INLINE bool whole(int N) const { return begin >= extent.low && end + N - 1 <= extent.high; }
};

/// out[t] (+)= sum over channels and k of weight[k] * in[t + k + shift] for t in [0, count), k in [0,
/// kernel), where a run of `in` has `length` vectors.
FOVEA_INLINE void temporal_pass(float* out, const float* in, const float* weight, const Channels& channels,
                                int kernel, int shift, int length, int count, bool accumulate) {
  const auto piece = [&](auto size, int t) {
    constexpr int N = decltype(size)::value;
    const Meeting m(t, N, shift, length, kernel);
    const auto taps = m.whole(N) ? temporal_taps<N, false> : temporal_taps<N, true>;
    taps(out + t * 16, in + static_cast<std::int64_t>(t + shift) * 16, weight, channels, m.begin, m.end,
         m.extent, accumulate);
  };
  for_each_piece<most_time_sums>(count, piece);
}

/// grad[k] += sum over t in [0, count) of factor[t] * in[t + k + shift]; `in` as in temporal_pass.
FOVEA_INLINE void temporal_gradient_pass(float* grad, const float* in, const float* factor, int kernel,
                                         int shift, int length, int count) {
  const auto piece = [&](auto size, int k) {
    constexpr int N = decltype(size)::value;
    const Meeting m(k, N, shift, length, count);
    const auto taps = m.whole(N) ? temporal_tap_gradients<N, false> : temporal_tap_gradients<N, true>;
    taps(grad + k * 16, in + static_cast<std::int64_t>(k + shift) * 16, factor, m.begin, m.end, m.extent);
  };
  for_each_piece<most_time_sums>(kernel, piece);
}

/// Writes the taps in range to `list`; returns their number.
FOVEA_INLINE int list_taps(Tap* list, const TapRange& taps, const TapStrides& strides, int kernel_w) {
  int count = 0;
  for (int kh = taps.row_begin; kh < taps.row_end; ++kh)
    for (int kw = taps.column_begin; kw < taps.column_end; ++kw)
      list[count++] = {kh * kernel_w + kw, static_cast<int>(kh * strides.row + kw * strides.column)};
  return count;
}

/// grad[tap] += sum over q of factor[q] * x[tap][q] for the listed taps.
template <int group>
FOVEA_INLINE void spatial_gradient_pass(float* grad, const float* x, const float* factor, const Tap* list,
                                        int taps, int count) {
  for_each_piece<most_gradient_sums>(taps, [&](auto size, int first) {
    spatial_tap_gradients<group, decltype(size)::value>(grad, list + first, x, factor, count);
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
