#include "kernels/gaussian_grid.hpp"

#include "autograd/op.hpp"

namespace fovea {
namespace {

constexpr auto op = "gaussian_grid";

GaussianGridShape checked_shape(const Tensor& mu, const Tensor& sigma, const Tensor& noise,
                                const Tensor& shift, GaussType type) {
  check_same(op, {mu, sigma, noise, shift});
  if (mu.elements() % 2) throw ShapeError(op, text("mu must have N x 2 values: ", mu.shape()));
  const std::int64_t neurons = mu.elements() / 2;
  const std::int64_t sigma_size = type == GaussType::full ? 4 : type == GaussType::uncorrelated ? 2 : 1;
  if (sigma.elements() != neurons * sigma_size)
    throw ShapeError(op, text("sigma must have ", neurons, " x ", sigma_size, " values: ", sigma.shape()));
  if (shift && (shift.shape().rank() != 2 || shift.shape()[1] != 2))
    throw ShapeError(op, text("shift must be (B,2): ", shift.shape()));
  if (noise && (noise.shape().rank() != 3 || noise.shape()[1] != neurons || noise.shape()[2] != 2))
    throw ShapeError(op, text("noise must be (B,", neurons, ",2) or (1,", neurons, ",2): ", noise.shape()));
  const std::int64_t noise_batch = noise ? noise.shape()[0] : 1;
  const std::int64_t batch = shift ? shift.shape()[0] : noise_batch;
  if (noise_batch != 1 && noise_batch != batch)
    throw ShapeError(op, text("noise and shift of one batch: ", noise.shape(), " and ", shift.shape()));
  return {batch, neurons, sigma_size, noise_batch};
}

struct GaussianGridBackward final : Node {
  GaussianGridShape shape;
  Tensor mu, sigma, noise;

  void backward(const Tensor& d_output) override {
    dispatch(op, mu.dtype(), [&]<class T>() {
      const GradientBuffer dmu = input_gradient(0), dsigma = input_gradient(1), dshift = input_gradient(2);
      tables<T>(mu.device())
          .gaussian_grid.grad(dmu.data<T>(), dsigma.data<T>(), dshift.data<T>(), d_output.data<T>(),
                              mu.data<T>(), sigma.data<T>(), data_or_null<T>(noise), shape, dmu.mode,
                              dsigma.mode, dshift.mode, queue_of(mu));
    });
  }
};

}  // namespace

Tensor gaussian_grid(const Tensor& mu, const Tensor& sigma, const Tensor& noise, const Tensor& shift,
                     GaussType type) {
  const GaussianGridShape shape = checked_shape(mu, sigma, noise, shift, type);
  Tensor grid({shape.batch, shape.neurons, 2}, mu.dtype(), mu.device());
  dispatch(op, mu.dtype(), [&]<class T>() {
    tables<T>(mu.device())
        .gaussian_grid.forward(grid.data<T>(), mu.data<T>(), sigma.data<T>(), data_or_null<T>(noise),
                               data_or_null<T>(shift), shape, queue_of(mu));
  });
  if (needs_record({mu, sigma, shift})) {
    GaussianGridBackward node;
    node.shape = shape;
    node.mu = mu.detach();
    node.sigma = sigma.detach();
    if (noise) node.noise = noise.detach();
    record(grid, {mu, sigma, shift}, std::move(node));
  }
  return grid;
}

}  // namespace fovea
