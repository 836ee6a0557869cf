#include "fovea/shape.hpp"

#include "fovea/error.hpp"

namespace fovea {

std::string to_string(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
    case DType::i64:
      return "i64";
  }
  return "unknown";
}

std::size_t size_of(DType dtype) { return dtype == DType::f32 ? 4 : 8; }

Shape::Shape(std::initializer_list<std::int64_t> extents) { assign(extents.begin(), extents.size()); }

Shape::Shape(const std::vector<std::int64_t>& extents) { assign(extents.data(), extents.size()); }

void Shape::assign(const std::int64_t* extents, std::size_t rank) {
  if (rank > max_rank) throw ShapeError("shape", text("at most ", max_rank, " axes: ", rank));
  constexpr std::int64_t most = std::int64_t{1} << 58;  // bytes still fit 64 bits
  rank_ = static_cast<int>(rank);
  for (std::size_t axis = 0; axis < rank; ++axis) {
    const std::int64_t extent = extents[axis];
    if (extent < 0) throw ShapeError("shape", text("extents are not negative: ", extent, " at axis ", axis));
    if (extent > 0 && elements_ > most / extent) throw ShapeError("shape", "more than 2^58 elements");
    elements_ *= extent;
    extents_[axis] = extent;
  }
}

std::int64_t Shape::operator[](int axis) const {
  const int index = axis < 0 ? axis + rank_ : axis;
  if (index < 0 || index >= rank_) throw ShapeError("shape", text("axis ", axis, " of ", *this));
  return extents_[static_cast<std::size_t>(index)];
}

std::vector<std::int64_t> Shape::vector() const { return {begin(), end()}; }

bool operator==(const Shape& a, const Shape& b) { return a.rank_ == b.rank_ && a.extents_ == b.extents_; }

std::string to_string(const Shape& shape) { return text(shape); }

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '(';
  for (int axis = 0; axis < shape.rank(); ++axis) out << (axis ? ", " : "") << shape[axis];
  return out << ')';
}

std::ostream& operator<<(std::ostream& out, DType dtype) { return out << to_string(dtype); }

}  // namespace fovea
