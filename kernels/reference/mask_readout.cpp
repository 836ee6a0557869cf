#include "kernels/mask_readout.hpp"

#include "kernels/reference/activation.hpp"
#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

/// Calls visit(element of the weight, of the mask, of the features) for every pixel, channel and neuron.
template <class Visit>
void for_each_weight(const MaskReadoutShape& s, Visit visit) {
  for (std::int64_t p = 0; p < s.pixels; ++p)
    for (std::int64_t c = 0; c < s.channels; ++c)
      for (std::int64_t n = 0; n < s.neurons; ++n)
        visit((p * s.channels + c) * s.neurons + n,
              s.mask_neurons_last ? p * s.neurons + n : n * s.pixels + p, c * s.neurons + n);
}

template <class T>
void weight(T* weight, const T* mask, const T* features, const MaskReadoutShape& s, const Queue&) {
  for_each_weight(s, [&](auto w, auto m, auto f) { weight[w] = mask[m] * features[f]; });
}

template <class T>
void grad_weight(T* dmask, T* dfeatures, const T* dweight, const T* mask, const T* features,
                 const MaskReadoutShape& s, Write mask_mode, Write features_mode, const Queue&) {
  if (dmask && mask_mode == Write::overwrite) fill(dmask, s.pixels * s.neurons, T(0));
  if (dfeatures && features_mode == Write::overwrite) fill(dfeatures, s.channels * s.neurons, T(0));
  for_each_weight(s, [&](auto w, auto m, auto f) {
    if (dmask) dmask[m] += dweight[w] * features[f];
    if (dfeatures) dfeatures[f] += dweight[w] * mask[m];
  });
}

template <class T>
void activate(T* y, const T* z, const T* scale, const T* bias, const MaskReadoutShape& s, const Queue&) {
  for (std::int64_t m = 0; m < s.rows; ++m)
    for (std::int64_t n = 0; n < s.neurons; ++n) {
      const std::int64_t i = m * s.neurons + n;
      const T u = z[i] * (scale ? scale[n] : T(1)) + (bias ? bias[n] : T(0));
      y[i] = static_cast<T>(activated<Wide<T>>(s.activation, u));
    }
}

template <class T>
void grad_activate(T* dz, T* dscale, T* dbias, const T* dy, const T* z, const T* scale, const T* bias,
                   const MaskReadoutShape& s, Write scale_mode, Write bias_mode, const Queue&) {
  for (std::int64_t n = 0; n < s.neurons; ++n) {
    const T factor = scale ? scale[n] : T(1), offset = bias ? bias[n] : T(0);
    Wide<T> scale_sum = 0, bias_sum = 0;
    for (std::int64_t m = 0; m < s.rows; ++m) {
      const std::int64_t i = m * s.neurons + n;
      const Wide<T> slope =
          static_cast<Wide<T>>(dy[i]) * wide_activation_slope<T>(s.activation, z[i] * factor + offset);
      dz[i] = static_cast<T>(slope * factor);
      scale_sum += slope * z[i];
      bias_sum += slope;
    }
    if (dscale) write(dscale[n], static_cast<T>(scale_sum), scale_mode);
    if (dbias) write(dbias[n], static_cast<T>(bias_sum), bias_mode);
  }
}

}  // namespace

template <class T>
void fill(MaskReadoutKernels<T>& table) {
  table = {weight<T>, grad_weight<T>, activate<T>, grad_activate<T>};
}
template void fill(MaskReadoutKernels<float>&);
template void fill(MaskReadoutKernels<double>&);

}  // namespace fovea::reference
