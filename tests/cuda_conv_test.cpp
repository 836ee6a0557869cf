// The CUDA kernels of the convolution.
#include "tests/gpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

ConvAxis axis(std::int64_t in, std::int64_t kernel, std::int64_t stride = 1, std::int64_t before = 0,
              std::int64_t after = 0, std::int64_t dilation = 1) {
  return {in,     kernel,   stride,
          before, dilation, (in + before + after - dilation * (kernel - 1) - 1) / stride + 1};
}

const ConvAxis kFlat = axis(1, 1);

struct Case {
  const char* name;
  Conv3dShape shape;
};

std::int64_t out_pixels(const Conv3dShape& s) { return s.batch * s.t.out * s.h.out * s.w.out; }

enum Input { kX, kDy, kWeight, kBias };

Inputs inputs_of(const Conv3dShape& s, bool whole) {
  const std::int64_t taps = s.t.kernel * s.h.kernel * s.w.kernel;
  Inputs inputs;
  unsigned seed = 0;
  for (const std::int64_t count :
       {s.batch * s.t.in * s.h.in * s.w.in * s.in_channels, out_pixels(s) * s.out_channels,
        s.out_channels * (s.in_channels / s.groups) * taps, s.out_channels})
    inputs.push_back(whole ? random_whole(size(count), ++seed) : random_normal(size(count), ++seed));
  return inputs;
}

template <class Run>
void check_pass(const Inputs& inputs, std::vector<KernelOutput> outputs, bool whole, std::int64_t terms,
                const Run& run) {
  if (!whole) bound_outputs(outputs, inputs, static_cast<double>(terms) + 3, run);
  check_gpu_kernel(inputs, outputs, run);
}

struct Passes {
  bool forward = true, grad_input = true, grad_weight = true;
};

/// With and without bias, both modes of writing.
void check_convolution(const Case& one, bool whole, const Passes& passes = {}) {
  CAPTURE(std::string(one.name));
  const Conv3dShape& s = one.shape;
  const Inputs inputs = inputs_of(s, whole);
  const std::int64_t taps = s.t.kernel * s.h.kernel * s.w.kernel;
  for (const bool bias : {false, true}) {
    if (!passes.forward) break;
    check_pass(inputs, {{size(out_pixels(s) * s.out_channels), 0}}, whole, taps * s.in_channels / s.groups,
               [&](const auto& tables, auto in, auto out, const Queue& queue) {
                 tables.conv3d.forward(out[0], in[kX], in[kWeight], bias ? in[kBias] : nullptr, s, queue);
               });
  }
  for (const Write mode : {Write::overwrite, Write::accumulate}) {
    if (!passes.grad_input) break;
    KernelOutput dx{inputs[kX].size(), 0};
    if (mode == Write::accumulate)
      dx.initial = whole ? random_whole(dx.count, 9) : random_normal(dx.count, 9);
    check_pass(inputs, {dx}, whole, taps * s.out_channels / s.groups,
               [&](const auto& tables, auto in, auto out, const Queue& queue) {
                 tables.conv3d.grad_input(out[0], in[kDy], in[kWeight], s, mode, queue);
               });
  }
  if (passes.grad_weight)
    check_pass(inputs, {{inputs[kWeight].size(), 0}, {size(s.out_channels), 0}}, whole, out_pixels(s),
               [&](const auto& tables, auto in, auto out, const Queue& queue) {
                 tables.conv3d.grad_weight(out[0], out[1], in[kDy], in[kX], s, queue);
               });
}

/// Every geometry, in tiles that are full and partial and sums in one chunk and several.
std::vector<Case> general_cases() {
  return {
      {"one product", {1, 1, 1, 1, kFlat, kFlat, kFlat}},
      {"three axes, same", {2, 5, 16, 1, axis(5, 4, 1, 1, 2), axis(7, 3, 1, 1, 1), axis(6, 5, 1, 2, 2)}},
      {"to one channel", {2, 5, 1, 1, axis(3, 2, 1, 1, 0), axis(7, 3, 2, 2, 1), axis(21, 4, 1, 1, 2)}},
      {"several chunks", {1, 6, 17, 1, axis(6, 5), axis(8, 4), axis(12, 5)}},
      {"many input channels", {1, 130, 9, 1, kFlat, axis(5, 3, 1, 1, 1), axis(6, 5, 1, 2, 2)}},
      {"many output channels", {2, 5, 101, 1, kFlat, axis(9, 3), axis(8, 3)}},
      {"strides", {2, 5, 6, 1, axis(7, 3, 2, 1, 0), axis(9, 3, 2, 2, 1), axis(11, 4, 3, 0, 2)}},
      {"dilation", {2, 5, 33, 1, axis(7, 2, 1, 0, 0, 3), axis(9, 3, 1, 2, 2, 2), axis(8, 3, 1, 1, 0, 3)}},
      {"strided and dilated", {1, 8, 8, 1, kFlat, axis(10, 3, 2, 2, 2, 3), axis(11, 3, 3, 1, 1, 2)}},
      {"strided, wide", {1, 8, 40, 1, kFlat, axis(21, 3, 2, 1, 1), axis(19, 3, 2, 1, 1)}},
      {"groups of few channels", {2, 6, 10, 2, axis(4, 2), axis(7, 3, 1, 1, 1), axis(6, 3)}},
      {"groups", {2, 10, 40, 2, axis(4, 2), axis(7, 3, 1, 1, 1), axis(6, 3)}},
      {"one input channel a group", {1, 5, 10, 5, kFlat, axis(7, 3, 2, 1, 1), axis(6, 3)}},
      {"pointwise groups", {1, 8, 12, 4, kFlat, axis(7, 1), axis(9, 1)}},
      {"pointwise with a stride", {1, 8, 12, 1, kFlat, axis(7, 1, 2), axis(9, 1, 2)}},
      {"time only", {1, 8, 8, 1, axis(20, 7, 1, 3, 3), axis(3, 1), axis(4, 1)}},
      {"padding beyond the image", {1, 5, 4, 1, kFlat, axis(3, 2, 1, 4, 5), axis(2, 3, 1, 6, 3)}},
      {"depthwise, strided and dilated",
       {1, 36, 36, 36, axis(5, 2, 2, 1, 0), axis(9, 3, 2, 1, 2), axis(11, 3, 2, 2, 2, 2)}},
      {"depthwise, three axes", {1, 5, 5, 5, axis(9, 3), axis(13, 3, 1, 1, 1), axis(11, 2)}},
  };
}

std::vector<Case> pointwise_cases() {
  return {
      {"pointwise", {3, 20, 36, 1, kFlat, axis(7, 1), axis(9, 1)}},
      {"pointwise, three axes", {1, 3, 5, 1, axis(2, 1), axis(3, 1), axis(7, 1)}},
      {"pointwise, several chunks", {2, 70, 9, 1, axis(2, 1), axis(11, 1), axis(8, 1)}},
  };
}

/// Tiles of 16 columns and up to 16 rows of 32 channels: less than one, one, several, with tails.
std::vector<Case> depthwise_cases() {
  return {
      {"3 x 3, one pixel out", {1, 5, 5, 5, kFlat, axis(3, 3), axis(3, 3)}},
      {"3 x 3, 17 rows and columns", {1, 32, 32, 32, kFlat, axis(17, 3, 1, 1, 1), axis(17, 3, 1, 1, 1)}},
      {"5 x 5, uneven padding", {2, 33, 33, 33, axis(2, 1), axis(9, 5, 1, 3, 0), axis(7, 5, 1, 0, 4)}},
      {"7 x 7, two tiles of 10 rows", {2, 36, 36, 36, kFlat, axis(19, 7, 1, 3, 3), axis(20, 7, 1, 3, 3)}},
      {"7 x 7, no padding", {1, 8, 8, 8, kFlat, axis(11, 7), axis(13, 7)}},
      {"7 x 7, more padding than kernel", {1, 2, 2, 2, kFlat, axis(3, 7, 1, 8, 9), axis(2, 7, 1, 7, 8)}},
      {"9 x 9", {1, 3, 3, 3, kFlat, axis(10, 9, 1, 4, 4), axis(11, 9, 1, 4, 4)}},
  };
}

/// Tiles of runs of strips, forward 8 pixels each and, by the number of output channels, 24 to 192 of them:
/// one and a strip more or less, columns of the map of up to 128 pixels, every kernel size, one to four input
/// channels, more output channels than a block.
std::vector<Case> window_cases() {
  return {
      {"3 x 3 to 4 channels", {1, 1, 4, 1, kFlat, axis(35, 3), axis(5, 3)}},
      {"3 x 3 to 7 channels", {2, 3, 7, 1, axis(2, 1), axis(4, 3, 1, 1, 1), axis(34, 3, 1, 1, 1)}},
      {"5 x 5 to 24 channels", {1, 2, 24, 1, kFlat, axis(9, 5, 1, 3, 0), axis(7, 5, 1, 0, 4)}},
      {"7 x 7 to 16 channels", {2, 1, 16, 1, kFlat, axis(23, 7), axis(40, 7)}},
      {"7 x 7 to 70 channels", {1, 4, 70, 1, kFlat, axis(4, 7, 1, 3, 3), axis(5, 7, 1, 3, 3)}},
      {"9 x 9 to 64 channels", {1, 1, 64, 1, kFlat, axis(9, 9, 1, 4, 4), axis(10, 9, 1, 4, 4)}},
      {"5 x 5 to 16 channels, a tile", {1, 1, 16, 1, kFlat, axis(20, 5), axis(28, 5)}},
      {"5 x 5 to 9 channels, a tile and a row", {1, 1, 9, 1, kFlat, axis(21, 5), axis(28, 5)}},
      {"5 x 5 to 32 channels, a tile less a strip", {1, 1, 32, 1, kFlat, axis(27, 5), axis(12, 5)}},
      {"3 x 3 to 5 channels, a column of 128", {1, 1, 5, 1, kFlat, axis(24, 3, 1, 1, 1), axis(130, 3)}},
      {"3 x 3 to 4 channels, two columns", {1, 1, 4, 1, kFlat, axis(25, 3, 1, 1, 1), axis(131, 3)}},
      {"7 x 7, more padding than kernel", {1, 1, 8, 1, kFlat, axis(3, 7, 1, 8, 9), axis(2, 7, 1, 7, 8)}},
  };
}

}  // namespace

TEST_CASE("GPU convolutions of few input channels are exact on whole numbers") {
  for (const Case& one : window_cases()) check_convolution(one, true);
  // Runs of three tiles, the last one alone.
  const ConvAxis images = axis(2 * 7 * 132 + 1, 1);
  check_convolution({"many tiles", {1, 1, 4, 1, images, axis(3, 3), axis(3, 3)}}, true, {false, false, true});
}

TEST_CASE("GPU convolutions of few input channels stay within the rounding of their sums") {
  for (const Case& one : window_cases()) check_convolution(one, false);
}

TEST_CASE("GPU depthwise convolutions are exact on whole numbers") {
  for (const Case& one : depthwise_cases()) check_convolution(one, true);
  // Runs of three tiles, the last one alone.
  const ConvAxis images = axis(2 * 264 + 1, 1);
  check_convolution({"many tiles", {1, 2, 2, 2, images, axis(3, 3), axis(3, 3)}}, true);
}

TEST_CASE("GPU depthwise convolutions stay within the rounding of their sums") {
  for (const Case& one : depthwise_cases()) check_convolution(one, false);
}

TEST_CASE("GPU convolutions of every geometry are exact on whole numbers") {
  for (const Case& one : general_cases()) check_convolution(one, true);
  for (const Case& one : pointwise_cases()) check_convolution(one, true);
}

TEST_CASE("GPU convolutions of every geometry stay within the rounding of their sums") {
  for (const Case& one : general_cases()) check_convolution(one, false);
  for (const Case& one : pointwise_cases()) check_convolution(one, false);
}

// Tiles that only large maps get, reached by many channels or groups instead of many pixels.
TEST_CASE("GPU convolutions in large tiles are exact on whole numbers") {
  const std::int64_t many = 264 * 128;
  const Passes forward{true, false, false}, grad_input{false, true, false}, grad_weight{false, false, true};
  check_convolution({"128 x 128", {1, 1, many, 1, kFlat, kFlat, axis(3, 2)}}, true, forward);
  check_convolution({"128 x 128, strided", {1, many, 1, 1, kFlat, kFlat, axis(3, 2, 2)}}, true, grad_input);
  check_convolution({"128 x 64", {1, 264, 264 * 36, 264, kFlat, kFlat, axis(3, 2)}}, true, forward);
  check_convolution({"128 x 64, strided", {1, 264 * 36, 264, 264, kFlat, kFlat, axis(3, 2, 2)}}, true,
                    grad_input);
  check_convolution({"128 x 64, weights", {1, many, 33, 1, kFlat, kFlat, axis(2, 1, 2)}}, true, grad_weight);
  check_convolution({"few rows, many columns", {1, 1, many, 1, kFlat, kFlat, axis(2, 2)}}, true, grad_weight);
}

TEST_CASE("GPU convolutions without pixels give zero gradients") {
  const Conv3dShape s{0, 3, 2, 1, axis(4, 2), axis(4, 2), axis(4, 2)};
  check_gpu_kernel(inputs_of(s, true), {{2 * 3 * 8, 0}, {2, 0}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.conv3d.forward(nullptr, in[kX], in[kWeight], in[kBias], s, queue);
                     tables.conv3d.grad_input(nullptr, in[kDy], in[kWeight], s, Write::overwrite, queue);
                     tables.conv3d.grad_weight(out[0], out[1], in[kDy], in[kX], s, queue);
                   });
}

TEST_CASE("GPU bias gradients: many pixels, more channels than a block") {
  for (const Conv3dShape& s : {Conv3dShape{1, 1, 300, 1, kFlat, kFlat, axis(40, 1)},
                               Conv3dShape{3, 1, 1, 1, kFlat, axis(40, 1), axis(41, 1)},
                               Conv3dShape{2, 1, 16, 1, kFlat, axis(9, 1), axis(11, 1)},
                               Conv3dShape{1, 1, 96, 1, kFlat, kFlat, axis(65, 1)}})
    check_gpu_kernel(
        {random_whole(size(out_pixels(s) * s.out_channels), 1), random_whole(size(out_pixels(s)), 2)},
        {{size(s.out_channels), 0}, {size(s.out_channels), 0}},
        [&](const auto& tables, auto in, auto out, const Queue& queue) {
          tables.conv3d.grad_weight(out[0], out[1], in[0], in[1], s, queue);
        });
}
