#include "kernels/gather.hpp"

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

template <class T>
void forward(T* y, const T* x, const std::int64_t* index, const T* scales, const GatherShape& s,
             const Queue&) {
  for (std::int64_t o = 0; o < s.outer; ++o)
    for (std::int64_t n = 0; n < s.count; ++n)
      for (std::int64_t i = 0; i < s.inner; ++i)
        y[(o * s.count + n) * s.inner + i] =
            x[(o * s.source + index[n]) * s.inner + i] * (scales ? scales[n] : T(1));
}

template <class T>
void grad(T* dx, T* dscales, const T* dy, const T* x, const std::int64_t* index, const T* scales,
          const GatherShape& s, Write dx_mode, Write scales_mode, const Queue&) {
  if (dx && dx_mode == Write::overwrite) fill(dx, s.outer * s.source * s.inner, T(0));
  for (std::int64_t n = 0; n < s.count; ++n) {
    Wide<T> sum = 0;
    for (std::int64_t o = 0; o < s.outer; ++o)
      for (std::int64_t i = 0; i < s.inner; ++i) {
        const std::int64_t from = (o * s.source + index[n]) * s.inner + i;
        const T d = dy[(o * s.count + n) * s.inner + i];
        if (dx) dx[from] += d * (scales ? scales[n] : T(1));
        sum += static_cast<Wide<T>>(d) * x[from];
      }
    if (dscales) write(dscales[n], static_cast<T>(sum), scales_mode);
  }
}

}  // namespace

template <class T>
void fill(GatherKernels<T>& table) {
  table = {forward<T>, grad<T>};
}
template void fill(GatherKernels<float>&);
template void fill(GatherKernels<double>&);

}  // namespace fovea::reference
