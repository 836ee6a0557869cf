// An array as it lies in a file: mapped or held in its stored type, converted piece by piece.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fovea/tensor.hpp"

namespace fovea {

enum class ElementType {
  int8,
  int16,
  int32,
  int64,
  uint8,
  uint16,
  uint32,
  uint64,
  float16,
  float32,
  float64
};

std::string to_string(ElementType type);  ///< numpy's name, "int8"
std::size_t size_of(ElementType type);
bool is_floating(ElementType type);

/// Linear map of stored values: (x - mean) / deviation, computed in the output's precision as PyTorch does.
struct Normalization {
  double mean = 0;
  double deviation = 1;
};

/// A strided array over bytes that it shares with its copies: a mapped file or a buffer. Any rank, element
/// type, byte order and axis order; read-only.
class StoredArray {
 public:
  StoredArray() = default;
  /// Row-major native values; `owner` keeps `bytes` alive. `origin` names the array in errors ("a.npy").
  StoredArray(std::string origin, ElementType type, std::vector<std::int64_t> shape, const std::byte* bytes,
              std::shared_ptr<const void> owner);

  bool defined() const { return owner_ != nullptr; }
  ElementType type() const { return type_; }
  const std::vector<std::int64_t>& shape() const { return shape_; }
  std::int64_t extent(int axis) const { return shape_.at(static_cast<std::size_t>(axis)); }
  int rank() const { return static_cast<int>(shape_.size()); }
  std::int64_t elements() const;
  const std::string& origin() const { return origin_; }
  bool swapped() const { return swapped_; }  ///< stored in the other byte order than the machine's
  bool row_major() const;

  /// Entry `index` of the first axis.
  StoredArray at(std::int64_t index) const;
  /// The array as the only entry of a first axis.
  StoredArray as_batch() const;
  /// Axes of extent 1 appended at the end, up to `rank` axes.
  StoredArray with_rank(int rank) const;
  /// Itself where it is row-major, else a row-major copy in memory, element type and byte order kept.
  StoredArray in_row_major() const;
  /// The bytes of a row-major array.
  std::size_t byte_count() const { return static_cast<std::size_t>(elements()) * size_of(type_); }
  const std::byte* bytes() const { return bytes_; }

  /// Converts the part [begin, begin + count) of every axis into out, whose elements lie `out_strides` apart
  /// (in elements). Rank at most 6. T: float, double or std::int64_t.
  template <class T>
  void convert(const std::vector<std::int64_t>& begin, const std::vector<std::int64_t>& count, T* out,
               const std::vector<std::int64_t>& out_strides, const Normalization& normalization = {}) const;

  /// All values, row-major, as f32, f64 or i64 (i64 from integer types only).
  Tensor to_tensor(DType dtype, const Device& device) const;

  /// Index of the first value that is NaN, infinite or beyond the range of f32, row-major; -1 when all are
  /// finite.
  std::int64_t first_not_finite() const;
  /// FNV-1a 64 of type, shape and the stored bytes (of a row-major array).
  std::uint64_t content_hash() const;
  /// Same type, byte order, shape and bytes.
  bool same_content(const StoredArray& other) const;

 private:
  friend StoredArray parse_npy(const std::string& name, const std::byte* bytes, std::size_t size,
                               std::shared_ptr<const void> owner);

  std::string origin_;
  ElementType type_ = ElementType::float32;
  bool swapped_ = false;
  std::vector<std::int64_t> shape_, strides_;  // strides in bytes
  const std::byte* bytes_ = nullptr;
  std::shared_ptr<const void> owner_;
};

/// "[2, 3, 5]" for a row-major element index: places of bad values in messages.
std::string index_text(std::int64_t element, const std::vector<std::int64_t>& shape);
/// "(2, 3, 5)"
std::string shape_text(const std::vector<std::int64_t>& shape);

/// FNV-1a 64 of some bytes, going on from `hash`.
std::uint64_t fnv1a(const void* bytes, std::size_t size, std::uint64_t hash = 0xcbf29ce484222325u);
/// 16 hexadecimal digits.
std::string hexadecimal(std::uint64_t value);

}  // namespace fovea
