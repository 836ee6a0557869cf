// What a call of a kernel has to do at least, from its arguments.
#pragma once
#include <sstream>
#include <string>
#include <tuple>
#include <type_traits>

#include "fovea/error.hpp"
#include "kernels/tables.hpp"

namespace fovea::bench {

/// Floating point operations, bytes of every operand once, and the sizes as text.
struct Work {
  double flops = 0, bytes = 0;
  std::string sizes;
  double inner_flops = 0;  // of a separable convolution: those in space
};

namespace detail {

/// Taps that fall inside the image, summed over the outputs of one axis.
inline double inside_taps(const ConvAxis& axis) {
  double taps = 0;
  for (std::int64_t o = 0; o < axis.out; ++o)
    for (std::int64_t k = 0; k < axis.kernel; ++k) {
      const std::int64_t at = o * axis.stride + k * axis.dilation - axis.pad;
      taps += at >= 0 && at < axis.in;
    }
  return taps;
}

/// Useful operations of the factored convolution: space on every frame, then time.
inline Work work_of(const SepConv3dShape& s) {
  const ConvAxis t{s.in_t, s.kernel_t, 1, s.pad_t, 1, s.out_t}, h{s.in_h, s.kernel_h, 1, s.pad_h, 1, s.out_h},
      w{s.in_w, s.kernel_w, 1, s.pad_w, 1, s.out_w};
  const double pairs = static_cast<double>(s.batch * s.in_channels * s.out_channels);
  const double space = static_cast<double>(s.in_t) * inside_taps(h) * inside_taps(w);
  const double time = inside_taps(t) * static_cast<double>(s.out_h * s.out_w);
  return {2 * pairs * (space + time), 0,
          text(s.batch, 'x', s.in_t, 'x', s.in_h, 'x', s.in_w, ' ', s.in_channels, "->", s.out_channels, ' ',
               s.kernel_t, 'x', s.kernel_h, 'x', s.kernel_w),
          2 * pairs * space};
}

inline Work work_of(const Conv3dShape& s) {
  const double pairs = static_cast<double>(s.batch * s.in_channels) * static_cast<double>(s.out_channels) /
                       static_cast<double>(s.groups);
  return {2 * pairs * inside_taps(s.t) * inside_taps(s.h) * inside_taps(s.w), 0,
          text(s.batch, 'x', s.t.in, 'x', s.h.in, 'x', s.w.in, ' ', s.in_channels, "->", s.out_channels,
               s.groups > 1 ? text('/', s.groups) : "", ' ', s.t.kernel, 'x', s.h.kernel, 'x', s.w.kernel)};
}

inline Work work_of(const MatmulShape& s) {
  return {2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k), 0,
          text(s.m, 'x', s.n, 'x', s.k)};
}

inline Work work_of(const BatchNormShape& s) { return {0, 0, text(s.rows, 'x', s.channels)}; }
inline Work work_of(const MaskReadoutShape& s) {
  return {0, 0, text(s.rows, 'x', s.pixels, 'x', s.channels, 'x', s.neurons)};
}
inline Work work_of(const FeatureSumShape& s) {
  return {0, 0, text(s.rows, 'x', s.channels, 'x', s.neurons)};
}
/// The corners of a neuron are read once for each image: from the caches, where the map fits them.
inline Work work_of(const PointReadoutShape& s) {
  const double corners = 4.0 * 4.0 * static_cast<double>(s.batch * s.neurons * s.channels);
  return {0, corners, text(s.batch, 'x', s.height, 'x', s.width, 'x', s.channels, 'x', s.neurons)};
}
inline Work work_of(const GaussianGridShape& s) { return {0, 0, text(s.batch, 'x', s.neurons)}; }
inline Work work_of(const GaussianMaskShape& s) { return {0, 0, text(s.neurons, 'x', s.pixels)}; }
inline Work work_of(const LossShape& s) { return {0, 0, text(s.batch, 'x', s.frames, 'x', s.neurons)}; }
inline Work work_of(const LaplaceShape& s) { return {0, 0, text(s.filters, 'x', s.height, 'x', s.width)}; }
inline Work work_of(const GroupSparsityShape& s) {
  return {0, 0, text(s.out_channels, 'x', s.in_channels, 'x', s.taps)};
}
inline Work work_of(const TemporalKernelShape& s) {
  return {0, 0, text(s.pairs, 'x', s.harmonics, 'x', s.length)};
}
inline Work work_of(const TemporalSmoothingShape& s) {
  return {0, 0, text(s.out_channels, 'x', s.in_channels, 'x', s.harmonics)};
}
inline Work work_of(const GatherShape& s) {
  return {0, 0, text(s.outer, 'x', s.count, " of ", s.source, 'x', s.inner)};
}
inline Work work_of(const PermuteShape& s) { return {0, 0, text(s.batch, 'x', s.rows, 'x', s.columns)}; }
inline Work work_of(const ChannelCopy& s) {
  return {0, 0, text(s.rows, 'x', s.count, " of ", s.y_channels, ',', s.x_channels)};
}
inline Work work_of(const NormShape& s) { return {0, 0, text(s.outer, 'x', s.reduced, 'x', s.inner)}; }

/// Pointers add the bytes of the block that begins there; `written` is the first output's.
template <class Sizes, class Argument>
void add_argument(Work& work, bool& accumulates, double& written, const Sizes& size_of_block,
                  const Argument& argument) {
  using Plain = std::remove_cv_t<Argument>;
  if constexpr (std::is_pointer_v<Plain>) {
    const double bytes = size_of_block(argument);
    if (!std::is_const_v<std::remove_pointer_t<Plain>> && written == 0) written = bytes;
    work.bytes += bytes;
  } else if constexpr (std::is_same_v<Plain, Write>) {
    accumulates = accumulates || argument == Write::accumulate;
  } else if constexpr (std::is_same_v<Plain, std::int64_t>) {
    work.sizes += (work.sizes.empty() ? "" : " ") + std::to_string(argument);
  } else if constexpr (requires { work_of(argument); }) {
    const Work own = work_of(argument);
    work.flops = own.flops;
    work.inner_flops = own.inner_flops;
    work.bytes += own.bytes;
    work.sizes += own.sizes;
  }
}

}  // namespace detail

/// size_of_block(pointer) is the size of the tensor that begins there.
template <KernelEntry entry, class Sizes, class... Args>
Work work_of_call(const Sizes& size_of_block, const Args&... args) {
  Work work;
  bool accumulates = false;
  double written = 0;  // bytes of the first output
  (detail::add_argument(work, accumulates, written, size_of_block, args), ...);
  constexpr bool in_place = entry == KernelEntry::elementwise_clamp ||
                            entry == KernelEntry::elementwise_absolute ||
                            entry == KernelEntry::elementwise_unit_norm;
  if (accumulates || in_place) work.bytes += written;
  if constexpr (entry == KernelEntry::optimizer_adamw) work.bytes += 3 * written;
  const double outer_flops = work.flops - work.inner_flops;
  // dS, dtemporal, dspatial, and S where it is not kept.
  if constexpr (entry == KernelEntry::sepconv3d_grad_weight) {
    const bool kept = std::get<4>(std::tie(args...)) != nullptr;
    work.flops = (kept ? 1 : 2) * work.inner_flops + 2 * outer_flops;
  }
  // The inner sums of the input's gradient serve for dtemporal.
  if constexpr (entry == KernelEntry::sepconv3d_grad) work.flops = 2 * work.inner_flops + 3 * outer_flops;
  return work;
}

}  // namespace fovea::bench
