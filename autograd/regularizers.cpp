#include "autograd/slope_node.hpp"
#include "kernels/regularizer.hpp"

namespace fovea {
namespace {

void check_not_empty(std::string_view op, const Tensor& w) {
  if (w.elements() == 0) throw ShapeError(op, text("there is nothing to regularize: ", w.shape()));
}

Tensor laplace(std::string_view op, const Tensor& w, const LaplaceShape& s) {
  return value_with_slopes(op, {w}, {}, [&]<class T>(T* value, const std::vector<Tensor>& slopes) {
    tables<T>(w.device()).regularizer.laplace(value, data_or_null<T>(slopes[0]), w.data<T>(), s, queue_of(w));
  });
}

struct WeightedSumBackward final : Node {
  std::vector<double> weights;

  void backward(const Tensor& d_output) override {
    dispatch("weighted_sum", d_output.dtype(), [&]<class T>() {
      for (std::size_t i = 0; i < weights.size(); ++i)
        if (const GradientBuffer dx = input_gradient(i))
          tables<T>(d_output.device())
              .elementwise.scale(dx.data<T>(), d_output.data<T>(), weights[i], 1, dx.mode,
                                 queue_of(d_output));
    });
  }
};

}  // namespace

Tensor laplace_ratio(const Tensor& w) {
  constexpr auto op = "laplace_ratio";
  const Shape& shape = w.shape();
  if (shape.rank() < 2 || shape[-2] < 3 || shape[-1] < 3)
    throw ShapeError(op, text("filters (..., KH, KW) must be at least 3 x 3: ", shape));
  check_not_empty(op, w);
  return laplace(op, w,
                 {w.elements() / (shape[-2] * shape[-1]), shape[-2], shape[-1], 0, LaplaceKind::ratio});
}

Tensor laplace_ratio_time(const Tensor& w) {
  constexpr auto op = "laplace_ratio_time";
  const Shape& shape = w.shape();
  if (shape.rank() < 3 || shape[-3] < 3 || shape[-2] != 1 || shape[-1] != 1)
    throw ShapeError(op, text("filters (..., KT, 1, 1) must have at least 3 frames: ", shape));
  check_not_empty(op, w);
  return laplace(op, w, {w.elements() / shape[-3], shape[-3], 1, 0, LaplaceKind::time_ratio});
}

Tensor group_sparsity(const Tensor& w) {
  constexpr auto op = "group_sparsity";
  const Shape& shape = w.shape();
  if (shape.rank() < 2) throw ShapeError(op, text("weights must be (O,I,...): ", shape));
  check_not_empty(op, w);
  const GroupSparsityShape s{shape[0], shape[1], w.elements() / (shape[0] * shape[1])};
  return value_with_slopes(op, {w}, {}, [&]<class T>(T* value, const std::vector<Tensor>& slopes) {
    tables<T>(w.device())
        .regularizer.group_sparsity(value, data_or_null<T>(slopes[0]), w.data<T>(), s, queue_of(w));
  });
}

Tensor temporal_smoothing(const Tensor& sin_weights, const Tensor& cos_weights) {
  constexpr auto op = "temporal_smoothing";
  check_same(op, {sin_weights, cos_weights});
  const Shape& shape = sin_weights.shape();
  if (shape.rank() != 3) throw ShapeError(op, text("weights must be (O,I,K): ", shape));
  check_shape(op, "cos_weights", cos_weights, shape);
  check_not_empty(op, sin_weights);
  const TemporalSmoothingShape s{shape[0], shape[1], shape[2]};
  return value_with_slopes(
      op, {sin_weights, cos_weights}, {}, [&]<class T>(T* value, const std::vector<Tensor>& slopes) {
        tables<T>(sin_weights.device())
            .regularizer.temporal_smoothing(value, data_or_null<T>(slopes[0]), data_or_null<T>(slopes[1]),
                                            sin_weights.data<T>(), cos_weights.data<T>(), s,
                                            queue_of(sin_weights));
      });
}

Tensor absolute_sum(const Tensor& w, bool mean) {
  constexpr auto op = "absolute_sum";
  check_not_empty(op, w);
  const double factor = mean ? 1.0 / static_cast<double>(w.elements()) : 1.0;
  return value_with_slopes(op, {w}, {}, [&]<class T>(T* value, const std::vector<Tensor>& slopes) {
    tables<T>(w.device())
        .regularizer.absolute_sum(value, data_or_null<T>(slopes[0]), w.data<T>(), w.elements(), factor,
                                  queue_of(w));
  });
}

Tensor gaussian_extent(const Tensor& mask_mean, const Tensor& mask_log_var, double mean_scale,
                       double var_scale, bool mean) {
  constexpr auto op = "gaussian_extent";
  check_same(op, {mask_mean, mask_log_var});
  if (mask_log_var.shape().rank() != 1)
    throw ShapeError(op, text("mask_log_var must be (N): ", mask_log_var.shape()));
  const std::int64_t neurons = mask_log_var.shape()[0];
  check_shape(op, "mask_mean", mask_mean, {neurons, 2});
  check_not_empty(op, mask_mean);
  const double factor_var = mean ? 1.0 / static_cast<double>(neurons) : 1.0,
               factor_mean = mean ? factor_var / 2 : 1.0;
  return value_with_slopes(
      op, {mask_mean, mask_log_var}, {}, [&]<class T>(T* value, const std::vector<Tensor>& slopes) {
        tables<T>(mask_mean.device())
            .regularizer.gaussian_extent(value, data_or_null<T>(slopes[0]), data_or_null<T>(slopes[1]),
                                         mask_mean.data<T>(), mask_log_var.data<T>(), neurons, mean_scale,
                                         var_scale, factor_mean, factor_var, queue_of(mask_mean));
      });
}

Tensor weighted_sum(const std::vector<Tensor>& terms, const std::vector<double>& weights) {
  constexpr auto op = "weighted_sum";
  if (terms.empty() || terms.size() != weights.size())
    throw ShapeError(op, text("needs a weight for each of one or more terms: ", terms.size(), " terms, ",
                              weights.size(), " weights"));
  const Tensor& first = terms.front();
  for (const Tensor& term : terms) {
    check_same(op, {first, term});
    if (term.elements() != 1) throw ShapeError(op, text("terms must be scalars: ", term.shape()));
  }
  const Tensor sum(Shape{}, first.dtype(), first.device());
  dispatch(op, first.dtype(), [&]<class T>() {
    for (std::size_t i = 0; i < terms.size(); ++i)
      tables<T>(first.device())
          .elementwise.scale(sum.data<T>(), terms[i].data<T>(), weights[i], 1,
                             i == 0 ? Write::overwrite : Write::accumulate, queue_of(first));
  });
  if (needs_record(terms)) {
    WeightedSumBackward node;
    node.weights = weights;
    record(sum, terms, std::move(node));
  }
  return sum;
}

}  // namespace fovea
