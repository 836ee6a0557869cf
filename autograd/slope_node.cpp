#include "autograd/slope_node.hpp"

namespace fovea {

void SlopeBackward::backward(const Tensor& d_output) {
  for (std::size_t i = 0; i < slopes.size(); ++i) {
    const Tensor& slope = slopes[i];
    const GradientBuffer dx = slope ? input_gradient(i) : GradientBuffer{};
    if (!dx) continue;
    dispatch("loss", slope.dtype(), [&]<class T>() {
      tables<T>(slope.device())
          .loss.scale_slope(dx.data<T>(), slope.data<T>(), d_output.data<T>(), slope.elements(),
                            d_output.elements(), dx.mode, queue_of(slope));
    });
  }
}

}  // namespace fovea
