// Philox and the draws built on it.
#include "fovea/random.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "check.hpp"
#include "engine/philox.hpp"

using namespace fovea;

namespace {

std::vector<std::uint32_t> words(const Philox4& block) { return {block.x, block.y, block.z, block.w}; }

std::vector<float> normals(Random random, std::int64_t count, const Device& device) {
  const Tensor x({count}, DType::f32, device);
  random.normal(x);
  return x.to_vector<float>();
}

struct Moments {
  double mean = 0, variance = 0, skewness = 0, kurtosis = 0;
};

Moments moments(const std::vector<float>& values) {
  Moments m;
  const double n = static_cast<double>(values.size());
  for (const float v : values) m.mean += v / n;
  for (const float v : values) m.variance += std::pow(v - m.mean, 2) / n;
  for (const float v : values) m.skewness += std::pow((v - m.mean) / std::sqrt(m.variance), 3) / n;
  for (const float v : values) m.kurtosis += std::pow((v - m.mean) / std::sqrt(m.variance), 4) / n;
  return m;
}

double correlation(const std::vector<float>& a, const std::vector<float>& b) {
  const Moments ma = moments(a), mb = moments(b);
  double covariance = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    covariance += (a[i] - ma.mean) * (b[i] - mb.mean) / static_cast<double>(a.size());
  return covariance / std::sqrt(ma.variance * mb.variance);
}

/// Five standard errors: fails by chance once in two million draws, and the draws here are fixed.
double bound(std::size_t count, double deviation) {
  return 5 * deviation / std::sqrt(static_cast<double>(count));
}

}  // namespace

TEST_CASE("Philox4x32-10 gives the known answers of Random123") {
  const std::uint32_t ones = 0xffffffffu;
  CHECK(words(philox({0, 0, 0, 0}, 0, 0)) ==
        std::vector<std::uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(words(philox({ones, ones, ones, ones}, ones, ones)) ==
        std::vector<std::uint32_t>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(words(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0)) ==
        std::vector<std::uint32_t>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("element i of a draw is word i % 4 of block i / 4 of its key") {
  const Device device = cpu_device(1);
  Random random(0x0123456789abcdefu, 5, 9);
  const Tensor first({6}, DType::f32, device), second({6}, DType::f32, device);
  random.uniform(first);
  random.uniform(second);
  for (std::uint32_t draw : {0u, 1u}) {
    const std::vector<float> values = (draw ? second : first).to_vector<float>();
    for (std::uint32_t i = 0; i < 6; ++i) {
      const auto block = words(philox({i / 4, draw, 9, 5}, 0x89abcdef, 0x01234567));
      CHECK(values[i] == uniform_from_bits(block[i % 4]));
    }
  }
}

TEST_CASE("uniform numbers cover their interval evenly") {
  const Device device = cpu_device(1);
  const std::size_t count = 200000;
  const Tensor x({static_cast<std::int64_t>(count)}, DType::f32, device);
  Random(1).uniform(x);
  const std::vector<float> values = x.to_vector<float>();
  CHECK(*std::min_element(values.begin(), values.end()) > 0);
  CHECK(*std::max_element(values.begin(), values.end()) <= 1);
  const Moments m = moments(values);
  CHECK(std::abs(m.mean - 0.5) < bound(count, std::sqrt(1.0 / 12)));
  CHECK(std::abs(m.variance - 1.0 / 12) < bound(count, std::sqrt(1.0 / 180)));  // (1/80 - 1/144)
  std::vector<int> cells(20);
  for (const float v : values) ++cells[std::min<std::size_t>(19, static_cast<std::size_t>(v * 20))];
  double chi_square = 0;
  for (const int hits : cells) chi_square += std::pow(hits - count / 20.0, 2) / (count / 20.0);
  CHECK(chi_square < 19 + 5 * std::sqrt(2 * 19.0));

  Random(1).uniform(x, -3, 5);
  const std::vector<float> moved = x.to_vector<float>();
  for (std::size_t i = 0; i < count; i += 997) CHECK(moved[i] == doctest::Approx(8.0 * values[i] - 3));
}

TEST_CASE("normal numbers have the moments of the normal distribution") {
  const Device device = cpu_device(1);
  const std::size_t count = 200000;
  const Moments m = moments(normals(Random(2), static_cast<std::int64_t>(count), device));
  CHECK(std::abs(m.mean) < bound(count, 1));
  CHECK(std::abs(m.variance - 1) < bound(count, std::sqrt(2.0)));
  CHECK(std::abs(m.skewness) < bound(count, std::sqrt(6.0)));
  CHECK(std::abs(m.kurtosis - 3) < bound(count, std::sqrt(24.0)));

  const Tensor x({static_cast<std::int64_t>(count)}, DType::f32, device);
  Random(2).normal(x, 4, 0.5);
  const Moments moved = moments(x.to_vector<float>());
  CHECK(std::abs(moved.mean - 4) < bound(count, 0.5));
  CHECK(std::abs(moved.variance - 0.25) < bound(count, 0.25 * std::sqrt(2.0)));
}

TEST_CASE("the transforms stay near the exact functions") {
  // Box and Muller from the exact logarithm, sine and cosine of the same bits, in double.
  for (std::uint32_t i = 0; i < 5000; ++i) {
    const Philox4 block = philox({i, 1, 2, 3}, 4, 5);
    float out[4];
    normals_from_block(block, out);
    const double radius = std::sqrt(-2 * std::log(static_cast<double>(uniform_from_bits(block.x))));
    const double angle = 2 * 3.14159265358979323846 * block.y / 4294967296.0;
    // log and sqrt: a few roundings each, plus the series' remainder below 2e-6; radius is at most 5.9.
    CHECK(std::abs(out[0] - radius * std::cos(angle)) < 1e-5);
    CHECK(std::abs(out[1] - radius * std::sin(angle)) < 1e-5);
  }
}

TEST_CASE("draws that differ in seed, stream, step or order are independent") {
  const Device device = cpu_device(1);
  const std::int64_t count = 40000;
  Random later(1, 2, 3);
  const Tensor x({count}, DType::f32, device);
  later.normal(x);  // the next draw is another one
  const std::vector<float> base = normals(Random(1, 2, 3), count, device);
  CHECK(base == x.to_vector<float>());
  for (const Random& other : {Random(2, 2, 3), Random(1, 3, 3), Random(1, 2, 4), later,
                              Random(1 + (std::uint64_t{1} << 32), 2, 3), Random(1, 3, 2)})
    CHECK(std::abs(correlation(base, normals(other, count, device))) <
          bound(static_cast<std::size_t>(count), 1));
  // and within a draw
  const std::vector<float> shifted(base.begin() + 1, base.end());
  CHECK(std::abs(correlation({base.begin(), base.end() - 1}, shifted)) <
        bound(static_cast<std::size_t>(count), 1));
}

TEST_CASE("every instruction set and any number of threads draw the same numbers") {
  const auto draw = [](const Device& device, std::int64_t count) {
    Random random(11, 1);
    std::vector<float> all;
    const Tensor x({count}, DType::f32, device);
    const auto keep = [&] {
      const std::vector<float> values = x.to_vector<float>();
      all.insert(all.end(), values.begin(), values.end());
    };
    random.uniform(x, -1, 2);
    keep();
    random.normal(x, 0.5, 2);
    keep();
    random.dropout_factors(x, 0.3);
    keep();
    return all;
  };
  for (const std::int64_t count : {1, 2, 3, 4, 5, 7, 63, 64, 65, 100003}) {
    const std::vector<float> expected = draw(cpu_device(1, Isa::reference), count);
    REQUIRE(expected.size() == static_cast<std::size_t>(3 * count));
    for (const Isa isa : available_isas())
      for (const int threads : {1, 3}) CHECK(draw(cpu_device(threads, isa), count) == expected);
  }
}

TEST_CASE("a longer draw begins like a shorter one, and f64 holds the f32 numbers") {
  const Device device = cpu_device(1);
  const std::vector<float> longer = normals(Random(3), 101, device);
  const std::vector<float> shorter = normals(Random(3), 50, device);
  CHECK(std::vector<float>(longer.begin(), longer.begin() + 50) == shorter);
  const Tensor x({101}, DType::f64, device);
  Random(3).normal(x);
  CHECK(x.to_vector<double>() == std::vector<double>(longer.begin(), longer.end()));
}

TEST_CASE("dropout factors are 0 with probability p and keep the mean") {
  const Device device = cpu_device(1);
  const std::size_t count = 100000;
  const Tensor x({static_cast<std::int64_t>(count)}, DType::f32, device);
  for (const double p : {0.1, 0.5, 0.9}) {
    Random(4).dropout_factors(x, p);
    const std::vector<float> values = x.to_vector<float>();
    const float kept = static_cast<float>(1 / (1 - p));
    std::size_t dropped = 0;
    for (const float v : values) {
      dropped += v == 0;
      if (v != 0) REQUIRE(v == kept);
    }
    CHECK(std::abs(static_cast<double>(dropped) / static_cast<double>(count) - p) <
          bound(count, std::sqrt(p * (1 - p))));
  }
  Random(4).dropout_factors(x, 0);
  CHECK(x.to_vector<float>() == std::vector<float>(count, 1));
  Random(4).dropout_factors(x, 1);
  CHECK(x.to_vector<float>() == std::vector<float>(count, 0));
}

TEST_CASE("a permutation holds every index once and every order is as likely") {
  Random random(5);
  for (const std::int64_t count : {0, 1, 2, 3, 1000}) {
    const std::vector<std::int64_t> order = random.permutation(count);
    const std::set<std::int64_t> seen(order.begin(), order.end());
    CHECK(order.size() == static_cast<std::size_t>(count));
    CHECK(seen.size() == order.size());
    if (count) CHECK((*seen.begin() == 0 && *seen.rbegin() == count - 1));
  }
  std::vector<int> hits(6);
  const int tries = 6000;
  for (int i = 0; i < tries; ++i) {
    const auto order = random.permutation(3);
    ++hits[static_cast<std::size_t>(2 * order[0] + (order[1] > order[2]))];
  }
  for (const int hit : hits) CHECK(std::abs(hit - tries / 6) < 5 * std::sqrt(tries * (1.0 / 6) * (5.0 / 6)));
  CHECK(Random(5).permutation(100) == Random(5).permutation(100));
  CHECK(Random(5).permutation(100) != Random(6).permutation(100));
}

TEST_CASE("draws refuse what they cannot do") {
  const Device device = cpu_device(1);
  Random random(1);
  CHECK_THROWS_AS(random.dropout_factors(Tensor({2}, DType::f32, device), 1.5), ConfigError);
  CHECK_THROWS_AS(random.dropout_factors(Tensor({2}, DType::f32, device), -0.1), ConfigError);
  CHECK_THROWS_AS(random.dropout_factors(Tensor({2}, DType::f32, device), std::nan("")), ConfigError);
  CHECK_THROWS_AS(random.uniform(Tensor({2}, DType::i64, device)), ShapeError);
  CHECK_THROWS_AS(random.normal(Tensor()), ShapeError);
  CHECK_THROWS_AS(random.permutation(-1), ConfigError);
}

TEST_CASE("dropout in double precision drops the same elements, with a factor of its own precision") {
  const Device device = cpu_device(1);
  const Tensor narrow({1000}, DType::f32, device), wide({1000}, DType::f64, device);
  Random(4).dropout_factors(narrow, 0.3);
  Random(4).dropout_factors(wide, 0.3);
  const auto a = narrow.to_vector<float>();
  const auto b = wide.to_vector<double>();
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(b[i] == (a[i] == 0 ? 0.0 : 1 / (1 - 0.3)));
}
