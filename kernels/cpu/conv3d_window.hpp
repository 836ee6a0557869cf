// The windows of a convolution, in either direction: which source pixels the taps of a result pixel see. The
// forward pass has inputs as sources; the input gradient is the same sum over outputs, with the taps in
// reverse, so that sources ascend with taps in both.
#pragma once
#include "engine/simd.hpp"
#include "kernels/conv3d.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

struct WindowAxis {
  std::int64_t results, sources, taps;
  std::int64_t multiply, offset, step, divide;  // source = (result * multiply + offset + tap * step) / divide
  std::int64_t kernel, first = 0;               // taps of the weights, and which of them the first tap is

  /// -1 where a tap falls on padding or between the strides.
  FOVEA_INLINE std::int64_t source(std::int64_t result, std::int64_t tap) const {
    std::int64_t at = result * multiply + offset + tap * step;
    if (at < 0) return -1;
    if (divide > 1) {
      if (at % divide) return -1;
      at /= divide;
    }
    return at < sources ? at : -1;
  }
};

/// A result pixel: (batch, time) is one number.
struct Pixel {
  std::int64_t frame, h, w;
};

struct Window {
  std::int64_t batch, groups;
  std::int64_t channels, source_channels;  // of all groups
  WindowAxis t, h, w;
  bool reversed;  // the taps of the weights

  FOVEA_INLINE std::int64_t group_channels() const { return channels / groups; }
  FOVEA_INLINE std::int64_t group_sources() const { return source_channels / groups; }
  FOVEA_INLINE std::int64_t taps() const { return t.taps * h.taps * w.taps; }
  FOVEA_INLINE std::int64_t pixels() const { return batch * t.results * h.results * w.results; }
  FOVEA_INLINE Pixel pixel(std::int64_t p) const {
    return {p / (h.results * w.results), p / w.results % h.results, p % w.results};
  }
  /// First source of the row that taps (kt, kh) of a result row see; null on padding.
  FOVEA_INLINE const float* source_row(const float* sources, const Pixel& p, std::int64_t kt,
                                       std::int64_t kh) const {
    const std::int64_t at_t = t.source(p.frame % t.results, kt), at_h = h.source(p.h, kh);
    if (at_t < 0 || at_h < 0) return nullptr;
    return sources +
           ((p.frame / t.results * t.sources + at_t) * h.sources + at_h) * w.sources * source_channels;
  }
  FOVEA_INLINE std::int64_t kernel_taps() const { return t.kernel * h.kernel * w.kernel; }
  /// Which tap of the weights a tap is.
  FOVEA_INLINE std::int64_t kernel_tap(std::int64_t tap) const {
    const std::int64_t row = tap / w.taps;
    const std::int64_t ahead =
        ((row / h.taps + t.first) * h.kernel + row % h.taps + h.first) * w.kernel + tap % w.taps + w.first;
    return reversed ? kernel_taps() - 1 - ahead : ahead;
  }
  /// Weight (output, input, tap) in PyTorch's order for a channel of a group, a source channel of it and a
  /// tap of the weights.
  FOVEA_INLINE std::int64_t weight(std::int64_t group, std::int64_t channel, std::int64_t source,
                                   std::int64_t kernel_tap) const {
    const std::int64_t o = reversed ? group * group_sources() + source : group * group_channels() + channel;
    const std::int64_t pair = reversed ? o * group_channels() + channel : o * group_sources() + source;
    return pair * kernel_taps() + kernel_tap;
  }
};

/// Without the taps at both ends that no result sees a source through; one is left in any case.
inline WindowAxis trimmed(WindowAxis a) {
  const auto sees = [&](std::int64_t tap) {
    const std::int64_t at = a.offset + tap * a.step;
    return at + (a.results - 1) * a.multiply >= 0 && at <= (a.sources - 1) * a.divide;
  };
  while (a.taps > 1 && !sees(a.taps - 1)) --a.taps;
  while (a.taps > 1 && !sees(0)) {
    --a.taps;
    ++a.first;
    a.offset += a.step;
  }
  return a;
}

FOVEA_INLINE WindowAxis forward_axis(const ConvAxis& a) {
  return trimmed({a.out, a.in, a.kernel, a.stride, -a.pad, a.dilation, 1, a.kernel});
}
FOVEA_INLINE WindowAxis backward_axis(const ConvAxis& a) {
  return trimmed(
      {a.in, a.out, a.kernel, 1, a.pad - (a.kernel - 1) * a.dilation, a.dilation, a.stride, a.kernel});
}

FOVEA_INLINE Window forward_window(const Conv3dShape& s) {
  return {s.batch,           s.groups,          s.out_channels,    s.in_channels,
          forward_axis(s.t), forward_axis(s.h), forward_axis(s.w), false};
}
FOVEA_INLINE Window backward_window(const Conv3dShape& s) {
  return {s.batch,
          s.groups,
          s.in_channels,
          s.out_channels,
          backward_axis(s.t),
          backward_axis(s.h),
          backward_axis(s.w),
          true};
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
