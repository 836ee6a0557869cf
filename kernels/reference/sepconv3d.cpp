// The oracle: the composed sum, term by term.
#include "kernels/sepconv3d.hpp"

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

/// Calls visit(input element, output element, spatial tap, temporal tap) for every product of the convolution
/// with channels o and i, the taps that fall on padding left out.
template <class Visit>
void for_each_product(const SepConv3dShape& s, std::int64_t o, std::int64_t i, Visit visit) {
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t t = 0; t < s.out_t; ++t)
      for (std::int64_t h = 0; h < s.out_h; ++h)
        for (std::int64_t w = 0; w < s.out_w; ++w)
          for (std::int64_t k = 0; k < s.kernel_t; ++k)
            for (std::int64_t kh = 0; kh < s.kernel_h; ++kh)
              for (std::int64_t kw = 0; kw < s.kernel_w; ++kw) {
                const std::int64_t it = t + k - s.pad_t, ih = h + kh - s.pad_h, iw = w + kw - s.pad_w;
                if (it < 0 || it >= s.in_t || ih < 0 || ih >= s.in_h || iw < 0 || iw >= s.in_w) continue;
                const std::int64_t in = (((b * s.in_t + it) * s.in_h + ih) * s.in_w + iw) * s.in_channels + i;
                const std::int64_t out =
                    (((b * s.out_t + t) * s.out_h + h) * s.out_w + w) * s.out_channels + o;
                const std::int64_t pair = o * s.in_channels + i;
                visit(in, out, (pair * s.kernel_h + kh) * s.kernel_w + kw, pair * s.kernel_t + k);
              }
}

template <class Visit>
void for_each_product(const SepConv3dShape& s, Visit visit) {
  for (std::int64_t o = 0; o < s.out_channels; ++o)
    for (std::int64_t i = 0; i < s.in_channels; ++i) for_each_product(s, o, i, visit);
}

template <class T>
void forward(T* y, T*, const T* x, const T* spatial, const T* temporal, const SepConv3dShape& s,
             const Queue&) {
  fill(y, s.batch * s.out_t * s.out_h * s.out_w * s.out_channels, T(0));
  for_each_product(s, [&](auto in, auto out, auto space, auto time) {
    y[out] += temporal[time] * (spatial[space] * x[in]);
  });
}

template <class T>
void grad_input(T* dx, const T* dy, const T* spatial, const T* temporal, const SepConv3dShape& s, Write mode,
                const Queue&) {
  if (mode == Write::overwrite) fill(dx, s.batch * s.in_t * s.in_h * s.in_w * s.in_channels, T(0));
  for_each_product(s, [&](auto in, auto out, auto space, auto time) {
    dx[in] += temporal[time] * (spatial[space] * dy[out]);
  });
}

template <class T>
void grad_weight(T* dspatial, T* dtemporal, const T* dy, const T* x, const T*, const T* spatial,
                 const T* temporal, const SepConv3dShape& s, const Queue&) {
  const std::int64_t pairs = s.out_channels * s.in_channels;
  fill(dspatial, pairs * s.kernel_h * s.kernel_w, T(0));
  fill(dtemporal, pairs * s.kernel_t, T(0));
  for_each_product(s, [&](auto in, auto out, auto space, auto time) {
    dspatial[space] += temporal[time] * x[in] * dy[out];
    dtemporal[time] += spatial[space] * x[in] * dy[out];
  });
}

template <class T>
void grad(T* dx, T* dspatial, T* dtemporal, const T* dy, const T* x, const T* kept, const T* spatial,
          const T* temporal, const SepConv3dShape& s, Write dx_mode, const Queue& queue) {
  grad_input(dx, dy, spatial, temporal, s, dx_mode, queue);
  grad_weight(dspatial, dtemporal, dy, x, kept, spatial, temporal, s, queue);
}

}  // namespace

template <class T>
void fill(SepConv3dKernels<T>& table) {
  table = {forward<T>, grad_input<T>, grad_weight<T>, grad<T>};
}
template void fill(SepConv3dKernels<float>&);
template void fill(SepConv3dKernels<double>&);

}  // namespace fovea::reference
