// Shape and element type of a tensor.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <string>
#include <vector>

namespace fovea {

/// Element types. f64 runs on the reference kernels, f32 on the device's own; i64 is for indices and
/// counters.
enum class DType { f32, f64, i64 };

std::string to_string(DType dtype);
std::size_t size_of(DType dtype);  ///< bytes of one element

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::i64;
};

/// Extents of a row-major tensor, at most six axes; rank 0 is a scalar with one element.
/// Throws ShapeError for a negative extent, too many axes or more elements than 2^58.
class Shape {
 public:
  static constexpr int max_rank = 6;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents);
  explicit Shape(const std::vector<std::int64_t>& extents);

  int rank() const { return rank_; }
  std::int64_t elements() const { return elements_; }
  /// Extent of an axis; negative axes count from the end. Throws ShapeError outside the rank.
  std::int64_t operator[](int axis) const;
  std::vector<std::int64_t> vector() const;
  const std::int64_t* begin() const { return extents_.data(); }
  const std::int64_t* end() const { return extents_.data() + rank_; }

  friend bool operator==(const Shape& a, const Shape& b);
  friend bool operator!=(const Shape& a, const Shape& b) { return !(a == b); }

 private:
  void assign(const std::int64_t* extents, std::size_t rank);

  std::array<std::int64_t, max_rank> extents_{};
  int rank_ = 0;
  std::int64_t elements_ = 1;
};

std::string to_string(const Shape& shape);  ///< "(2, 3)"
std::ostream& operator<<(std::ostream& out, const Shape& shape);
std::ostream& operator<<(std::ostream& out, DType dtype);

}  // namespace fovea
