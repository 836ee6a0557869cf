// Random numbers from the counter-based generator: value i of a draw depends on (key, i) only.
#pragma once
#include "engine/philox.hpp"
#include "engine/queue.hpp"

namespace fovea {

template <class T>
struct RandomKernels {
  void (*uniform)(T* x, std::int64_t count, double low, double high, const RandomKey&, const Queue&);
  void (*normal)(T* x, std::int64_t count, double mean, double deviation, const RandomKey&, const Queue&);
  // x[i] = 0 with probability p, else 1 / (1 - p)
  void (*dropout_factors)(T* x, std::int64_t count, double p, const RandomKey&, const Queue&);
};

}  // namespace fovea
