// In-place constraints on parameters: outside differentiation, so they record nothing and leave an existing
// history as it is.
#include <limits>

#include "autograd/op.hpp"

namespace fovea {

void clamp_(const Tensor& x, double least, double most) {
  dispatch("clamp_", x.dtype(), [&]<class T>() {
    tables<T>(x.device()).elementwise.clamp(x.data<T>(), least, most, x.elements(), queue_of(x));
  });
}

void clamp_min_(const Tensor& x, double least) { clamp_(x, least, std::numeric_limits<double>::infinity()); }

void unit_norm_(const Tensor& x, int first_axis, int last_axis, double eps) {
  constexpr auto op = "unit_norm_";
  const Shape& shape = x.shape();
  if (first_axis < 0 || last_axis < first_axis || last_axis >= shape.rank())
    throw ShapeError(op, text("axes ", first_axis, " to ", last_axis, " are not axes of ", shape));
  NormShape s{1, 1, 1, eps};
  for (int axis = 0; axis < shape.rank(); ++axis)
    (axis < first_axis ? s.outer : axis <= last_axis ? s.reduced : s.inner) *= shape[axis];
  dispatch(op, x.dtype(),
           [&]<class T>() { tables<T>(x.device()).elementwise.unit_norm(x.data<T>(), s, queue_of(x)); });
}

void abs_(const Tensor& x) {
  dispatch("abs_", x.dtype(), [&]<class T>() {
    tables<T>(x.device()).elementwise.absolute(x.data<T>(), x.elements(), queue_of(x));
  });
}

}  // namespace fovea
