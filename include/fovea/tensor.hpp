// Tensor: the one array type of fovea.
#pragma once
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "fovea/device.hpp"
#include "fovea/error.hpp"
#include "fovea/shape.hpp"

namespace fovea {

class Storage;         // engine/storage.hpp
struct AutogradState;  // autograd/tape.hpp

/// A contiguous row-major array on a device. Copying a Tensor shares the storage (as in PyTorch); `clone`
/// copies the values. There are no strides: `reshape` and `rows` share storage because their elements are
/// contiguous.
class Tensor {
 public:
  /// The undefined tensor: `defined()` is false, everything else throws.
  Tensor() = default;
  /// Uninitialised values.
  Tensor(const Shape& shape, DType dtype, const Device& device);

  static Tensor zeros(const Shape& shape, DType dtype, const Device& device);
  static Tensor full(const Shape& shape, double value, DType dtype, const Device& device);
  /// Copies host values, which must be as many as the shape has elements.
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape, const Device& device);
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape, const Device& device) {
    return from(std::span<const T>(values), shape, device);
  }
  static Tensor scalar(double value, DType dtype, const Device& device);

  bool defined() const { return body_ != nullptr; }
  explicit operator bool() const { return defined(); }
  const Shape& shape() const;
  DType dtype() const;
  Device device() const;
  std::int64_t elements() const { return shape().elements(); }
  std::size_t bytes() const { return static_cast<std::size_t>(elements()) * size_of(dtype()); }

  /// Pointer to the values in the device's memory; ShapeError when T is not the dtype.
  template <class T>
  T* data() const {
    return static_cast<T*>(checked_data(DTypeOf<T>::value));
  }
  void* raw() const;

  /// Values copied to the host.
  template <class T>
  std::vector<T> to_vector() const;
  /// Value of a tensor with one element, converted to double.
  double item() const;

  Tensor clone() const;
  /// The values in another dtype or on another device; itself where nothing changes. Not differentiable.
  Tensor to(DType dtype) const;
  Tensor to(const Device& device) const;
  void copy_from(const Tensor& other) const;  ///< overwrite the values; same shape and dtype, any device
  void fill(double value) const;

  /// The same elements under another shape with as many elements; differentiable.
  Tensor reshape(const Shape& shape) const;
  /// Rows [begin, end) of axis 0, sharing storage; not differentiable.
  Tensor rows(std::int64_t begin, std::int64_t end) const;
  /// Makes this tensor, and all copies of it, use the memory (and so the values) of `other`, of the same
  /// shape and dtype: how parameters move into one arena.
  void rebind(const Tensor& other) const;

  // ---- automatic differentiation (autograd/tape.cpp)

  /// Whether gradients reach this tensor: it is a leaf that asks for one or the result of an op with such an
  /// input.
  bool requires_grad() const;
  /// Makes a leaf ask for a gradient (or not); f32 and f64 only.
  Tensor& set_requires_grad(bool on = true);
  /// Accumulated gradient of a leaf; undefined when no backward pass has reached it since clear_grad.
  Tensor grad() const;
  /// Forgets the gradient: the next backward pass overwrites instead of adding.
  void clear_grad() const;
  /// Uses `buffer` (same shape and dtype) as this leaf's gradient memory.
  void bind_grad(const Tensor& buffer) const;
  /// The same values without history.
  Tensor detach() const;

  struct Body;  // engine/storage.hpp
  Body& body() const;
  bool same(const Tensor& other) const { return body_ == other.body_; }
  /// Whether no other Tensor shares this one's body.
  bool unique() const { return body_.use_count() == 1; }

 private:
  void* checked_data(DType dtype) const;

  std::shared_ptr<Body> body_;
};

Tensor empty_like(const Tensor& tensor);
Tensor zeros_like(const Tensor& tensor);

}  // namespace fovea
