// CPU convolutions of every instruction set against the f64 reference.
#include "tests/cpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

ConvAxis axis(std::int64_t in, std::int64_t kernel, std::int64_t stride = 1, std::int64_t before = 0,
              std::int64_t after = 0, std::int64_t dilation = 1) {
  return {in,     kernel,   stride,
          before, dilation, (in + before + after - dilation * (kernel - 1) - 1) / stride + 1};
}

struct Case {
  const char* name;
  Conv3dShape shape;
};

/// Vectors and tiles that are full and partial; runs of taps cut by channels; several chunks of the sum.
std::vector<Case> cases() {
  const ConvAxis flat = axis(1, 1);
  return {
      {"one product", {1, 1, 1, 1, flat, flat, flat}},
      {"one channel, same", {2, 1, 16, 1, axis(9, 4, 1, 1, 2), axis(7, 3, 1, 1, 1), axis(13, 5, 1, 2, 2)}},
      {"one channel, narrow", {2, 1, 5, 1, axis(4, 2), axis(6, 3, 1, 3, 4), axis(3, 3, 1, 1, 0)}},
      {"one channel, dilated", {1, 1, 3, 1, flat, axis(5, 2, 1, 1, 1, 3), axis(4, 3, 1, 7, 6, 3)}},
      {"one channel, strided", {2, 1, 7, 1, flat, axis(9, 3, 2, 1, 1), axis(30, 3, 2, 1, 2)}},
      {"to one channel", {2, 3, 1, 1, axis(3, 2, 1, 1, 0), axis(7, 3, 2, 2, 1), axis(21, 4, 1, 1, 2)}},
      {"to one channel, same",
       {2, 20, 1, 1, axis(3, 2, 1, 1, 0), axis(19, 5, 1, 2, 2), axis(21, 5, 1, 2, 2)}},
      {"to two channels, dilated", {3, 7, 2, 1, flat, axis(9, 3, 1, 2, 1, 2), axis(12, 4, 1, 4, 3, 2)}},
      {"to three channels, large kernel", {1, 3, 3, 1, flat, axis(7, 11, 1, 5, 5), axis(37, 17, 1, 8, 8)}},
      {"to four channels of two groups", {2, 10, 4, 2, flat, axis(8, 2), axis(9, 2, 1, 1, 0)}},
      {"to one channel, rows of taps", {2, 16, 1, 1, flat, axis(22, 5, 1, 2, 2), axis(19, 5, 1, 2, 2)}},
      {"to three channels, strided", {2, 13, 3, 1, axis(5, 2), axis(19, 3, 2, 1, 1), axis(18, 5, 2, 2, 2)}},
      {"to two channels, taps apart", {1, 20, 2, 1, flat, axis(19, 3, 1, 2, 2, 2), axis(18, 3, 1, 3, 3, 3)}},
      {"few channels, four taps", {2, 1, 33, 1, flat, axis(9, 2), axis(21, 2, 1, 0, 1)}},
      {"several chunks", {1, 3, 17, 1, axis(6, 5), axis(8, 4), axis(12, 5)}},
      {"wide: taps one by one", {1, 130, 9, 1, flat, axis(5, 3, 1, 1, 1), axis(6, 5, 1, 2, 2)}},
      {"more channels than a chunk", {1, 530, 3, 1, flat, axis(3, 2), axis(4, 2)}},
      {"many output channels", {2, 3, 101, 1, flat, axis(9, 3), axis(8, 3)}},
      {"strides", {2, 3, 5, 1, axis(7, 3, 2, 1, 0), axis(9, 3, 2, 2, 1), axis(11, 4, 3, 0, 2)}},
      {"dilation", {2, 4, 33, 1, axis(7, 2, 1, 0, 0, 3), axis(9, 3, 1, 2, 2, 2), axis(8, 3, 1, 1, 0, 3)}},
      {"strided and dilated", {1, 2, 3, 1, flat, axis(10, 3, 2, 2, 2, 3), axis(11, 3, 3, 1, 1, 2)}},
      {"few channels, dilated",
       {2, 3, 17, 1, axis(6, 2, 1, 1, 0, 2), axis(9, 3, 1, 1, 2), axis(8, 3, 1, 1, 0, 3)}},
      {"few channels, strided",
       {2, 4, 20, 1, axis(9, 4, 3, 2, 1), axis(9, 3, 2, 2, 1), axis(11, 4, 3, 3, 2)}},
      {"groups of few channels", {2, 6, 10, 2, axis(4, 2), axis(7, 3, 1, 1, 1), axis(6, 3)}},
      {"groups", {2, 10, 40, 2, axis(4, 2), axis(7, 3, 1, 1, 1), axis(6, 3)}},
      {"one input channel a group", {1, 5, 10, 5, flat, axis(7, 3, 2, 1, 1), axis(6, 3)}},
      {"pointwise", {3, 20, 35, 1, flat, axis(7, 1), axis(9, 1)}},
      {"pointwise groups", {1, 8, 12, 4, flat, axis(7, 1), axis(9, 1)}},
      {"pointwise with a stride", {1, 8, 12, 1, flat, axis(7, 1, 2), axis(9, 1, 2)}},
      {"time only", {1, 8, 8, 1, axis(20, 7, 1, 3, 3), axis(3, 1), axis(4, 1)}},
      {"padding beyond the image", {1, 2, 3, 1, flat, axis(3, 2, 1, 4, 5), axis(2, 3, 1, 6, 3)}},
      {"depthwise", {2, 37, 37, 37, flat, axis(9, 3, 1, 1, 1), axis(8, 5, 1, 2, 2)}},
      {"depthwise, strided and dilated",
       {1, 16, 16, 16, axis(5, 2, 2, 1, 0), axis(9, 3, 2, 1, 2), axis(11, 3, 2, 2, 2, 2)}},
      {"few channels, bands of rows", {2, 1, 40, 1, axis(4, 2), axis(37, 9, 1, 4, 4), axis(70, 9, 1, 4, 4)}},
      {"two channels, strided", {2, 2, 20, 1, flat, axis(40, 5, 2, 2, 2), axis(75, 7, 2, 3, 3)}},
      {"three channels, dilated", {1, 3, 16, 1, flat, axis(20, 3, 1, 2, 2, 2), axis(41, 3, 1, 2, 1, 2)}},
      {"large kernel", {1, 1, 16, 1, flat, axis(33, 31, 1, 15, 15), axis(40, 31, 1, 15, 14)}},
      {"depthwise, bands of rows", {1, 48, 48, 48, flat, axis(35, 7, 1, 3, 3), axis(70, 7, 1, 3, 3)}},
      {"depthwise, one frame", {1, 65, 65, 65, flat, axis(23, 9, 1, 4, 4), axis(19, 11, 1, 5, 5)}},
      {"one frame, large kernel", {1, 5, 37, 1, flat, axis(22, 21, 1, 10, 10), axis(25, 21, 1, 10, 10)}},
      {"one frame, dilated rows", {1, 3, 16, 1, flat, axis(37, 3, 1, 2, 2, 2), axis(20, 5, 1, 4, 4, 2)}},
      {"depthwise, every third pixel", {1, 20, 20, 20, flat, axis(9, 3), axis(20, 3, 3, 1, 1)}},
      {"pointwise in whole tiles", {3, 64, 48, 1, flat, axis(7, 1), axis(9, 1)}},
      {"pointwise, six channels", {3, 6, 16, 1, flat, axis(9, 1), axis(11, 1)}},
      {"pointwise in thirds of tiles", {1, 20, 16, 1, flat, axis(7, 1), axis(9, 1)}},
      {"one pixel, large kernel", {5, 6, 20, 1, flat, axis(1, 7, 1, 3, 3), axis(1, 5, 1, 2, 2)}},
      {"one pixel, strided away from it", {3, 4, 17, 1, flat, axis(1, 5, 3, 9, 9), axis(1, 3, 2, 4, 4)}},
      {"one pixel, depthwise", {5, 19, 19, 19, flat, axis(1, 7, 1, 3, 3), axis(1, 7, 1, 3, 3)}},
      {"four pixels, large kernel", {33, 6, 20, 1, flat, axis(2, 7, 1, 3, 3), axis(2, 9, 1, 4, 4)}},
      {"four pixels, dilated and strided",
       {14, 5, 33, 1, axis(2, 3, 1, 1, 1), axis(2, 5, 2, 6, 5, 2), axis(2, 4, 3, 7, 8, 3)}},
      {"four pixels, depthwise", {37, 19, 19, 19, flat, axis(2, 7, 1, 3, 3), axis(2, 5, 1, 2, 2)}},
      {"four pixels, depthwise, padding beyond the image",
       {3, 35, 35, 35, axis(2, 3, 1, 2, 2), axis(2, 7, 2, 9, 9), axis(2, 5, 1, 7, 2, 2)}},
      {"depthwise, one tap", {3, 37, 37, 37, flat, axis(7, 1), axis(9, 1)}},
      {"depthwise, small strided maps", {21, 32, 32, 32, flat, axis(6, 3, 2, 1, 1), axis(5, 4, 3, 2, 2)}},
      {"small maps beside each other", {29, 5, 33, 1, flat, axis(3, 3, 1, 1, 1), axis(4, 5, 1, 2, 2)}},
      {"pointwise, many channels", {2, 205, 19, 1, flat, axis(6, 1), axis(7, 1)}},
      {"pointwise, odd channels", {3, 31, 45, 1, flat, axis(8, 1), axis(9, 1)}},
      {"pointwise, two channels to three", {2, 2, 3, 1, flat, axis(35, 1), axis(33, 1)}},
      {"four pixels, groups", {13, 12, 18, 3, flat, axis(2, 5, 1, 2, 2), axis(2, 5, 1, 2, 2)}},
      {"many pixels", {3, 2, 6, 1, axis(9, 2), axis(33, 3), axis(35, 2)}},
  };
}

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

struct Counts {
  std::int64_t x, y, weight, taps;
};

Counts counts_of(const Conv3dShape& s) {
  const std::int64_t taps = s.t.kernel * s.h.kernel * s.w.kernel;
  return {s.batch * s.t.in * s.h.in * s.w.in * s.in_channels,
          s.batch * s.t.out * s.h.out * s.w.out * s.out_channels,
          s.out_channels * (s.in_channels / s.groups) * taps, taps};
}

// The passes as check_kernel runs them; inputs are x, dy, weight, bias.
struct Forward {
  const Conv3dShape& shape;
  bool bias;
  void operator()(const auto& tables, const auto& in, const auto& out, const Queue& queue) const {
    tables.conv3d.forward(out[0], in[0], in[2], bias ? in[3] : nullptr, shape, queue);
  }
};
struct GradInput {
  const Conv3dShape& shape;
  Write mode;
  void operator()(const auto& tables, const auto& in, const auto& out, const Queue& queue) const {
    tables.conv3d.grad_input(out[0], in[1], in[2], shape, mode, queue);
  }
};
struct GradWeight {
  const Conv3dShape& shape;
  void operator()(const auto& tables, const auto& in, const auto& out, const Queue& queue) const {
    tables.conv3d.grad_weight(out[0], out[1], in[1], in[0], shape, queue);
  }
};

Inputs inputs_of(const Conv3dShape& s, bool whole) {
  const Counts n = counts_of(s);
  Inputs inputs;
  unsigned seed = 0;
  for (const std::int64_t count : {n.x, n.y, n.weight, s.out_channels})
    inputs.push_back(whole ? random_whole(size(count), ++seed) : random_normal(size(count), ++seed));
  return inputs;
}

/// Bounds by the same pass over magnitudes: sum |terms|, each rounded at most `terms` times and some, twice
/// where multiply-add is two operations.
template <class Run>
void check_pass(const Inputs& inputs, std::vector<KernelOutput> outputs, const Run& run, std::int64_t terms) {
  Inputs magnitudes = inputs;
  for (auto& input : magnitudes)
    for (float& value : input) value = std::abs(value);
  std::vector<KernelOutput> of_magnitudes = outputs;
  for (auto& output : of_magnitudes)
    for (float& value : output.initial) value = std::abs(value);
  const auto sums = kernel_outputs(reference_tables<double>(), cpu_device(1, Isa::reference), magnitudes,
                                   of_magnitudes, run);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    outputs[i].bounds = sums[i];
    for (double& bound : outputs[i].bounds)
      bound = rounding_bound<float>(bound, 2.0 * static_cast<double>(terms + 4));
  }
  check_kernel(inputs, outputs, run);
}

}  // namespace

TEST_CASE("convolution: every shape within the rounding bound") {
  for (const Case& one : cases()) {
    CAPTURE(std::string(one.name));
    const Conv3dShape& shape = one.shape;
    const Counts n = counts_of(shape);
    const Inputs inputs = inputs_of(shape, false);
    for (const bool bias : {false, true})
      check_pass(inputs, {{size(n.y), 0}}, Forward{shape, bias}, n.taps * (shape.in_channels / shape.groups));
    const std::int64_t to_input = n.taps * (shape.out_channels / shape.groups);
    check_pass(inputs, {{size(n.x), 0}}, GradInput{shape, Write::overwrite}, to_input);
    KernelOutput sum{size(n.x), 0};
    sum.initial = random_normal(size(n.x), 5);
    check_pass(inputs, {sum}, GradInput{shape, Write::accumulate}, to_input);
    check_pass(inputs, {{size(n.weight), 0}, {size(shape.out_channels), 0}}, GradWeight{shape},
               n.y / shape.out_channels);
  }
}

TEST_CASE("convolution: whole numbers are exact") {
  for (const Case& one : cases()) {
    CAPTURE(std::string(one.name));
    const Conv3dShape& shape = one.shape;
    const Counts n = counts_of(shape);
    const Inputs inputs = inputs_of(shape, true);
    check_kernel(inputs, {{size(n.y), 0}}, Forward{shape, true});
    check_kernel(inputs, {{size(n.x), 0}}, GradInput{shape, Write::overwrite});
    check_kernel(inputs, {{size(n.weight), 0}, {size(shape.out_channels), 0}}, GradWeight{shape});
  }
}

TEST_CASE("convolution: no pixels give zero gradients") {
  const Conv3dShape nothing{0, 3, 2, 1, axis(4, 2), axis(4, 2), axis(4, 2)},
      no_rows{1, 3, 2, 1, axis(1, 1), axis(1, 2), axis(4, 2)};
  for (const Conv3dShape& shape :
       {nothing, no_rows, Conv3dShape{0, 2, 2, 2, axis(1, 1), axis(4, 2), axis(4, 2)}})
    for (const Isa isa : available_isas()) {
      CAPTURE(to_string(isa));
      const Device device = cpu_device(2, isa);
      const Inputs inputs = inputs_of(shape, false);
      const Counts n = counts_of(shape);
      const auto run = [&](const std::vector<KernelOutput>& outputs, const auto& pass) {
        return kernel_outputs(tables<float>(device), device, inputs, outputs, pass);
      };
      const auto grads = run({{size(n.weight), 0}, {2, 0}}, GradWeight{shape});
      CHECK(grads[0] == std::vector<float>(grads[0].size(), 0.0f));
      CHECK(grads[1] == std::vector<float>(2, 0.0f));
      CHECK(run({{size(n.y), 0}}, Forward{shape, true})[0].empty());
      const auto dx = run({{size(n.x), 0}}, GradInput{shape, Write::overwrite})[0];
      CHECK(dx == std::vector<float>(dx.size(), 0.0f));
    }
}

TEST_CASE("convolution: the comparison finds a tap left out") {
  const Conv3dShape shape{1, 3, 17, 1, axis(6, 5), axis(8, 4), axis(12, 5)};
  const Device host = cpu_device(1, Isa::reference);
  Inputs inputs = inputs_of(shape, true);
  const KernelOutput output{size(counts_of(shape).y), 0};
  const auto expected =
      kernel_outputs(reference_tables<double>(), host, inputs, {output}, Forward{shape, true})[0];
  inputs[2][7] = inputs[2][7] == 0 ? 1 : 0;
  const auto wrong = kernel_outputs(tables<float>(host), host, inputs, {output}, Forward{shape, true})[0];
  CHECK_FALSE(within_output(expected, wrong, output, host));
}
