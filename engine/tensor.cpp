#include "fovea/tensor.hpp"

#include <algorithm>

#include "engine/backend.hpp"
#include "engine/storage.hpp"

namespace fovea {
namespace {

template <class To, class From>
void convert(To* to, const From* from, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(from[i]);
}

template <class From>
void convert_from(void* to, DType dtype, const From* from, std::int64_t count) {
  switch (dtype) {
    case DType::f32:
      return convert(static_cast<float*>(to), from, count);
    case DType::f64:
      return convert(static_cast<double*>(to), from, count);
    case DType::i64:
      return convert(static_cast<std::int64_t*>(to), from, count);
  }
}

void convert(void* to, DType to_dtype, const void* from, DType from_dtype, std::int64_t count) {
  switch (from_dtype) {
    case DType::f32:
      return convert_from(to, to_dtype, static_cast<const float*>(from), count);
    case DType::f64:
      return convert_from(to, to_dtype, static_cast<const double*>(from), count);
    case DType::i64:
      return convert_from(to, to_dtype, static_cast<const std::int64_t*>(from), count);
  }
}

/// The bytes of a tensor in host memory: its own where the device is the host, a copy elsewhere.
std::vector<std::byte> host_bytes(const Tensor& tensor) {
  std::vector<std::byte> bytes(tensor.bytes());
  tensor.device().backend().memory->copy_to_host(bytes.data(), tensor.raw(), bytes.size());
  return bytes;
}

}  // namespace

Tensor::Tensor(const Shape& shape, DType dtype, const Device& device) : body_(std::make_shared<Body>()) {
  if (!device) throw DeviceError("tensor", text("no device given for shape ", shape));
  body_->shape = shape;
  body_->dtype = dtype;
  body_->storage = std::make_shared<Storage>(device.shared(), bytes());
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, const Device& device) {
  return full(shape, 0.0, dtype, device);
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, const Device& device) {
  Tensor tensor(shape, dtype, device);
  tensor.fill(value);
  return tensor;
}

Tensor Tensor::scalar(double value, DType dtype, const Device& device) {
  return full({}, value, dtype, device);
}

template <class T>
Tensor Tensor::from(std::span<const T> values, const Shape& shape, const Device& device) {
  if (static_cast<std::int64_t>(values.size()) != shape.elements())
    throw ShapeError("tensor", text(values.size(), " values do not fill shape ", shape));
  Tensor tensor(shape, DTypeOf<T>::value, device);
  device.backend().memory->copy_from_host(tensor.raw(), values.data(), tensor.bytes());
  return tensor;
}
template Tensor Tensor::from(std::span<const float>, const Shape&, const Device&);
template Tensor Tensor::from(std::span<const double>, const Shape&, const Device&);
template Tensor Tensor::from(std::span<const std::int64_t>, const Shape&, const Device&);

Tensor::Body& Tensor::body() const {
  if (!body_) throw ShapeError("tensor", "the tensor is undefined");
  return *body_;
}

const Shape& Tensor::shape() const { return body().shape; }
DType Tensor::dtype() const { return body().dtype; }
Device Tensor::device() const { return Device(body().storage->backend()); }
void* Tensor::raw() const { return body().storage->data() + body().offset; }

void* Tensor::checked_data(DType dtype) const {
  if (body().dtype != dtype)
    throw ShapeError("tensor", text("a ", body().dtype, " tensor was read as ", dtype));
  return raw();
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  std::vector<T> values(static_cast<std::size_t>(elements()));
  device().backend().memory->copy_to_host(values.data(), checked_data(DTypeOf<T>::value), bytes());
  return values;
}
template std::vector<float> Tensor::to_vector() const;
template std::vector<double> Tensor::to_vector() const;
template std::vector<std::int64_t> Tensor::to_vector() const;

double Tensor::item() const {
  if (elements() != 1) throw ShapeError("tensor", text("item() of a tensor of shape ", shape()));
  double value = 0;
  std::byte bytes[8];
  device().backend().memory->copy_to_host(bytes, raw(), size_of(dtype()));
  convert(&value, DType::f64, bytes, dtype(), 1);
  return value;
}

Tensor Tensor::clone() const {
  Tensor copy(shape(), dtype(), device());
  copy.copy_from(*this);
  return copy;
}

Tensor Tensor::to(DType dtype) const {
  if (dtype == this->dtype()) return *this;
  const std::vector<std::byte> from = host_bytes(*this);
  std::vector<std::byte> to(static_cast<std::size_t>(elements()) * size_of(dtype));
  convert(to.data(), dtype, from.data(), this->dtype(), elements());
  Tensor result(shape(), dtype, device());
  device().backend().memory->copy_from_host(result.raw(), to.data(), to.size());
  return result;
}

Tensor Tensor::to(const Device& device) const {
  if (device == this->device()) return *this;
  Tensor result(shape(), dtype(), device);
  result.copy_from(*this);
  return result;
}

void Tensor::copy_from(const Tensor& other) const {
  if (other.shape() != shape() || other.dtype() != dtype())
    throw ShapeError("tensor",
                     text("cannot copy ", other.dtype(), ' ', other.shape(), " to ", dtype(), ' ', shape()));
  Memory& memory = *device().backend().memory;
  if (other.device() == device()) {
    memory.copy(raw(), other.raw(), bytes());
  } else {
    const std::vector<std::byte> values = host_bytes(other);
    memory.copy_from_host(raw(), values.data(), values.size());
  }
}

void Tensor::fill(double value) const {
  const std::int64_t count = elements();
  const auto fill_host = [&](void* memory) {
    switch (dtype()) {
      case DType::f32:
        std::fill_n(static_cast<float*>(memory), count, static_cast<float>(value));
        break;
      case DType::f64:
        std::fill_n(static_cast<double*>(memory), count, value);
        break;
      case DType::i64:
        std::fill_n(static_cast<std::int64_t*>(memory), count, static_cast<std::int64_t>(value));
        break;
    }
  };
  if (is_host(device().backend())) return fill_host(raw());
  std::vector<std::byte> values(bytes());
  fill_host(values.data());
  device().backend().memory->copy_from_host(raw(), values.data(), values.size());
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  if (shape().rank() == 0 || begin < 0 || end < begin || end > shape()[0])
    throw ShapeError("tensor", text("rows ", begin, " to ", end, " of shape ", shape()));
  std::vector<std::int64_t> extents = shape().vector();
  extents[0] = end - begin;
  Tensor part;
  part.body_ = std::make_shared<Body>(body());
  part.body_->autograd.reset();
  part.body_->shape = Shape(extents);
  const std::int64_t row = shape()[0] ? elements() / shape()[0] : 0;
  part.body_->offset += static_cast<std::size_t>(begin * row) * size_of(dtype());
  return part;
}

Tensor Tensor::detach() const {
  Tensor plain;
  plain.body_ = std::make_shared<Body>(body());
  plain.body_->autograd.reset();
  return plain;
}

void Tensor::rebind(const Tensor& other) const {
  if (other.shape() != shape() || other.dtype() != dtype())
    throw ShapeError(
        "tensor", text("cannot rebind ", dtype(), ' ', shape(), " to ", other.dtype(), ' ', other.shape()));
  body().storage = other.body().storage;
  body().offset = other.body().offset;
}

Tensor empty_like(const Tensor& tensor) { return {tensor.shape(), tensor.dtype(), tensor.device()}; }
Tensor zeros_like(const Tensor& tensor) {
  return Tensor::zeros(tensor.shape(), tensor.dtype(), tensor.device());
}

}  // namespace fovea
