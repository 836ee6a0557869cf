// What every op needs: dtype dispatch and the common checks.
#pragma once
#include <initializer_list>
#include <string_view>
#include <utility>

#include "autograd/tape.hpp"
#include "fovea/ops.hpp"
#include "kernels/tables.hpp"

namespace fovea {

/// Calls f.template operator()<T>() with T = float or double; ShapeError for other dtypes.
template <class F>
void dispatch(std::string_view op, DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f64:
      return f.template operator()<double>();
    case DType::i64:
      break;
  }
  throw ShapeError(op, text("needs floating point values: ", dtype));
}

/// All defined tensors must share dtype and device with the first, which must be defined.
void check_same(std::string_view op, std::initializer_list<Tensor> tensors);

/// `tensor` must have exactly this shape.
void check_shape(std::string_view op, std::string_view what, const Tensor& tensor, const Shape& expected);

template <class T>
T* data_or_null(const Tensor& tensor) {
  return tensor.defined() ? tensor.data<T>() : nullptr;
}

inline Queue queue_of(const Tensor& tensor) { return tensor.device().backend().queue(); }

}  // namespace fovea
