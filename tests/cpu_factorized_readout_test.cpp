// CPU kernels of the factorized readout, the feature sum and the normalised rows, against the f64 reference.
#include <cmath>

#include "tests/cpu_kernels.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr double eps = std::numeric_limits<float>::epsilon();
constexpr Write modes[] = {Write::overwrite, Write::accumulate};

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

std::vector<float> before(Write mode, std::size_t count) {
  return mode == Write::accumulate ? random_whole(count, 99) : std::vector<float>{};
}

/// Sizes of z, features and u, and inputs z, features, du.
struct FeatureSumCase {
  FeatureSumShape s;
  std::size_t maps = size(s.rows * s.channels * s.neurons), features = size(s.channels * s.neurons),
              sums = size(s.rows * s.neurons);

  Inputs whole() const { return {random_whole(maps, 1), random_whole(features, 2), random_whole(sums, 3)}; }
};

}  // namespace

TEST_CASE("feature sum: exact on whole numbers, any size") {
  for (const std::int64_t rows : {1, 16, 35})
    for (const std::int64_t channels : {1, 7, 16, 33})
      for (const std::int64_t neurons : {1, 15, 17, 256, 300}) {
        const FeatureSumCase one{{rows, channels, neurons}};
        CAPTURE(rows);
        CAPTURE(channels);
        CAPTURE(neurons);
        check_kernel(one.whole(), {{one.sums, 0}},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       tables.feature_sum.forward(out[0], in[0], in[1], one.s, q);
                     });
        for (const Write mode : modes) {
          const KernelOutput dz{one.maps, 0}, dfeatures{one.features, 0, {0}, before(mode, one.features)};
          check_kernel(one.whole(), {dz, dfeatures},
                       [&](const auto& tables, auto in, auto out, const Queue& q) {
                         tables.feature_sum.grad(out[0], out[1], in[2], in[0], in[1], one.s, mode, q);
                       });
        }
      }
}

TEST_CASE("feature sum: one gradient without the other") {
  const FeatureSumCase one{{18, 5, 270}};
  check_kernel(one.whole(), {{one.maps, 0}}, [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.feature_sum.grad(out[0], {}, in[2], in[0], in[1], one.s, {}, q);
  });
  check_kernel(one.whole(), {{one.features, 0}}, [&](const auto& tables, auto in, auto out, const Queue& q) {
    tables.feature_sum.grad({}, out[0], in[2], in[0], in[1], one.s, {}, q);
  });
}

TEST_CASE("feature sum: within rounding") {
  const FeatureSumCase one{{40, 64, 530}};
  const Inputs inputs{random_normal(one.maps, 1), random_normal(one.features, 2), random_normal(one.sums, 3)};
  // |values| below 5; a sum of `terms` fused products.
  const auto bound = [](double terms) { return rounding_bound<float>(25 * terms, terms); };
  check_kernel(inputs, {{one.sums, 0, {bound(64)}}},
               [&](const auto& tables, auto in, auto out, const Queue& q) {
                 tables.feature_sum.forward(out[0], in[0], in[1], one.s, q);
               });
  check_kernel(inputs, {{one.maps, eps / 2}, {one.features, 0, {bound(40)}}},
               [&](const auto& tables, auto in, auto out, const Queue& q) {
                 tables.feature_sum.grad(out[0], out[1], in[2], in[0], in[1], one.s, {}, q);
               });
}

namespace {

/// Rows of all magnitudes, one of them zero, and the errors their gradients may have.
struct RowsCase {
  std::int64_t rows, columns;
  std::vector<float> x, dy;
  std::vector<double> bounds;

  RowsCase(std::int64_t row_count, std::int64_t column_count)
      : rows(row_count),
        columns(column_count),
        x(random_normal(size(rows * columns), 1)),
        dy(random_normal(size(rows * columns), 2)) {
    for (std::size_t n = 0; n < size(rows); ++n) {
      const float factor = n == 1 ? 0.0f : std::pow(10.0f, static_cast<float>(n % 7) - 4);
      double squares = 0, upstream = 0;
      for (std::size_t p = 0; p < size(columns); ++p) {
        float& value = x[n * size(columns) + p];
        value *= factor;
        squares += static_cast<double>(value) * value;
        upstream += static_cast<double>(dy[n * size(columns) + p]) * dy[n * size(columns) + p];
      }
      // Sums over a block have 16 steps, a tail of at most 4 and a tree of 6: 13 eps relative to sum |terms|,
      // half of it in the norm. Each term then has a few roundings more.
      const double length = std::sqrt(squares) + 1e-6;
      for (std::size_t p = 0; p < size(columns); ++p)
        bounds.push_back(eps *
                         (9 * std::abs(dy[n * size(columns) + p]) / length +
                          36 * std::abs(x[n * size(columns) + p]) * std::sqrt(upstream) / length / length));
    }
  }
};

}  // namespace

TEST_CASE("normalised rows and their gradient: any length, zero rows") {
  for (const std::int64_t columns : {1, 3, 16, 63, 64, 100, 1024, 1061, 20000})
    for (const std::int64_t rows : {1, 2, 9}) {
      const RowsCase one(rows, columns);
      CAPTURE(rows);
      CAPTURE(columns);
      const std::size_t count = size(rows * columns);
      check_kernel({one.x, one.dy}, {{count, 8 * eps}},
                   [&](const auto& tables, auto in, auto out, const Queue& q) {
                     tables.normalize_rows.forward(out[0], in[0], rows, columns, q);
                   });
      for (const Write mode : modes) {
        std::vector<double> bounds = one.bounds;
        for (double& bound : bounds) bound += mode == Write::accumulate ? 8 * eps : 0;
        check_kernel({one.x, one.dy}, {{count, eps, bounds, before(mode, count)}},
                     [&](const auto& tables, auto in, auto out, const Queue& q) {
                       tables.normalize_rows.grad(out[0], in[1], in[0], rows, columns, mode, q);
                     });
      }
    }
}
