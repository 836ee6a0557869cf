#include "kernels/activation.hpp"

#include <limits>

#include "autograd/op.hpp"

namespace fovea {
namespace {

struct ActivationBackward final : Node {
  Activation activation;
  Tensor x;

  void backward(const Tensor& d_output) override {
    const GradientBuffer dx = input_gradient(0);
    if (!dx) return;
    dispatch("activate", x.dtype(), [&]<class T>() {
      tables<T>(x.device())
          .activation.grad(dx.data<T>(), d_output.data<T>(), x.data<T>(), activation, x.elements(), dx.mode,
                           queue_of(x));
    });
  }
};

void check_single(const char* op, const char* name, const Tensor& tensor) {
  if (!tensor || tensor.elements() != 1)
    throw ShapeError(op, text(name, " must have one value: ", tensor ? tensor.shape() : Shape{0}));
}

struct ParametricReluBackward final : Node {
  Tensor x, thresh, neg_slope, pos_slope;

  void backward(const Tensor& d_output) override {
    dispatch("parametric_relu", x.dtype(), [&]<class T>() {
      const GradientBuffer dx = input_gradient(0);
      const Tensor dneg = empty_like(neg_slope), dpos = empty_like(pos_slope);
      tables<T>(x.device())
          .activation.parametric_relu_grad(dx.data<T>(), dneg.data<T>(), dpos.data<T>(), d_output.data<T>(),
                                           x.data<T>(),
                                           {thresh.data<T>(), neg_slope.data<T>(), pos_slope.data<T>()},
                                           x.elements(), dx.mode, queue_of(x));
      pass_gradient(1, dneg);
      pass_gradient(2, dpos);
    });
  }
};

struct ParametricSoftplusBackward final : Node {
  Tensor x, alpha, beta, gamma;
  double least;

  void backward(const Tensor& d_output) override {
    const GradientBuffer dx = input_gradient(0);
    if (!dx) return;
    dispatch("parametric_softplus", x.dtype(), [&]<class T>() {
      tables<T>(x.device())
          .activation.parametric_softplus_grad(dx.data<T>(), d_output.data<T>(), x.data<T>(),
                                               {alpha.data<T>(), beta.data<T>(), gamma.data<T>(), least},
                                               x.elements(), dx.mode, queue_of(x));
    });
  }
};

}  // namespace

Tensor activate(const Tensor& x, const Activation& activation) {
  if (activation.kind == ActivationKind::identity) return x;
  const Tensor y = empty_like(x);
  dispatch("activate", x.dtype(), [&]<class T>() {
    tables<T>(x.device()).activation.forward(y.data<T>(), x.data<T>(), activation, x.elements(), queue_of(x));
  });
  if (needs_record({x})) {
    ActivationBackward node;
    node.activation = activation;
    node.x = x.detach();
    record(y, {x}, std::move(node));
  }
  return y;
}

Tensor parametric_relu(const Tensor& x, const Tensor& thresh, const Tensor& neg_slope,
                       const Tensor& pos_slope) {
  constexpr auto op = "parametric_relu";
  check_same(op, {x, thresh, neg_slope, pos_slope});
  check_single(op, "thresh", thresh);
  check_single(op, "neg_slope", neg_slope);
  check_single(op, "pos_slope", pos_slope);
  const Tensor y = empty_like(x);
  dispatch(op, x.dtype(), [&]<class T>() {
    tables<T>(x.device())
        .activation.parametric_relu(y.data<T>(), x.data<T>(),
                                    {thresh.data<T>(), neg_slope.data<T>(), pos_slope.data<T>()},
                                    x.elements(), queue_of(x));
  });
  if (needs_record({x, neg_slope, pos_slope})) {
    ParametricReluBackward node;
    node.x = x.detach();
    node.thresh = thresh.detach();
    node.neg_slope = neg_slope.detach();
    node.pos_slope = pos_slope.detach();
    record(y, {x, neg_slope, pos_slope}, std::move(node));
  }
  return y;
}

Tensor parametric_softplus(const Tensor& x, const Tensor& alpha, const Tensor& beta, const Tensor& gamma,
                           std::optional<double> least) {
  constexpr auto op = "parametric_softplus";
  check_same(op, {x, alpha, beta, gamma});
  check_single(op, "alpha", alpha);
  check_single(op, "beta", beta);
  check_single(op, "gamma", gamma);
  const double bound = least.value_or(-std::numeric_limits<double>::infinity());
  const Tensor y = empty_like(x);
  dispatch(op, x.dtype(), [&]<class T>() {
    tables<T>(x.device())
        .activation.parametric_softplus(y.data<T>(), x.data<T>(),
                                        {alpha.data<T>(), beta.data<T>(), gamma.data<T>(), bound},
                                        x.elements(), queue_of(x));
  });
  if (needs_record({x})) {
    ParametricSoftplusBackward node;
    node.x = x.detach();
    node.alpha = alpha.detach();
    node.beta = beta.detach();
    node.gamma = gamma.detach();
    node.least = bound;
    record(y, {x}, std::move(node));
  }
  return y;
}

}  // namespace fovea
