// Losses of models.md section 6. Each writes its value and, in the same pass, its slope d value / d output.
// output (batch, frames, N); target (batch, target_frames, N), aligned by its last `frames` frames.
// Images are batch x 1 frame (Poisson losses) or 1 x batch frames (correlation over the batch).
#pragma once
#include "engine/queue.hpp"

namespace fovea {

enum class Reduction {
  sum,
  mean,
  per_neuron_sum,   // (N)
  per_neuron_mean,  // (N), mean over batch and frames
};

struct LossShape {
  std::int64_t batch, frames, target_frames, neurons;
  Reduction reduction;
};

struct PoissonOptions {
  double eps = 0;          // added inside the logarithm ("bias" of PoissonLoss3d)
  bool log_input = false;  // the output is the logarithm of the rate: exp(output) - target * output
  bool stirling = false;   // adds target log(target) - target + 0.5 log(2 pi target) where target > 1
};

struct CorrelationOptions {
  double eps = 0;
  double sign = 1;  // -1: the loss, 1: the metric. The reduction is over (batch, N)
};

template <class T>
struct LossKernels {
  // value: (1) or (N); slope (batch, frames, N), null when not needed
  void (*poisson)(T* value, T* slope, const T* output, const T* target, const LossShape&,
                  const PoissonOptions&, const Queue&);
  void (*correlation)(T* value, T* slope, const T* output, const T* target, const LossShape&,
                      const CorrelationOptions&, const Queue&);
  // dx <- upstream * slope. upstream has `groups` values, that of element i is upstream[i % groups] (1: a
  // scalar)
  void (*scale_slope)(T* dx, const T* slope, const T* upstream, std::int64_t count, std::int64_t groups,
                      Write, const Queue&);
};

}  // namespace fovea
