// CPU kernels of the point readout and of its positions against the f64 reference.
#include <array>
#include <limits>

#include "tests/cpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr Write modes[] = {Write::overwrite, Write::accumulate};

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

std::vector<float> before(Write mode, std::size_t count) {
  return mode == Write::accumulate ? random_whole(count, 99) : std::vector<float>{};
}

std::size_t map_size(const PointReadoutShape& s) { return size(s.batch * s.height * s.width * s.channels); }
std::size_t grid_size(const PointReadoutShape& s) {
  return size((s.shared_grid ? 1 : s.batch) * s.neurons * 2);
}

/// x, grid, features, bias, dy.
Inputs inputs_of(const PointReadoutShape& s, const std::vector<float>& grid, bool whole) {
  const auto values = [&](std::int64_t count, unsigned seed) {
    if (whole) return random_whole(size(count), seed);
    std::vector<float> drawn = random_normal(size(count), seed);
    for (float& value : drawn) value = std::max(-1.0f, std::min(1.0f, value));
    return drawn;
  };
  return {values(s.batch * s.height * s.width * s.channels, 1), grid, values(s.channels * s.neurons, 2),
          values(s.neurons, 3), values(s.batch * s.neurons, 4)};
}

/// What an output may be off by: of the output of the forward kernel, dx, dgrid, dfeatures, dbias.
struct Bounds {
  double y = 0, dx = 0, grid = 0, features = 0, bias = 0;
};

void check_forward(const PointReadoutShape& s, const Inputs& inputs, const Bounds& bounds) {
  const std::size_t outputs = size(s.batch * s.neurons);
  for (const bool biased : {false, true})
    check_kernel(inputs, {{outputs, 0, {bounds.y}}},
                 [&](const auto& tables, auto in, auto out, const Queue& q) {
                   tables.point_readout.forward(out[0], in[0], in[1], in[2], biased ? in[3] : nullptr, s, q);
                 });
}

void check_gradients(const PointReadoutShape& s, const Inputs& inputs, const Bounds& bounds, Write mode) {
  const std::size_t features = size(s.channels * s.neurons), neurons = size(s.neurons);
  check_kernel(inputs, {{map_size(s), 0, {bounds.dx}, before(mode, map_size(s))}},
               [&](const auto& tables, auto in, auto out, const Queue& q) {
                 tables.point_readout.grad_input(out[0], in[4], in[1], in[2], s, mode, q);
               });
  const KernelOutput dgrid{grid_size(s), 0, {bounds.grid}, before(mode, grid_size(s))},
      dfeatures{features, 0, {bounds.features}, before(mode, features)},
      dbias{neurons, 0, {bounds.bias}, before(mode, neurons)};
  check_kernel(inputs, {dgrid, dfeatures, dbias}, [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.point_readout.grad_points(out[0], out[1], out[2], in[4], in[0], in[1], in[2], s, mode, mode, mode,
                                     q);
  });
}

/// Quarters of pixels on and around a map whose sides less one are powers of two: positions that f32 holds.
std::vector<float> quarter_grid(const PointReadoutShape& s, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<float> grid(grid_size(s));
  for (std::size_t i = 0; i < grid.size(); ++i) {
    const std::int64_t length = i % 2 ? s.height : s.width;
    const double position = static_cast<double>(generator() % size(4 * (length + 3))) / 4 - 2;
    grid[i] = length == 1 ? static_cast<float>(position)
                          : static_cast<float>(2 * position / double(length - 1) - 1);
  }
  return grid;
}

}  // namespace

TEST_CASE("point readout: exact at quarters of pixels, channels of any number") {
  const std::vector<std::array<std::int64_t, 5>> cases{
      // batch, height, width, channels, neurons
      {1, 1, 1, 1, 1},   {2, 3, 5, 1, 9},   {1, 5, 2, 2, 65},   {3, 2, 3, 3, 64},
      {2, 9, 5, 4, 30},  {2, 5, 9, 5, 130}, {1, 3, 3, 6, 20},   {2, 1, 9, 7, 11},
      {2, 9, 1, 15, 70}, {3, 5, 5, 16, 63}, {1, 5, 5, 17, 200}, {2, 3, 9, 33, 129}};
  for (const auto& sizes : cases)
    for (const bool shared : {false, true}) {
      const PointReadoutShape s{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], shared, true};
      CAPTURE(s.channels);
      CAPTURE(s.neurons);
      CAPTURE(shared);
      const Inputs inputs = inputs_of(s, quarter_grid(s, 7), true);
      check_forward(s, inputs, {});
      for (const Write mode : modes) check_gradients(s, inputs, {}, mode);
    }
}

TEST_CASE("point readout: a gradient that is not asked for is not computed") {
  const PointReadoutShape s{2, 5, 9, 5, 70, false, true};
  const Inputs inputs = inputs_of(s, quarter_grid(s, 7), true);
  check_kernel(inputs, {{grid_size(s), 0}}, [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.point_readout.grad_points(out[0], {}, {}, in[4], in[0], in[1], in[2], s, {}, {}, {}, q);
  });
  check_kernel(inputs, {{size(s.channels * s.neurons), 0}},
               [&](const auto& tables, auto in, auto out, const Queue& q) {
                 tables.point_readout.grad_points({}, out[0], {}, in[4], in[0], in[1], in[2], s, {}, {}, {},
                                                  q);
               });
  check_kernel(inputs, {{size(s.neurons), 0}}, [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.point_readout.grad_points({}, {}, out[0], in[4], in[0], in[1], in[2], s, {}, {}, {}, q);
  });
}

TEST_CASE("point readout: positions anywhere, within rounding") {
  const std::vector<std::array<std::int64_t, 5>> cases{
      {2, 4, 7, 3, 50}, {3, 6, 5, 16, 65}, {1, 7, 3, 20, 300}, {4, 12, 10, 64, 140}};
  constexpr float inf = std::numeric_limits<float>::infinity();
  for (const auto& sizes : cases)
    for (const bool shared : {false, true})
      for (const bool align_corners : {false, true}) {
        const PointReadoutShape s{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], shared, align_corners};
        CAPTURE(s.channels);
        CAPTURE(shared);
        CAPTURE(align_corners);
        std::vector<float> grid = random_normal(grid_size(s), 5, 0, 0.7);
        const std::vector<float> special{1,     1,      -1,    -1, 0, 1, inf, 0, -inf, 0, 0, std::nanf(""),
                                         1e30f, -1e30f, 1e10f, 0};
        std::copy(special.begin(), special.end(), grid.begin());
        const Inputs inputs = inputs_of(s, grid, false);
        // No value is above 1 and no weight either. A term has two rounded weights and at most eight more
        // operations; then the sums over channels (lanes and a tree), images and neurons.
        const double channels = static_cast<double>(s.channels), images = static_cast<double>(s.batch),
                     neurons = static_cast<double>(s.neurons),
                     pixels = static_cast<double>(std::max(s.width, s.height));
        const double lane_sum = 10 + channels / 16 + 5;
        const Bounds bounds{
            rounding_bound<float>(channels + 1, lane_sum + 1), rounding_bound<float>(neurons, 10 + neurons),
            rounding_bound<float>(2 * pixels / 2 * channels * (shared ? images : 1), lane_sum + 3),
            rounding_bound<float>(images, 10 + images), rounding_bound<float>(images, 2)};
        check_forward(s, inputs, bounds);
        check_gradients(s, inputs, bounds, Write::overwrite);
      }
}

TEST_CASE("point readout: missing neighbours are not read, whatever lies beside the map") {
  // Every position is half a pixel outside a map of ones between maps of NaN.
  const PointReadoutShape s{1, 2, 2, 20, 4, false, true};
  const std::size_t map = map_size(s);
  std::vector<float> maps(3 * map, std::nanf(""));
  std::fill(maps.begin() + static_cast<std::ptrdiff_t>(map),
            maps.begin() + static_cast<std::ptrdiff_t>(2 * map), 1.0f);
  const Inputs inputs{maps, {-2, -1, 2, 1, 1, 2, -1, -2}, std::vector<float>(80, 1.0f), {1, 1, 1, 1}};
  check_kernel(inputs, {{4, 0}, {8, 0}, {80, 0}}, [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.point_readout.forward(out[0], in[0] + map, in[1], in[2], nullptr, s, q);
    tables.point_readout.grad_points(out[1], out[2], {}, in[3], in[0] + map, in[1], in[2], s, {}, {}, {}, q);
  });
}

TEST_CASE("Gaussian grid and its gradients: exact on whole numbers, beyond the clamps too") {
  for (const std::int64_t sigma_size : {4, 2, 1})
    for (const std::int64_t batch : {1, 5})
      for (const std::int64_t neurons : {1, 127, 300})
        for (const bool noisy : {false, true})
          for (const bool one_draw : {false, true}) {
            const GaussianGridShape s{batch, neurons, sigma_size, one_draw ? 1 : batch};
            CAPTURE(sigma_size);
            CAPTURE(batch);
            CAPTURE(neurons);
            const std::size_t n = size(neurons), points = size(batch * neurons);
            Inputs inputs{random_whole(2 * n, 1), random_whole(n * size(sigma_size), 2),
                          random_whole(size(s.noise_batch * neurons) * 2, 3),
                          random_whole(size(batch) * 2, 4), random_whole(2 * points, 5)};
            for (float& value : inputs[0]) value /= 8;  // a part of the draws lies on a bound, a part outside
            for (float& value : inputs[1]) value /= 8;
            check_kernel(inputs, {{2 * points, 0}, {2 * points, 0}},
                         [&](const auto& tables, auto in, auto out, const Queue& q) {
                           const auto* noise = noisy ? in[2] : nullptr;
                           tables.gaussian_grid.forward(out[0], in[0], in[1], noise, in[3], s, q);
                           tables.gaussian_grid.forward(out[1], in[0], in[1], noise, nullptr, s, q);
                         });
            for (const Write mode : modes) {
              const KernelOutput dmu{2 * n, 0, {0}, before(mode, 2 * n)},
                  dsigma{n * size(sigma_size), 0, {0}, before(mode, n * size(sigma_size))},
                  dshift{size(batch) * 2, 0, {0}, before(mode, size(batch) * 2)};
              check_kernel(inputs, {dmu, dsigma, dshift},
                           [&](const auto& tables, auto in, auto out, const Queue& q) {
                             tables.gaussian_grid.grad(out[0], out[1], out[2], in[4], in[0], in[1],
                                                       noisy ? in[2] : nullptr, s, mode, mode, mode, q);
                           });
            }
            check_kernel(inputs, {{size(batch) * 2, 0}},
                         [&](const auto& tables, auto in, auto out, const Queue& q) {
                           tables.gaussian_grid.grad({}, {}, out[0], in[4], in[0], in[1],
                                                     noisy ? in[2] : nullptr, s, {}, {}, {}, q);
                         });
          }
}
