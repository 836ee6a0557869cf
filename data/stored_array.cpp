#include "fovea/stored_array.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <utility>

namespace fovea {

namespace {

struct Half {  // IEEE 754 binary16
  std::uint16_t bits;
  operator float() const {
    const std::uint32_t sign = (bits & 0x8000u) << 16;
    const std::uint32_t exponent = (bits >> 10) & 31u, fraction = bits & 1023u;
    float magnitude;
    if (exponent == 0) {
      magnitude = static_cast<float>(fraction) * 0x1p-24f;
    } else {
      const std::uint32_t word = (exponent == 31 ? 255u << 23 : (exponent + 112) << 23) | fraction << 13;
      std::memcpy(&magnitude, &word, 4);
    }
    std::uint32_t word;
    std::memcpy(&word, &magnitude, 4);
    word |= sign;
    std::memcpy(&magnitude, &word, 4);
    return magnitude;
  }
};

template <class S, bool swapped>
S load(const std::byte* from) {
  S value;
  if constexpr (swapped && sizeof(S) > 1) {
    std::byte bytes[sizeof(S)];
    for (std::size_t i = 0; i < sizeof(S); ++i) bytes[i] = from[sizeof(S) - 1 - i];
    std::memcpy(&value, bytes, sizeof(S));
  } else {
    std::memcpy(&value, from, sizeof(S));
  }
  return value;
}

// Strides in bytes (in) and elements (out).
struct Axis {
  std::int64_t count, in_stride, out_stride;
};

template <class S, bool swapped, class T>
void convert_line(const std::byte* in, const Axis& axis, T* out, const Normalization& normalization) {
  const T mean = static_cast<T>(normalization.mean), deviation = static_cast<T>(normalization.deviation);
  const auto value = [&](const std::byte* from) { return static_cast<T>(load<S, swapped>(from)); };
  if constexpr (!std::is_same_v<T, std::int64_t>) {
    if (mean != 0 || deviation != 1) {
      if (axis.in_stride == sizeof(S) && axis.out_stride == 1) {  // constant strides: the compiler vectorises
        for (std::int64_t i = 0; i < axis.count; ++i)
          out[i] = (value(in + i * static_cast<std::int64_t>(sizeof(S))) - mean) / deviation;
      } else {
        for (std::int64_t i = 0; i < axis.count; ++i)
          out[i * axis.out_stride] = (value(in + i * axis.in_stride) - mean) / deviation;
      }
      return;
    }
  }
  for (std::int64_t i = 0; i < axis.count; ++i) out[i * axis.out_stride] = value(in + i * axis.in_stride);
}

// Axes that lie together in both arrays become one; axes of extent 1 go.
std::vector<Axis> joined(const std::vector<Axis>& axes) {
  std::vector<Axis> result;
  for (const Axis& axis : axes) {
    if (axis.count == 1) continue;
    if (!result.empty() && result.back().in_stride == axis.count * axis.in_stride &&
        result.back().out_stride == axis.count * axis.out_stride)
      result.back() = {result.back().count * axis.count, axis.in_stride, axis.out_stride};
    else
      result.push_back(axis);
  }
  if (result.empty()) result.push_back({1, 0, 0});
  return result;
}

template <class S, bool swapped, class T>
void convert_block(const std::byte* in, const std::vector<Axis>& axes, T* out,
                   const Normalization& normalization) {
  const std::size_t outer = axes.size() - 1;
  std::vector<std::int64_t> index(outer, 0);
  for (;;) {
    convert_line<S, swapped, T>(in, axes[outer], out, normalization);
    std::size_t axis = outer;
    while (axis-- > 0) {
      in += axes[axis].in_stride, out += axes[axis].out_stride;
      if (++index[axis] < axes[axis].count) break;
      in -= axes[axis].count * axes[axis].in_stride, out -= axes[axis].count * axes[axis].out_stride;
      index[axis] = 0;
    }
    if (axis == static_cast<std::size_t>(-1)) return;
  }
}

template <class Function>
void with_type(ElementType type, Function function) {
  switch (type) {
    case ElementType::int8:
      return function(std::int8_t{});
    case ElementType::int16:
      return function(std::int16_t{});
    case ElementType::int32:
      return function(std::int32_t{});
    case ElementType::int64:
      return function(std::int64_t{});
    case ElementType::uint8:
      return function(std::uint8_t{});
    case ElementType::uint16:
      return function(std::uint16_t{});
    case ElementType::uint32:
      return function(std::uint32_t{});
    case ElementType::uint64:
      return function(std::uint64_t{});
    case ElementType::float16:
      return function(Half{});
    case ElementType::float32:
      return function(float{});
    case ElementType::float64:
      return function(double{});
  }
}

std::vector<std::int64_t> row_major_strides(const std::vector<std::int64_t>& shape, std::int64_t element) {
  std::vector<std::int64_t> strides(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = element;
    element *= shape[axis];
  }
  return strides;
}

}  // namespace

std::string to_string(ElementType type) {
  constexpr const char* names[] = {"int8",   "int16",  "int32",   "int64",   "uint8",  "uint16",
                                   "uint32", "uint64", "float16", "float32", "float64"};
  return names[static_cast<int>(type)];
}

std::size_t size_of(ElementType type) {
  constexpr std::size_t sizes[] = {1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8};
  return sizes[static_cast<int>(type)];
}

bool is_floating(ElementType type) { return type >= ElementType::float16; }

StoredArray::StoredArray(std::string origin, ElementType type, std::vector<std::int64_t> shape,
                         const std::byte* bytes, std::shared_ptr<const void> owner)
    : origin_(std::move(origin)),
      type_(type),
      shape_(std::move(shape)),
      strides_(row_major_strides(shape_, static_cast<std::int64_t>(size_of(type)))),
      bytes_(bytes),
      owner_(std::move(owner)) {}

std::int64_t StoredArray::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape_) count *= extent;
  return count;
}

bool StoredArray::row_major() const {
  const std::vector<std::int64_t> expected =
      row_major_strides(shape_, static_cast<std::int64_t>(size_of(type_)));
  for (std::size_t axis = 0; axis < shape_.size(); ++axis)
    if (shape_[axis] > 1 && strides_[axis] != expected[axis]) return false;
  return true;
}

StoredArray StoredArray::at(std::int64_t index) const {
  if (shape_.empty() || index < 0 || index >= shape_[0])
    throw ShapeError("StoredArray::at",
                     text("index outside the first axis: ", index, " of ", shape_text(shape_)));
  StoredArray part = *this;
  part.bytes_ += index * strides_[0];
  part.shape_.erase(part.shape_.begin());
  part.strides_.erase(part.strides_.begin());
  return part;
}

StoredArray StoredArray::as_batch() const {
  StoredArray result = *this;
  result.shape_.insert(result.shape_.begin(), 1);
  result.strides_.insert(result.strides_.begin(), static_cast<std::int64_t>(byte_count()));
  return result;
}

StoredArray StoredArray::with_rank(int rank) const {
  StoredArray result = *this;
  result.shape_.resize(std::max(shape_.size(), static_cast<std::size_t>(rank)), 1);
  result.strides_.resize(result.shape_.size(), static_cast<std::int64_t>(size_of(type_)));
  return result;
}

StoredArray StoredArray::in_row_major() const {
  if (row_major()) return *this;
  const std::size_t size = size_of(type_);
  const auto copy = std::make_shared<std::vector<std::byte>>(byte_count());
  std::vector<std::int64_t> index(shape_.size(), 0);
  const std::byte* from = bytes_;
  for (std::byte* to = copy->data(); to != copy->data() + copy->size(); to += size) {
    std::memcpy(to, from, size);
    for (std::size_t axis = shape_.size(); axis-- > 0;) {
      from += strides_[axis];
      if (++index[axis] < shape_[axis]) break;
      from -= shape_[axis] * strides_[axis];
      index[axis] = 0;
    }
  }
  StoredArray result(origin_, type_, shape_, copy->data(), copy);
  result.swapped_ = swapped_;
  return result;
}

template <class T>
void StoredArray::convert(const std::vector<std::int64_t>& begin, const std::vector<std::int64_t>& count,
                          T* out, const std::vector<std::int64_t>& out_strides,
                          const Normalization& normalization) const {
  if (begin.size() != shape_.size() || count.size() != shape_.size() || out_strides.size() != shape_.size())
    throw ShapeError("StoredArray::convert",
                     text(origin_, ": ranks differ from the array's ", shape_text(shape_)));
  if (std::is_same_v<T, std::int64_t> && is_floating(type_))
    throw FormatError("StoredArray",
                      text(origin_, ": integers expected, the element type is ", to_string(type_)));
  const std::byte* from = bytes_;
  std::vector<Axis> axes;
  for (std::size_t axis = 0; axis < shape_.size(); ++axis) {
    if (begin[axis] < 0 || count[axis] < 0 || begin[axis] > shape_[axis] - count[axis])
      throw ShapeError("StoredArray::convert", text(origin_, ": ", count[axis], " from ", begin[axis],
                                                    " outside axis ", axis, " of ", shape_text(shape_)));
    if (count[axis] == 0) return;
    from += begin[axis] * strides_[axis];
    axes.push_back({count[axis], strides_[axis], out_strides[axis]});
  }
  axes = joined(axes);
  with_type(type_, [&](auto sample) {
    using S = decltype(sample);
    if (swapped_)
      convert_block<S, true>(from, axes, out, normalization);
    else
      convert_block<S, false>(from, axes, out, normalization);
  });
}

template void StoredArray::convert(const std::vector<std::int64_t>&, const std::vector<std::int64_t>&, float*,
                                   const std::vector<std::int64_t>&, const Normalization&) const;
template void StoredArray::convert(const std::vector<std::int64_t>&, const std::vector<std::int64_t>&,
                                   double*, const std::vector<std::int64_t>&, const Normalization&) const;
template void StoredArray::convert(const std::vector<std::int64_t>&, const std::vector<std::int64_t>&,
                                   std::int64_t*, const std::vector<std::int64_t>&,
                                   const Normalization&) const;

Tensor StoredArray::to_tensor(DType dtype, const Device& device) const {
  const bool host = device.on_host();
  const Tensor tensor(Shape(shape_), dtype, host ? device : cpu_device(1));
  const std::vector<std::int64_t> begin(shape_.size(), 0), strides = row_major_strides(shape_, 1);
  if (dtype == DType::f32)
    convert(begin, shape_, tensor.data<float>(), strides);
  else if (dtype == DType::f64)
    convert(begin, shape_, tensor.data<double>(), strides);
  else
    convert(begin, shape_, tensor.data<std::int64_t>(), strides);
  return host ? tensor : tensor.to(device);
}

std::int64_t StoredArray::first_not_finite() const {
  if (!is_floating(type_)) return -1;
  StoredArray flat = in_row_major();
  flat.shape_ = {elements()};
  flat.strides_ = {static_cast<std::int64_t>(size_of(type_))};
  std::vector<double> block(4096);
  for (std::int64_t at = 0; at < flat.shape_[0];) {
    const std::int64_t count =
        std::min<std::int64_t>(static_cast<std::int64_t>(block.size()), flat.shape_[0] - at);
    flat.convert<double>({at}, {count}, block.data(), {1});
    for (std::int64_t i = 0; i < count; ++i)
      if (!(std::abs(block[static_cast<std::size_t>(i)]) <= std::numeric_limits<float>::max())) return at + i;
    at += count;
  }
  return -1;
}

std::uint64_t StoredArray::content_hash() const {
  const std::int32_t kind = static_cast<int>(type_) * 2 + swapped_;
  std::uint64_t hash = fnv1a(&kind, sizeof kind);
  hash = fnv1a(shape_.data(), shape_.size() * sizeof shape_[0], hash);
  return fnv1a(bytes_, byte_count(), hash);
}

bool StoredArray::same_content(const StoredArray& other) const {
  return type_ == other.type_ && swapped_ == other.swapped_ && shape_ == other.shape_ && row_major() &&
         other.row_major() &&
         (bytes_ == other.bytes_ || std::memcmp(bytes_, other.bytes_, byte_count()) == 0);
}

std::string index_text(std::int64_t element, const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> index(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    index[axis] = element % shape[axis];
    element /= shape[axis];
  }
  std::string result = "[";
  for (std::size_t axis = 0; axis < index.size(); ++axis)
    result.append(axis ? ", " : "").append(std::to_string(index[axis]));
  return result.append("]");
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string result = "(";
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    result += (axis ? ", " : "") + std::to_string(shape[axis]);
  return result + (shape.size() == 1 ? ",)" : ")");
}

std::uint64_t fnv1a(const void* bytes, std::size_t size, std::uint64_t hash) {
  const auto* byte = static_cast<const unsigned char*>(bytes);
  for (std::size_t i = 0; i < size; ++i) hash = (hash ^ byte[i]) * 0x100000001b3u;
  return hash;
}

std::string hexadecimal(std::uint64_t value) {
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value));
  return digits;
}

}  // namespace fovea
