// Comparisons for tests. All of them fail on NaN and infinity on either side, on nothing to compare, and on
// different shapes. Use: CHECK(relative_l2(expected, actual, tolerance)).
#pragma once
#include <cmath>
#include <cstring>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include "fovea/tensor.hpp"

namespace fovea::test {

/// What a comparison found; true when it passed.
struct Comparison {
  bool passed = false;
  double worst = std::numeric_limits<double>::infinity();  // the error in units of the tolerance's scale
  std::string message;

  explicit operator bool() const { return passed; }
  friend std::ostream& operator<<(std::ostream& out, const Comparison& comparison) {
    return out << (comparison.message.empty() ? "equal" : comparison.message);
  }
};

/// Bound of the rounding error of a sum whose terms have the magnitudes that add up to `sum_of_magnitudes`,
/// when every term goes through at most `roundings` operations in T: roundings * eps / 2 * sum |terms|.
template <class T>
double rounding_bound(double sum_of_magnitudes, double roundings) {
  return roundings * 0.5 * static_cast<double>(std::numeric_limits<T>::epsilon()) * sum_of_magnitudes;
}

inline std::vector<double> values(const Tensor& tensor) { return tensor.to(DType::f64).to_vector<double>(); }

namespace detail {

/// Empty when the two can be compared value by value.
inline std::string obstacle(const Tensor& expected, const Tensor& actual) {
  if (!expected || !actual) return "a tensor is undefined";
  if (expected.shape() != actual.shape())
    return text("shape ", actual.shape(), " instead of ", expected.shape());
  if (expected.elements() == 0) return "there is nothing to compare";
  const std::vector<double> a = values(expected), b = values(actual);
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!std::isfinite(a[i]) || !std::isfinite(b[i]))
      return text("entry ", i, " is ", b[i], " instead of ", a[i]);
  return {};
}

inline Comparison failure(const std::string& message) {
  return {false, std::numeric_limits<double>::infinity(), message};
}

}  // namespace detail

/// |actual - expected| <= tolerance * |expected| in the Euclidean norm; a zero expectation needs exact zeros.
inline Comparison relative_l2(const Tensor& expected, const Tensor& actual, double tolerance) {
  if (const std::string obstacle = detail::obstacle(expected, actual); !obstacle.empty())
    return detail::failure(obstacle);
  const std::vector<double> a = values(expected), b = values(actual);
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = std::hypot(difference, b[i] - a[i]);
    norm = std::hypot(norm, a[i]);
  }
  const double error = difference == 0 ? 0 : difference / norm;
  return {error <= tolerance, error, text("relative L2 error ", error, ", tolerance ", tolerance)};
}

/// |actual_i - expected_i| <= bounds_i for every entry. `worst` is the largest error / bound.
inline Comparison within_each(const Tensor& expected, const Tensor& actual,
                              const std::vector<double>& bounds) {
  if (const std::string obstacle = detail::obstacle(expected, actual); !obstacle.empty())
    return detail::failure(obstacle);
  const std::vector<double> a = values(expected), b = values(actual);
  if (bounds.size() != a.size())
    return detail::failure(text(bounds.size(), " bounds for ", a.size(), " entries"));
  Comparison result{true, 0, {}};
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double error = std::abs(b[i] - a[i]);
    if (!std::isfinite(bounds[i])) return detail::failure(text("the bound of entry ", i, " is ", bounds[i]));
    const double ratio = error == 0 ? 0 : error / bounds[i];
    if (error <= bounds[i] && ratio <= result.worst) continue;
    result.passed = result.passed && error <= bounds[i];
    result.worst = std::max(result.worst, ratio);
    result.message =
        text("entry ", i, " is ", b[i], " instead of ", a[i], ", error ", error, ", bound ", bounds[i]);
  }
  return result;
}

/// The same bound for every entry.
inline Comparison within(const Tensor& expected, const Tensor& actual, double bound) {
  return within_each(
      expected, actual,
      std::vector<double>(expected ? static_cast<std::size_t>(expected.elements()) : 0, bound));
}

/// The same dtype and the same values.
inline Comparison exact(const Tensor& expected, const Tensor& actual) {
  if (const std::string obstacle = detail::obstacle(expected, actual); !obstacle.empty())
    return detail::failure(obstacle);
  if (expected.dtype() != actual.dtype())
    return detail::failure(text("dtype ", actual.dtype(), " instead of ", expected.dtype()));
  const auto compare = [&]<class T>(const std::vector<T>& a, const std::vector<T>& b) -> Comparison {
    for (std::size_t i = 0; i < a.size(); ++i)
      if (!(a[i] == b[i])) return detail::failure(text("entry ", i, " is ", b[i], " instead of ", a[i]));
    return {true, 0, {}};
  };
  switch (expected.dtype()) {
    case DType::f32:
      return compare(expected.to_vector<float>(), actual.to_vector<float>());
    case DType::f64:
      return compare(expected.to_vector<double>(), actual.to_vector<double>());
    case DType::i64:
      break;
  }
  return compare(expected.to_vector<std::int64_t>(), actual.to_vector<std::int64_t>());
}

/// Output memory of a kernel between two bands of a known pattern; starts filled with the pattern too, which
/// is a NaN for float and double: what a kernel forgets to write shows as one. `offset` elements misalign it.
template <class T>
class GuardedBuffer {
 public:
  explicit GuardedBuffer(std::size_t count, std::size_t offset = 0)
      : count_(count), begin_(band + offset), memory_(begin_ + count + band) {
    std::memset(memory_.data(), pattern, memory_.size() * sizeof(T));
  }

  T* data() { return memory_.data() + begin_; }
  std::vector<T> values() const {
    const auto first = memory_.begin() + static_cast<std::ptrdiff_t>(begin_);
    return {first, first + static_cast<std::ptrdiff_t>(count_)};
  }
  /// Whether nothing was written outside the buffer.
  bool intact() const { return untouched(0, begin_) && untouched(begin_ + count_, memory_.size()); }

 private:
  static constexpr std::size_t band = 64;
  static constexpr int pattern = 0xFF;

  bool untouched(std::size_t from, std::size_t to) const {
    const auto* bytes = reinterpret_cast<const unsigned char*>(memory_.data());
    for (std::size_t i = from * sizeof(T); i < to * sizeof(T); ++i)
      if (bytes[i] != pattern) return false;
    return true;
  }

  std::size_t count_, begin_;
  std::vector<T> memory_;
};

}  // namespace fovea::test
