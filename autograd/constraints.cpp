// In-place constraints on parameters: outside differentiation, so they record nothing and leave an existing
// history as it is.
#include "autograd/op.hpp"

namespace fovea {

void clamp_min_(const Tensor& x, double least) {
  dispatch("clamp_min_", x.dtype(), [&]<class T>() {
    tables<T>(x.device()).elementwise.clamp_min(x.data<T>(), least, x.elements(), queue_of(x));
  });
}

void abs_(const Tensor& x) {
  dispatch("abs_", x.dtype(), [&]<class T>() {
    tables<T>(x.device()).elementwise.absolute(x.data<T>(), x.elements(), queue_of(x));
  });
}

}  // namespace fovea
