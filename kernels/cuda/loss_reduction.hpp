// What the losses share: the factor of a reduction and the end of its sum.
#pragma once
#include "kernels/cuda/sums.hpp"
#include "kernels/loss.hpp"

namespace fovea::FOVEA_GPU {
namespace {

inline bool per_neuron(const LossShape& s) {
  return s.reduction == Reduction::per_neuron_sum || s.reduction == Reduction::per_neuron_mean;
}

/// 1, or 1 / the number of values of which the loss is a mean, `items` per neuron.
inline double reduction_factor(const LossShape& s, std::int64_t items) {
  if (s.reduction == Reduction::mean) return 1 / static_cast<double>(items * s.neurons);
  if (s.reduction == Reduction::per_neuron_mean) return 1 / static_cast<double>(items);
  return 1;
}

/// value (1) or (N) <- factor * sum over the lines of partials (lines, N).
inline void finish(float* value, const double* partials, std::int64_t lines, double factor,
                   const LossShape& s, const Queue& queue) {
  if (per_neuron(s))
    sum_rows(value, partials, lines, s.neurons, Write::overwrite, queue, factor);
  else
    sum_all(value, partials, lines * s.neurons, factor, queue);
}

}  // namespace
}  // namespace fovea::FOVEA_GPU
