// The oracle: the sum, term by term.
#include "kernels/conv3d.hpp"

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

/// The input element that tap k of output element o sees along an axis; outside [0, in) on padding.
std::int64_t seen(const ConvAxis& axis, std::int64_t o, std::int64_t k) {
  return o * axis.stride + k * axis.dilation - axis.pad;
}
bool inside(const ConvAxis& axis, std::int64_t i) { return i >= 0 && i < axis.in; }

/// Calls visit(input element, output element, weight) for every product between one output and one input
/// pixel; `tap` counts the taps of a kernel.
template <class Visit>
void for_each_channel_pair(const Conv3dShape& s, std::int64_t in_pixel, std::int64_t out_pixel,
                           std::int64_t tap, Visit visit) {
  const std::int64_t inputs = s.in_channels / s.groups, outputs = s.out_channels / s.groups;
  const std::int64_t taps = s.t.kernel * s.h.kernel * s.w.kernel;
  for (std::int64_t o = 0; o < s.out_channels; ++o)
    for (std::int64_t i = 0; i < inputs; ++i)
      visit(in_pixel * s.in_channels + o / outputs * inputs + i, out_pixel * s.out_channels + o,
            (o * inputs + i) * taps + tap);
}

/// Calls visit(input element, output element, weight) for every product, taps on padding left out.
template <class Visit>
void for_each_product(const Conv3dShape& s, Visit visit) {
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t t = 0; t < s.t.out; ++t)
      for (std::int64_t h = 0; h < s.h.out; ++h)
        for (std::int64_t w = 0; w < s.w.out; ++w)
          for (std::int64_t kt = 0; kt < s.t.kernel; ++kt)
            for (std::int64_t kh = 0; kh < s.h.kernel; ++kh)
              for (std::int64_t kw = 0; kw < s.w.kernel; ++kw) {
                const std::int64_t it = seen(s.t, t, kt), ih = seen(s.h, h, kh), iw = seen(s.w, w, kw);
                if (!inside(s.t, it) || !inside(s.h, ih) || !inside(s.w, iw)) continue;
                for_each_channel_pair(s, ((b * s.t.in + it) * s.h.in + ih) * s.w.in + iw,
                                      ((b * s.t.out + t) * s.h.out + h) * s.w.out + w,
                                      (kt * s.h.kernel + kh) * s.w.kernel + kw, visit);
              }
}

std::int64_t out_pixels(const Conv3dShape& s) { return s.batch * s.t.out * s.h.out * s.w.out; }

template <class T>
void forward(T* y, const T* x, const T* weight, const T* bias, const Conv3dShape& s, const Queue&) {
  const std::int64_t count = out_pixels(s) * s.out_channels;
  for (std::int64_t i = 0; i < count; ++i) y[i] = bias ? bias[i % s.out_channels] : T(0);
  for_each_product(s, [&](auto in, auto out, auto w) { y[out] += weight[w] * x[in]; });
}

template <class T>
void grad_input(T* dx, const T* dy, const T* weight, const Conv3dShape& s, Write mode, const Queue&) {
  if (mode == Write::overwrite) fill(dx, s.batch * s.t.in * s.h.in * s.w.in * s.in_channels, T(0));
  for_each_product(s, [&](auto in, auto out, auto w) { dx[in] += weight[w] * dy[out]; });
}

template <class T>
void grad_weight(T* dweight, T* dbias, const T* dy, const T* x, const Conv3dShape& s, const Queue&) {
  const std::int64_t taps = s.t.kernel * s.h.kernel * s.w.kernel;
  fill(dweight, s.out_channels * (s.in_channels / s.groups) * taps, T(0));
  for_each_product(s, [&](auto in, auto out, auto w) { dweight[w] += x[in] * dy[out]; });
  if (!dbias) return;
  fill(dbias, s.out_channels, T(0));
  const std::int64_t count = out_pixels(s) * s.out_channels;
  for (std::int64_t i = 0; i < count; ++i) dbias[i % s.out_channels] += dy[i];
}

}  // namespace

template <class T>
void fill(Conv3dKernels<T>& table) {
  table = {forward<T>, grad_input<T>, grad_weight<T>};
}
template void fill(Conv3dKernels<float>&);
template void fill(Conv3dKernels<double>&);

}  // namespace fovea::reference
