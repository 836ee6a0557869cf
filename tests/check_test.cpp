// Every checker of check.hpp must fail when it should.
#include "check.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <limits>

using namespace fovea;
using namespace fovea::test;

namespace {

const Device device = cpu_device(1);
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

Tensor vector(const std::vector<double>& values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())}, device);
}

using Checker = std::function<Comparison(const Tensor& expected, const Tensor& actual)>;

const std::vector<std::pair<std::string, Checker>> checkers{
    {"relative_l2", [](const Tensor& a, const Tensor& b) { return relative_l2(a, b, 1e-6); }},
    {"within", [](const Tensor& a, const Tensor& b) { return within(a, b, 1e-6); }},
    {"within_each",
     [](const Tensor& a, const Tensor& b) {
       return within_each(a, b, std::vector<double>(a ? static_cast<std::size_t>(a.elements()) : 0, 1e-6));
     }},
    {"exact", [](const Tensor& a, const Tensor& b) { return exact(a, b); }},
};

}  // namespace

TEST_CASE("every comparison fails when it should, and says so") {
  const std::vector<double> good{1, -2, 3, 0.5};
  for (const auto& checker : checkers) {
    const Checker& check = checker.second;
    CAPTURE(checker.first);
    CHECK(check(vector(good), vector(good)));
    const auto refuses = [&check](const Tensor& a, const Tensor& b) {
      const Comparison result = check(a, b);
      return !result && !result.message.empty();
    };
    std::vector<double> times_seven = good, shifted{good[1], good[2], good[3], good[0]};
    for (double& value : times_seven) value *= 7;
    CHECK(refuses(vector(good), vector(times_seven)));
    CHECK(refuses(vector(good), vector(shifted)));
    for (const double bad : {not_a_number, infinity, -infinity})
      for (const std::size_t at : {0, 3}) {
        std::vector<double> broken = good;
        broken[at] = bad;
        CHECK(refuses(vector(good), vector(broken)));
        CHECK(refuses(vector(broken), vector(good)));
        CHECK(refuses(vector(broken), vector(broken)));
      }
    CHECK(refuses(vector({}), vector({})));
    CHECK(refuses(Tensor(), Tensor()));
    CHECK(refuses(vector(good), Tensor()));
    CHECK(refuses(Tensor(), vector(good)));
    CHECK(refuses(vector(good), vector({1, -2, 3})));
    CHECK(refuses(vector(good), vector(good).reshape({2, 2})));
    CHECK(refuses(vector({0, 0}), vector({0, 1e-3})));
    CHECK(check(vector({0, 0}), vector({0, 0})));
  }
}

TEST_CASE("a comparison passes up to its tolerance and not beyond") {
  CHECK(relative_l2(vector({3, 4}), vector({3, 4.5}), 0.1));
  CHECK_FALSE(relative_l2(vector({3, 4}), vector({3, 4.51}), 0.1));
  CHECK_FALSE(relative_l2(vector({3, 4}), vector({3, 4.1}), not_a_number));
  CHECK(within_each(vector({3, 4}), vector({3.5, 4.25}), {0.5, 0.25}));
  CHECK_FALSE(within_each(vector({3, 4}), vector({3.5, 4.25}), {0.5, 0.24}));
  CHECK_FALSE(within_each(vector({3, 4}), vector({3.5, 4.25}), {0.49, 0.25}));
  CHECK_FALSE(within_each(vector({3, 4}), vector({3, 4}), {0.5, infinity}));
  CHECK_FALSE(within(vector({3, 4}), vector({3, 4}), not_a_number));
  CHECK_FALSE(within_each(vector({3, 4}), vector({3, 4}), {0.5}));
  CHECK(within_each(vector({3, 4}), vector({3.5, 4.0}), {1, 1}).worst == 0.5);
}

TEST_CASE("exact values include the dtype") {
  CHECK_FALSE(exact(vector({1, 2}), vector({1, 2}).to(DType::f32)));
  CHECK_FALSE(exact(vector({1}), vector({1 + 1e-15})));
  const std::int64_t large = (std::int64_t{1} << 60) + 1;  // not a double
  const auto integers = [](std::int64_t value) {
    return Tensor::from(std::vector<std::int64_t>{value}, {1}, device);
  };
  CHECK(exact(integers(large), integers(large)));
  CHECK_FALSE(exact(integers(large), integers(large - 1)));
}

TEST_CASE("a rounding bound grows with the terms and their roundings") {
  CHECK(rounding_bound<float>(2, 8) == 8 * std::ldexp(1.0, -23));
  CHECK(rounding_bound<double>(2, 8) == 8 * std::ldexp(1.0, -52));
  CHECK(rounding_bound<float>(0, 8) == 0);
}

TEST_CASE("a guarded buffer notices writes on both sides of it, and what was not written") {
  for (const std::size_t offset : {0, 1, 3}) {
    GuardedBuffer<float> buffer(5, offset);
    CHECK(std::isnan(buffer.values()[4]));
    for (int i = 0; i < 5; ++i) buffer.data()[i] = static_cast<float>(i);
    CHECK(buffer.intact());
    CHECK(buffer.values() == std::vector<float>{0, 1, 2, 3, 4});
    GuardedBuffer<float> before = buffer, after = buffer;
    before.data()[-1] = 0;
    after.data()[5] = 0;
    CHECK_FALSE(before.intact());
    CHECK_FALSE(after.intact());
  }
}
