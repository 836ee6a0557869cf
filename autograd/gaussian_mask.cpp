#include "kernels/gaussian_mask.hpp"

#include "autograd/op.hpp"

namespace fovea {
namespace {

GaussianMaskShape checked_shape(const Tensor& mask_mean, const Tensor& mask_log_var, const Tensor& grid,
                                double mean_scale, double var_scale) {
  constexpr auto op = "gaussian_mask";
  check_same(op, {mask_mean, mask_log_var, grid});
  if (grid.shape().rank() != 4 || grid.shape()[3] != 2)
    throw ShapeError(op, text("grid must be (N,H,W,2): ", grid.shape()));
  const std::int64_t neurons = grid.shape()[0];
  check_shape(op, "mask_mean", mask_mean, {neurons, 2});
  check_shape(op, "mask_log_var", mask_log_var, {neurons});
  return {neurons, grid.shape()[1] * grid.shape()[2], mean_scale, var_scale};
}

struct GaussianMaskBackward final : Node {
  GaussianMaskShape shape;
  Tensor mask_mean, mask_log_var, grid;

  void backward(const Tensor& d_output) override {
    dispatch("gaussian_mask", grid.dtype(), [&]<class T>() {
      const Tensor dmean = empty_like(mask_mean), dlog_var = empty_like(mask_log_var);
      tables<T>(grid.device())
          .gaussian_mask.grad_parameters(dmean.data<T>(), dlog_var.data<T>(), d_output.data<T>(),
                                         mask_mean.data<T>(), mask_log_var.data<T>(), grid.data<T>(), shape,
                                         queue_of(grid));
      pass_gradient(0, dmean);
      pass_gradient(1, dlog_var);
    });
  }
};

}  // namespace

Tensor gaussian_mask(const Tensor& mask_mean, const Tensor& mask_log_var, const Tensor& grid,
                     double mean_scale, double var_scale) {
  const GaussianMaskShape shape = checked_shape(mask_mean, mask_log_var, grid, mean_scale, var_scale);
  const Tensor mask({shape.neurons, grid.shape()[1], grid.shape()[2]}, grid.dtype(), grid.device());
  dispatch("gaussian_mask", mask.dtype(), [&]<class T>() {
    tables<T>(mask.device())
        .gaussian_mask.forward(mask.data<T>(), mask_mean.data<T>(), mask_log_var.data<T>(), grid.data<T>(),
                               shape, queue_of(mask));
  });
  if (needs_record({mask_mean, mask_log_var})) {
    GaussianMaskBackward node;
    node.shape = shape;
    node.mask_mean = mask_mean.detach();
    node.mask_log_var = mask_log_var.detach();
    node.grid = grid.detach();
    record(mask, {mask_mean, mask_log_var}, std::move(node));
  }
  return mask;
}

}  // namespace fovea
