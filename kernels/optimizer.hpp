// AdamW over a segment of the parameter arena, and the gradient norm that clipping needs.
#pragma once
#include "engine/queue.hpp"

namespace fovea {

/// One AdamW step (Loshchilov & Hutter 2019, as torch.optim.AdamW): decoupled decay `p *= 1 - lr *
/// weight_decay`, then `p -= lr * m^ / (sqrt(v^) + eps)` with bias corrections of the segment's own step
/// count (1 for the first step).
struct AdamWStep {
  double learning_rate, beta1, beta2, eps, weight_decay;
  std::int64_t step;
  double gradient_scale;  // applied to the gradient first: clipping and accumulation
};

template <class T>
struct OptimizerKernels {
  void (*adamw)(T* parameter, T* exp_avg, T* exp_avg_sq, const T* gradient, std::int64_t count,
                const AdamWStep&, const Queue&);
  // *sum = sum x^2, in double and in an order that depends on count only; `sum` is host memory
  void (*sum_of_squares)(double* sum, const T* x, std::int64_t count, const Queue&);
};

}  // namespace fovea
