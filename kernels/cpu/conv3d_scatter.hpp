// The input gradient of convolutions with few input channels, which would leave most lanes empty: lanes are
// the taps of a frame instead. What an output pixel passes to them is a row of a matrix product, which is
// then added where the taps fall. A task is an input frame, which no other one writes to.
#pragma once
#include "kernels/conv3d.hpp"
#include "kernels/cpu/gemm_tile.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

struct Scatter {
  const Conv3dShape& s;
  std::int64_t inputs, outputs;  // channels of a group
  std::int64_t columns;          // (kh, kw, input channel)

  explicit Scatter(const Conv3dShape& shape)
      : s(shape),
        inputs(shape.in_channels / shape.groups),
        outputs(shape.out_channels / shape.groups),
        columns(shape.h.kernel * shape.w.kernel * inputs) {}

  bool pays() const { return inputs <= 4 && columns >= 16; }
  std::int64_t panels() const { return blocks(columns, tile_columns); }
  /// Floats of the packed weights of a group and one temporal tap.
  std::int64_t weight_floats() const { return panels() * tile_columns * outputs; }
};

/// Weights as panels [group][kt][panel][output channel][tile_columns].
inline void pack_scatter_weights(float* packed, const float* weight, const Scatter& c, const Queue& queue) {
  const std::int64_t frame = c.s.h.kernel * c.s.w.kernel;
  for_each_task(queue, c.s.groups * c.s.t.kernel * c.panels(), [&](std::int64_t task, int) {
    const std::int64_t first = task % c.panels() * tile_columns, kt = task / c.panels() % c.s.t.kernel;
    const std::int64_t group = task / c.panels() / c.s.t.kernel;
    float* to = packed + task * c.outputs * tile_columns;
    for (std::int64_t o = 0; o < c.outputs; ++o)
      for (std::int64_t column = first; column < first + tile_columns; ++column) {
        const std::int64_t pair = (group * c.outputs + o) * c.inputs + column % c.inputs;
        *to++ = column < c.columns ? weight[(pair * c.s.t.kernel + kt) * frame + column / c.inputs] : 0;
      }
  });
}

/// Adds the products (kw, input channel) of one output pixel and one row of taps to a row of dx of the group.
inline void add_tap_row(float* dx_row, const float* products, const Scatter& c, std::int64_t w) {
  const ConvAxis& axis = c.s.w;
  const std::int64_t first = w * axis.stride - axis.pad;
  if (axis.dilation == 1 && c.s.groups == 1) {
    const std::int64_t low = first < 0 ? -first : 0, high = least(axis.kernel, axis.in - first);
    for (std::int64_t i = low * c.inputs; i < high * c.inputs; i += 16) {
      const int lanes = static_cast<int>(least(16, high * c.inputs - i));
      float* to = dx_row + first * c.inputs + i;
      store_first(to, add(F16::load_first(to, lanes), F16::load_first(products + i, lanes)), lanes);
    }
    return;
  }
  for (std::int64_t k = 0; k < axis.kernel; ++k) {
    const std::int64_t at = first + k * axis.dilation;
    if (at < 0 || at >= axis.in) continue;
    for (std::int64_t i = 0; i < c.inputs; ++i)
      dx_row[at * c.s.in_channels + i] += products[k * c.inputs + i];
  }
}

/// Adds what an output frame of a group passes to an input frame of it; `products` and `packed` are memory of
/// the worker.
inline void scatter_frame(float* dx, const float* dy, const float* weights, const Scatter& c, float* products,
                          float* packed) {
  const ConvAxis &h = c.s.h, &w = c.s.w;
  const std::int64_t pixels = h.out * w.out, panel_stride = tile_rows * c.outputs + slack;
  for (std::int64_t first = 0; first < pixels; first += most_task_rows) {
    const Range some{first, least(first + most_task_rows, pixels)};
    pack<tile_rows>(packed, panel_stride, {dy, c.s.out_channels, 1}, some, {0, c.outputs});
    for (std::int64_t column = 0; column < c.columns; column += tile_columns)
      multiply_panel(products + column, c.columns, packed, panel_stride, weights + column * c.outputs,
                     c.outputs, some.size(), least(tile_columns, c.columns - column), {false});
    for (std::int64_t p = some.begin; p < some.end; ++p)
      for (std::int64_t kh = 0; kh < h.kernel; ++kh) {
        const std::int64_t row = p / w.out * h.stride + kh * h.dilation - h.pad;
        if (row < 0 || row >= h.in) continue;
        add_tap_row(dx + row * w.in * c.s.in_channels,
                    products + (p - some.begin) * c.columns + kh * w.kernel * c.inputs, c, p % w.out);
      }
  }
}

inline void scatter_input_gradient(float* dx, const float* dy, const float* weight, const Scatter& c,
                                   Write mode, const Queue& queue) {
  const ConvAxis& t = c.s.t;
  const std::int64_t in_frame = c.s.h.in * c.s.w.in * c.s.in_channels;
  const std::int64_t out_frame = c.s.h.out * c.s.w.out * c.s.out_channels;
  const std::int64_t all_weights = c.s.groups * t.kernel * c.weight_floats();
  const std::int64_t product_floats = most_task_rows * c.columns;
  const std::int64_t worker_floats = product_floats + packed_a_floats(c.outputs);
  const Scratch scratch(queue, all_weights + worker_count(queue) * worker_floats);
  pack_scatter_weights(scratch.data, weight, c, queue);
  for_each_task(queue, c.s.batch * t.in, [&](std::int64_t frame, int worker) {
    float* memory = scratch.data + all_weights + worker * worker_floats;
    float* to = dx + frame * in_frame;
    if (mode == Write::overwrite)
      for (std::int64_t i = 0; i < in_frame; ++i) to[i] = 0;
    for (std::int64_t kt = 0; kt < t.kernel; ++kt) {
      const std::int64_t strided = frame % t.in + t.pad - kt * t.dilation, from = strided / t.stride;
      if (strided < 0 || strided % t.stride || from >= t.out) continue;
      for (std::int64_t group = 0; group < c.s.groups; ++group)
        scatter_frame(
            to + group * c.inputs, dy + (frame / t.in * t.out + from) * out_frame + group * c.outputs,
            scratch.data + (group * t.kernel + kt) * c.weight_floats(), c, memory, memory + product_floats);
    }
  });
}

}  // namespace
}  // namespace fovea::FOVEA_ISA_NAMESPACE
