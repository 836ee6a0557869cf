#include "kernels/feature_sum.hpp"

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

template <class T>
void forward(T* u, const T* z, const T* features, const FeatureSumShape& s, const Queue&) {
  for (std::int64_t m = 0; m < s.rows; ++m)
    for (std::int64_t n = 0; n < s.neurons; ++n) {
      T sum = 0;
      for (std::int64_t c = 0; c < s.channels; ++c)
        sum += z[(m * s.channels + c) * s.neurons + n] * features[c * s.neurons + n];
      u[m * s.neurons + n] = sum;
    }
}

template <class T>
void grad(T* dz, T* dfeatures, const T* du, const T* z, const T* features, const FeatureSumShape& s,
          Write features_mode, const Queue&) {
  for (std::int64_t c = 0; c < s.channels; ++c)
    for (std::int64_t n = 0; n < s.neurons; ++n) {
      const std::int64_t f = c * s.neurons + n;
      T sum = 0;
      for (std::int64_t m = 0; m < s.rows; ++m) {
        const std::int64_t at = (m * s.channels + c) * s.neurons + n;
        if (dz) dz[at] = du[m * s.neurons + n] * features[f];
        sum += du[m * s.neurons + n] * z[at];
      }
      if (dfeatures) write(dfeatures[f], sum, features_mode);
    }
}

}  // namespace

template <class T>
void fill(FeatureSumKernels<T>& table) {
  table = {forward<T>, grad<T>};
}
template void fill(FeatureSumKernels<float>&);
template void fill(FeatureSumKernels<double>&);

}  // namespace fovea::reference
