// The CUDA kernels of the point readout, of its positions, and of the feature sum.
#include <array>
#include <limits>

#include "tests/gpu_kernels.hpp"

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
  const KernelOutput y{size(s.batch * s.neurons), 0, {bounds.y}};
  check_gpu_kernel(inputs, {y, y}, [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.point_readout.forward(out[0], in[0], in[1], in[2], nullptr, s, q);
    tables.point_readout.forward(out[1], in[0], in[1], in[2], in[3], s, q);
  });
}

void check_grad_input(const PointReadoutShape& s, const Inputs& inputs, const Bounds& bounds, Write mode) {
  check_gpu_kernel(inputs, {{map_size(s), 0, {bounds.dx}, before(mode, map_size(s))}},
                   [&](const auto& tables, auto in, auto out, const Queue& q) {
                     tables.point_readout.grad_input(out[0], in[4], in[1], in[2], s, mode, q);
                   });
}

void check_grad_points(const PointReadoutShape& s, const Inputs& inputs, const Bounds& bounds, Write mode) {
  const std::size_t features = size(s.channels * s.neurons), neurons = size(s.neurons);
  const KernelOutput dgrid{grid_size(s), 0, {bounds.grid}, before(mode, grid_size(s))},
      dfeatures{features, 0, {bounds.features}, before(mode, features)},
      dbias{neurons, 0, {bounds.bias}, before(mode, neurons)};
  check_gpu_kernel(inputs, {dgrid, dfeatures, dbias},
                   [&](const auto& tables, auto in, auto out, const Queue& q) {
                     tables.point_readout.grad_points(out[0], out[1], out[2], in[4], in[0], in[1], in[2], s,
                                                      mode, mode, mode, q);
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

TEST_CASE("GPU point readout: exact at quarters of pixels, channels of any number") {
  const std::vector<std::array<std::int64_t, 5>> cases{
      // batch, height, width, channels, neurons: 1 to 32 lanes a point, vectors or not, slabs of 128 channels
      {1, 1, 1, 1, 1},   {2, 3, 5, 1, 300}, {1, 5, 2, 3, 65},   {3, 2, 3, 4, 130},   {2, 9, 5, 6, 30},
      {2, 5, 9, 16, 70}, {1, 3, 3, 20, 33}, {2, 1, 9, 64, 40},  {3, 9, 1, 100, 9},   {2, 3, 5, 128, 11},
      {2, 3, 3, 129, 7}, {5, 2, 2, 260, 5}, {2, 17, 17, 2, 60}, {1, 1, 65537, 1, 20}};
  for (const auto& sizes : cases)
    for (const bool shared : {false, true}) {
      const PointReadoutShape s{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], shared, true};
      CAPTURE(s.channels);
      CAPTURE(s.neurons);
      CAPTURE(shared);
      const Inputs inputs = inputs_of(s, quarter_grid(s, 7), true);
      check_forward(s, inputs, {});
      const Write mode = shared ? Write::overwrite : Write::accumulate;
      check_grad_input(s, inputs, {}, mode);
      check_grad_points(s, inputs, {}, mode);
    }
}

TEST_CASE("GPU point readout: both modes, more points than a block sorts at once, all in one cell") {
  for (const bool one_cell : {false, true})
    for (const Write mode : modes) {
      const PointReadoutShape s{2, 3, 5, 4, 1100, true, true};
      CAPTURE(one_cell);
      const Inputs inputs =
          inputs_of(s, one_cell ? std::vector<float>(grid_size(s), 0.25f) : quarter_grid(s, 7), true);
      check_grad_input(s, inputs, {}, mode);
      check_grad_points(s, inputs, {}, mode);
    }
}

TEST_CASE("GPU point readout: several images share a block when there are many") {
  // The forward kernel takes 4 images at once, the gradient 5. Points of 65 channels have 32 lanes, a block 8
  // of them; those of 131 need them twice; those of 5 have 2, which read the positions of two images at once.
  for (const auto& s : {PointReadoutShape{1030, 2, 2, 65, 31, true, true},
                        {1025, 1, 2, 131, 25, false, true},
                        {4097, 1, 2, 5, 3, false, true}}) {
    CAPTURE(s.channels);
    const Inputs inputs = inputs_of(s, quarter_grid(s, 7), true);
    check_forward(s, inputs, {});
    check_grad_points(s, inputs, {}, Write::overwrite);
  }
}

TEST_CASE("GPU point readout: a gradient that is not asked for is not computed") {
  for (const bool shared : {false, true}) {
    const PointReadoutShape s{2, 5, 9, 5, 70, shared, true};
    const Inputs inputs = inputs_of(s, quarter_grid(s, 7), true);
    check_gpu_kernel(inputs, {{grid_size(s), 0}, {size(s.channels * s.neurons), 0}, {size(s.neurons), 0}},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       const auto& op = tables.point_readout;
                       op.grad_points(out[0], nullptr, nullptr, in[4], in[0], in[1], in[2], s, {}, {}, {}, q);
                       op.grad_points(nullptr, out[1], nullptr, in[4], in[0], in[1], in[2], s, {}, {}, {}, q);
                       op.grad_points(nullptr, nullptr, out[2], in[4], in[0], in[1], in[2], s, {}, {}, {}, q);
                     });
  }
}

TEST_CASE("GPU point readout: positions anywhere, within rounding") {
  const std::vector<std::array<std::int64_t, 5>> cases{
      {2, 4, 7, 3, 50}, {3, 6, 5, 16, 65}, {2, 12, 10, 64, 140}, {1, 36, 64, 5, 30}};
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
        const double lane_sum = 10 + 4 + 5;
        const Bounds bounds{
            rounding_bound<float>(channels + 1, lane_sum + 1), rounding_bound<float>(neurons, 10 + neurons),
            rounding_bound<float>(2 * pixels / 2 * channels * (shared ? images : 1), lane_sum + 3 + images),
            rounding_bound<float>(images, 10 + images), rounding_bound<float>(images, 2)};
        check_forward(s, inputs, bounds);
        check_grad_input(s, inputs, bounds, Write::overwrite);
        check_grad_points(s, inputs, bounds, Write::overwrite);
      }
}

TEST_CASE("GPU point readout: weights are right to the last place next to pixels") {
  // One point a neuron on a map that is 1 at one pixel: what comes out is the weight of that pixel.
  const std::int64_t length = 250;
  std::vector<float> grid, map(size(length), 0.0f);
  map[100] = 1;
  for (const float distance : {1e-5f, 3e-4f, 0.1f, 0.7f, 0.999f})
    for (const float sign : {-1.0f, 1.0f}) {
      grid.push_back(2 * (100 + sign * distance) / float(length - 1) - 1);
      grid.push_back(0);
    }
  const auto neurons = static_cast<std::int64_t>(grid.size() / 2);
  for (const bool align_corners : {false, true}) {
    const PointReadoutShape s{1, 1, length, 1, neurons, true, align_corners};
    CAPTURE(align_corners);
    check_gpu_kernel({map, grid, std::vector<float>(size(neurons), 1.0f)},
                     {{size(neurons), 2 * static_cast<double>(std::numeric_limits<float>::epsilon())}},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       tables.point_readout.forward(out[0], in[0], in[1], in[2], nullptr, s, q);
                     });
  }
}

TEST_CASE("GPU point readout: missing neighbours are not read, whatever lies beside the map") {
  // Every position is half a pixel outside a map of ones between maps of NaN.
  const PointReadoutShape s{1, 2, 2, 20, 4, false, true};
  const std::size_t map = map_size(s);
  std::vector<float> maps(3 * map, std::nanf(""));
  std::fill(maps.begin() + static_cast<std::ptrdiff_t>(map),
            maps.begin() + static_cast<std::ptrdiff_t>(2 * map), 1.0f);
  const Inputs inputs{maps, {-2, -1, 2, 1, 1, 2, -1, -2}, std::vector<float>(80, 1.0f), {1, 1, 1, 1}};
  check_gpu_kernel(inputs, {{4, 0}, {8, 0}, {80, 0}},
                   [&](const auto& tables, auto in, auto out, const Queue& q) {
                     tables.point_readout.forward(out[0], in[0] + map, in[1], in[2], nullptr, s, q);
                     tables.point_readout.grad_points(out[1], out[2], {}, in[3], in[0] + map, in[1], in[2], s,
                                                      {}, {}, {}, q);
                   });
}

TEST_CASE("GPU point readout: a point outside gives nothing, NaN or not") {
  const PointReadoutShape s{1, 2, 2, 1, 2, true, true};
  const float nan = std::nanf("");
  // The first point is outside, with features and dy that are NaN; the second is on the first pixel.
  check_gpu_kernel({{1, 2, 3, 4}, {5, 5, -1, -1}, {nan, 2}, {nan, 3}}, {{2, 0}, {4, 0}, {4, 0}, {2, 0}},
                   [&](const auto& tables, auto in, auto out, const Queue& q) {
                     tables.point_readout.forward(out[0], in[0], in[1], in[2], nullptr, s, q);
                     tables.point_readout.grad_input(out[1], in[3], in[1], in[2], s, Write::overwrite, q);
                     tables.point_readout.grad_points(out[2], out[3], nullptr, in[3], in[0], in[1], in[2], s,
                                                      {}, {}, {}, q);
                   });
}

TEST_CASE("GPU point readout: no images give no gradient, no neurons an empty one") {
  const PointReadoutShape none{0, 3, 3, 4, 5, true, true}, nobody{2, 3, 3, 4, 0, false, true};
  for (const Write mode : modes)
    check_gpu_kernel({std::vector<float>(10, 0.0f), random_whole(20, 1)},
                     {{10, 0, {0}, before(mode, 10)},
                      {20, 0, {0}, before(mode, 20)},
                      {5, 0, {0}, before(mode, 5)},
                      {72, 0, {0}, before(mode, 72)}},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       const auto& op = tables.point_readout;
                       op.grad_points(out[0], out[1], out[2], nullptr, nullptr, in[0], in[1], none, mode,
                                      mode, mode, q);
                       op.grad_input(out[3], nullptr, in[0], in[1], nobody, mode, q);
                       op.forward(nullptr, nullptr, in[0], in[1], nullptr, none, q);
                     });
}

// ---- Gaussian grid
// -----------------------------------------------------------------------------------------------

TEST_CASE("GPU: Gaussian grid and its gradients: exact on whole numbers, beyond the clamps too") {
  for (const std::int64_t sigma_size : {4, 2, 1})
    for (const std::int64_t batch : {1, 5, 19})
      for (const std::int64_t neurons : {1, 16, 150})
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
            check_gpu_kernel(inputs, {{2 * points, 0}, {2 * points, 0}},
                             [&](const auto& tables, auto in, auto out, const Queue& q) {
                               const auto* noise = noisy ? in[2] : nullptr;
                               tables.gaussian_grid.forward(out[0], in[0], in[1], noise, in[3], s, q);
                               tables.gaussian_grid.forward(out[1], in[0], in[1], noise, nullptr, s, q);
                             });
            const Write mode = one_draw ? Write::accumulate : Write::overwrite;
            const KernelOutput dmu{2 * n, 0, {0}, before(mode, 2 * n)},
                dsigma{n * size(sigma_size), 0, {0}, before(mode, n * size(sigma_size))},
                dshift{size(batch) * 2, 0, {0}, before(mode, size(batch) * 2)};
            check_gpu_kernel(inputs, {dmu, dsigma, dshift},
                             [&](const auto& tables, auto in, auto out, const Queue& q) {
                               tables.gaussian_grid.grad(out[0], out[1], out[2], in[4], in[0], in[1],
                                                         noisy ? in[2] : nullptr, s, mode, mode, mode, q);
                             });
            check_gpu_kernel(inputs, {{2 * n, 0}, {n * size(sigma_size), 0}, {size(batch) * 2, 0}},
                             [&](const auto& tables, auto in, auto out, const Queue& q) {
                               const auto& op = tables.gaussian_grid;
                               const auto* noise = noisy ? in[2] : nullptr;
                               op.grad(out[0], {}, {}, in[4], in[0], in[1], noise, s, {}, {}, {}, q);
                               op.grad({}, out[1], {}, in[4], in[0], in[1], noise, s, {}, {}, {}, q);
                               op.grad({}, {}, out[2], in[4], in[0], in[1], noise, s, {}, {}, {}, q);
                             });
          }
}

TEST_CASE("GPU: Gaussian grid of any numbers within rounding, NaN kept") {
  for (const std::int64_t sigma_size : {4, 2, 1}) {
    const GaussianGridShape s{3, 40, sigma_size, 3};
    const Inputs inputs{random_normal(80, 1, 0, 0.5), random_normal(size(40 * sigma_size), 2, 0, 0.2),
                        random_normal(240, 3), random_normal(6, 4)};
    // |sigma e| up to 3, clamped to 1; the shift up to 4.
    check_gpu_kernel(inputs, {{240, 0, {rounding_bound<float>(8, 4)}}},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       tables.gaussian_grid.forward(out[0], in[0], in[1], in[2], in[3], s, q);
                     });
    const auto g = device_outputs(
        emulator_device(), {{std::nanf(""), 0}, {1, 1, 1, 1}}, {{2, 0}}, 0,
        [&](const auto& tables, auto in, auto out, const Queue& q) {
          tables.gaussian_grid.forward(out[0], in[0], in[1], nullptr, nullptr, {1, 1, sigma_size, 1}, q);
        });
    CHECK(std::isnan(g[0][0]));
    CHECK(g[0][1] == 0.0f);
  }
}

// ---- feature sum
// -------------------------------------------------------------------------------------------------

namespace {

/// Sizes of z, features and u, and inputs z, features, du.
struct FeatureSumCase {
  FeatureSumShape s;
  std::size_t maps = size(s.rows * s.channels * s.neurons), features = size(s.channels * s.neurons),
              sums = size(s.rows * s.neurons);

  Inputs whole() const { return {random_whole(maps, 1), random_whole(features, 2), random_whole(sums, 3)}; }
};

void check_feature_sum(const FeatureSumCase& one, Write mode) {
  CAPTURE(one.s.rows);
  CAPTURE(one.s.channels);
  CAPTURE(one.s.neurons);
  check_gpu_kernel(one.whole(), {{one.sums, 0}}, [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.feature_sum.forward(out[0], in[0], in[1], one.s, q);
  });
  check_gpu_kernel(one.whole(), {{one.maps, 0}, {one.features, 0, {0}, before(mode, one.features)}},
                   [&](const auto& tables, auto in, auto out, const Queue& q) {
                     tables.feature_sum.grad(out[0], out[1], in[2], in[0], in[1], one.s, mode, q);
                   });
}

}  // namespace

TEST_CASE("GPU feature sum: exact on whole numbers, any size") {
  // Vectors of neurons or not; channels over 8 warps; few and many chunks of rows.
  for (const std::int64_t neurons : {1, 31, 128, 132})
    for (const std::int64_t channels : {1, 8, 19}) {
      check_feature_sum({{1, channels, neurons}}, Write::overwrite);
      check_feature_sum({{13, channels, neurons}}, Write::accumulate);
    }
  check_feature_sum({{2200, 2, 3}}, Write::accumulate);  // rows that share features, and several in a chunk
  check_feature_sum({{2150, 1, 4}}, Write::overwrite);
}

TEST_CASE("GPU: no rows and no images give gradients of zeros") {
  for (const Write mode : modes)
    check_gpu_kernel(
        {random_whole(6, 1)},
        {{6, 0, {0}, before(mode, 6)}, {6, 0, {0}, before(mode, 6)}, {12, 0, {0}, before(mode, 12)}},
        [&](const auto& tables, auto in, auto out, const Queue& q) {
          tables.feature_sum.forward(nullptr, nullptr, in[0], {0, 2, 3}, q);
          tables.feature_sum.grad(nullptr, out[0], nullptr, nullptr, in[0], {0, 2, 3}, mode, q);
          tables.gaussian_grid.grad(out[1], out[2], nullptr, nullptr, in[0], in[0], nullptr, {0, 3, 4, 0},
                                    mode, mode, mode, q);
        });
}

TEST_CASE("GPU feature sum: one gradient without the other") {
  const FeatureSumCase one{{18, 5, 70}};
  check_gpu_kernel(one.whole(), {{one.maps, 0}, {one.features, 0}},
                   [&](const auto& tables, auto in, auto out, const Queue& q) {
                     tables.feature_sum.grad(out[0], nullptr, in[2], in[0], in[1], one.s, {}, q);
                     tables.feature_sum.grad(nullptr, out[1], in[2], in[0], in[1], one.s, {}, q);
                   });
}

TEST_CASE("GPU feature sum: within rounding") {
  const FeatureSumCase one{{40, 64, 36}};
  const Inputs inputs{random_normal(one.maps, 1), random_normal(one.features, 2), random_normal(one.sums, 3)};
  const auto forward = [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.feature_sum.forward(out[0], in[0], in[1], one.s, q);
  };
  std::vector<KernelOutput> sums{{one.sums, 0}};
  bound_outputs(sums, inputs, 8 + 8, forward);
  check_gpu_kernel(inputs, sums, forward);
  const auto grad = [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.feature_sum.grad(out[0], out[1], in[2], in[0], in[1], one.s, {}, q);
  };
  std::vector<KernelOutput> gradients{{one.maps, 0}, {one.features, 0}};
  bound_outputs(gradients, inputs, 40, grad);
  check_gpu_kernel(inputs, gradients, grad);
}
