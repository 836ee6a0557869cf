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
  /// Weight (output, input, tap) in PyTorch's order for a channel of a group, a source channel of it and a
  /// tap.
  FOVEA_INLINE std::int64_t weight(std::int64_t group, std::int64_t channel, std::int64_t source,
                                   std::int64_t tap) const {
    const std::int64_t o = reversed ? group * group_sources() + source : group * group_channels() + channel;
    return reversed ? (o * group_channels() + channel) * taps() + taps() - 1 - tap
                    : (o * group_sources() + source) * taps() + tap;
  }
};

FOVEA_INLINE WindowAxis forward_axis(const ConvAxis& a) {
  return {a.out, a.in, a.kernel, a.stride, -a.pad, a.dilation, 1};
}
FOVEA_INLINE WindowAxis backward_axis(const ConvAxis& a) {
  return {a.in, a.out, a.kernel, 1, a.pad - (a.kernel - 1) * a.dilation, a.dilation, a.stride};
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
