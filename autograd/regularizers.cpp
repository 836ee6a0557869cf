#include <algorithm>
#include <cmath>

#include "autograd/slope_node.hpp"
#include "kernels/regularizer.hpp"

namespace fovea {
namespace {

void check_not_empty(std::string_view op, const Tensor& w) {
  if (w.elements() == 0) throw ShapeError(op, text("there is nothing to regularize: ", w.shape()));
}

Tensor laplace(std::string_view op, const Tensor& w, const LaplaceShape& s, const Tensor& window = {}) {
  return value_with_slopes(op, {w}, {}, [&]<class T>(T* value, const std::vector<Tensor>& slopes) {
    tables<T>(w.device())
        .regularizer.laplace(value, data_or_null<T>(slopes[0]), w.data<T>(), data_or_null<T>(window), s,
                             queue_of(w));
  });
}

/// 1 - g of gaussian_laplace_l2: g = exp(-(y^2 + x^2) / (2 (k / 4)^2)) from the filter's centre, shifted and
/// scaled to 0 .. 1.
Tensor inverted_gaussian(std::int64_t height, std::int64_t width, const Tensor& like) {
  std::vector<double> g;
  const auto squared = [](std::int64_t i, std::int64_t size) {
    const double from_centre = static_cast<double>(i) - static_cast<double>(size - 1) / 2;
    return from_centre * from_centre;
  };
  const double sigma = static_cast<double>(height) / 4;
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x)
      g.push_back(std::exp(-(squared(y, height) + squared(x, width)) / (2 * sigma * sigma)));
  const auto [least, most] = std::minmax_element(g.begin(), g.end());
  const double low = *least, range = *most - low;
  for (double& one : g) one = 1 - (one - low) / range;
  return Tensor::from(g, {height, width}, like.device()).to(like.dtype());
}

constexpr double openretina_eps = 1e-6;

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
                 {.filters = w.elements() / (shape[-2] * shape[-1]),
                  .height = shape[-2],
                  .width = shape[-1],
                  .padding = 0,
                  .eps = openretina_eps});
}

Tensor laplace_ratio_time(const Tensor& w) {
  constexpr auto op = "laplace_ratio_time";
  const Shape& shape = w.shape();
  if (shape.rank() < 3 || shape[-3] < 3 || shape[-2] != 1 || shape[-1] != 1)
    throw ShapeError(op, text("filters (..., KT, 1, 1) must have at least 3 frames: ", shape));
  check_not_empty(op, w);
  return laplace(op, w,
                 {.filters = w.elements() / shape[-3],
                  .height = shape[-3],
                  .width = 1,
                  .padding = 0,
                  .in_time = true,
                  .eps = openretina_eps});
}

Tensor input_regularizer(const Tensor& w, const InputRegularizerOptions& options) {
  constexpr auto op = "input_regularizer";
  const Shape& shape = w.shape();
  const bool gaussian = options.kind == InputRegularizer::gaussian_laplace_l2;
  if (options.padding < 0 || (gaussian && options.padding != 1))
    throw ShapeError(
        op, text("padding must be ", gaussian ? "1 with the Gaussian" : "at least 0", ": ", options.padding));
  if (shape.rank() < 2 || shape[-2] + 2 * options.padding < 3 || shape[-1] + 2 * options.padding < 3)
    throw ShapeError(
        op, text("filters (..., K, K) with padding ", options.padding, " must be at least 3 x 3: ", shape));
  if (gaussian && std::max(shape[-1], shape[-2]) < 3)  // flat: it cannot be scaled to 0 .. 1
    throw ShapeError(op, text("a Gaussian needs a filter of at least 3 pixels along an axis: ", shape));
  check_not_empty(op, w);
  const std::int64_t filters = w.elements() / (shape[-2] * shape[-1]);
  const std::int64_t centres =
      filters * (shape[-2] + 2 * options.padding - 2) * (shape[-1] + 2 * options.padding - 2);
  const auto mean_over = [&](std::int64_t count) {
    return options.mean ? 1.0 / static_cast<double>(count) : 1.0;
  };
  LaplaceShape s{.filters = filters, .height = shape[-2], .width = shape[-1], .padding = options.padding};
  s.absolute = options.kind == InputRegularizer::laplace_l1;
  s.ratio = options.kind == InputRegularizer::laplace_l2_norm || gaussian;
  s.factor = mean_over(centres);
  if (s.ratio) s.factor /= mean_over(w.elements());
  if (options.kind == InputRegularizer::laplace_l2) s.factor /= 2;
  return laplace(op, w, s, gaussian ? inverted_gaussian(shape[-2], shape[-1], w) : Tensor());
}

Tensor mean_filter_norm(const Tensor& w) {
  constexpr auto op = "mean_filter_norm";
  const Shape& shape = w.shape();
  if (shape.rank() < 2) throw ShapeError(op, text("weights must be (O,I,...): ", shape));
  check_not_empty(op, w);
  const std::int64_t rows = shape[0] * shape[1];
  return value_with_slopes(op, {w}, {}, [&]<class T>(T* value, const std::vector<Tensor>& slopes) {
    tables<T>(w.device())
        .regularizer.filter_norms(value, data_or_null<T>(slopes[0]), w.data<T>(), rows, w.elements() / rows,
                                  1.0 / static_cast<double>(rows), queue_of(w));
  });
}

Tensor square_sum(const Tensor& w) {
  constexpr auto op = "square_sum";
  check_not_empty(op, w);
  return value_with_slopes(op, {w}, {}, [&]<class T>(T* value, const std::vector<Tensor>& slopes) {
    tables<T>(w.device())
        .regularizer.square_sum(value, data_or_null<T>(slopes[0]), w.data<T>(), w.elements(), 1.0,
                                queue_of(w));
  });
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
