// The CUDA kernels of the separable convolution, and the device.
#include "tests/gpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

// ---- separable convolution
// -------------------------------------------------------------------------------------

struct Extents {
  std::int64_t t, h, w;
};

SepConv3dShape shape_of(std::int64_t batch, std::int64_t in_channels, std::int64_t out_channels, Extents in,
                        Extents kernel, Extents before, Extents after) {
  return {batch,
          in_channels,
          out_channels,
          in.t,
          in.h,
          in.w,
          kernel.t,
          kernel.h,
          kernel.w,
          before.t,
          before.h,
          before.w,
          in.t + before.t + after.t - kernel.t + 1,
          in.h + before.h + after.h - kernel.h + 1,
          in.w + before.w + after.w - kernel.w + 1};
}

struct Sizes {
  std::size_t x, y, spatial, temporal;
  explicit Sizes(const SepConv3dShape& s)
      : x(size(s.batch * s.in_t * s.in_h * s.in_w * s.in_channels)),
        y(size(s.batch * s.out_t * s.out_h * s.out_w * s.out_channels)),
        spatial(size(s.out_channels * s.in_channels * s.kernel_h * s.kernel_w)),
        temporal(size(s.out_channels * s.in_channels * s.kernel_t)) {}
};

void check_convolution(const SepConv3dShape& s, bool whole) {
  CAPTURE(s.kernel_t);
  CAPTURE(s.in_channels);
  CAPTURE(s.out_channels);
  CAPTURE(s.out_t);
  CAPTURE(s.out_h);
  CAPTURE(s.out_w);
  const Sizes sizes(s);
  const auto random = [&](std::size_t count, unsigned seed) {
    return whole ? random_whole(count, seed) : random_normal(count, seed);
  };
  const Inputs forward_inputs{random(sizes.x, 1), random(sizes.spatial, 2), random(sizes.temporal, 3)};
  const Inputs backward_inputs{random(sizes.y, 4), random(sizes.x, 1), random(sizes.spatial, 2),
                               random(sizes.temporal, 3)};

  // A product goes through the sum over the spatial kernel, then over taps and channels, then over warps.
  const auto plane = static_cast<double>(s.kernel_h * s.kernel_w), taps = static_cast<double>(s.kernel_t);
  const auto forward = [&](const auto& tables, auto in, auto out, const Queue& queue) {
    tables.sepconv3d.forward(out[0], nullptr, in[0], in[1], in[2], s, queue);
  };
  std::vector<KernelOutput> y{{sizes.y, 0}};
  if (!whole)
    bound_outputs(y, forward_inputs, plane + taps * static_cast<double>(s.in_channels) + 6, forward);
  check_gpu_kernel(forward_inputs, y, forward);

  for (const Write mode : {Write::overwrite, Write::accumulate}) {
    const auto grad_input = [&](const auto& tables, auto in, auto out, const Queue& queue) {
      tables.sepconv3d.grad_input(out[0], in[0], in[2], in[3], s, mode, queue);
    };
    std::vector<KernelOutput> dx{{sizes.x, 0}};
    if (mode == Write::accumulate) dx[0].initial = random(sizes.x, 5);
    if (!whole)
      bound_outputs(dx, backward_inputs, plane + taps * static_cast<double>(s.out_channels) + 7, grad_input);
    check_gpu_kernel(backward_inputs, dx, grad_input);
  }

  // The inner sum over one kernel, then a thread's sum over its pixels and frames, a warp's, and one in f64.
  const auto grad_weight = [&](const auto& tables, auto in, auto out, const Queue& queue) {
    tables.sepconv3d.grad_weight(out[0], out[1], in[0], in[1], nullptr, in[2], in[3], s, queue);
  };
  std::vector<KernelOutput> weights{{sizes.spatial, 0}, {sizes.temporal, 0}};
  const auto positions = static_cast<double>(s.in_t * 8 * 6);
  if (!whole) bound_outputs(weights, backward_inputs, plane + taps + positions + 8, grad_weight);
  check_gpu_kernel(backward_inputs, weights, grad_weight);
}

constexpr Extents kFirst{21, 11, 11}, kSecond{11, 5, 5}, kNone{0, 0, 0};

/// Every size of the tiled kernels: one tile and several, with tails in rows, columns, channels, frames.
std::vector<SepConv3dShape> tiled_shapes() {
  return {
      shape_of(1, 1, 1, kFirst, kFirst, kNone, kNone),                // one output
      shape_of(2, 2, 5, {24, 13, 12}, kFirst, kNone, kNone),          // 3 x 2 pixels, 5 = 4 + 1 channels
      shape_of(1, 3, 4, {23, 19, 18}, kFirst, kNone, kNone),          // 9 x 8: two tiles in both directions
      shape_of(1, 1, 2, {107, 11, 12}, kFirst, kNone, kNone),         // several chunks of frames
      shape_of(1, 2, 1, {7, 4, 5}, kFirst, {10, 5, 5}, {10, 5, 5}),   // more padding than image
      shape_of(1, 6, 3, {17, 8, 6}, kSecond, {0, 2, 2}, {0, 2, 2}),   // one tile: columns left out
      shape_of(1, 9, 3, {14, 9, 6}, kSecond, {0, 2, 2}, {0, 2, 2}),   // a row more; 9 channels in 8 groups
      shape_of(1, 8, 4, {13, 7, 5}, kSecond, {0, 2, 2}, {0, 2, 2}),   // a row and a column less
      shape_of(1, 3, 4, {12, 1, 4}, kSecond, {0, 2, 2}, {0, 4, 4}),   // one row; more padding at the end
      shape_of(1, 2, 2, {12, 8, 6}, kSecond, {0, 2, 1}, {0, 2, 3}),   // as narrow, padded otherwise
      shape_of(1, 2, 2, {12, 3, 5}, kSecond, {0, 9, 2}, {0, 9, 2}),   // tiles and warps beside the image
      shape_of(1, 1, 1, {57, 5, 6}, kSecond, {3, 2, 2}, {3, 2, 2}),   // chunks of odd numbers of frames
      shape_of(1, 16, 1, {12, 8, 7}, kSecond, {0, 2, 2}, {0, 2, 2}),  // a column more, all of shared memory
      shape_of(2, 16, 4, {12, 3, 6}, kSecond, {0, 2, 2}, {0, 2, 2}),
      shape_of(1, 20, 2, {12, 5, 5}, kSecond, kNone, kNone),         // more than there is: plain kernel
      shape_of(1, 5, 9, {13, 6, 7}, kSecond, {5, 0, 3}, {2, 1, 0}),  // uneven padding
  };
}

/// Kernel sizes without a tiled kernel.
std::vector<SepConv3dShape> plain_shapes() {
  return {
      shape_of(1, 1, 1, {1, 1, 1}, {1, 1, 1}, kNone, kNone),
      shape_of(3, 2, 3, {6, 5, 7}, {3, 2, 4}, kNone, kNone),
      shape_of(1, 4, 2, {5, 6, 3}, {5, 1, 3}, {2, 0, 1}, {2, 0, 1}),
      shape_of(2, 3, 5, {2, 2, 2}, {4, 3, 5}, {2, 1, 3}, {1, 1, 1}),
      shape_of(1, 2, 2, {30, 4, 4}, {21, 3, 3}, kNone, kNone),
  };
}

}  // namespace

TEST_CASE("the tiled convolutions are exact on whole numbers") {
  for (const SepConv3dShape& s : tiled_shapes()) check_convolution(s, true);
}

TEST_CASE("the tiled convolutions stay within the rounding of their sums") {
  for (const SepConv3dShape& s : tiled_shapes()) check_convolution(s, false);
}

TEST_CASE("the plain convolutions are exact on whole numbers") {
  for (const SepConv3dShape& s : plain_shapes()) check_convolution(s, true);
}

TEST_CASE("the plain convolutions stay within the rounding of their sums") {
  for (const SepConv3dShape& s : plain_shapes()) check_convolution(s, false);
}

TEST_CASE("all gradients of a convolution at once are those of one kernel after the other") {
  const SepConv3dShape s = shape_of(2, 3, 4, {13, 8, 6}, kSecond, {0, 2, 2}, {0, 2, 2});
  const Sizes sizes(s);
  const Inputs inputs{random_normal(sizes.y, 4), random_normal(sizes.x, 1), random_normal(sizes.spatial, 2),
                      random_normal(sizes.temporal, 3)};
  for (const Write mode : {Write::overwrite, Write::accumulate}) {
    std::vector<KernelOutput> outputs{{sizes.x, 0}, {sizes.spatial, 0}, {sizes.temporal, 0}};
    if (mode == Write::accumulate) outputs[0].initial = random_normal(sizes.x, 5);
    const auto at_once = gpu_outputs(inputs, outputs, [&](const auto& tables, auto in, auto out, auto queue) {
      tables.sepconv3d.grad(out[0], out[1], out[2], in[0], in[1], nullptr, in[2], in[3], s, mode, queue);
    });
    const auto apart = gpu_outputs(inputs, outputs, [&](const auto& tables, auto in, auto out, auto queue) {
      tables.sepconv3d.grad_input(out[0], in[0], in[2], in[3], s, mode, queue);
      tables.sepconv3d.grad_weight(out[1], out[2], in[0], in[1], nullptr, in[2], in[3], s, queue);
    });
    CHECK(at_once == apart);
  }
}

// ---- the device
// ------------------------------------------------------------------------------------------------

TEST_CASE("every entry has a CUDA kernel of its own") {
  const auto check = [](const Device& device) {
    CHECK(kernel_status(device).size() > 50);
    for (const EntryStatus& entry : kernel_status(device))
      CHECK_MESSAGE(entry.origin == EntryOrigin::own, entry.name);
  };
  check(emulator_device());
  if (gpu()) check(*gpu());
}

TEST_CASE("convolutions of nothing: zeros where there is something to write") {
  for (const Extents& kernel : {kFirst, kSecond, Extents{3, 2, 2}}) {
    CAPTURE(kernel.t);
    const SepConv3dShape none = shape_of(0, 2, 3, {24, 13, 12}, kernel, kNone, kNone);
    const Inputs inputs{
        {}, {}, random_normal(Sizes(none).spatial, 1), random_normal(Sizes(none).temporal, 2)};
    check_gpu_kernel(inputs, {{Sizes(none).spatial, 0}, {Sizes(none).temporal, 0}},
                     [&](const auto& tables, auto in, auto out, const Queue& queue) {
                       tables.sepconv3d.grad_weight(out[0], out[1], in[0], in[1], nullptr, in[2], in[3], none,
                                                    queue);
                     });
    const SepConv3dShape blind = shape_of(1, 0, 3, {24, 13, 12}, kernel, kNone, kNone);
    check_gpu_kernel({{}, {}, {}}, {{Sizes(blind).y, 0}},
                     [&](const auto& tables, auto in, auto out, const Queue& queue) {
                       tables.sepconv3d.forward(out[0], nullptr, in[0], in[1], in[2], blind, queue);
                     });
  }
}

TEST_CASE("an op without a CUDA kernel says so by name") {
  const Device device = device_with_tables(emulator_device(), {});
  CHECK_THROWS_WITH_AS(tables<float>(device).loss.correlation(nullptr, nullptr, nullptr, nullptr, {}, {},
                                                              device.backend().queue()),
                       doctest::Contains("loss.correlation"), DeviceError);
}

TEST_CASE("memory of the emulated device is NaN until written") {
  const Device device = emulator_device();
  for (const float value : Tensor({5}, DType::f32, device).to_vector<float>()) CHECK(std::isnan(value));
}

#if FOVEA_CUDA
TEST_CASE("the CUDA device exists, or says why not") {
  Device device;
  std::string error;
  try {
    device = cuda_device();
  } catch (const DeviceError& refused) {
    error = refused.what();
  }
  if (device)
    CHECK(device.kind() == DeviceKind::cuda);
  else
    CHECK(error.find("[cuda] no CUDA device: ") == 0);
}
#endif
