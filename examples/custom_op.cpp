// A loss of one's own with its gradient, checked against finite differences and used in a small fit.
//   custom_op
#include <cmath>
#include <cstdio>

#include "fovea/autograd.hpp"
#include "fovea/ops.hpp"

namespace {

using namespace fovea;

/// sum log(cosh(prediction - target)), a smooth absolute error; its slope is tanh(prediction - target).
Tensor log_cosh_loss(const Tensor& prediction, const Tensor& target) {
  return custom_op(
      "log_cosh_loss", {prediction, target},
      [](std::span<const Tensor> inputs) {
        const auto y_hat = inputs[0].to_vector<double>(), y = inputs[1].to_vector<double>();
        double sum = 0;
        for (std::size_t i = 0; i < y.size(); ++i) {
          const double error = std::fabs(y_hat[i] - y[i]);
          sum += error + std::log1p(std::exp(-2 * error)) - std::log(2.0);
        }
        return Tensor::scalar(sum, DType::f64, inputs[0].device());
      },
      [](const Tensor& d_loss, std::span<const Tensor> inputs, const Tensor&) {
        auto slope = inputs[0].to_vector<double>();
        const auto y = inputs[1].to_vector<double>();
        for (std::size_t i = 0; i < y.size(); ++i) slope[i] = d_loss.item() * std::tanh(slope[i] - y[i]);
        const Tensor d_prediction = Tensor::from(slope, inputs[0].shape(), inputs[0].device());
        return std::vector<Tensor>{d_prediction, Tensor()};  // none for the target
      });
}

/// Fits w in y = X w by gradient descent; returns the largest error of w.
double fit(const Device& device) {
  const Tensor x = Tensor::from(std::vector<double>{1, 0, -1, 1, 2, 0.5, 0.5, -2}, {4, 2}, device);
  const Tensor y = Tensor::from(std::vector<double>{0.5, -1.5, 0.5, 2.25}, {4, 1}, device);
  Tensor w = Tensor::zeros({2, 1}, DType::f64, device);
  w.set_requires_grad();
  for (int step = 0; step < 2000; ++step) {
    w.clear_grad();
    backward(log_cosh_loss(matmul(x, w), y));
    for (int i = 0; i < 2; ++i) w.data<double>()[i] -= 0.1 * w.grad().data<double>()[i];
  }
  return std::fmax(std::fabs(w.data<double>()[0] - 0.5), std::fabs(w.data<double>()[1] + 1.0));
}

}  // namespace

int main() {
  const Device device = cpu_device();
  Tensor prediction = Tensor::from(std::vector<double>{-3, -0.5, 0.25, 2}, {4}, device);
  const Tensor target = Tensor::from(std::vector<double>{-2, 0, 0.5, 0.5}, {4}, device);
  prediction.set_requires_grad();
  const GradcheckReport report = gradcheck(
      [&](const std::vector<Tensor>& inputs) { return log_cosh_loss(inputs[0], target); }, {prediction});
  std::printf("gradcheck: %s, %ld entries, worst difference %.1e\n", report.passed ? "passed" : "FAILED",
              static_cast<long>(report.compared), report.worst);
  const double error = fit(device);
  std::printf("fit: largest error %.1e\n", error);
  return report.passed && error < 1e-6 ? 0 : 1;
}
