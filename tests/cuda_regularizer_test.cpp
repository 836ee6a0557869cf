// The CUDA kernels of the regularizers.
#include "tests/gpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr double eps = std::numeric_limits<float>::epsilon();

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

/// Value and slopes, then the value alone. Everything is in double precision: each output has its own
/// rounding and, where numbers nearly cancel, what is left of those in double.
template <class Run>
void check_value_and_slopes(const Inputs& inputs, const std::vector<std::size_t>& slopes, double relative,
                            const Run& run) {
  std::vector<KernelOutput> outputs{{1, relative, {1e-12}}};
  for (const std::size_t count : slopes) outputs.push_back({count, relative, {1e-12}});
  check_gpu_kernel(inputs, outputs, [&](const auto& tables, auto in, auto out, const Queue& queue) {
    run(tables.regularizer, out, in, queue);
  });
  outputs.resize(1);
  check_gpu_kernel(inputs, outputs, [&](const auto& tables, auto in, auto out, const Queue& queue) {
    auto without = out;
    without.resize(1 + slopes.size(), nullptr);
    run(tables.regularizer, without, in, queue);
  });
}

/// Counts around the vectors, the threads and the chunks of a kernel that goes over elements.
constexpr std::int64_t counts[] = {1, 2, 3, 4, 7, 1023, 1025, 4096, 4097, 9000};

}  // namespace

TEST_CASE("CUDA sums of magnitudes and of squares over any length") {
  for (const std::int64_t count : counts) {
    CAPTURE(count);
    std::vector<float> w = random_normal(size(count), 1);
    w[0] = 0;
    check_value_and_slopes({w}, {size(count)}, eps,
                           [&](const auto& kernels, auto out, auto in, const Queue& q) {
                             kernels.absolute_sum(out[0], out[1], in[0], count, 0.3, q);
                           });
    check_value_and_slopes({w}, {size(count)}, eps,
                           [&](const auto& kernels, auto out, auto in, const Queue& q) {
                             kernels.square_sum(out[0], out[1], in[0], count, 0.7, q);
                           });
  }
}

TEST_CASE("CUDA sums of magnitudes are exact on whole numbers, and keep a NaN") {
  const std::int64_t count = 5000;
  check_gpu_kernel({random_whole(size(count), 1)}, {{1, 0}, {size(count), 0}},
                   [&](const auto& tables, auto in, auto out, const Queue& queue) {
                     tables.regularizer.absolute_sum(out[0], out[1], in[0], count, 2, queue);
                   });
  std::vector<float> w(size(count), 1);
  w[4500] = std::numeric_limits<float>::quiet_NaN();
  const auto value = device_outputs(
      emulator_device(), {w}, {{1, 0}}, 0, [&](const auto& tables, auto in, auto out, const Queue& queue) {
        tables.regularizer.absolute_sum(out[0], nullptr, in[0], count, 2, queue);
      })[0][0];
  CHECK(std::isnan(value));
}

TEST_CASE("CUDA extent of Gaussians, log variances of both signs and large ones") {
  for (const std::int64_t neurons : {1, 5, 1000, 4097})
    for (const double deviation : {1.0, 20.0}) {
      CAPTURE(neurons);
      const Inputs inputs{random_normal(size(2 * neurons), 1), random_normal(size(neurons), 2, 0, deviation)};
      check_value_and_slopes(inputs, {size(2 * neurons), size(neurons)}, eps,
                             [&](const auto& kernels, auto out, auto in, const Queue& q) {
                               kernels.gaussian_extent(out[0], out[1], out[2], in[0], in[1], neurons, 1.7,
                                                       0.9, 0.2, 0.3, q);
                             });
      // One slope of two, which may be subnormal.
      const double spacing = std::numeric_limits<float>::denorm_min();
      check_gpu_kernel(inputs, {{1, eps}, {size(neurons), eps, {spacing}}},
                       [&](const auto& tables, auto in, auto out, const Queue& q) {
                         tables.regularizer.gaussian_extent(out[0], nullptr, out[1], in[0], in[1], neurons, 1,
                                                            -1, 0.2, 0.3, q);
                       });
    }
}

TEST_CASE("CUDA temporal smoothing for any number of harmonics") {
  for (const TemporalSmoothingShape& s : {TemporalSmoothingShape{1, 1, 1}, TemporalSmoothingShape{3, 2, 7},
                                          TemporalSmoothingShape{40, 17, 9}}) {
    const std::size_t count = size(s.out_channels * s.in_channels * s.harmonics);
    check_value_and_slopes({random_normal(count, 1), random_normal(count, 2)}, {count, count}, eps,
                           [&](const auto& kernels, auto out, auto in, const Queue& q) {
                             kernels.temporal_smoothing(out[0], out[1], out[2], in[0], in[1], s, q);
                           });
  }
}

TEST_CASE("CUDA norms of filters: short rows and long ones, a filter of zeros") {
  for (const std::int64_t taps : {1, 3, 8, 9, 32, 121, 700})
    for (const std::int64_t rows : {1, 7, 9, 130}) {
      CAPTURE(taps);
      CAPTURE(rows);
      std::vector<float> w = random_normal(size(rows * taps), 1);
      std::fill(w.end() - taps, w.end(), 0.0f);
      check_value_and_slopes({w}, {w.size()}, eps,
                             [&](const auto& kernels, auto out, auto in, const Queue& q) {
                               kernels.filter_norms(out[0], out[1], in[0], rows, taps, 0.25, q);
                             });
    }
}

TEST_CASE("CUDA group sparsity: more and fewer filters than warps, a filter and a group of zeros") {
  for (const GroupSparsityShape& s : {GroupSparsityShape{1, 1, 1}, GroupSparsityShape{3, 5, 121},
                                      GroupSparsityShape{2, 21, 9}, GroupSparsityShape{5, 8, 40}}) {
    std::vector<float> w = random_normal(size(s.out_channels * s.in_channels * s.taps), 1);
    if (s.in_channels > 1) {
      std::fill_n(w.begin() + s.taps, s.taps, 0.0f);
      std::fill_n(w.begin() + s.in_channels * s.taps, s.in_channels * s.taps, 0.0f);
    }
    check_value_and_slopes({w}, {w.size()}, 2 * eps,
                           [&](const auto& kernels, auto out, auto in, const Queue& q) {
                             kernels.group_sparsity(out[0], out[1], in[0], s, q);
                           });
  }
}

namespace {

/// Every option of a filter's size: energy or sum of magnitudes, with and without ratio, with a window.
void check_laplace(LaplaceShape s, bool whole) {
  CAPTURE(s.filters);
  CAPTURE(s.height);
  CAPTURE(s.width);
  CAPTURE(s.padding);
  const std::int64_t border = 1 - s.padding, sides = s.in_time ? 0 : border;
  const std::size_t count = size(s.filters * s.height * s.width),
                    centres = size(std::max<std::int64_t>(s.height - 2 * border, 0) *
                                   std::max<std::int64_t>(s.width - 2 * sides, 0));
  const Inputs inputs{whole ? random_whole(count, 1) : random_normal(count, 1),
                      whole ? random_whole(centres, 2) : random_normal(centres, 2)};
  for (const bool absolute : {false, true})
    for (const bool ratio : {false, true})
      for (const bool windowed : {false, true}) {
        s.absolute = absolute;
        s.ratio = ratio && !whole;
        s.eps = 1e-6;
        s.factor = whole ? 2 : 0.37;
        check_value_and_slopes(inputs, {count}, whole ? 0 : 2 * eps,
                               [&](const auto& kernels, auto out, auto in, const Queue& q) {
                                 kernels.laplace(out[0], out[1], in[0], windowed ? in[1] : nullptr, s, q);
                               });
      }
}

LaplaceShape filters(std::int64_t count, std::int64_t height, std::int64_t width, std::int64_t padding) {
  return {.filters = count, .height = height, .width = width, .padding = padding};
}

LaplaceShape in_time(std::int64_t count, std::int64_t frames, std::int64_t padding) {
  return {.filters = count, .height = frames, .width = 1, .padding = padding, .in_time = true};
}

}  // namespace

TEST_CASE("CUDA Laplacians of filters that share a block, with every padding") {
  for (const std::int64_t padding : {0, 1, 2, 3}) {
    check_laplace(filters(1, 3, 3, padding), false);
    check_laplace(filters(70, 3, 4, padding), false);  // several blocks
    check_laplace(filters(5, 11, 11, padding), false);
    check_laplace(in_time(3, 21, padding), false);
  }
  check_laplace(filters(2, 1, 1, 1), false);
  check_laplace(filters(1, 1, 2, 0), false);  // no centres
  check_laplace(in_time(1500, 3, 0), false);
}

TEST_CASE("CUDA Laplacians of filters that need several blocks") {
  check_laplace(filters(1, 36, 64, 0), false);
  check_laplace(filters(2, 50, 131, 1), false);  // three tiles across and down
  check_laplace(filters(1, 2, 900, 1), false);
  check_laplace(in_time(2, 1100, 0), false);
}

TEST_CASE("CUDA Laplacians are exact on whole numbers") {
  check_laplace(filters(9, 7, 5, 1), true);
  check_laplace(filters(1, 30, 70, 2), true);
  check_laplace(in_time(4, 600, 1), true);
}

TEST_CASE("CUDA regularizers of nothing are 0") {
  check_gpu_kernel({}, {{1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}},
                   [](const auto& tables, auto, auto out, const Queue& queue) {
                     using T = std::remove_pointer_t<typename decltype(out)::value_type>;
                     constexpr const T* nothing = nullptr;
                     const auto& kernels = tables.regularizer;
                     kernels.absolute_sum(out[0], nullptr, nothing, 0, 1, queue);
                     kernels.square_sum(out[1], nullptr, nothing, 0, 1, queue);
                     kernels.filter_norms(out[2], nullptr, nothing, 0, 3, 1, queue);
                     kernels.gaussian_extent(out[3], nullptr, nullptr, nothing, nothing, 0, 1, 1, 1, 1,
                                             queue);
                     LaplaceShape s = filters(0, 3, 3, 0);
                     s.eps = 1;
                     kernels.laplace(out[4], nullptr, nothing, nothing, s, queue);
                   });
}
